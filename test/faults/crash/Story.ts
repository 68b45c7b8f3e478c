/** The task of the crash test: six steps, one of them a transaction, with a sleep and a wait for an event between them. */
import { Effect, Layer, Schema } from "effect"
import { CurrentRun, Event, RetryStrategy, Step, Task } from "effect-absurd"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import type { Line } from "./Ledger.ts"

export const queue = "crash"

export const steps = ["one", "two", "three", "four", "five", "six"] as const

export const Go = Event.make("go", { queue, payload: Schema.Int })

export const Journey = Task.make("journey", {
  queue,
  params: { n: Schema.Int, waits: Schema.Boolean },
  success: Schema.Int,
  maxAttempts: 1000,
  retry: RetryStrategy.none,
  idempotencyKey: ({ n }) => String(n)
})

/** Says that it has been claimed, and no more. */
export const Probe = Task.make("probe", { queue, params: { n: Schema.Int } })

/** Of the workers, in milliseconds. */
export const pollInterval = 50

/** Where the step `four` writes, in one commit with its checkpoint. */
export const createBooks = "create table books (n int not null, step text not null)"

export const layer = (write: (line: Omit<Line, "at" | "pid">) => Effect.Effect<void>) =>
  Layer.merge(journey(write), Probe.toLayer(({ n }) => write({ what: "probe", n, detail: "" })))

// --- internal

const journey = (write: (line: Omit<Line, "at" | "pid">) => Effect.Effect<void>) =>
  Journey.toLayer(Effect.fn(function*({ n, waits }) {
    const sql = yield* SqlClient.SqlClient
    const { attempt } = yield* CurrentRun
    /** A value that only this execution of the step could have made. */
    const work = (name: string) =>
      Effect.andThen(write({ what: "begin", n, detail: name }), Effect.as(Effect.sleep("5 millis"), randomUUID()))
    const step = (name: string) =>
      Effect.tap(
        name === "four"
          ? Step.transaction(name, Effect.tap(work(name), Effect.orDie(sql`insert into books values (${n}, ${name})`)))
          : Step.run(name, work(name)),
        (value) => write({ what: "done", n, detail: `${name}=${value}` })
      )
    yield* write({ what: "enter", n, detail: String(attempt) })
    yield* Effect.gen(function*() {
      yield* step("one")
      yield* step("two")
      yield* Step.sleep("nap", "50 millis")
      yield* step("three")
      if (waits) yield* write({ what: "got", n, detail: String(yield* Go.wait(String(n))) })
      yield* step("four")
      yield* step("five")
      yield* step("six")
    }).pipe(Effect.ensuring(write({ what: "leave", n, detail: "" })))
    return n
  }))
