/** The workflows of `Processes.long.test.ts`. Each activity makes a value that only one execution of it could have made. */
import { Effect, Layer, Schema } from "effect"
import { Activity, DurableClock, DurableDeferred, Workflow } from "effect/workflow"
import { randomUUID } from "node:crypto"
import type { Line } from "../../../faults/crash/Ledger.ts"

export const queue = "crashes"

export const Approval = DurableDeferred.make("approval", { success: Schema.Int, error: Schema.Never })

export const Journey = Workflow.make("Journey", {
  payload: { n: Schema.Int },
  idempotencyKey: ({ n }) => String(n),
  success: Schema.Struct({ child: Schema.Int, approved: Schema.Boolean, fast: Schema.String })
})

const Child = Workflow.make("Child", {
  payload: { n: Schema.Int },
  idempotencyKey: ({ n }) => String(n),
  success: Schema.Int
})

/** Is executed for as long as its process lives, the first time. */
export const Endless = Workflow.make("Endless", {
  payload: { n: Schema.Int },
  idempotencyKey: ({ n }) => String(n),
  success: Schema.Boolean
})

/** Those of a journey and of its child, in no order. */
export const activities = ["first", "slow", "fast", "child", "last"] as const

export type Write = (line: Omit<Line, "at" | "pid">) => Effect.Effect<void>

/** Told of the beginning in the activity, and of the value once the engine has it. */
const act = (write: Write, n: number, name: (typeof activities)[number], millis: number) =>
  Activity.make({
    name,
    success: Schema.String,
    execute: Effect.andThen(
      write({ what: "begin", n, detail: name }),
      Effect.delay(Effect.sync(() => randomUUID()), millis)
    )
  }).pipe(Effect.tap((value) => write({ what: "done", n, detail: `${name}=${value}` })))

const nap = (name: string, duration: number) => DurableClock.sleep({ name, duration, inMemoryThreshold: 0 })

const journey = (write: Write) =>
  Journey.toLayer(Effect.fn(function*({ n }) {
    yield* act(write, n, "first", 100)
    yield* nap("nap", 200)
    const winner = yield* DurableDeferred.raceAll({
      name: "race",
      success: Approval.successSchema,
      error: Approval.errorSchema,
      effects: [
        DurableDeferred.await(Approval),
        Effect.as(nap("race", n % 2 === 0 ? 3_600_000 : 500), -1)
      ]
    })
    // The loser is interrupted, and may never have an end.
    const fast = yield* DurableDeferred.raceAll({
      name: "activities",
      success: Schema.String,
      error: Schema.Never,
      effects: [act(write, n, "slow", 5000), act(write, n, "fast", 100)]
    })
    const child = yield* Child.execute({ n })
    yield* act(write, n, "last", 100)
    return { child, approved: winner >= 0, fast }
  }))

const child = (write: Write) =>
  Child.toLayer(Effect.fn(function*({ n }) {
    yield* act(write, n, "child", 50)
    yield* nap("nap", 50)
    return n * 2
  }))

const endless = (write: Write, isLast: boolean) =>
  Endless.toLayer(Effect.fn(function*({ n }) {
    yield* Activity.make({
      name: "endless",
      execute: Effect.andThen(write({ what: "begin", n, detail: "endless" }), isLast ? Effect.void : Effect.never)
    })
    return true
  }))

/** `isLast` makes the endless ones end. */
export const layer = (write: Write, isLast: boolean) =>
  Layer.mergeAll(journey(write), child(write), endless(write, isLast))
