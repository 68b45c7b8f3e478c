import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer, Schema } from "effect"
import { Driver } from "../../src/core/Driver.ts"
import { QueueName } from "../../src/core/Identifiers.ts"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

type Operation = (driver: Driver["Service"], queue: QueueName) => Effect.Effect<unknown, unknown>

const held = { runId: Fixture.unknownRun, token: Fixture.freshToken() }
const taskId = Fixture.unknownTask

/** Every operation that is about one queue. */
const operations: ReadonlyArray<readonly [string, Operation]> = [
  ["getQueuePolicy", (driver, queue) => driver.getQueuePolicy(queue)],
  ["setQueuePolicy", (driver, queue) => driver.setQueuePolicy(queue, { cleanupLimit: 1 })],
  ["spawn", (driver, queue) => driver.spawn({ queue, tasks: [Fixture.item()] })],
  ["claim", (driver, queue) => driver.claim({ queue, token: held.token, lease: Duration.minutes(1), limit: 1 })],
  ["claimedWith", (driver, queue) => driver.claimedWith({ queue, token: held.token })],
  ["complete", (driver, queue) => driver.complete({ queue, runs: [{ ...held, result: null }] })],
  ["fail", (driver, queue) => driver.fail({ queue, runs: [{ ...held, reason: null, retry: Fixture.Retries.never }] })],
  ["setCheckpoints", (driver, queue) =>
    driver.setCheckpoints({
      queue,
      checkpoints: [{ ...held, name: Fixture.step("s"), state: null, extendBy: null }]
    })],
  ["extend", (driver, queue) => driver.extend({ queue, runs: [{ ...held, lease: Duration.minutes(1) }] })],
  ["release", (driver, queue) => driver.release({ queue, runs: [{ ...held, until: Duration.zero }] })],
  [
    "suspend",
    (driver, queue) => driver.suspend({ queue, ...held, waits: [Fixture.Waits.timer("s", Duration.minutes(1))] })
  ],
  ["emit", (driver, queue) => driver.emit({ queue, event: Fixture.event("e"), payload: null })],
  ["readEvent", (driver, queue) => driver.readEvent({ queue, event: Fixture.event("e") })],
  [
    "listTasks",
    (driver, queue) => driver.listTasks({ queue, name: null, states: null, outcome: null, before: null, limit: 1 })
  ],
  ["countTasks", (driver, queue) => driver.countTasks(queue)],
  ["readEvents", (driver, queue) => driver.readEvents({ queue, events: [Fixture.event("e")] })],
  ["cancelTask", (driver, queue) => driver.cancelTask({ queue, taskId })],
  ["cancelRun", (driver, queue) => driver.cancelRun({ queue, runId: held.runId })],
  ["retryTask", (driver, queue) => driver.retryTask({ queue, taskId, maxAttempts: null, spawnNew: false })],
  ["results", (driver, queue) => driver.results({ queue, taskIds: [taskId] })],
  ["getTask", (driver, queue) => driver.getTask({ queue, taskId })],
  ["getRun", (driver, queue) => driver.getRun({ queue, runId: held.runId })],
  ["findTask", (driver, queue) => driver.findTask({ queue, idempotencyKey: Fixture.key("k") })],
  ["listRuns", (driver, queue) => driver.listRuns({ queue, taskId })],
  ["listWaits", (driver, queue) => driver.listWaits({ queue, taskId })],
  ["getCheckpoints", (driver, queue) => driver.getCheckpoints({ queue, taskId, name: null, includePending: false })],
  ["cleanupTasks", (driver, queue) => driver.cleanupTasks({ queue, ttl: Duration.zero, limit: 1 })],
  ["cleanupEvents", (driver, queue) => driver.cleanupEvents({ queue, ttl: Duration.zero, limit: 1 })]
]

