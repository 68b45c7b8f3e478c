/** Reading what became of tasks, and forgetting it. */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer, Schema } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { Retries, seconds, Waits } = Fixture

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const cleanTasks = (q: Fixture.Fixture, ttl: Duration.Duration, limit = 100) =>
      q.driver.cleanupTasks({ queue: q.queue, ttl, limit })
    const cleanEvents = (q: Fixture.Fixture, ttl: Duration.Duration, limit = 100) =>
      q.driver.cleanupEvents({ queue: q.queue, ttl, limit })

    it.effect("results tell the state of every task that exists, and nothing of others", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const nothing = { result: null, failure: null }
        const completed = yield* q.start()
        yield* q.complete(completed, { n: 1 })
        const failed = yield* q.start()
        yield* q.fail(failed, Retries.never, "reason")
        const cancelled = yield* q.start()
        yield* q.driver.cancelTask({ queue: q.queue, taskId: cancelled.taskId })
        const sleeping = yield* q.start()
        yield* q.suspend(sleeping, [Waits.timer("t", seconds(60))])
        const running = yield* q.start()
        const pending = yield* q.spawn()
        const expected = [
          { taskId: completed.taskId, state: "completed", result: { n: 1 }, failure: null },
          { taskId: failed.taskId, state: "failed", result: null, failure: "reason" },
          { taskId: cancelled.taskId, state: "cancelled", ...nothing },
          { taskId: sleeping.taskId, state: "sleeping", ...nothing },
          { taskId: running.taskId, state: "running", ...nothing },
          { taskId: pending.taskId, state: "pending", ...nothing }
        ]
        const taskIds = [...expected.map((_) => _.taskId), Fixture.unknownTask]
        const results: Array<unknown> = [...yield* q.driver.results({ queue: q.queue, taskIds })]
        assert.sameDeepMembers(results, expected)
        assert.deepStrictEqual(yield* q.driver.results({ queue: q.queue, taskIds: [] }), [])
      }))

    it.effect("the failure of a task is that of its last attempt", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start({ maxAttempts: 2 })
        yield* q.fail(first, Retries.stored, { message: "first" })
        yield* q.fail(yield* q.claimOne(), Retries.stored, { message: "last" })
        assert.deepInclude(yield* q.result(first.taskId), { state: "failed", failure: { message: "last" } })
      }))

    it.effect("a task that was revived and completed has no failure any more", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId, ...run } = yield* q.start({ maxAttempts: 1 })
        yield* q.fail({ ...run })
        yield* q.driver.retryTask({ queue: q.queue, taskId, maxAttempts: null, spawnNew: false })
        assert.deepInclude(yield* q.result(taskId), { state: "pending", failure: null })
        yield* q.complete(yield* q.claimOne(), null)
        assert.deepStrictEqual(yield* q.result(taskId), { taskId, state: "completed", result: null, failure: null })
      }))

    it.effect("what does not exist is read as nothing", () =>
      Effect.gen(function*() {
        const { driver, queue } = yield* Fixture.make
        const taskId = Fixture.unknownTask
        assert.isUndefined(yield* driver.getTask({ queue, taskId }))
        assert.isUndefined(yield* driver.getRun({ queue, runId: Fixture.unknownRun }))
        assert.isUndefined(yield* driver.findTask({ queue, idempotencyKey: Fixture.key("k") }))
        assert.deepStrictEqual(yield* driver.listRuns({ queue, taskId }), [])
        assert.deepStrictEqual(yield* driver.listWaits({ queue, taskId }), [])
      }))

    it.effect("runs are listed by attempt, each as it can be read alone", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.spawn()
        for (let attempt = 1; attempt <= 12; attempt++) yield* q.fail(yield* q.claimOne(), Retries.stored, attempt)
        const runs = yield* q.driver.listRuns({ queue: q.queue, taskId })
        assert.deepStrictEqual(runs.map((_) => _.attempt), Array.from({ length: 13 }, (_, i) => i + 1))
        assert.deepStrictEqual(runs.slice(0, 12).map((_) => _.failureReason), runs.slice(0, 12).map((_) => _.attempt))
        const alone = yield* Effect.forEach(runs, ({ runId }) => q.getRun(runId))
        assert.deepStrictEqual(Fixture.plain(alone), Fixture.plain(runs))
      }))

    it.effect("cleaning up removes a task with its runs, checkpoints, waits and key", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const idempotencyKey = Fixture.key("k")
        const run = yield* q.start({ idempotencyKey, params: 1 })
        yield* q.checkpoint(run, "s", 1)
        yield* q.fail(run)
        yield* q.complete(yield* q.claimOne())
        yield* q.time.advance("1 second")
        assert.strictEqual(yield* cleanTasks(q, Duration.zero), 1)
        assert.deepStrictEqual(yield* q.snapshot(run.taskId), { runs: [], waits: [], checkpoints: [] })
        assert.isUndefined(yield* q.driver.getRun({ queue: q.queue, runId: run.runId }))
        assert.isUndefined(yield* q.driver.findTask({ queue: q.queue, idempotencyKey }))
        assert.isTrue((yield* q.spawn({ idempotencyKey, params: 2 })).created)
        assert.strictEqual(yield* cleanTasks(q, Duration.zero), 0)
      }))

    it.effect.each(
      [
        ["completed", (q: Fixture.Fixture) => Effect.flatMap(q.start(), (run) => q.complete(run))],
        ["failed", (q: Fixture.Fixture) => Effect.flatMap(q.start(), (run) => q.fail(run, Retries.never))],
        [
          "cancelled",
          (q: Fixture.Fixture) =>
            Effect.flatMap(q.spawn(), ({ taskId }) => q.driver.cancelTask({ queue: q.queue, taskId }))
        ],
        [
          "cancelled by a policy",
          (q: Fixture.Fixture) =>
            Effect.flatMap(
              q.start({ cancellation: { max_duration: 5 } }),
              (run) => q.fail(run, Retries.after(seconds(5)))
            )
        ]
      ] as const
    )("a task that is %s is kept until more than the time to live has passed", ([, end]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        yield* end(q)
        yield* q.time.advance("60 seconds")
        assert.strictEqual(yield* cleanTasks(q, seconds(60)), 0)
        yield* q.time.advance(Duration.millis(1))
        assert.strictEqual(yield* cleanTasks(q, seconds(60)), 1)
      }))

    it.effect("a time to live is rounded up to whole seconds", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        yield* q.complete(yield* q.start())
        yield* q.emit("e")
        yield* q.time.advance("1999 millis")
        assert.strictEqual(yield* cleanTasks(q, Duration.millis(1001)), 0)
        assert.strictEqual(yield* cleanEvents(q, Duration.millis(1001)), 0)
        yield* q.time.advance("2 millis")
        assert.strictEqual(yield* cleanTasks(q, Duration.millis(1001)), 1)
        assert.strictEqual(yield* cleanEvents(q, Duration.millis(1001)), 1)
      }))

    it.effect("a task that has not ended is never cleaned up", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const sleeping = yield* q.start()
        yield* q.suspend(sleeping, [Waits.event("w", "e")])
        const retried = yield* q.start()
        yield* q.fail(retried, Retries.after(Duration.days(1000)))
        const running = yield* q.start({}, Duration.hours(24))
        const pending = yield* q.spawn()
        yield* q.time.advance("500 days")
        assert.strictEqual(yield* cleanTasks(q, Duration.zero), 0)
        for (const { taskId } of [sleeping, retried, running, pending]) yield* q.getTask(taskId)
      }))

    it.effect("a task that was revived is not cleaned up for its old end", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.fail(run, Retries.never)
        yield* q.time.advance("1 day")
        yield* q.driver.retryTask({ queue: q.queue, taskId: run.taskId, maxAttempts: null, spawnNew: false })
        assert.strictEqual(yield* cleanTasks(q, seconds(60)), 0)
        yield* q.complete(yield* q.claimOne())
        assert.strictEqual(yield* cleanTasks(q, seconds(60)), 0)
        yield* q.time.advance("61 seconds")
        assert.strictEqual(yield* cleanTasks(q, seconds(60)), 1)
      }))

    it.effect("at most so many tasks are cleaned up as are asked for, those that ended first", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const runs = [yield* q.start(), yield* q.start(), yield* q.start(), yield* q.start()]
        const order = [runs[2]!, runs[0]!, runs[3]!, runs[1]!]
        for (const run of order) {
          yield* q.complete(run)
          yield* q.time.advance("1 second")
        }
        const left = Effect.map(
          q.driver.results({ queue: q.queue, taskIds: runs.map((_) => _.taskId) }),
          (results) => results.map((_) => _.taskId).toSorted()
        )
        const ids = (n: number) => order.slice(n).map((_) => _.taskId).toSorted()
        assert.strictEqual(yield* cleanTasks(q, Duration.zero, 1), 1)
        assert.deepStrictEqual(yield* left, ids(1))
        assert.strictEqual(yield* cleanTasks(q, Duration.zero, 2), 2)
        assert.deepStrictEqual(yield* left, ids(3))
        assert.strictEqual(yield* cleanTasks(q, Duration.zero, 2), 1)
        assert.strictEqual(yield* cleanTasks(q, Duration.zero, 2), 0)
      }))

    it.effect("an event is kept until more than the time to live has passed, then its name is free", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        yield* q.emit("e", 1)
        yield* q.time.advance("60 seconds")
        yield* q.emit("young", 1)
        assert.strictEqual(yield* cleanEvents(q, seconds(60)), 0)
        yield* q.time.advance(Duration.millis(1))
        assert.strictEqual(yield* cleanEvents(q, seconds(60)), 1)
        assert.isUndefined(yield* q.driver.readEvent({ queue: q.queue, event: Fixture.event("e") }))
        assert.deepStrictEqual(yield* q.emit("e", 2), { emitted: true, woken: 0 })
        assert.deepStrictEqual(yield* q.emit("young", 2), { emitted: false, woken: 0 })
      }))

    it.effect("at most so many events are cleaned up as are asked for", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        for (let i = 0; i < 5; i++) yield* q.emit(`e${i}`, i)
        yield* q.time.advance("1 second")
        const counts = yield* Effect.forEach([2, 2, 2, 2], (limit) => cleanEvents(q, Duration.zero, limit))
        assert.deepStrictEqual(counts, [2, 2, 1, 0])
      }))

    it.effect.prop(
      "a result comes back as it was given, and so does a failure",
      { value: Fixture.StorableJson, ended: Schema.Literals(["completed", "failed"]) },
      ({ ended, value }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const run = yield* q.start()
          if (ended === "completed") yield* q.complete(run, value)
          else yield* q.fail(run, Retries.never, value)
          const { failure, result, state } = yield* q.result(run.taskId)
          assert.strictEqual(state, ended)
          assert.deepStrictEqual([result, failure], ended === "completed" ? [value, null] : [null, value])
          const row = yield* q.getRun(run.runId)
          assert.deepStrictEqual(ended === "completed" ? row.result : row.failureReason, value)
        }),
      { arbitrary: { runs: 15 } }
    )
  })
