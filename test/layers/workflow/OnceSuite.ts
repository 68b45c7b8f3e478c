/** Completions that come again, or early, interrupt nothing: an activity that takes time is executed once. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Ref, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import { Activity, DurableClock, DurableDeferred, Workflow, WorkflowEngine } from "effect/workflow"
import type { TestTime } from "../../support/TestTime.ts"
import {
  inProcess,
  joinWhileTimePasses,
  makeLog,
  makeProcess,
  makeQueue,
  options,
  settled,
  untilTrue
} from "./Support.ts"

const Go = DurableDeferred.make("go", { success: Schema.String })

const make = (name: string) =>
  Workflow.make(name, {
    payload: { id: Schema.String },
    idempotencyKey: ({ id }) => id,
    success: Schema.String
  })

const complete = (workflow: Workflow.Any, executionId: string, value: string) =>
  DurableDeferred.succeed(Go, { token: DurableDeferred.tokenFromExecutionId(Go, { workflow, executionId }), value })

/** An activity that is noticed when it is interrupted, and takes as long as the time moves. */
const makeCharge = Effect.map(makeLog, (log) => ({
  log: log.all,
  activity: Activity.make({
    name: "charge",
    execute: log.add("start").pipe(
      Effect.andThen(Effect.sleep("300 millis")),
      Effect.andThen(log.add("end")),
      Effect.onInterrupt(() => log.add("interrupted"))
    )
  })
}))

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.each([1, 5])("an activity after %i clocks is executed once", (clocks) =>
      Effect.gen(function*() {
        const W = make("AfterClocks")
        const runs = yield* Ref.make(0)
        const charge = yield* makeCharge
        yield* inProcess(
          W.toLayer(Effect.fn(function*() {
            yield* Ref.update(runs, (n) => n + 1)
            for (let number = 0; number < clocks; number++) {
              yield* DurableClock.sleep({ name: `clock ${number}`, duration: "1 second", inMemoryThreshold: 0 })
            }
            yield* charge.activity
            return "done"
          })),
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(W.execute({ id: "1" }))
            assert.strictEqual(yield* joinWhileTimePasses(fiber), "done")
            assert.deepStrictEqual(yield* charge.log, ["start", "end"])
            assert.strictEqual(yield* Ref.get(runs), clocks + 1)
          })
        )
      }))

    it.effect("a completion that comes again interrupts nothing, from whichever process", () =>
      Effect.gen(function*() {
        const W = make("CompletedTwice")
        const queue = yield* makeQueue
        const charge = yield* makeCharge
        const client = yield* makeProcess(options(queue))
        const worker = yield* makeProcess(
          options(queue),
          W.toLayer(Effect.fn(function*() {
            const value = yield* DurableDeferred.await(Go)
            yield* charge.activity
            return value
          }))
        )
        const on = (engine: WorkflowEngine.WorkflowEngine["Service"]) =>
          Effect.provideService(WorkflowEngine.WorkflowEngine, engine)
        const executionId = yield* W.execute({ id: "1" }, { discard: true }).pipe(on(worker))
        yield* settled(W, executionId).pipe(on(worker))
        yield* complete(W, executionId, "first").pipe(on(worker))
        yield* untilTrue(Effect.map(charge.log, (all) => all.length > 0))
        yield* complete(W, executionId, "second").pipe(on(worker))
        yield* complete(W, executionId, "third").pipe(on(client))
        const fiber = yield* Effect.forkChild(on(worker)(W.execute({ id: "1" })))
        assert.strictEqual(yield* joinWhileTimePasses(fiber), "first")
        assert.deepStrictEqual(yield* charge.log, ["start", "end"])
      }))

    it.effect("an execution may complete its own deferred again", () =>
      Effect.gen(function*() {
        const W = make("CompletesItself")
        const runs = yield* Ref.make(0)
        yield* inProcess(
          W.toLayer(Effect.fn(function*(_, executionId) {
            yield* Ref.update(runs, (n) => n + 1)
            const value = yield* DurableDeferred.await(Go)
            yield* complete(W, executionId, "again")
            yield* Effect.yieldNow
            return value
          })),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* settled(W, executionId)
            yield* complete(W, executionId, "first")
            const fiber = yield* Effect.forkChild(W.execute({ id: "1" }))
            assert.strictEqual(yield* joinWhileTimePasses(fiber), "first")
            assert.strictEqual(yield* Ref.get(runs), 2)
          })
        )
      }))
  })
