import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import * as RetryStrategy from "../../src/core/RetryStrategy.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { Retries, seconds } = Fixture

/** From strategies that any program could write. */
const Strategy = Schema.Union([
  Schema.Struct({ kind: Schema.Literal("none") }),
  Schema.Struct({ kind: Schema.Literal("fixed"), base_seconds: Fixture.between(0, 5000) }),
  Schema.Struct({
    kind: Schema.Literal("exponential"),
    base_seconds: Fixture.between(0, 500),
    factor: Fixture.between(0, 4),
    max_seconds: Schema.optionalKey(Fixture.between(0, 2000))
  })
])

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a failure is stored with the run, and the task goes on with the next attempt", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.time.advance("1 second")
        const now = Fixture.plain(yield* q.time.now)
        const reason = { name: "Error", message: "no", stack: null }
        assert.deepStrictEqual(yield* q.fail(run, Retries.stored, reason), { outcome: "applied", state: "pending" })
        const stored = yield* q.getRun(run.runId)
        assert.deepInclude(stored, { state: "failed", failureReason: reason, claimedBy: run.token })
        assert.deepStrictEqual(Fixture.plain(stored.failedAt), now)
        const runs = yield* q.driver.listRuns({ queue: q.queue, taskId: run.taskId })
        assert.deepStrictEqual(runs.map((_) => _.attempt), [1, 2])
        assert.deepInclude(yield* q.getTask(run.taskId), {
          state: "pending",
          attempts: 2,
          lastAttemptRun: runs[1]!.runId
        })
        assert.deepStrictEqual(yield* q.result(run.taskId), {
          taskId: run.taskId,
          state: "pending",
          result: null,
          failure: null
        })
        assert.deepInclude(yield* q.claimOne(), { attempt: 2, runId: runs[1]!.runId })
      }))

    it.effect.each(
      [
        ["in a while", () => Retries.after(seconds(90)), 90, "sleeping"],
        ["at an instant", (now: DateTime.Utc) => Retries.at(DateTime.addDuration(now, seconds(90))), 90, "sleeping"],
        ["at once", () => Retries.after(Duration.zero), 0, "pending"],
        ["in the past", (now: DateTime.Utc) => Retries.at(DateTime.subtractDuration(now, seconds(9))), 0, "pending"]
      ] as const
    )("the next attempt starts when the caller says: %s", ([, retry, delay, state]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start({ retryStrategy: RetryStrategy.fixed("1 hour") })
        const now = yield* q.time.now
        assert.deepStrictEqual(yield* q.fail(run, retry(now)), { outcome: "applied", state })
        const { lastAttemptRun } = yield* q.getTask(run.taskId)
        assert.deepStrictEqual(
          Fixture.plain((yield* q.getRun(lastAttemptRun!)).availableAt),
          Fixture.plain(DateTime.addDuration(now, seconds(delay)))
        )
        if (delay > 0) {
          yield* q.time.advance(Duration.millis(delay * 1000 - 1))
          assert.deepStrictEqual(yield* q.claim(), [])
          yield* q.time.advance(Duration.millis(1))
        }
        assert.strictEqual((yield* q.claimOne()).attempt, 2)
      }))

    it.effect("a caller that says never ends the task, whatever attempts are left", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start({ maxAttempts: 10 })
        assert.deepStrictEqual(yield* q.fail(run, Retries.never, { message: "final" }), {
          outcome: "applied",
          state: "failed"
        })
        assert.deepStrictEqual(yield* q.states(run.taskId), ["failed", "failed"])
        assert.deepStrictEqual(yield* q.result(run.taskId), {
          taskId: run.taskId,
          state: "failed",
          result: null,
          failure: { message: "final" }
        })
      }))

    it.effect.each([["Stored", Retries.stored], ["After", Retries.after(seconds(5))]] as const)(
      "attempts are bounded by maxAttempts, with %s",
      ([, retry]) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          yield* q.spawn({ maxAttempts: 3 })
          const states: Array<unknown> = []
          for (let attempt = 1; attempt <= 3; attempt++) {
            yield* q.time.advance("5 seconds")
            const run = yield* q.claimOne()
            assert.strictEqual(run.attempt, attempt)
            states.push((yield* q.fail(run, retry)).state)
          }
          const goesOn = retry._tag === "Stored" ? "pending" : "sleeping"
          assert.deepStrictEqual(states, [goesOn, goesOn, "failed"])
          yield* q.time.advance("1 day")
          assert.deepStrictEqual(yield* q.claim(), [])
        })
    )

    it.effect("without maxAttempts there is no bound, and no delay ever overflows", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.spawn({ retryStrategy: { kind: "exponential", base_seconds: 1, factor: 1e6 } })
        for (let attempt = 1; attempt <= 55; attempt++) yield* q.fail(yield* q.claimOne(), Retries.after(Duration.zero))
        const run = yield* q.claimOne()
        assert.strictEqual(run.attempt, 56)
        assert.strictEqual((yield* q.fail(run)).state, "sleeping")
        const { lastAttemptRun } = yield* q.getTask(taskId)
        assert.deepStrictEqual(
          Fixture.plain((yield* q.getRun(lastAttemptRun!)).availableAt),
          Fixture.plain(DateTime.addDuration(yield* q.time.now, RetryStrategy.maxDelay))
        )
      }))

    it.effect("a failure whose retry would exceed maxDuration cancels the task; the run stays failed", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const within = yield* q.start({ cancellation: { max_duration: 60 } })
        const beyond = yield* q.start({ cancellation: { max_duration: 60 } })
        assert.deepStrictEqual(yield* q.fail(within, Retries.after(Duration.millis(59_999))), {
          outcome: "applied",
          state: "sleeping"
        })
        assert.deepStrictEqual(yield* q.fail(beyond, Retries.after(seconds(60))), {
          outcome: "applied",
          state: "cancelled"
        })
        assert.deepStrictEqual(yield* q.states(beyond.taskId), ["cancelled", "failed"])
        const row = yield* q.getTask(beyond.taskId)
        assert.strictEqual(row.lastAttemptRun, beyond.runId)
        assert.deepStrictEqual(Fixture.plain(row.cancelledAt), Fixture.plain(yield* q.time.now))
      }))

    it.effect("a task that failed can be revived in place: one more attempt, with its checkpoints", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start({ maxAttempts: 1 })
        yield* q.checkpoint(run, "s", 1)
        yield* q.fail(run)
        yield* q.time.advance("1 day")
        const revived = yield* q.driver.retryTask({
          queue: q.queue,
          taskId: run.taskId,
          maxAttempts: null,
          spawnNew: false
        })
        assert.deepInclude(revived, { taskId: run.taskId, attempt: 2, created: false })
        assert.deepInclude(yield* q.getTask(run.taskId), {
          state: "pending",
          attempts: 2,
          maxAttempts: 2,
          lastAttemptRun: revived.runId
        })
        const again = yield* q.claimOne()
        assert.deepInclude(again, { runId: revived.runId, attempt: 2, maxAttempts: 2 })
        assert.strictEqual((yield* q.fail(again)).state, "failed")
      }))

    it.effect("a revived task may get a bound of its own, which must leave an attempt", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start({ maxAttempts: 1 })
        yield* q.fail(run)
        const before = yield* q.snapshot(run.taskId)
        const retry = (maxAttempts: number) =>
          q.driver.retryTask({ queue: q.queue, taskId: run.taskId, maxAttempts, spawnNew: false })
        for (const bound of [0, 1]) {
          const error = yield* Effect.flip(retry(bound))
          assert.strictEqual(error._tag, "InvalidInput")
        }
        assert.deepStrictEqual(yield* q.snapshot(run.taskId), before)
        yield* retry(5)
        assert.strictEqual((yield* q.getTask(run.taskId)).maxAttempts, 5)
      }))

    it.effect("a task that failed can be spawned anew, and stays as it is", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const given = {
          params: { n: 1 },
          headers: { h: null, i: 1 },
          retryStrategy: RetryStrategy.fixed("5 seconds"),
          maxAttempts: 2,
          cancellation: { max_duration: 6000 }
        }
        const run = yield* q.start({ ...given, idempotencyKey: Fixture.key("k") })
        yield* q.checkpoint(run, "s", 1)
        yield* q.fail(run, Retries.never)
        const before = yield* q.snapshot(run.taskId)
        const anew = yield* q.driver.retryTask({
          queue: q.queue,
          taskId: run.taskId,
          maxAttempts: null,
          spawnNew: true
        })
        assert.deepInclude(anew, { attempt: 1, created: true })
        assert.notStrictEqual(anew.taskId, run.taskId)
        assert.deepStrictEqual(yield* q.snapshot(run.taskId), before)
        assert.deepInclude(yield* q.getTask(anew.taskId), {
          name: "job",
          ...given,
          idempotencyKey: null,
          state: "pending"
        })
        assert.deepStrictEqual((yield* q.claimOne()).checkpoints, [])
        const bounded = yield* q.driver.retryTask({
          queue: q.queue,
          taskId: run.taskId,
          maxAttempts: 7,
          spawnNew: true
        })
        assert.strictEqual((yield* q.getTask(bounded.taskId)).maxAttempts, 7)
      }))

    it.effect.each([true, false])(
      "only a failed task can be revived (spawnNew %s)",
      (spawnNew) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const refused = Effect.fnUntraced(function*(taskId: typeof Fixture.unknownTask) {
            const before = yield* q.snapshot(taskId)
            const error = yield* Effect.flip(
              q.driver.retryTask({ queue: q.queue, taskId, maxAttempts: null, spawnNew })
            )
            assert.strictEqual(error._tag, "InvalidState")
            assert.deepStrictEqual(yield* q.snapshot(taskId), before)
          })
          const { taskId } = yield* q.spawn()
          yield* refused(taskId)
          const run = yield* q.claimOne()
          yield* refused(taskId)
          yield* q.release(run)
          yield* refused(taskId)
          yield* q.complete(yield* q.claimOne())
          yield* refused(taskId)
          const other = yield* q.spawn()
          yield* q.driver.cancelTask({ queue: q.queue, taskId: other.taskId })
          yield* refused(other.taskId)
          const unknown = yield* Effect.flip(
            q.driver.retryTask({ queue: q.queue, taskId: Fixture.unknownTask, maxAttempts: null, spawnNew })
          )
          assert.deepInclude(unknown, { _tag: "NotFound", kind: "task", id: Fixture.unknownTask })
        })
    )

    it.effect.prop(
      "each attempt waits as long as the stored strategy says",
      { strategy: Strategy, attempts: Fixture.between(1, 4) },
      ({ attempts, strategy }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const { taskId } = yield* q.spawn({ retryStrategy: strategy })
          for (let attempt = 1; attempt <= attempts; attempt++) {
            const run = yield* q.claimOne()
            assert.strictEqual(run.attempt, attempt)
            const delay = RetryStrategy.delayAfter(strategy, attempt)
            const { state } = yield* q.fail(run)
            assert.strictEqual(state, Duration.toMillis(delay) > 0 ? "sleeping" : "pending")
            const { lastAttemptRun } = yield* q.getTask(taskId)
            assert.deepStrictEqual(
              Fixture.plain((yield* q.getRun(lastAttemptRun!)).availableAt),
              Fixture.plain(DateTime.addDuration(yield* q.time.now, delay))
            )
            yield* q.time.advance(delay)
          }
        }),
      { arbitrary: { runs: 12 } }
    )
  })
