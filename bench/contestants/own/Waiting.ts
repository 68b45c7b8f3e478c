/** Tasks that wait for events. */
import { Effect, Layer, Schema } from "effect"
import { Event, Task, Worker } from "effect-absurd"
import type { Pool } from "pg"
import { parts } from "../../Contestant.ts"
import * as AbsurdTables from "../AbsurdTables.ts"
import type { Own, Runtime } from "./Own.ts"
import { start, until } from "./Started.ts"

/** Milliseconds until the emission has returned, and until the last of the waiters has ended. */
export interface Emitted {
  readonly emit: number
  readonly all: number
}

const { queue } = AbsurdTables
const Go = Event.make("go", { queue })
const Waiter = Task.make("waiter", { params: { key: Schema.String }, queue })

const worker = (concurrency: number) =>
  Worker.layer({ concurrency }).pipe(Layer.provide(Waiter.toLayer(({ key }) => Effect.asVoid(Go.wait(key)))))

const waiting = async (pool: Pool): Promise<number> => {
  const { rows } = await pool.query<{ count: number }>(
    `select count(*)::int as count from absurd.r_${queue} where state = 'sleeping'`
  )
  return rows[0]!.count
}

const spawn = async (runtime: Runtime, count: number, key: string) => {
  for (const size of parts(count, 1000)) {
    await runtime.runPromise(Waiter.spawnMany(Array.from({ length: size }, () => ({ key }))))
  }
}

export const emit = (runtime: Runtime, pool: Pool): Own["emit"] => async (waiters, concurrency) => {
  const stop = await start(runtime, worker(concurrency))
  await spawn(runtime, waiters, "all")
  await until(async () => await waiting(pool) === waiters, "100 millis")
  const startedAt = performance.now()
  await runtime.runPromise(Go.emit("all", undefined))
  const emitted = performance.now() - startedAt
  await until(async () => await AbsurdTables.unfinished(pool) === 0, "10 millis")
  const ended = performance.now() - startedAt
  await stop()
  return { emit: emitted, all: ended }
}

export const suspend = (runtime: Runtime, pool: Pool): Own["suspend"] => async (concurrency) => {
  const stop = await start(runtime, worker(concurrency))
  const add = async (count: number) => {
    const before = await waiting(pool)
    await spawn(runtime, count, "never")
    // Counting takes the server a while.
    await until(async () => await waiting(pool) === before + count, "500 millis")
  }
  return { add, stop }
}
