/** A store in which there is one of each, for operations that must change nothing. */
import { Context, Effect, Layer } from "effect"
import { Absurd, type Identifiers } from "effect-absurd"
import * as Fixture from "./Fixture.ts"

export interface World {
  readonly queue: string
  /** A queue whose rows are partitioned. */
  readonly partitioned: string
  /** A task that runs, under a claim. */
  readonly run: Absurd.Claim
  /** A task whose one attempt has failed. */
  readonly failed: Identifiers.TaskId
  /** The idempotency key of a task named `job` with null for params that is due later. */
  readonly key: string
  readonly workflowRun: Identifiers.WorkflowRunId
}

export class TheWorld extends Context.Service<TheWorld, World>()("test/conformance/BadInputWorld") {}

export const make = Effect.gen(function*() {
  const queue: string = Fixture.freshQueue()
  const partitioned: string = Fixture.freshQueue()
  const key = "taken"
  yield* Absurd.createQueue(queue)
  yield* Absurd.createQueue(partitioned, { storage: "partitioned" })
  const claim = Effect.map(Absurd.claimTask({ queue, claimTimeout: "24 hours" }), Fixture.only)
  const { taskId: failed } = yield* Absurd.spawnTask("fails", null, { queue, maxAttempts: 1 })
  yield* Absurd.failTask(yield* claim, "no")
  yield* Absurd.spawnTask("runs", null, { queue, headers: { tenant: "a" } })
  const run = yield* claim
  yield* Absurd.setCheckpoint(run, "first", 1)
  yield* Absurd.spawnTask("job", null, { queue, idempotencyKey: key, delay: "1 hour" })
  yield* Absurd.spawnTask("waits", null, { queue })
  yield* Effect.flip(Absurd.waitForEvent(yield* claim, "awaited", { timeout: "1 day" }))
  yield* Absurd.emitEvent("known", 1, { queue })
  const workflowRun = yield* Absurd.createWorkflowRun("flow", "1", { tags: ["a"] })
  return { queue, partitioned, run, failed, key, workflowRun }
})

export const layer: Layer.Layer<TheWorld, never, Absurd.Absurd> = Layer.effect(TheWorld, Effect.orDie(make))
