/** Fencing: who may change a claimed run, in every state that it can be in. */
import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import type { Driver, Held, Outcome } from "../../src/core/Driver.ts"
import { ClaimToken, type TaskId } from "../../src/core/Identifiers.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { seconds } = Fixture

type Run = Held & { readonly taskId: TaskId }

/** Every operation on a claimed run, and what becomes of task and runs when it applies. */
const operations: ReadonlyArray<{
  readonly name: string
  readonly run: (q: Fixture.Fixture, held: Held) => Effect.Effect<Outcome, unknown>
  readonly after: ReadonlyArray<string>
}> = [
  { name: "complete", run: (q, held) => q.complete(held, "result"), after: ["completed", "completed"] },
  {
    name: "fail",
    run: (q, held) => Effect.map(q.fail(held, Fixture.Retries.stored), (_) => _.outcome),
    after: ["pending", "failed", "pending"]
  },
  {
    name: "setCheckpoints",
    run: (q, held) => Effect.map(q.checkpoint(held, "zombie", 1, Duration.hours(1)), (_) => _.outcome),
    after: ["running", "running"]
  },
  { name: "extend", run: (q, held) => q.extend(held, Duration.hours(1)), after: ["running", "running"] },
  { name: "release", run: (q, held) => q.release(held, seconds(5)), after: ["sleeping", "sleeping"] },
  {
    name: "suspend",
    run: (q, held) =>
      Effect.map(
        q.suspend(held, [Fixture.Waits.timer("z", seconds(9)), Fixture.Waits.event("y", "never", seconds(3))]),
        (_) => _.outcome
      ),
    after: ["sleeping", "sleeping"]
  }
]

