import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer } from "effect"
import type { Driver, Held } from "../../src/core/Driver.ts"
import type { RunId, State, TaskId } from "../../src/core/Identifiers.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { Retries, seconds, Waits } = Fixture

type Ids = { readonly taskId: TaskId; readonly runId: RunId }

/** Every situation of a task and its newest run, and what cancelling makes of them. */
const situations: ReadonlyArray<{
  readonly name: string
  readonly reach: (q: Fixture.Fixture) => Effect.Effect<Ids, unknown>
  readonly task: State
  readonly run: State
  readonly states: ReadonlyArray<State>
}> = [
  { name: "pending", reach: (q) => q.spawn(), task: "pending", run: "pending", states: ["cancelled", "cancelled"] },
  {
    name: "delayed",
    reach: (q) => q.spawn({ delay: seconds(60) }),
    task: "sleeping",
    run: "sleeping",
    states: ["cancelled", "cancelled"]
  },
  { name: "running", reach: (q) => q.start(), task: "running", run: "running", states: ["cancelled", "cancelled"] },
  {
    name: "sleeping on a timer",
    reach: (q) => Effect.tap(q.start(), (run) => q.suspend(run, [Waits.timer("t", seconds(60))])),
    task: "sleeping",
    run: "sleeping",
    states: ["cancelled", "cancelled"]
  },
  {
    name: "sleeping on events",
    reach: (q) => Effect.tap(q.start(), (run) => q.suspend(run, [Waits.event("a", "a"), Waits.event("b", "b")])),
    task: "sleeping",
    run: "sleeping",
    states: ["cancelled", "cancelled"]
  },
  {
    name: "pending after its event",
    reach: (q) =>
      q.start().pipe(Effect.tap((run) => q.suspend(run, [Waits.event("a", "a")])), Effect.tap(q.emit("a", 1))),
    task: "pending",
    run: "pending",
    states: ["cancelled", "cancelled"]
  },
  {
    name: "failed, the next attempt sleeping",
    reach: (q) =>
      q.start().pipe(
        Effect.tap((run) => q.fail(run, Retries.after(seconds(60)))),
        Effect.flatMap(({ taskId }) => Effect.map(q.getTask(taskId), (row) => ({ taskId, runId: row.lastAttemptRun! })))
      ),
    task: "sleeping",
    run: "sleeping",
    states: ["cancelled", "failed", "cancelled"]
  },
  {
    name: "failed, seen from the old attempt",
    reach: (q) => Effect.tap(q.start(), (run) => q.fail(run)),
    task: "pending",
    run: "failed",
    states: ["cancelled", "failed", "cancelled"]
  },
  {
    name: "completed",
    reach: (q) => Effect.tap(q.start(), (run) => q.complete(run, 1)),
    task: "completed",
    run: "completed",
    states: ["completed", "completed"]
  },
  {
    name: "failed for good",
    reach: (q) => Effect.tap(q.start(), (run) => q.fail(run, Retries.never)),
    task: "failed",
    run: "failed",
    states: ["failed", "failed"]
  },
  {
    name: "cancelled",
    reach: (q) => Effect.tap(q.spawn(), ({ taskId }) => q.driver.cancelTask({ queue: q.queue, taskId })),
    task: "cancelled",
    run: "cancelled",
    states: ["cancelled", "cancelled"]
  }
]

const cases = situations.map((situation) => [situation.name, situation] as const)