const standardPolicy = {
  defaultPartition: "enabled",
  partitionLookahead: Duration.days(28),
  partitionLookback: Duration.days(1),
  cleanupTtl: Duration.days(30),
  cleanupLimit: 1000,
  detachMode: "none",
  detachMinAge: Duration.days(30)
} as const

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.each(operations)(
      "%s fails with NotFound when there is no such queue",
      ([, operation]) =>
        Effect.gen(function*() {
          const driver = yield* Driver
          const queue = Fixture.freshQueue()
          const error = yield* Effect.flip(operation(driver, queue))
          assert.deepInclude(error, { _tag: "NotFound", kind: "queue", id: queue })
        })
    )

    it.effect.each(["unpartitioned", "partitioned"] as const)(
      "creating a %s queue twice keeps what is in it",
      (storage) =>
        Effect.gen(function*() {
          const driver = yield* Driver
          const q = Fixture.over(driver, yield* TestTime, Fixture.freshQueue())
          yield* driver.createQueue({ queue: q.queue, storage })
          const { taskId } = yield* q.spawn()
          yield* driver.setQueuePolicy(q.queue, { cleanupLimit: 7 })
          const before = yield* q.snapshot(taskId)
          yield* driver.createQueue({ queue: q.queue, storage })
          assert.deepStrictEqual(yield* q.snapshot(taskId), before)
          assert.strictEqual((yield* driver.getQueuePolicy(q.queue)).cleanupLimit, 7)
        })
    )

    it.effect.each([["unpartitioned", "partitioned"], ["partitioned", "unpartitioned"]] as const)(
      "a queue that is %s cannot be created as %s",
      ([storage, other]) =>
        Effect.gen(function*() {
          const driver = yield* Driver
          const queue = Fixture.freshQueue()
          yield* driver.createQueue({ queue, storage })
          const error = yield* Effect.flip(driver.createQueue({ queue, storage: other }))
          assert.strictEqual(error._tag, "InvalidState")
          assert.strictEqual((yield* driver.getQueuePolicy(queue)).storageMode, storage)
        })
    )

    it.effect("dropping a queue removes all that is in it, and can be repeated", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.spawn({ idempotencyKey: Fixture.key("k") })
        yield* q.emit("e", 1)
        yield* q.driver.dropQueue(q.queue)
        yield* q.driver.dropQueue(q.queue)
        assert.notInclude(yield* q.driver.listQueues, q.queue)
        yield* q.driver.createQueue({ queue: q.queue, storage: "unpartitioned" })
        assert.isUndefined(yield* q.driver.getTask({ queue: q.queue, taskId }))
        assert.isUndefined(yield* q.driver.findTask({ queue: q.queue, idempotencyKey: Fixture.key("k") }))
        assert.isUndefined(yield* q.driver.readEvent({ queue: q.queue, event: Fixture.event("e") }))
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect.each(["unpartitioned", "partitioned"] as const)(
      "a new %s queue has the standard policy",
      (storage) =>
        Effect.gen(function*() {
          const driver = yield* Driver
          const queue = Fixture.freshQueue()
          yield* driver.createQueue({ queue, storage })
          assert.deepEqual(
            Fixture.plain(yield* driver.getQueuePolicy(queue)),
            Fixture.plain({ storageMode: storage, ...standardPolicy })
          )
        })
    )

    it.effect("a policy update changes what it names and nothing else", () =>
      Effect.gen(function*() {
        const driver = yield* Driver
        const queue = Fixture.freshQueue()
        yield* driver.createQueue({ queue, storage: "partitioned" })
        const expect = (policy: object) =>
          Effect.map(
            driver.getQueuePolicy(queue),
            (actual) =>
              assert.deepEqual(
                Fixture.plain(actual),
                Fixture.plain({ storageMode: "partitioned", ...standardPolicy, ...policy })
              )
          )
        yield* driver.setQueuePolicy(queue, {})
        yield* expect({})
        yield* driver.setQueuePolicy(queue, { cleanupTtl: Duration.hours(36) })
        yield* expect({ cleanupTtl: Duration.hours(36) })
        const rest = {
          partitionLookahead: Duration.days(14),
          partitionLookback: Duration.days(2),
          cleanupLimit: 5,
          detachMode: "empty" as const,
          detachMinAge: Duration.days(60),
          defaultPartition: "disabled" as const
        }
        yield* driver.setQueuePolicy(queue, { ...rest, cleanupTtl: undefined })
        yield* expect({ cleanupTtl: Duration.hours(36), ...rest })
        yield* driver.setQueuePolicy(queue, { defaultPartition: "enabled" })
        yield* expect({ cleanupTtl: Duration.hours(36), ...rest, defaultPartition: "enabled" })
      }))

    it.effect("a policy that makes no sense is refused as a whole", () =>
      Effect.gen(function*() {
        const driver = yield* Driver
        const q = Fixture.over(driver, yield* TestTime, Fixture.freshQueue())
        yield* driver.createQueue({ queue: q.queue, storage: "unpartitioned" })
        const before = Fixture.plain(yield* q.driver.getQueuePolicy(q.queue))
        const limit = yield* Effect.flip(
          q.driver.setQueuePolicy(q.queue, { cleanupTtl: Duration.days(1), cleanupLimit: 0 })
        )
        assert.strictEqual(limit._tag, "InvalidInput")
        const partition = yield* Effect.flip(
          q.driver.setQueuePolicy(q.queue, { cleanupTtl: Duration.days(1), defaultPartition: "disabled" })
        )
        assert.strictEqual(partition._tag, "InvalidState")
        assert.deepStrictEqual(Fixture.plain(yield* q.driver.getQueuePolicy(q.queue)), before)
      }))

    it.effect("queues share nothing: ids, keys and events are looked up in one queue only", () =>
      Effect.gen(function*() {
        const [a, b] = [yield* Fixture.make, yield* Fixture.make]
        const idempotencyKey = Fixture.key("k")
        const inA = yield* a.spawn({ idempotencyKey })
        const inB = yield* b.spawn({ idempotencyKey })
        assert.isTrue(inB.created)
        yield* a.emit("e", "a")
        assert.isUndefined(yield* b.driver.readEvent({ queue: b.queue, event: Fixture.event("e") }))
        assert.isUndefined(yield* b.driver.getTask({ queue: b.queue, taskId: inA.taskId }))
        assert.isUndefined(yield* b.driver.getRun({ queue: b.queue, runId: inA.runId }))
        const run = yield* b.claimOne()
        assert.strictEqual(run.taskId, inB.taskId)
        assert.strictEqual(yield* a.complete(run), "notFound")
      }))

    it.effect.each([
      "Upper-Case",
      "with space",
      "quo\"te",
      "it's",
      "per%cent_",
      "dot.ted",
      "größe",
      "队列",
      "$1; --",
      "x".repeat(57)
    ])(
      "a queue may be named %s",
      (text) =>
        Effect.gen(function*() {
          const driver = yield* Driver
          const q = Fixture.over(driver, yield* TestTime, QueueName.make(text))
          yield* driver.createQueue({ queue: q.queue, storage: "unpartitioned" })
          assert.include(yield* driver.listQueues, text)
          const { taskId } = yield* q.spawn({ idempotencyKey: Fixture.key("k") })
          const run = yield* q.claimOne()
          yield* q.checkpoint(run, "s", 1)
          yield* q.suspend(run, [Fixture.Waits.event("w", "e", Duration.minutes(1))])
          yield* q.emit("e", 1)
          assert.strictEqual(yield* q.complete(yield* q.claimOne()), "applied")
          assert.deepStrictEqual(yield* q.states(taskId), ["completed", "completed"])
          yield* driver.dropQueue(q.queue)
          assert.notInclude(yield* driver.listQueues, text)
        })
    )

    it.effect("a partitioned queue works like any other", () =>
      Effect.gen(function*() {
        const driver = yield* Driver
        const time = yield* TestTime
        const q = Fixture.over(driver, time, Fixture.freshQueue())
        yield* driver.createQueue({ queue: q.queue, storage: "partitioned" })
        const idempotencyKey = Fixture.key("k")
        const first = yield* q.spawn({ idempotencyKey, maxAttempts: 2, params: { n: 1 } })
        assert.deepStrictEqual(yield* q.spawn({ idempotencyKey, params: { n: 1 } }), { ...first, created: false })
        const run = yield* q.claimOne()
        yield* q.checkpoint(run, "s", [1])
        assert.strictEqual((yield* q.fail(run)).state, "pending")
        const again = yield* q.claimOne()
        assert.deepStrictEqual(again.checkpoints, [{ name: Fixture.step("s"), state: [1] }])
        yield* q.suspend(again, [Fixture.Waits.event("w", "e")])
        yield* q.emit("e", "payload")
        const woken = yield* q.claimOne()
        assert.strictEqual(woken.eventPayload, "payload")
        assert.strictEqual(yield* q.complete(woken, "done"), "applied")
        assert.deepStrictEqual(yield* q.result(first.taskId), {
          taskId: first.taskId,
          state: "completed",
          result: "done",
          failure: null
        })
        yield* time.advance("1 second")
        assert.strictEqual(yield* driver.cleanupTasks({ queue: q.queue, ttl: Duration.zero, limit: 10 }), 1)
        assert.isTrue((yield* q.spawn({ idempotencyKey })).created)
      }))

    it.effect.prop(
      "queues are listed by name, whatever the order in which they were made",
      { endings: Schema.Array(Schema.String.check(Schema.isPattern(/^[a-z]{1,6}$/))).check(Schema.isMaxLength(5)) },
      ({ endings }) =>
        Effect.gen(function*() {
          const driver = yield* Driver
          const prefix = `listed${Fixture.fresh()}`
          const names = [...new Set(endings)].map((ending) => QueueName.make(`${prefix}${ending}`))
          for (const queue of names) yield* driver.createQueue({ queue, storage: "unpartitioned" })
          const listed = (yield* driver.listQueues).filter((queue) => queue.startsWith(prefix))
          assert.deepStrictEqual(listed, names.toSorted())
          for (const queue of names) yield* driver.dropQueue(queue)
        }),
      { arbitrary: { runs: 10 } }
    )
  })
