/** When a task of a program is tried again, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, Ref, Schedule, Schema } from "effect"
import { Absurd, RetryPolicy, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { seconds: Schema.optionalKey(Schema.Int) }) {}

/** How the runs end that are due after each of the pauses. */
const after = (queue: string, pauses: ReadonlyArray<number>) =>
  Effect.forEach(pauses, (pause) =>
    Effect.gen(function*() {
      const { advance } = yield* TestTime
      yield* advance(pause)
      return (yield* Worker.runOnce({ queue })).map((result) => result._tag).join()
    }))

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("an error may say when to try again, and leaves it to the policy otherwise", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const attempts = yield* Ref.make(0)
        const Call = Task.make("call", {
          queue,
          params: {},
          error: Busy,
          retry: Schedule.spaced("10 seconds"),
          retryAfter: ({ seconds }) => seconds === undefined ? undefined : seconds * 1000,
          maxAttempts: 3
        })
        const live = Call.toLayer(() =>
          Effect.flatMap(
            Ref.updateAndGet(attempts, (n) => n + 1),
            (n) => Effect.fail(n === 1 ? new Busy({ seconds: 60 }) : n === 2 ? new Busy({}) : new Busy({ seconds: 1 }))
          )
        )
        yield* Effect.gen(function*() {
          const task = yield* Call.spawn({})
          assert.deepStrictEqual(
            yield* after(queue, [0, 59_999, 1, 9_999, 1, 3_600_000]),
            ["Failed", "", "Failed", "", "Failed", ""]
          )
          // No more attempts than there are.
          assert.deepStrictEqual(yield* Effect.flip(task.await), new Busy({ seconds: 1 }))
        }).pipe(Effect.provide(live))
      }))

    it.effect("a snooze costs no attempt, keeps the steps, and cannot be caught", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const [steps, caught] = [yield* Ref.make(0), yield* Ref.make(0)]
        const open = yield* Ref.make(false)
        const Early = Task.make("early", { queue, params: {}, success: Schema.String, maxAttempts: 1 })
        const live = Early.toLayer(Effect.fn(function*() {
          yield* Step.run("once", Ref.update(steps, (n) => n + 1))
          if (!(yield* Ref.get(open))) {
            yield* Step.snooze("1 minute").pipe(Effect.catchCause(() => Ref.update(caught, (n) => n + 1)))
          }
          return "done"
        }))
        yield* Effect.gen(function*() {
          const task = yield* Early.spawn({})
          assert.deepStrictEqual(
            yield* after(queue, [0, 59_999, 1, 60_000]),
            ["Suspended", "", "Suspended", "Suspended"]
          )
          yield* Ref.set(open, true)
          assert.deepStrictEqual(yield* after(queue, [60_000]), ["Completed"])
          assert.strictEqual(yield* task.await, "done")
          assert.deepStrictEqual([yield* Ref.get(steps), yield* Ref.get(caught)], [1, 0])
          assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
        }).pipe(Effect.provide(live))
      }))

    it.effect("what is stored is the strategy of the policy, by which others go", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const strategy = RetryStrategy.exponential({ base: "3 seconds", max: "1 minute" })
        const jittered = RetryPolicy.fromStrategy(strategy).pipe(Schedule.jittered)
        const policies = [
          [strategy, strategy],
          [RetryPolicy.fromStrategy(strategy), strategy],
          [RetryPolicy.storedAs(jittered, strategy), strategy],
          [jittered, RetryStrategy.standard]
        ] as const
        for (const [retry, expected] of policies) {
          const { taskId } = yield* Task.make("job", { queue, params: {}, retry }).spawn({})
          const [run] = yield* Absurd.claimTask({ queue })
          assert.deepStrictEqual([run?.taskId, run?.retryStrategy], [taskId, expected])
        }
      }))
  })
