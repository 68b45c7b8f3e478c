/** A failure is stored, whatever the code of the program does that is asked about it. */
import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, Predicate, Schedule, Schema, SchemaTransformation } from "effect"
import { Absurd, RetryStrategy, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { sku: Schema.String }) {}

const dies = (): never => {
  throw new Error("the program's own mistake")
}

/** Cannot be encoded: its encoding throws, which is a defect and no typed error. */
const Unencodable = Schema.String.pipe(
  Schema.decodeTo(
    Schema.String,
    SchemaTransformation.transform({ decode: (text: string) => text, encode: (): string => dies() })
  )
)

const schedule = Schedule.exponential("1 second")

/** What a task is defined with that is of no help when it fails, and when it is tried again then. */
const mistakes: ReadonlyArray<readonly [what: string, options: object, retriedAfter: number]> = [
  ["isFinal throws", { isFinal: dies }, 7000],
  ["retryAfter throws", { retryAfter: dies }, 7000],
  ["both throw, with a schedule", { isFinal: dies, retryAfter: dies, retry: Schedule.spaced("20 seconds") }, 20_000],
  ["the schedule dies", { retry: Schedule.modifyDelay(schedule, () => Effect.sync(dies)) }, 1000],
  ["a part of the schedule throws", { retry: Schedule.while(schedule, dies) }, 1000],
  ["the error schema dies", { error: Unencodable }, 7000]
]

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.each(mistakes)(
      "%s: the failure is stored and the task tried again",
      ([, options, retriedAfter]) =>
        Effect.gen(function*() {
          const queue: string = Fixture.freshQueue()
          yield* Absurd.createQueue(queue)
          const { advance } = yield* TestTime
          const error = "error" in options ? "refused" : new Refused({ sku: "widget" })
          const Order = Task.make("order", {
            queue,
            params: {},
            error: Refused as Schema.Codec<Refused | string, unknown>,
            retry: RetryStrategy.fixed("7 seconds"),
            ...options,
            maxAttempts: 2
          })
          yield* Effect.gen(function*() {
            const { runId, taskId } = yield* Order.spawn({})
            const work = Effect.map(Worker.runOnce({ queue }), (results) => results.map((result) => result._tag))
            assert.deepStrictEqual(yield* work, ["Failed"])
            const run = yield* Absurd.getRunStatus(runId, { queue })
            assert.strictEqual(run.state, "failed")
            const reason = Predicate.isObject(run.failureReason) ? run.failureReason : {}
            if (Predicate.isString(error)) {
              assert.deepInclude(reason, { name: "Error", message: "refused" })
              assert.notProperty(reason, "error")
            } else {
              assert.deepInclude(reason, { name: "Refused", error: { _tag: "Refused", sku: "widget" } })
            }
            yield* advance(retriedAfter - 1)
            assert.deepStrictEqual(yield* work, [])
            yield* advance(1)
            assert.deepStrictEqual(yield* work, ["Failed"])
            assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue })).state, "failed")
          }).pipe(Effect.provide(Order.toLayer(() => Effect.fail(error))))
        })
    )

    it.effect("what throws when it is looked at fails its run like anything else", () =>
      Effect.gen(function*() {
        const queue: string = Fixture.freshQueue()
        yield* Absurd.createQueue(queue)
        const hostile: unknown = new Proxy({}, { get: dies, getPrototypeOf: dies, has: dies, ownKeys: dies })
        const Hostile = Task.make("hostile", { queue, params: {}, maxAttempts: 1 })
        yield* Effect.gen(function*() {
          const { taskId } = yield* Hostile.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
          assert.deepInclude((yield* Absurd.getTaskResult(taskId, { queue })).failure, { name: "Error" })
        }).pipe(Effect.provide(Hostile.toLayer(() => Effect.die(hostile))))
      }))
  })