/** Every situation of a run whose token is at hand, and what an operation under that token then is. */
const situations: ReadonlyArray<{
  readonly name: string
  readonly outcome: Outcome
  readonly reach: (q: Fixture.Fixture) => Effect.Effect<Run, unknown>
}> = [
  {
    name: "pending, never claimed",
    outcome: "leaseLost",
    reach: (q) => Effect.map(q.spawn(), (spawned) => ({ ...spawned, token: Fixture.freshToken() }))
  },
  { name: "running", outcome: "applied", reach: (q) => q.start() },
  {
    name: "running, its lease over but nobody else at it",
    outcome: "applied",
    reach: (q) => Effect.tap(q.start(), q.time.advance(seconds(31)))
  },
  {
    name: "running under another token",
    outcome: "leaseLost",
    reach: (q) => Effect.map(q.start(), (run) => ({ ...run, token: Fixture.freshToken() }))
  },
  {
    name: "running under a token that begins like this one",
    outcome: "leaseLost",
    reach: (q) => Effect.map(q.start(), (run) => ({ ...run, token: ClaimToken.make(run.token.slice(0, -1)) }))
  },
  {
    name: "sleeping after a release",
    outcome: "leaseLost",
    reach: (q) => Effect.tap(q.start(), (run) => q.release(run, seconds(5)))
  },
  {
    name: "sleeping on a timer",
    outcome: "leaseLost",
    reach: (q) => Effect.tap(q.start(), (run) => q.suspend(run, [Fixture.Waits.timer("t", seconds(60))]))
  },
  {
    name: "sleeping on an event",
    outcome: "leaseLost",
    reach: (q) => Effect.tap(q.start(), (run) => q.suspend(run, [Fixture.Waits.event("w", "e", seconds(60))]))
  },
  {
    name: "pending after its event",
    outcome: "leaseLost",
    reach: (q) =>
      q.start().pipe(
        Effect.tap((run) => q.suspend(run, [Fixture.Waits.event("w", "e")])),
        Effect.tap(q.emit("e", 1))
      )
  },
  {
    name: "claimed anew after a release",
    outcome: "leaseLost",
    reach: (q) =>
      q.start().pipe(
        Effect.tap((run) => q.release(run)),
        Effect.tap((run) => Effect.map(q.claimOne(), (_) => assert.strictEqual(_.runId, run.runId)))
      )
  },
  { name: "completed", outcome: "leaseLost", reach: (q) => Effect.tap(q.start(), (run) => q.complete(run, 1)) },
  {
    name: "failed, the next attempt pending",
    outcome: "leaseLost",
    reach: (q) => Effect.tap(q.start(), (run) => q.fail(run))
  },
  {
    name: "failed, the next attempt sleeping",
    outcome: "leaseLost",
    reach: (q) => Effect.tap(q.start(), (run) => q.fail(run, Fixture.Retries.after(seconds(60))))
  },
  {
    name: "failed by its lease, the next attempt running",
    outcome: "leaseLost",
    reach: (q) =>
      q.start().pipe(
        Effect.tap(q.time.advance(seconds(30))),
        Effect.tap(q.claimOne())
      )
  },
  {
    name: "failed for good",
    outcome: "leaseLost",
    reach: (q) => Effect.tap(q.start(), (run) => q.fail(run, Fixture.Retries.never))
  },
  {
    name: "cancelled while running",
    outcome: "cancelled",
    reach: (q) => Effect.tap(q.start(), ({ taskId }) => q.driver.cancelTask({ queue: q.queue, taskId }))
  },
  {
    name: "cancelled while sleeping",
    outcome: "cancelled",
    reach: (q) =>
      q.start().pipe(
        Effect.tap((run) => q.suspend(run, [Fixture.Waits.event("w", "e")])),
        Effect.tap(({ taskId }) => q.driver.cancelTask({ queue: q.queue, taskId }))
      )
  },
  {
    name: "failed, its task cancelled by the failure",
    outcome: "cancelled",
    reach: (q) =>
      q.start({ cancellation: { max_duration: 60 } }).pipe(
        Effect.tap((run) => q.fail(run, Fixture.Retries.after(seconds(60))))
      )
  }
]

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    for (const situation of situations) {
      it.effect.each(operations.map((operation) => [operation.name, operation] as const))(
        `%s on a run that is ${situation.name}: ${situation.outcome}`,
        ([, operation]) =>
          Effect.gen(function*() {
            const q = yield* Fixture.make
            const run = yield* situation.reach(q)
            const before = yield* q.snapshot(run.taskId)
            assert.strictEqual(yield* operation.run(q, run), situation.outcome)
            if (situation.outcome === "applied") {
              assert.deepStrictEqual(yield* q.states(run.taskId), operation.after)
              assert.notDeepEqual(yield* q.snapshot(run.taskId), before)
            } else {
              assert.deepStrictEqual(yield* q.snapshot(run.taskId), before)
            }
          })
      )
    }

    it.effect.each(operations.map((operation) => [operation.name, operation] as const))(
      "%s on a run that does not exist: notFound",
      ([, operation]) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const held = { runId: Fixture.unknownRun, token: Fixture.freshToken() }
          assert.strictEqual(yield* operation.run(q, held), "notFound")
        })
    )

    it.effect("every operation answers for each run of a request, and a bad one spoils no other", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { driver, queue } = q
        const outcomes: Array<Outcome> = ["applied", "leaseLost", "applied", "cancelled", "notFound", "applied"]
        const batch = Effect.gen(function*() {
          const runs = [yield* q.start(), yield* q.start(), yield* q.start(), yield* q.start(), yield* q.start()]
          const [a, b, c, d, e] = runs.map(Fixture.holding)
          yield* driver.cancelTask({ queue, taskId: runs[3]!.taskId })
          const unknown = { runId: Fixture.unknownRun, token: a!.token }
          return [a!, { ...b!, token: Fixture.freshToken() }, c!, d!, unknown, e!]
        })
        const completed = yield* driver.complete({ queue, runs: (yield* batch).map((_) => ({ ..._, result: 1 })) })
        assert.deepStrictEqual(completed, outcomes)
        const failing = (yield* batch).map((_) => ({ ..._, reason: null, retry: Fixture.Retries.never }))
        const failed = yield* driver.fail({ queue, runs: failing })
        assert.deepStrictEqual(
          failed,
          outcomes.map((outcome) => ({ outcome, state: outcome === "applied" ? "failed" : null }))
        )
        const lease = Duration.hours(1)
        const extended = yield* driver.extend({ queue, runs: (yield* batch).map((_) => ({ ..._, lease })) })
        assert.deepStrictEqual(extended, outcomes)
        const until = Duration.hours(1)
        const released = yield* driver.release({ queue, runs: (yield* batch).map((_) => ({ ..._, until })) })
        assert.deepStrictEqual(released, outcomes)
        const set = yield* driver.setCheckpoints({
          queue,
          checkpoints: (yield* batch).map((_) => ({ ..._, name: Fixture.step("s"), state: 1, extendBy: null }))
        })
        assert.deepStrictEqual(set.map(({ outcome }) => outcome), outcomes)
      }))

    it.effect("no runs are no work", () =>
      Effect.gen(function*() {
        const { driver, queue } = yield* Fixture.make
        assert.deepStrictEqual(yield* driver.complete({ queue, runs: [] }), [])
        assert.deepStrictEqual(yield* driver.fail({ queue, runs: [] }), [])
        assert.deepStrictEqual(yield* driver.extend({ queue, runs: [] }), [])
        assert.deepStrictEqual(yield* driver.release({ queue, runs: [] }), [])
        assert.deepStrictEqual(yield* driver.setCheckpoints({ queue, checkpoints: [] }), [])
      }))

    it.effect("each run of a request gets what was meant for it, in whatever order they come", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { driver, queue } = q
        yield* driver.spawn({ queue, tasks: Array.from({ length: 8 }, (_, n) => Fixture.item({ params: n })) })
        const runs = (yield* q.claim()).toSorted((a, b) => (Number(a.params) * 5) % 8 - (Number(b.params) * 5) % 8)
        const [completing, failing] = [runs.slice(0, 4), runs.slice(4)]
        const items = completing.map((run) => ({ ...Fixture.holding(run), result: { is: run.params } }))
        assert.deepStrictEqual(yield* driver.complete({ queue, runs: items }), completing.map(() => "applied"))
        for (const run of completing) assert.deepStrictEqual((yield* q.getRun(run.runId)).result, { is: run.params })
        const now = yield* q.time.now
        const retries = [
          Fixture.Retries.never,
          Fixture.Retries.after(seconds(7)),
          Fixture.Retries.stored,
          Fixture.Retries.at(DateTime.addDuration(now, seconds(9)))
        ]
        const failed = yield* driver.fail({
          queue,
          runs: failing.map((run, i) => ({ ...Fixture.holding(run), reason: run.params, retry: retries[i]! }))
        })
        assert.deepStrictEqual(failed.map(({ state }) => state), ["failed", "sleeping", "pending", "sleeping"])
        for (const run of failing) assert.deepStrictEqual((yield* q.getRun(run.runId)).failureReason, run.params)
        const delays = yield* Effect.forEach(failing.slice(1), (run) =>
          Effect.gen(function*() {
            const next = yield* q.getRun((yield* q.getTask(run.taskId)).lastAttemptRun!)
            return next.availableAt && Duration.toSeconds(DateTime.distance(now, next.availableAt))
          }))
        assert.deepStrictEqual(delays, [7, 0, 9])
      }))

    it.effect("a run that is completed twice in one request is completed once", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = Fixture.holding(yield* q.start())
        const outcomes = yield* q.driver.complete({
          queue: q.queue,
          runs: [{ ...run, result: "first" }, { ...run, result: "second" }]
        })
        assert.deepStrictEqual(outcomes, ["applied", "leaseLost"])
        assert.strictEqual((yield* q.getRun(run.runId)).result, "first")
      }))

    it.effect("a run that is failed twice in one request gets one next attempt", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId, ...run } = yield* q.start()
        const item = { ...Fixture.holding({ taskId, ...run }), reason: null, retry: Fixture.Retries.stored }
        const failed = yield* q.driver.fail({ queue: q.queue, runs: [item, item] })
        assert.deepStrictEqual(failed, [
          { outcome: "applied", state: "pending" },
          { outcome: "leaseLost", state: null }
        ])
        assert.deepStrictEqual(yield* q.states(taskId), ["pending", "failed", "pending"])
      }))

    it.effect("a completed run keeps its claim for the record, its waits go", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start()
        yield* q.suspend(first, [Fixture.Waits.event("a", "a"), Fixture.Waits.event("b", "b")])
        yield* q.emit("a", 1)
        const run = yield* q.claimOne()
        assert.strictEqual(yield* q.complete(run, { ok: true }), "applied")
        const now = Fixture.plain(yield* q.time.now)
        const stored = yield* q.getRun(run.runId)
        assert.deepInclude(stored, { state: "completed", claimedBy: run.token, result: { ok: true } })
        assert.deepStrictEqual(Fixture.plain(stored.completedAt), now)
        assert.deepInclude(yield* q.getTask(run.taskId), { state: "completed", completedPayload: { ok: true } })
        assert.deepStrictEqual(yield* q.driver.listWaits({ queue: q.queue, taskId: run.taskId }), [])
        assert.deepInclude(yield* q.emit("b", 1), { emitted: true, woken: 0 })
        assert.deepStrictEqual(yield* q.states(run.taskId), ["completed", "completed"])
      }))

    it.effect("a released run is handed back: no attempt is spent, the checkpoints stay", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.checkpoint(run, "s", 1)
        assert.strictEqual(yield* q.release(run, seconds(15)), "applied")
        const stored = yield* q.getRun(run.runId)
        assert.deepInclude(stored, { state: "sleeping", claimedBy: null, claimExpiresAt: null, wakeEvent: null })
        assert.deepStrictEqual(
          Fixture.plain(stored.availableAt),
          Fixture.plain(DateTime.addDuration(yield* q.time.now, seconds(15)))
        )
        yield* q.time.advance(Duration.millis(14_999))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(Duration.millis(1))
        const again = yield* q.claimOne()
        assert.deepInclude(again, { runId: run.runId, attempt: 1 })
        assert.deepStrictEqual(again.checkpoints, [{ name: Fixture.step("s"), state: 1 }])
      }))

    it.effect("a run can be released until an instant, and one that has passed makes it claimable at once", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const later = DateTime.addDuration(yield* q.time.now, Duration.days(400))
        yield* q.release(run, later)
        assert.deepStrictEqual(Fixture.plain((yield* q.getRun(run.runId)).availableAt), Fixture.plain(later))
        yield* q.time.advance(Duration.days(401))
        const again = yield* q.claimOne()
        yield* q.release(again, later)
        assert.deepStrictEqual(yield* q.states(run.taskId), ["sleeping", "sleeping"])
        assert.strictEqual((yield* q.claimOne()).runId, run.runId)
      }))

    it.effect("an extension revives a lease that is over but not taken", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start({}, seconds(10))
        yield* q.time.advance("1 minute")
        assert.strictEqual(yield* q.extend(run, seconds(10)), "applied")
        yield* q.time.advance("9 seconds")
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance("1 second")
        assert.strictEqual((yield* q.claimOne()).attempt, 2)
      }))

    it.effect.prop(
      "whatever is asked for and whenever, a lease ends at the latest time that was promised",
      {
        lease: Fixture.between(1, 100),
        extensions: Schema.Array(
          Schema.Struct({
            passed: Fixture.between(0, 20),
            lease: Fixture.between(1, 100),
            by: Schema.Literals(["extend", "checkpoint"])
          })
        ).check(Schema.isMaxLength(6))
      },
      ({ extensions, lease }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const begin = DateTime.toEpochMillis(yield* q.time.now)
          const run = yield* q.start({}, seconds(lease))
          let now = 0
          let end = lease
          for (const [i, extension] of extensions.entries()) {
            yield* q.time.advance(seconds(extension.passed))
            now += extension.passed
            if (extension.by === "extend") yield* q.extend(run, seconds(extension.lease))
            else yield* q.checkpoint(run, `s${i}`, i, seconds(extension.lease))
            end = Math.max(end, now + extension.lease)
            const { claimExpiresAt } = yield* q.getRun(run.runId)
            assert.strictEqual(claimExpiresAt && DateTime.toEpochMillis(claimExpiresAt), begin + end * 1000)
          }
        }),
      { arbitrary: { runs: 12 } }
    )
  })
