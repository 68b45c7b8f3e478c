/** What this library is measured in alone, because the others have no counterpart. */
import type { ManagedRuntime } from "effect"
import type { Absurd } from "effect-absurd"
import type { Pool } from "pg"
import { joinChildren } from "./Children.ts"
import { cleanup } from "./Cleanup.ts"
import { operations, type Rates } from "./InMemory.ts"
import { startPolling } from "./Polling.ts"
import { claimBeside } from "./Queues.ts"
import { quickStart } from "./QuickStart.ts"
import { reads } from "./Reads.ts"
import { emit, type Emitted, suspend } from "./Waiting.ts"

/** The client of the benchmark. */
export type Runtime = ManagedRuntime.ManagedRuntime<Absurd.Absurd, unknown>

export interface Own {
  /** Like `startWorker`, but the worker hears no hints and polls; `interval` is the longest time between two polls, in ms. */
  readonly startPolling: (
    onTask: () => void
  ) => Promise<{ readonly stop: () => Promise<unknown>; readonly interval: number }>
  /** Deletes at most so many ended tasks in one call, and takes how many it were. */
  readonly cleanup: (limit: number) => Promise<number>
  /** Has so many tasks wait for one event, and emits it. */
  readonly emit: (waiters: number, concurrency: number) => Promise<Emitted>
  /** Runs a task that spawns so many children and waits for all of them; takes the seconds. */
  readonly joinChildren: (count: number, concurrency: number) => Promise<number>
  /** Runs so many tasks until each of them waits for an event. The worker goes on until it is stopped. */
  readonly suspend: (
    concurrency: number
  ) => Promise<{ readonly add: (count: number) => Promise<unknown>; readonly stop: () => Promise<unknown> }>
  /** How many calls of the store it takes to resume a task with so many checkpoints. */
  readonly reads: (checkpoints: number) => Promise<number>
  /** Creates queues until there are so many. The answer claims one task in one of them and completes it. */
  readonly claimBeside: (queues: number) => Promise<() => Promise<unknown>>
  /** Operations of the store in memory a second, behind so many ended tasks. */
  readonly operations: (finished: number) => Promise<Rates>
  /** Runs the quick start in an empty folder, until it has told its result. */
  readonly quickStart: () => Promise<unknown>
}

/** @param pool looks at the tables behind the client's back */
export const makeOwn = (runtime: Runtime, pool: Pool, url: string): Own => ({
  startPolling: startPolling(url),
  cleanup: cleanup(runtime),
  emit: emit(runtime, pool),
  joinChildren: joinChildren(runtime),
  suspend: suspend(runtime, pool),
  reads: reads(url),
  claimBeside: claimBeside(runtime, pool),
  operations,
  quickStart
})
