/** What the suites of whole programs share. */
import { Duration, Effect, Ref } from "effect"
import { Absurd, type Driver, Identifiers, Worker } from "effect-absurd"
import * as Fixture from "./Fixture.ts"

export { makeQueue } from "./Fixture.ts"

/** Executes everything that is due, until nothing is. */
export const runUntilIdle = (queue: string) =>
  Worker.runOnce({ queue, concurrency: 50 }).pipe(Effect.repeat({ until: (results) => results.length === 0 }))

/** What happened, in order. */
export const makeLog = Effect.map(Ref.make<ReadonlyArray<string>>([]), (log) => ({
  add: (what: string) => Ref.update(log, (all) => [...all, what]),
  all: Ref.get(log)
}))

/** The task's checkpoints by name. */
export const checkpointsOf = (queue: string, taskId: string) =>
  Effect.map(
    Absurd.getAllCheckpoints(taskId, { queue }),
    (all) => Object.fromEntries(all.map(({ name, state }) => [name as string, state]))
  )

/** The stored failure of a task. */
export const failureOf = (queue: string, taskId: string) =>
  Effect.map(
    Absurd.getTaskResult(taskId, { queue }),
    ({ failure }) => failure as { readonly name: string; readonly message: string }
  )

/** Lets every fiber go on until the condition holds. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(Effect.tap(condition, () => pause), { until: (holds) => holds })

/** Lets every fiber, and the store, do what they can do at this time. */
export const settle = Effect.repeat(Effect.suspend(() => pause), { times: 50 })

// A turn of the event loop, so that answers of a store come in.
const pause = Effect.callback<void>((resume) => {
  const handle = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(handle))
})

/** Claims everything that is due, for half a minute, and does nothing with it. */
export const claimAndVanish = (driver: Driver.Driver["Service"], queue: string) =>
  driver.claim({
    queue: Identifiers.QueueName.make(queue),
    token: Fixture.freshToken(),
    lease: Duration.seconds(30),
    limit: 100
  })
