import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer } from "effect"
import { Driver, type SpawnItem } from "../../src/core/Driver.ts"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const key = Fixture.key("k")
const { minutes } = Duration

const make = (storage: "unpartitioned" | "partitioned") =>
  Effect.gen(function*() {
    const driver = yield* Driver
    const q = Fixture.over(driver, yield* TestTime, Fixture.freshQueue())
    yield* driver.createQueue({ queue: q.queue, storage })
    const revise = (overrides: Partial<SpawnItem>, keepDue = false) =>
      driver.revisePending({
        queue: q.queue,
        key,
        keepDue,
        task: Fixture.item({ idempotencyKey: key, ...overrides })
      })
    return { ...q, revise }
  })

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.each(["unpartitioned", "partitioned"] as const)(
      "of a %s queue can be replaced",
      (storage) =>
        Effect.gen(function*() {
          const q = yield* make(storage)
          assert.isUndefined(yield* q.revise({}))
          const { runId, taskId } = yield* q.spawn({ idempotencyKey: key, params: 1, delay: minutes(5) })
          const revised = yield* q.revise({ params: { n: 2 }, headers: { h: 1 }, maxAttempts: 7, delay: minutes(10) })
          assert.deepStrictEqual(revised, { taskId, runId, attempt: 1, created: false })
          yield* q.time.advance(Duration.subtract(minutes(10), Duration.millis(1)))
          assert.deepStrictEqual(yield* q.claim(), [])
          assert.deepStrictEqual(yield* q.states(taskId), ["sleeping", "sleeping"])
          yield* q.time.advance(Duration.millis(1))
          const run = yield* q.claimOne()
          assert.deepInclude(run, { taskId, runId, attempt: 1, params: { n: 2 }, headers: { h: 1 }, maxAttempts: 7 })
          assert.strictEqual((yield* q.spawn({ idempotencyKey: key, params: { n: 2 } })).taskId, taskId)
        })
    )

    it.effect("may stay due when they were, or become due at once", () =>
      Effect.gen(function*() {
        const q = yield* make("unpartitioned")
        const { taskId } = yield* q.spawn({ idempotencyKey: key, params: 1, delay: minutes(5) })
        yield* q.time.advance(minutes(4))
        yield* q.revise({ params: 2, delay: minutes(60) }, true)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(minutes(1))
        // It is due, and still can be replaced.
        yield* q.revise({ params: 3, delay: minutes(1) })
        assert.deepStrictEqual(yield* q.states(taskId), ["sleeping", "sleeping"])
        yield* q.revise({ params: 4 })
        assert.deepStrictEqual(yield* q.states(taskId), ["pending", "pending"])
        assert.strictEqual((yield* q.claimOne()).params, 4)
      }))

    it.effect("those that were started, have ended or have another name are left alone", () =>
      Effect.gen(function*() {
        const q = yield* make("unpartitioned")
        const { taskId } = yield* q.spawn({ idempotencyKey: key })
        const other = { name: Fixture.task("other") }
        const untouched = (overrides: Partial<SpawnItem>) =>
          Effect.gen(function*() {
            const before = yield* q.snapshot(taskId)
            assert.isUndefined(yield* q.revise(overrides))
            assert.deepStrictEqual(yield* q.snapshot(taskId), before)
          })
        yield* untouched(other)
        const run = yield* q.claimOne()
        yield* untouched({})
        // Handed back, it waits again, but it was started.
        yield* q.release(run, minutes(1))
        yield* untouched({})
        yield* q.time.advance(minutes(1))
        yield* q.complete(yield* q.claimOne())
        yield* untouched({})
      }))

    it.effect("those that were cancelled are left alone, and an unknown queue is NotFound", () =>
      Effect.gen(function*() {
        const q = yield* make("unpartitioned")
        const { taskId } = yield* q.spawn({ idempotencyKey: key })
        yield* q.driver.cancelTask({ queue: q.queue, taskId })
        assert.isUndefined(yield* q.revise({}))
        const error = yield* Effect.flip(
          q.driver.revisePending({ queue: Fixture.freshQueue(), key, task: Fixture.item(), keepDue: true })
        )
        assert.strictEqual(error._tag, "NotFound")
      }))

    it.effect("replacing is undone with its transaction", () =>
      Effect.gen(function*() {
        const q = yield* make("unpartitioned")
        const { taskId } = yield* q.spawn({ idempotencyKey: key, params: 1 })
        const before = yield* q.snapshot(taskId)
        yield* Effect.flip(
          q.driver.withTransaction(Effect.andThen(q.revise({ params: 2 }), Effect.fail("undo")))
        )
        assert.deepStrictEqual(yield* q.snapshot(taskId), before)
      }))
  })
