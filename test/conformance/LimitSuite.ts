import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import {
  type Claimed,
  Driver,
  type LimitFigures,
  limitHeader,
  parkedUntil,
  type SpawnItem
} from "../../src/core/Driver.ts"
import { LimitName, type TaskId } from "../../src/core/Identifiers.ts"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"
import * as Ways from "./LimitWays.ts"

const { millis, minutes, seconds } = Duration

const limitName = LimitName.make("tenants")

const headers = (key: string, figures: Partial<LimitFigures>): NonNullable<SpawnItem["headers"]> => ({
  [limitHeader]: { name: limitName, key, concurrency: null, rate: null, ...figures }
})

const one = (key: string): Partial<SpawnItem> => ({ headers: headers(key, { concurrency: 1 }) })

const perMinute = (limit: number, burst = 1): Partial<LimitFigures> => ({ rate: { limit, seconds: 60, burst } })

const make = Effect.map(Fixture.make, (q) => ({
  ...q,
  taskIds: (runs: ReadonlyArray<Claimed>) => runs.map((run) => run.taskId),
  /** One after the other, a millisecond apart, so that their order is known. */
  spawnMany: (count: number, overrides: Partial<SpawnItem>) =>
    Effect.forEach(
      Array.from({ length: count }),
      () => Effect.andThen(q.time.advance(millis(1)), q.spawn(overrides)).pipe(Effect.map(({ taskId }) => taskId))
    ),
  override: (figures: LimitFigures | null) => q.driver.overrideLimit({ queue: q.queue, name: limitName, figures }),
  counts: Effect.map(
    q.driver.listLimits(q.queue),
    (limits) => limits.map(({ admitted, waiting }) => [admitted, waiting])
  ),
  keys: (limit = 10) => q.driver.listLimitKeys({ queue: q.queue, name: limitName, limit }),
  isParked: (taskId: TaskId) =>
    Effect.gen(function*() {
      const { lastAttemptRun, state } = yield* q.getTask(taskId)
      const run = yield* q.getRun(lastAttemptRun!)
      return state === "sleeping" && run.state === "sleeping" && run.availableAt !== null &&
        DateTime.Equivalence(run.availableAt, parkedUntil)
    })
}))

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("as many runs of a key run as its limit says, and the next ones go in the order of spawning", () =>
      Effect.gen(function*() {
        const q = yield* make
        const ids = yield* q.spawnMany(5, { headers: headers("acme", { concurrency: 2 }) })
        const first = yield* q.claim()
        assert.deepStrictEqual(q.taskIds(first), ids.slice(0, 2))
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(yield* q.counts, [[2, 3]])
        assert.isTrue(yield* q.isParked(ids[2]!))
        yield* q.time.advance(seconds(7))
        yield* q.complete(first[1]!)
        assert.isFalse(yield* q.isParked(ids[2]!))
        const third = yield* q.claimOne()
        assert.deepInclude(third, { taskId: ids[2]!, attempt: 1, waited: millis(7_002) })
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.driver.complete({
          queue: q.queue,
          runs: [first[0]!, third].map((run) => ({ ...Fixture.holding(run), result: null }))
        })
        const last = yield* q.claim()
        assert.deepStrictEqual(q.taskIds(last), ids.slice(3))
        for (const run of last) yield* q.complete(run)
        assert.deepStrictEqual(yield* q.counts, [[0, 0]])
        assert.deepStrictEqual(yield* q.keys(), [])
      }))

    it.effect("keys are counted apart, and what has no limit is not kept waiting", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [a1, a2] = yield* q.spawnMany(2, one("a"))
        const [b1] = yield* q.spawnMany(1, one("b"))
        const [free] = yield* q.spawnMany(1, {})
        assert.deepStrictEqual(q.taskIds(yield* q.claim()), [a1, b1, free])
        assert.deepStrictEqual(yield* q.keys(), [
          { key: "a", admitted: 1, waiting: 1 },
          { key: "b", admitted: 1, waiting: 0 }
        ])
        assert.deepStrictEqual(yield* q.keys(1), [{ key: "a", admitted: 1, waiting: 1 }])
        assert.isTrue(yield* q.isParked(a2!))
      }))

    it.effect("a long line of one key keeps nothing of another one waiting, however few a claim takes", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [first] = yield* q.spawnMany(1, one("large"))
        yield* q.time.advance(millis(1))
        yield* q.driver.spawn({
          queue: q.queue,
          tasks: Array.from({ length: 399 }, () => Fixture.item(one("large")))
        })
        const small = [...(yield* q.spawnMany(1, one("small"))), ...(yield* q.spawnMany(1, one("smaller")))]
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ limit: 1 })), [first])
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ limit: 1 })), [small[0]])
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ limit: 1 })), [small[1]])
        assert.deepStrictEqual(yield* q.counts, [[3, 399]])
      }))

    it.effect("a run that is taken up again after a wait gets a slot like any other, with what woke it", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [first, second] = yield* q.spawnMany(2, one("a"))
        yield* q.suspend(yield* q.claimOne(), [Fixture.Waits.event("w", "paid")])
        const other = yield* q.claimOne()
        assert.strictEqual(other.taskId, second)
        yield* q.emit("paid", 9)
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.isTrue(yield* q.isParked(first!))
        yield* q.complete(other)
        const again = yield* q.claimOne()
        assert.deepInclude(again, { taskId: first!, attempt: 1, eventPayload: 9 })
        assert.deepStrictEqual(again.checkpoints, [{ name: Fixture.step("w"), state: 9 }])
      }))

    it.effect("a wait that timed out while the run waited for its limit has timed out", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [first] = yield* q.spawnMany(2, one("a"))
        const wait = [Fixture.Waits.event("w", "paid", seconds(5))]
        yield* q.suspend(yield* q.claimOne(), wait)
        const other = yield* q.claimOne({ lease: minutes(10) })
        yield* q.time.advance(seconds(5))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.emit("paid", 1)
        assert.isTrue(yield* q.isParked(first!))
        yield* q.complete(other)
        const again = yield* q.claimOne()
        assert.deepInclude(again, { taskId: first!, wakeEvent: "paid", eventPayload: undefined })
      }))

    for (const [way, act] of Object.entries(Ways.all)) {
      it.effect(`${way} lets the next run of the key go`, () =>
        Effect.gen(function*() {
          const q = yield* make
          const policy = { cancellation: { max_duration: 300 }, maxAttempts: 5 }
          yield* q.spawn({ ...one("a"), ...policy })
          const run = yield* q.claimOne()
          const next = yield* q.spawn(one("a"))
          yield* q.spawnMany(1, one("a"))
          assert.deepStrictEqual(yield* q.claim(), [])
          yield* act(q, run)
          assert.strictEqual((yield* q.claimOne()).taskId, next.taskId)
        }))
    }

    it.effect("cancelling one that waits, or may go, keeps the place of the others", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [, second, third, fourth] = yield* q.spawnMany(4, one("a"))
        const run = yield* q.claimOne()
        yield* q.driver.cancelTask({ queue: q.queue, taskId: second! })
        assert.deepStrictEqual(yield* q.counts, [[1, 2]])
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.complete(run)
        yield* q.driver.cancelTask({ queue: q.queue, taskId: third! })
        assert.strictEqual((yield* q.claimOne()).taskId, fourth)
      }))

    it.effect("those that a policy cancels together are not let go before", () =>
      Effect.gen(function*() {
        const q = yield* make
        const policy = { cancellation: { max_delay: 60, max_duration: 60 } }
        yield* q.spawnMany(1, { ...one("a"), ...policy })
        yield* q.claimOne({ lease: minutes(60) })
        const [second] = yield* q.spawnMany(1, { ...one("a"), ...policy })
        const [third] = yield* q.spawnMany(1, one("a"))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(seconds(60))
        assert.deepStrictEqual(q.taskIds(yield* q.claim()), [third])
        const { lastAttemptRun } = yield* q.getTask(second!)
        const { availableAt, state } = yield* q.getRun(lastAttemptRun!)
        assert.strictEqual(state, "cancelled")
        assert.deepStrictEqual(availableAt, parkedUntil)
      }))

    it.effect("a retry waits in the line like the others, and keeps to the limit in place and as a new task", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [first] = yield* q.spawnMany(2, { ...one("a"), maxAttempts: 2 })
        yield* q.fail(yield* q.claimOne(), Fixture.Retries.after(Duration.zero))
        const second = yield* q.claimOne()
        assert.isTrue(yield* q.isParked(first!))
        yield* q.fail(second, Fixture.Retries.never)
        const again = yield* q.claimOne()
        assert.deepInclude(again, { taskId: first!, attempt: 2 })
        const retry = { queue: q.queue, taskId: second.taskId, maxAttempts: null }
        yield* q.driver.retryTask({ ...retry, spawnNew: true })
        yield* q.driver.retryTask({ ...retry, spawnNew: false })
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(yield* q.counts, [[1, 2]])
        yield* q.complete(again)
        assert.lengthOf(yield* q.claim(), 1)
      }))

    it.effect("one that waits can be replaced, and then waits like one that was just spawned", () =>
      Effect.gen(function*() {
        const q = yield* make
        const key = Fixture.key("k")
        yield* q.spawn(one("a"))
        const running = yield* q.claimOne()
        const { taskId } = yield* q.spawn({ ...one("a"), idempotencyKey: key, params: 1 })
        assert.deepStrictEqual(yield* q.claim(), [])
        const revise = (params: number, limit: string, keepDue: boolean) =>
          q.driver.revisePending({
            queue: q.queue,
            key,
            keepDue,
            task: Fixture.item({ ...one(limit), idempotencyKey: key, params, delay: minutes(1) })
          })
        const dueAt = (yield* q.getTask(taskId)).enqueueAt
        yield* q.time.advance(seconds(1))
        yield* revise(2, "a", true)
        assert.deepStrictEqual((yield* q.getTask(taskId)).enqueueAt, dueAt)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* revise(3, "b", true)
        assert.deepInclude(yield* q.claimOne(), { taskId, params: 3 })
        assert.deepStrictEqual(yield* q.keys(), [
          { key: "a", admitted: 1, waiting: 0 },
          { key: "b", admitted: 1, waiting: 0 }
        ])
        yield* q.complete(running)
      }))

    it.effect("what is undone lets nobody go", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [, second] = yield* q.spawnMany(2, one("a"))
        const run = yield* q.claimOne()
        yield* Effect.flip(q.driver.withTransaction(Effect.andThen(q.complete(run), Effect.fail("undo"))))
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.isTrue(yield* q.isParked(second!))
        yield* q.driver.withTransaction(q.complete(run))
        assert.strictEqual((yield* q.claimOne()).taskId, second)
      }))

    it.effect("the starts of a rate are as far apart as it says, and waiting for it costs no attempt", () =>
      Effect.gen(function*() {
        const q = yield* make
        const ids = yield* q.spawnMany(4, { headers: headers("a", perMinute(3)) })
        const starts: Array<TaskId> = []
        const go = Effect.gen(function*() {
          for (const run of yield* q.claim()) {
            assert.strictEqual(run.attempt, 1)
            starts.push(run.taskId)
            yield* q.complete(run)
          }
        })
        yield* go
        yield* go
        assert.deepStrictEqual(starts, ids.slice(0, 1))
        for (const count of [2, 3, 4]) {
          yield* q.time.advance(millis(19_999))
          yield* go
          assert.deepStrictEqual(starts, ids.slice(0, count - 1))
          yield* q.time.advance(millis(1))
          yield* go
          assert.deepStrictEqual(starts, ids.slice(0, count))
        }
        // Time that went by saves nothing up.
        yield* q.time.advance(minutes(5))
        yield* q.spawnMany(2, { headers: headers("a", perMinute(3)) })
        yield* go
        assert.lengthOf(starts, 5)
      }))

    it.effect("a burst goes at once, and then the starts are further apart", () =>
      Effect.gen(function*() {
        const q = yield* make
        const ids = yield* q.spawnMany(6, { headers: headers("a", perMinute(4, 3)) })
        const lease = minutes(60)
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ lease })), ids.slice(0, 3))
        yield* q.time.advance(millis(29_999))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(millis(1))
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ lease })), ids.slice(3, 4))
        yield* q.time.advance(minutes(1))
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ lease })).sort(), ids.slice(4))
      }))

    it.effect("who came later does not start ahead of the one that may start next", () =>
      Effect.gen(function*() {
        const q = yield* make
        const paced = { headers: headers("a", perMinute(2, 2)) }
        yield* q.spawnMany(2, paced)
        yield* q.claim({ lease: minutes(60) })
        const [third] = yield* q.spawnMany(1, paced)
        assert.deepStrictEqual(yield* q.claim(), [])
        const [fourth] = yield* q.spawnMany(1, paced)
        yield* q.time.advance(seconds(200))
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ limit: 1, lease: minutes(60) })), [third])
        assert.deepStrictEqual(q.taskIds(yield* q.claim({ limit: 1 })), [fourth])
      }))

    it.effect("a run that may start because another one did comes in its place among the others of a claim", () =>
      Effect.gen(function*() {
        const q = yield* make
        const paced = { headers: headers("a", perMinute(2, 2)) }
        yield* q.spawnMany(2, paced)
        yield* q.claim({ lease: minutes(60) })
        const [third, fourth] = yield* q.spawnMany(2, paced)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(seconds(30))
        const [free] = yield* q.spawnMany(1, {})
        yield* q.time.advance(seconds(200))
        const runs = yield* q.claim()
        assert.deepStrictEqual(q.taskIds(runs), [fourth, free, third])
        const waited = runs.map((run) => Duration.toMillis(run.waited))
        assert.deepStrictEqual(waited, waited.toSorted((a, b) => b - a))
      }))

    it.effect("with a concurrency and a rate both hold", () =>
      Effect.gen(function*() {
        const q = yield* make
        yield* q.spawnMany(4, { headers: headers("a", { concurrency: 1, ...perMinute(60) }) })
        const first = yield* q.claimOne()
        yield* q.time.advance(seconds(5))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.complete(first)
        const second = yield* q.claimOne()
        yield* q.complete(second)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(seconds(1))
        yield* q.claimOne()
      }))

    it.effect("cancelling the one that is to start next gives its time to the one behind it", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [, second, third] = yield* q.spawnMany(3, { headers: headers("a", perMinute(6)) })
        yield* q.complete(yield* q.claimOne())
        yield* q.driver.cancelTask({ queue: q.queue, taskId: second! })
        yield* q.time.advance(millis(9_999))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(millis(1))
        assert.strictEqual((yield* q.claimOne()).taskId, third)
      }))

    it.effect("figures that are overridden hold at once, for those that wait as well, until that is taken back", () =>
      Effect.gen(function*() {
        const q = yield* make
        assert.isFalse(yield* q.override({ concurrency: 3, rate: null }))
        const ids = yield* q.spawnMany(5, one("a"))
        const first = yield* q.claimOne()
        assert.isTrue(yield* q.override({ concurrency: 3, rate: null }))
        assert.deepStrictEqual(yield* q.counts, [[3, 2]])
        const more = yield* q.claim()
        assert.deepStrictEqual(q.taskIds(more), ids.slice(1, 3))
        // New tasks bring the figures of the code, which do not hold.
        yield* q.spawnMany(1, { headers: headers("a", { concurrency: 2 }) })
        const [limit] = yield* q.driver.listLimits(q.queue)
        assert.deepStrictEqual(limit, {
          name: limitName,
          figures: { concurrency: 2, rate: null },
          override: { concurrency: 3, rate: null },
          admitted: 3,
          waiting: 2
        })
        assert.isTrue(yield* q.override(null))
        yield* q.complete(first)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.complete(more[0]!)
        assert.lengthOf(yield* q.claim(), 1)
      }))

    it.effect("a rate that is overridden gives those that wait other times", () =>
      Effect.gen(function*() {
        const q = yield* make
        yield* q.spawnMany(5, { headers: headers("a", { rate: { limit: 1, seconds: 86_400, burst: 1 } }) })
        yield* q.claimOne()
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.override({ concurrency: null, rate: { limit: 60, seconds: 60, burst: 1 } })
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(seconds(1))
        yield* q.claimOne()
        yield* q.override({ concurrency: null, rate: null })
        assert.lengthOf(yield* q.claim(), 3)
      }))

    it.effect("the figures of the newest task hold, also for those that wait already", () =>
      Effect.gen(function*() {
        const q = yield* make
        yield* q.spawnMany(3, one("a"))
        yield* q.claimOne()
        yield* q.spawnMany(1, { headers: headers("b", { concurrency: 2 }) })
        assert.lengthOf(yield* q.claim(), 2)
        assert.deepStrictEqual(yield* q.counts, [[3, 1]])
      }))

    it.effect("a header that tells no limit limits nothing, and queues share nothing", () =>
      Effect.gen(function*() {
        const q = yield* make
        const other = yield* make
        for (const limit of [null, 1, "a", { name: "x" }, { name: "x", key: 1, concurrency: 1, rate: null }]) {
          yield* q.spawnMany(2, { headers: { [limitHeader]: limit } })
        }
        assert.lengthOf(yield* q.claim({ limit: 100 }), 10)
        assert.deepStrictEqual(yield* q.driver.listLimits(q.queue), [])
        yield* q.spawnMany(1, one("a"))
        yield* other.spawnMany(1, one("a"))
        assert.lengthOf(yield* q.claim(), 1)
        assert.lengthOf(yield* other.claim(), 1)
        yield* q.driver.dropQueue(q.queue)
        const error = yield* Effect.flip(q.driver.listLimits(q.queue))
        assert.strictEqual(error._tag, "NotFound")
        yield* q.driver.createQueue({ queue: q.queue, storage: "unpartitioned" })
        assert.deepStrictEqual(yield* q.driver.listLimits(q.queue), [])
      }))

    it.effect.prop(
      "whatever happens to runs, no limit is passed, everything completes, and nobody else waits",
      {
        seed: Fixture.between(0, 1_000_000),
        concurrency: Fixture.between(1, 3),
        limit: Fixture.between(1, 5),
        burst: Fixture.between(1, 3),
        kind: Schema.Literals(["concurrency", "rate", "both"])
      },
      ({ burst, concurrency, kind, limit, seed }) =>
        Effect.gen(function*() {
          const q = yield* make
          const figures: LimitFigures = {
            concurrency: kind === "rate" ? null : concurrency,
            rate: kind === "concurrency" ? null : { limit, seconds: 60, burst: Math.min(burst, limit) }
          }
          yield* Ways.live(q, { figures, seed, headers: (key) => headers(key, figures) })
        }),
      { arbitrary: { runs: 12 } }
    )
  })
