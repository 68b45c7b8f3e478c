import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import type { Claimed, Driver } from "../../src/core/Driver.ts"
import * as RetryStrategy from "../../src/core/RetryStrategy.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { seconds } = Fixture

/** What `claimedWith` can still know of a claim: all but what was true only at its time. */
const lasting = (runs: ReadonlyArray<Claimed>) =>
  runs.map((run) => ({ ...run, elapsed: null, waited: null })).toSorted((a, b) => a.runId < b.runId ? -1 : 1)

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("an empty queue has nothing to claim", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect("a claimed run comes with all that is needed to work on it", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const given = {
          name: Fixture.task("work"),
          params: { n: 1 },
          headers: { h: "x" },
          retryStrategy: RetryStrategy.fixed("5 seconds"),
          maxAttempts: 3
        }
        const { runId, taskId } = yield* q.spawn(given)
        yield* q.time.advance("42 seconds")
        const token = Fixture.freshToken()
        const run = yield* q.claimOne({ token })
        assert.deepStrictEqual(
          { ...run, claimedAt: Fixture.plain(run.claimedAt), elapsed: null, waited: null },
          {
            runId,
            taskId,
            token,
            attempt: 1,
            ...given,
            wakeEvent: null,
            eventPayload: undefined,
            checkpoints: [],
            claimedAt: Fixture.plain(yield* q.time.now),
            elapsed: null,
            waited: null
          }
        )
        assert.strictEqual(Duration.toMillis(run.waited), 42_000)
        assert.strictEqual(Duration.toMillis(run.elapsed), 0)
      }))

    it.effect("for how long a run was due is told to the microsecond", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        yield* q.spawn({ delay: Duration.millis(233.334) })
        yield* q.time.advance(Duration.millis(1005))
        const waited = Duration.millis(771.666)
        assert.deepStrictEqual((yield* q.driver.queueLoad(q.queue)).oldest, waited)
        assert.deepStrictEqual((yield* q.claimOne()).waited, waited)
      }))

    it.effect("headers that were not given are empty", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        assert.deepStrictEqual((yield* q.start()).headers, {})
      }))

    it.effect("a claim is stored with the run and its task", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { runId, taskId } = yield* q.spawn()
        yield* q.time.advance("1 minute")
        const now = yield* q.time.now
        const token = Fixture.freshToken()
        yield* q.claimOne({ token, lease: seconds(45) })
        const stored = yield* q.getRun(runId)
        assert.deepInclude(stored, { state: "running", claimedBy: token, attempt: 1 })
        assert.deepStrictEqual(
          Fixture.plain([stored.claimExpiresAt, stored.startedAt, stored.availableAt]),
          Fixture.plain([DateTime.addDuration(now, seconds(45)), now, now])
        )
        const row = yield* q.getTask(taskId)
        assert.deepInclude(row, { state: "running", attempts: 1, lastAttemptRun: runId })
        assert.deepStrictEqual(Fixture.plain(row.firstStartedAt), Fixture.plain(now))
      }))

    it.effect("elapsed counts from the first start, waited from when the run was due", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start()
        yield* q.time.advance("10 seconds")
        yield* q.fail(first, Fixture.Retries.after(seconds(20)))
        yield* q.time.advance("25 seconds")
        const second = yield* q.claimOne()
        assert.deepStrictEqual([second.elapsed, second.waited].map(Duration.toMillis), [35_000, 5_000])
        const { firstStartedAt } = yield* q.getTask(first.taskId)
        assert.deepStrictEqual(Fixture.plain(firstStartedAt), Fixture.plain(first.claimedAt))
      }))

    it.effect("nobody gets a run that somebody has, and no claim exceeds its limit", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const spawned = yield* q.driver.spawn({
          queue: q.queue,
          tasks: Array.from({ length: 7 }, () => Fixture.item())
        })
        const claims = yield* Effect.all([1, 2, 3, 4, 5].map((limit) => q.claim({ limit })), { concurrency: 3 })
        assert.isTrue(claims.every((runs, i) => runs.length <= i + 1))
        const claimed = claims.flat().map((run) => run.runId)
        assert.deepStrictEqual(claimed.toSorted(), spawned.map((_) => _.runId).toSorted())
        assert.deepStrictEqual(yield* q.claim({ limit: 100 }), [])
      }))

    it.effect("what a claim had claimed can be asked for, as long as the token holds", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const token = Fixture.freshToken()
        const ask = q.driver.claimedWith({ queue: q.queue, token })
        yield* q.driver.spawn({
          queue: q.queue,
          tasks: [1, 2, 3, 4, 5].map((params) => Fixture.item({ params }))
        })
        assert.deepStrictEqual(yield* ask, [])
        const claimed = yield* q.claim({ token, limit: 4 })
        yield* q.claim({ limit: 1 })
        assert.deepStrictEqual(lasting(yield* ask), lasting(claimed))
        const [a, b, c, d] = claimed
        assert.isDefined(d)
        yield* q.complete(a!)
        yield* q.release(b!, seconds(5))
        yield* q.fail(c!)
        assert.deepStrictEqual(lasting(yield* ask), lasting([d!]))
        yield* q.driver.cancelTask({ queue: q.queue, taskId: d!.taskId })
        assert.deepStrictEqual(yield* ask, [])
      }))

    it.effect("what is asked for again carries its checkpoints and its event", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.checkpoint(run, "s", { a: 1 })
        yield* q.suspend(run, [Fixture.Waits.event("w", "e")])
        yield* q.emit("e", null)
        const token = Fixture.freshToken()
        const claimed = yield* q.claimOne({ token })
        const sorted = (runs: ReadonlyArray<Claimed>) =>
          lasting(runs).map((run) => ({
            ...run,
            checkpoints: run.checkpoints.toSorted((a, b) => a.name < b.name ? -1 : 1)
          }))
        assert.deepStrictEqual(
          sorted(yield* q.driver.claimedWith({ queue: q.queue, token })),
          sorted([claimed])
        )
        assert.isNull(claimed.eventPayload)
        assert.lengthOf(claimed.checkpoints, 2)
      }))

    it.effect("an expired lease becomes a failure, and the next attempt is claimed at once", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start({}, seconds(30))
        yield* q.checkpoint(first, "s", 1)
        yield* q.time.advance("30 seconds")
        const second = yield* q.claimOne()
        assert.deepInclude(second, { taskId: first.taskId, attempt: 2 })
        assert.deepStrictEqual(second.checkpoints, [{ name: Fixture.step("s"), state: 1 }])
        assert.deepStrictEqual(yield* q.states(first.taskId), ["running", "failed", "running"])
        const { claimedBy, failedAt, failureReason } = yield* q.getRun(first.runId)
        assert.strictEqual(claimedBy, first.token)
        assert.deepStrictEqual(Fixture.plain(failedAt), Fixture.plain(yield* q.time.now))
        assert.deepInclude(failureReason, {
          name: "$ClaimTimeout",
          message: "worker did not finish task within claim interval",
          workerId: first.token,
          attempt: 1
        })
      }))

    it.effect("an expired lease obeys the retry strategy", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start({ retryStrategy: RetryStrategy.fixed("1 minute") }, seconds(30))
        yield* q.time.advance("45 seconds")
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(yield* q.states(first.taskId), ["sleeping", "failed", "sleeping"])
        yield* q.time.advance("1 minute")
        assert.strictEqual((yield* q.claimOne()).attempt, 2)
      }))

    it.effect("a task whose last lease expired has failed", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.start({ maxAttempts: 1 }, seconds(30))
        yield* q.time.advance("30 seconds")
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(yield* q.states(taskId), ["failed", "failed"])
        const { failure, state } = yield* q.result(taskId)
        assert.strictEqual(state, "failed")
        assert.deepInclude(failure, { name: "$ClaimTimeout" })
      }))

    it.effect("a claim sweeps at most as many expired leases as it may claim runs, the oldest first", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const runs: Array<Claimed> = []
        for (const lease of [30, 10, 20]) {
          runs.push(yield* q.start({ retryStrategy: RetryStrategy.fixed("1 hour") }, seconds(lease)))
        }
        yield* q.time.advance("1 minute")
        const states = Effect.forEach(runs, ({ runId }) => Effect.map(q.getRun(runId), ({ state }) => state))
        assert.deepStrictEqual(yield* q.claim({ limit: 1 }), [])
        assert.deepStrictEqual(yield* states, ["running", "failed", "running"])
        yield* q.claim({ limit: 1 })
        assert.deepStrictEqual(yield* states, ["running", "failed", "failed"])
        yield* q.claim({ limit: 5 })
        assert.deepStrictEqual(yield* states, ["failed", "failed", "failed"])
      }))

    it.effect("a task that cannot be retried does not hinder the others", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const extreme: RetryStrategy.RetryStrategy = { kind: "exponential", base_seconds: 1e300, factor: 1e300 }
        const bad = yield* q.start({ retryStrategy: extreme }, seconds(10))
        yield* q.time.advance("10 seconds")
        const good = yield* q.spawn()
        assert.strictEqual((yield* q.claimOne()).runId, good.runId)
        assert.deepStrictEqual(yield* q.states(bad.taskId), ["sleeping", "failed", "sleeping"])
      }))

    it.effect.prop(
      "a lease lasts exactly as long as asked",
      { lease: Fixture.between(1, 24 * 3600) },
      ({ lease }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const run = yield* q.start({}, seconds(lease))
          yield* q.time.advance(Duration.millis(lease * 1000 - 1))
          assert.deepStrictEqual(yield* q.claim(), [])
          yield* q.time.advance(Duration.millis(1))
          assert.deepInclude(yield* q.claimOne(), { taskId: run.taskId, attempt: 2 })
        }),
      { arbitrary: { runs: 12 } }
    )

    it.effect.prop(
      "due runs are claimed by when they became due, then by id; others are not",
      {
        delays: Schema.Array(Fixture.between(0, 5)).check(Schema.isMaxLength(12)),
        passed: Fixture.between(0, 5),
        limit: Fixture.between(1, 12)
      },
      ({ delays, limit, passed }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const tasks = delays.map((delay) => Fixture.item({ delay: seconds(delay) }))
          const spawned = yield* q.driver.spawn({ queue: q.queue, tasks })
          yield* q.time.advance(seconds(passed))
          const expected = spawned
            .map(({ runId }, i) => ({ runId, delay: delays[i] ?? 0 }))
            .filter(({ delay }) => delay <= passed)
            .toSorted((a, b) => a.delay - b.delay || (a.runId < b.runId ? -1 : 1))
            .map(({ runId }) => runId)
          const first = yield* q.claim({ limit })
          const second = yield* q.claim({ limit: 100 })
          assert.deepStrictEqual(first.map((run) => run.runId), expected.slice(0, limit))
          assert.deepStrictEqual(second.map((run) => run.runId), expected.slice(limit))
        }),
      { arbitrary: { runs: 12 } }
    )
  })
