import { assert, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, type Layer, Option } from "effect"
import { Driver } from "../../src/core/Driver.ts"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

/** Ends so many tasks and emits as many events. */
const fill = Effect.fnUntraced(function*(q: Fixture.Fixture, count: number) {
  for (let index = 0; index < count; index++) {
    const run = yield* q.start()
    yield* q.complete(run)
    yield* q.emit(`event${index}`)
  }
})

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("upkeep of a queue that does not exist is NotFound", () =>
      Effect.gen(function*() {
        const driver = yield* Driver
        const queue = Fixture.freshQueue()
        const operations = [driver.ensurePartitions, driver.listDetachCandidates, driver.cleanupAll]
        for (const operation of operations) {
          const error = yield* Effect.flip(Effect.asVoid(operation(queue)))
          assert.deepInclude(error, { _tag: "NotFound", kind: "queue", id: queue })
        }
      }))

    it.effect.each(["unpartitioned", "partitioned"] as const)(
      "providing partitions of a %s queue changes nothing of what it does, now and a year later",
      (storage) =>
        Effect.gen(function*() {
          const driver = yield* Driver
          const q = Fixture.over(driver, yield* TestTime, Fixture.freshQueue())
          yield* driver.createQueue({ queue: q.queue, storage })
          const { taskId } = yield* q.spawn()
          yield* driver.ensurePartitions(q.queue)
          yield* q.time.advance(Duration.days(365))
          yield* driver.ensurePartitions(q.queue)
          yield* driver.ensurePartitions(null)
          yield* q.complete(yield* q.claimOne())
          assert.deepStrictEqual(yield* q.states(taskId), ["completed", "completed"])
        })
    )

    it.effect("no partition is given up unless the policy says so", () =>
      Effect.gen(function*() {
        const driver = yield* Driver
        const q = Fixture.over(driver, yield* TestTime, Fixture.freshQueue())
        yield* driver.createQueue({ queue: q.queue, storage: "partitioned" })
        yield* q.time.advance(Duration.days(365))
        assert.deepStrictEqual(yield* driver.listDetachCandidates(q.queue), [])
        const partition = { queue: q.queue, parent: `t_${q.queue}`, partition: `t_${q.queue}_602` }
        assert.isFalse(yield* driver.detachPartition(partition))
      }))

    it.effect("a queue that was dropped in the meantime has no partition that could be given up", () =>
      Effect.gen(function*() {
        const driver = yield* Driver
        const queue = Fixture.freshQueue()
        assert.isFalse(yield* driver.detachPartition({ queue, parent: `t_${queue}`, partition: `t_${queue}_602` }))
      }))

    it.effect("cleaning all goes by the policy of each queue", () =>
      Effect.gen(function*() {
        const [a, b] = [yield* Fixture.make, yield* Fixture.make]
        const { driver } = a
        yield* driver.setQueuePolicy(a.queue, { cleanupTtl: Duration.days(1), cleanupLimit: 2 })
        yield* driver.setQueuePolicy(b.queue, { cleanupTtl: Duration.days(3) })
        yield* fill(a, 3)
        yield* fill(b, 1)
        const clean = Effect.map(
          driver.cleanupAll(null),
          (all) => all.filter(({ queue }) => queue === a.queue || queue === b.queue)
        )
        const none = { tasks: 0, events: 0 }
        yield* a.time.advance(Duration.days(1))
        assert.deepStrictEqual(yield* clean, [{ queue: a.queue, ...none }, { queue: b.queue, ...none }])
        yield* a.time.advance("1 second")
        assert.deepStrictEqual(yield* clean, [
          { queue: a.queue, tasks: 2, events: 2 },
          { queue: b.queue, ...none }
        ])
        assert.deepStrictEqual(yield* driver.cleanupAll(b.queue), [{ queue: b.queue, ...none }])
        assert.deepStrictEqual(yield* driver.cleanupAll(a.queue), [{ queue: a.queue, tasks: 1, events: 1 }])
        yield* a.time.advance(Duration.days(3))
        assert.deepStrictEqual(yield* clean, [{ queue: a.queue, ...none }, { queue: b.queue, tasks: 1, events: 1 }])
      }))

    it.effect("without a scheduler in the store, cron is refused", () =>
      Effect.gen(function*() {
        const driver = yield* Driver
        const schedules = { partitions: "5 * * * *", cleanup: "5 * * * *", detach: "5 * * * *" }
        const enabled = yield* Effect.flip(driver.enableCron(null, schedules))
        assert.deepInclude(enabled, { _tag: "InvalidState", operation: "enableCron", id: "pg_cron" })
        const disabled = yield* Effect.flip(driver.disableCron(null))
        assert.deepInclude(disabled, { _tag: "InvalidState", operation: "disableCron", id: "pg_cron" })
      }))

    it.effect("what is done exclusively is a transaction, and returns what it returns", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const kept = yield* q.driver.exclusively(q.spawn())
        assert.isTrue(Option.isSome(kept))
        const error = yield* Effect.flip(q.driver.exclusively(Effect.andThen(q.spawn(), Effect.fail("undo" as const))))
        assert.strictEqual(error, "undo")
        assert.lengthOf(yield* q.claim(), 1)
        // Whatever became of the one before, the next one has its turn.
        assert.deepStrictEqual(yield* q.driver.exclusively(Effect.succeed(1)), Option.some(1))
      }))

    it.effect("an interrupted exclusive effect is undone and in nobody's way", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const started = yield* Deferred.make<void>()
        const fiber = yield* q.driver.exclusively(
          q.spawn().pipe(Effect.andThen(Deferred.succeed(started, undefined)), Effect.andThen(Effect.never))
        ).pipe(Effect.forkChild)
        yield* Deferred.await(started)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* q.driver.exclusively(Effect.succeed(1)), Option.some(1))
        assert.deepStrictEqual(yield* q.claim(), [])
      }))
  })
