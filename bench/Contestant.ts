/** What is compared: each contestant opens a fresh database and offers the operations that it has. */
import type { Own } from "./contestants/own/Own.ts"

/** A database of its own on the server of the benchmark. Everybody connects by TCP. */
export interface Database {
  readonly url: string
  /** Another pool than the one that is the default of the client; only we heed it. */
  readonly clientPool?: ClientPool
}

export interface ClientPool {
  readonly maxConnections?: number
  readonly multiplex?: boolean
}

/** What a task does: nothing, or three steps one after another, each of which stores a number. */
export type Job = "noop" | "steps"

/** What a database has been filled with before claims are measured. */
export type Fill = "pending" | "finished" | "sleeping"

export interface WorkerOptions {
  readonly concurrency: number
  /** To be called as each task starts. */
  readonly onTask: () => void
}

/** An operation that a system does not have is absent, and is not measured. */
export interface Session {
  /** Whether tasks can have steps; if not, no other job than `noop` is asked for. */
  readonly hasSteps: boolean
  /** Stores one task, in one call of the public interface. */
  readonly spawn?: (job: Job) => Promise<unknown>
  /** Stores many tasks in as few calls as the public interface allows. */
  readonly bulkSpawn?: (count: number, job: Job) => Promise<unknown>
  /** Runs one task to its end without a queue. */
  readonly execute?: (job: Job) => Promise<unknown>
  /** Executes one workflow of three activities, written against `effect/workflow`, to its end. */
  readonly executeWorkflow?: () => Promise<unknown>
  /** Starts a worker in this process. The answer stops it. */
  readonly startWorker?: (options: WorkerOptions) => Promise<() => Promise<unknown>>
  /** How many stored tasks have not ended; of everybody who can start a worker. */
  readonly unfinished?: () => Promise<number>
  /** Spawns tasks that do nothing and waits for all of their results, while a worker of the process works on them. */
  readonly fanOut?: (count: number, concurrency: number) => Promise<unknown>
  /** Adds so many tasks, in whatever way is fastest. */
  readonly fill?: (kind: Fill, count: number) => Promise<unknown>
  /** Claims one due task and completes it. */
  readonly claimAndComplete?: () => Promise<unknown>
  /** Suspends a task after so many steps, wakes it, and takes the milliseconds until a fresh worker has it at its end. */
  readonly resume?: (checkpoints: number) => Promise<number>
  /** Brings so many tasks to run at once and keeps them there. The answer lets them end. */
  readonly hold?: (count: number) => Promise<() => Promise<unknown>>
  /** What the others have no counterpart of. */
  readonly own?: Own
  readonly close: () => Promise<unknown>
}

export interface Contestant {
  readonly name: string
  /** The package whose version is told, if any. */
  readonly package?: string
  /** With which settings it takes part, in a line. */
  readonly about: string
  /** Installs what it needs and connects. */
  readonly open: (database: Database) => Promise<Session>
}

/** Calls `use` `count` times, `concurrency` at a time. */
export const concurrently = async (
  count: number,
  concurrency: number,
  use: () => Promise<unknown>
): Promise<void> => {
  let left = count
  const caller = async () => {
    while (left > 0) {
      left--
      await use()
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, caller))
}

/** `count` as parts of at most `size`. */
export const parts = (count: number, size: number): ReadonlyArray<number> =>
  Array.from({ length: Math.ceil(count / size) }, (_, index) => Math.min(size, count - index * size))