const isFinal = (state: State) => state === "completed" || state === "failed" || state === "cancelled"

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.each(cases)("cancelling a task that is %s", ([, situation]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* situation.reach(q)
        const before = yield* q.snapshot(taskId)
        yield* q.time.advance("1 second")
        const cancelled = !isFinal(situation.task)
        assert.deepStrictEqual(yield* q.driver.cancelTask({ queue: q.queue, taskId }), {
          cancelled,
          state: situation.task
        })
        assert.deepStrictEqual(yield* q.states(taskId), situation.states)
        if (!cancelled) {
          assert.deepStrictEqual(yield* q.snapshot(taskId), before)
          return
        }
        assert.deepStrictEqual(
          Fixture.plain((yield* q.getTask(taskId)).cancelledAt),
          Fixture.plain(yield* q.time.now)
        )
        assert.deepStrictEqual(yield* q.driver.listWaits({ queue: q.queue, taskId }), [])
        for (const run of yield* q.driver.listRuns({ queue: q.queue, taskId })) {
          if (run.state === "cancelled") assert.deepInclude(run, { claimedBy: null, claimExpiresAt: null })
        }
        yield* q.emit("a", 1)
        yield* q.emit("b", 1)
        yield* q.time.advance("1 hour")
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(yield* q.states(taskId), situation.states)
      }))

    it.effect.each(cases)("cancelling a run that is %s", ([, situation]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { runId, taskId } = yield* situation.reach(q)
        const before = yield* q.snapshot(taskId)
        const cancelled = situation.run === "pending" || situation.run === "sleeping"
        assert.deepStrictEqual(yield* q.driver.cancelRun({ queue: q.queue, runId }), {
          cancelled,
          state: situation.run
        })
        if (cancelled) assert.deepStrictEqual(yield* q.states(taskId), situation.states)
        else assert.deepStrictEqual(yield* q.snapshot(taskId), before)
      }))

    it.effect("a cancelled task keeps its checkpoints and has no result", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.checkpoint(run, "s", 1)
        yield* q.driver.cancelTask({ queue: q.queue, taskId: run.taskId })
        assert.lengthOf(yield* q.checkpoints(run.taskId), 1)
        assert.deepStrictEqual(yield* q.result(run.taskId), {
          taskId: run.taskId,
          state: "cancelled",
          result: null,
          failure: null
        })
      }))

    it.effect("what does not exist cannot be cancelled", () =>
      Effect.gen(function*() {
        const { driver, queue } = yield* Fixture.make
        const task = yield* Effect.flip(driver.cancelTask({ queue, taskId: Fixture.unknownTask }))
        assert.deepInclude(task, { _tag: "NotFound", kind: "task", id: Fixture.unknownTask })
        const run = yield* Effect.flip(driver.cancelRun({ queue, runId: Fixture.unknownRun }))
        assert.deepInclude(run, { _tag: "NotFound", kind: "run", id: Fixture.unknownRun })
      }))

    it.effect("maxDelay counts from when a delayed task became due", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.spawn({ delay: seconds(100), cancellation: { max_delay: 10 } })
        yield* q.time.advance("50 seconds")
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(yield* q.states(taskId), ["sleeping", "sleeping"])
        yield* q.time.advance(Duration.millis(59_999))
        const other = yield* q.spawn({ delay: seconds(0) })
        const claimed = yield* q.claim()
        assert.sameMembers(claimed.map((run) => run.taskId), [taskId, other.taskId])
        const late = yield* q.spawn({ delay: seconds(100), cancellation: { max_delay: 10 } })
        yield* q.time.advance("110 seconds")
        assert.notInclude((yield* q.claim()).map((run) => run.taskId), late.taskId)
        assert.deepStrictEqual(yield* q.states(late.taskId), ["cancelled", "cancelled"])
      }))

    it.effect("maxDelay is met by the first start, however long the task then takes", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start({ cancellation: { max_delay: 10 } })
        yield* q.release(run, seconds(5))
        yield* q.time.advance("1 hour")
        assert.strictEqual((yield* q.claimOne()).runId, run.runId)
      }))

    it.effect("a policy cancels only its own task", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const limited = yield* q.spawn({ cancellation: { max_delay: 10 } })
        const free = yield* q.spawn()
        const patient = yield* q.spawn({ cancellation: { max_delay: 11 } })
        yield* q.time.advance("10 seconds")
        const claimed = yield* q.claim()
        assert.sameMembers(claimed.map((run) => run.taskId), [free.taskId, patient.taskId])
        assert.deepStrictEqual(yield* q.states(limited.taskId), ["cancelled", "cancelled"])
      }))

    it.effect("a task that is overdue is never started, however many are", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.spawn({ cancellation: { max_delay: 21 } })
        yield* q.time.advance("1 second")
        yield* q.driver.spawn({
          queue: q.queue,
          tasks: Array.from({ length: 150 }, () => Fixture.item({ cancellation: { max_delay: 10 } }))
        })
        yield* q.time.advance("20 seconds")
        for (let claim = 1; claim <= 4; claim++) assert.deepStrictEqual(yield* q.claim({ limit: 1 }), [])
        assert.deepStrictEqual(yield* q.states(first.taskId), ["cancelled", "cancelled"])
      }))

    const limits = { limit: Fixture.between(1, 100_000) }

    it.effect.prop("maxDelay cancels exactly when it is reached", limits, ({ limit }) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const cancellation = { max_delay: limit }
        const late = yield* q.spawn({ cancellation })
        yield* q.time.advance(Duration.millis(1))
        const early = yield* q.spawn({ cancellation })
        yield* q.time.advance(Duration.millis(limit * 1000 - 1))
        assert.strictEqual((yield* q.claimOne()).taskId, early.taskId)
        assert.deepStrictEqual(yield* q.states(late.taskId), ["cancelled", "cancelled"])
      }), { arbitrary: { runs: 10 } })

    it.effect.each(
      [
        ["running", () => Effect.void],
        ["sleeping", (q: Fixture.Fixture, run: Held) => q.suspend(run, [Waits.event("w", "e")])],
        ["between attempts", (q: Fixture.Fixture, run: Held) => q.fail(run, Retries.after(seconds(30)))]
      ] as const
    )("maxDuration cancels exactly when it is reached, while %s", ([, then]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start({ cancellation: { max_duration: 60 } }, Duration.hours(1))
        yield* then(q, run)
        yield* q.time.advance(Duration.millis(29_999))
        yield* q.claim()
        assert.notStrictEqual((yield* q.getTask(run.taskId)).state, "cancelled")
        yield* q.time.advance(Duration.millis(30_000))
        yield* q.claim({ lease: Duration.hours(1) })
        assert.notStrictEqual((yield* q.getTask(run.taskId)).state, "cancelled")
        yield* q.time.advance(Duration.millis(1))
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.strictEqual((yield* q.getTask(run.taskId)).state, "cancelled")
        assert.deepStrictEqual(yield* q.driver.listWaits({ queue: q.queue, taskId: run.taskId }), [])
      }))
  })
