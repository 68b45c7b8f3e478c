/** Completions at random moments: no wake-up is lost. */
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, type Layer, Random, Ref, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import { DurableClock, DurableDeferred, Workflow, WorkflowEngine } from "effect/workflow"
import { TestTime } from "../../support/TestTime.ts"
import { makeProcess, makeQueue, options, untilTrue } from "./Support.ts"

const Left = DurableDeferred.make("left", { success: Schema.String })
const Right = DurableDeferred.make("right", { success: Schema.String })

const W = Workflow.make("Stressed", {
  payload: { id: Schema.String },
  idempotencyKey: ({ id }) => id,
  success: Schema.Array(Schema.String)
})

/** Two rounds, so that what the first round leaves behind cannot harm the second. */
const live = (runs: Ref.Ref<number>) =>
  W.toLayer(Effect.fn(function*() {
    yield* Ref.update(runs, (n) => n + 1)
    const race = (round: string) =>
      DurableDeferred.raceAll({
        name: round,
        success: Schema.String,
        error: Schema.Never,
        effects: [
          DurableDeferred.await(Left),
          DurableDeferred.await(Right),
          Effect.as(DurableClock.sleep({ name: round, duration: "90 seconds" }), "clock")
        ]
      })
    const first = yield* race("first")
    const second = first === "left" ? yield* DurableDeferred.await(Right) : yield* DurableDeferred.await(Left)
    return [first, second]
  }))

export const suite = (name: string, count: number, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect(
      `${count} races of two deferreds and a clock, completed at random moments from two processes`,
      () =>
        Effect.gen(function*() {
          const { advance } = yield* TestTime
          const queue = yield* makeQueue
          const runs = yield* Ref.make(0)
          const settings = { ...options(queue), concurrency: 20 }
          const engines = [
            yield* makeProcess(settings, live(runs)),
            yield* makeProcess(settings, live(runs)),
            yield* makeProcess(options(queue))
          ]
          const somewhere = <A, E>(effect: Effect.Effect<A, E, WorkflowEngine.WorkflowEngine>) =>
            Effect.flatMap(Random.nextIntBetween(0, 2), (at) =>
              Effect.provideService(effect, WorkflowEngine.WorkflowEngine, engines[at]!))
          const pause = Effect.flatMap(Random.nextIntBetween(0, 200), (times) =>
            Effect.repeat(Effect.yieldNow, { times }))
          const complete = (executionId: string, deferred: typeof Left, value: string) =>
            pause.pipe(
              Effect.andThen(somewhere(DurableDeferred.succeed(deferred, {
                token: DurableDeferred.tokenFromExecutionId(deferred, { workflow: W, executionId }),
                value
              })))
            )
          const one = Effect.fnUntraced(function*(number: number) {
            const payload = { id: String(number) }
            const executionId = yield* W.executionId(payload)
            const [, , result] = yield* Effect.all([
              complete(executionId, Left, "left"),
              complete(executionId, Right, "right"),
              Effect.andThen(pause, somewhere(W.execute(payload)))
            ], { concurrency: "unbounded" })
            return result
          })
          const all = yield* Effect.forkChild(
            Effect.forEach(
              Array.from({ length: count }, (_, number) =>
                number),
              one,
              { concurrency: 100 }
            )
          )
          yield* untilTrue(Effect.map(advance("50 millis"), () =>
            all.pollUnsafe() !== undefined))
          for (const [first, second] of yield* Fiber.join(all)) {
            assert.include(["left", "right", "clock"], first)
            assert.strictEqual(second, first === "left" ? "right" : "left")
          }
          // Every replay has its cause: a completion, the clock, or a start.
          assert.isAtMost(yield* Ref.get(runs), count * 8)
        }),
      { timeout: 120_000 }
    )
  })
