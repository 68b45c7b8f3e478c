/** The state machine as a table: every situation of a run × every operation on it. */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer, Struct } from "effect"
import type { Driver, Held } from "../../src/core/Driver.ts"
import type { RunId, TaskId } from "../../src/core/Identifiers.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

/** What an operation is about: a run of a task, and the token under which it was claimed last. */
interface Subject extends Held {
  readonly taskId: TaskId
  readonly runId: RunId
}

type Situation = (q: Fixture.Fixture) => Effect.Effect<Subject, unknown>

const running = (overrides?: Parameters<Fixture.Fixture["start"]>[0], lease?: Duration.Duration): Situation => (q) =>
  q.start(overrides, lease)

const after =
  (begin: Situation, then: (q: Fixture.Fixture, run: Subject) => Effect.Effect<unknown, unknown>): Situation => (q) =>
    Effect.tap(begin(q), (run) => then(q, run))

const onEvent = after(running(), (q, run) => q.suspend(run, [Fixture.Waits.event("w", "e")]))

const situations = {
  pending: (q) => Effect.map(q.spawn(), (spawned) => ({ ...spawned, token: Fixture.freshToken() })),
  running: running(),
  "running, lease expired": after(running({}, Fixture.seconds(1)), (q) => q.time.advance("1 minute")),
  "sleeping on a timer": after(running(), (q, run) => q.suspend(run, [Fixture.Waits.timer("t", Duration.hours(1))])),
  "sleeping on an event": onEvent,
  "pending after the event": after(onEvent, (q) => q.emit("e")),
  completed: after(running(), (q, run) => q.complete(run)),
  "failed, a newer attempt is alive": after(running(), (q, run) => q.fail(run)),
  "failed for good": after(running({ maxAttempts: 1 }), (q, run) => q.fail(run)),
  "failed, task cancelled by its policy": after(
    running({ cancellation: { max_duration: 60 } }),
    (q, run) => q.fail(run, Fixture.Retries.after(Duration.hours(1)))
  ),
  cancelled: after(running(), (q, { taskId }) => q.driver.cancelTask({ queue: q.queue, taskId }))
} satisfies Record<string, Situation>

type Operation = (q: Fixture.Fixture, subject: Subject) => Effect.Effect<unknown, unknown>

const operations = {
  complete: (q, run) => q.complete(run),
  fail: (q, run) => Effect.map(q.fail(run), ({ outcome }) => outcome),
  release: (q, run) => q.release(run, Duration.hours(1)),
  extend: (q, run) => q.extend(run, Duration.hours(1)),
  setCheckpoints: (q, run) => Effect.map(q.checkpoint(run, "s", 1), ({ outcome }) => outcome),
  suspend: (q, run) => Effect.map(q.suspend(run, [Fixture.Waits.event("new", "unknown")]), ({ outcome }) => outcome),
  cancelTask: (q, { taskId }) =>
    Effect.map(q.driver.cancelTask({ queue: q.queue, taskId }), ({ cancelled, state }) => [cancelled, state]),
  cancelRun: (q, { runId }) =>
    Effect.map(q.driver.cancelRun({ queue: q.queue, runId }), ({ cancelled, state }) => [cancelled, state]),
  retryTask: (q, { taskId }) =>
    Effect.map(
      q.driver.retryTask({ queue: q.queue, taskId, maxAttempts: null, spawnNew: false }),
      ({ created }) => created
    )
} satisfies Record<string, Operation>

/** The answer, and the states of task and runs afterwards; without those, nothing has changed at all. */
type Cell = readonly [answer: unknown, states?: ReadonlyArray<string>]
type Row = { readonly [K in keyof typeof operations]: Cell }

/** All that need a claim are answered alike. */
const fenced = (answer: string) => ({
  complete: [answer],
  fail: [answer],
  release: [answer],
  extend: [answer],
  setCheckpoints: [answer],
  suspend: [answer]
} as const)

const notFailed: Cell = ["InvalidState"]
const gone = ["cancelled", "cancelled"]

const whileRunning: Row = {
  complete: ["applied", ["completed", "completed"]],
  fail: ["applied", ["pending", "failed", "pending"]],
  release: ["applied", ["sleeping", "sleeping"]],
  extend: ["applied", ["running", "running"]],
  setCheckpoints: ["applied", ["running", "running"]],
  suspend: ["applied", ["sleeping", "sleeping"]],
  cancelTask: [[true, "running"], gone],
  cancelRun: [[false, "running"]],
  retryTask: notFailed
}

const whileSleeping: Row = {
  ...fenced("leaseLost"),
  cancelTask: [[true, "sleeping"], gone],
  cancelRun: [[true, "sleeping"], gone],
  retryTask: notFailed
}

const whilePending: Row = {
  ...fenced("leaseLost"),
  cancelTask: [[true, "pending"], gone],
  cancelRun: [[true, "pending"], gone],
  retryTask: notFailed
}

const table: { readonly [K in keyof typeof situations]: Row } = {
  pending: whilePending,
  running: whileRunning,
  "running, lease expired": whileRunning,
  "sleeping on a timer": whileSleeping,
  "sleeping on an event": whileSleeping,
  "pending after the event": whilePending,
  completed: {
    ...fenced("leaseLost"),
    cancelTask: [[false, "completed"]],
    cancelRun: [[false, "completed"]],
    retryTask: notFailed
  },
  "failed, a newer attempt is alive": {
    ...fenced("leaseLost"),
    cancelTask: [[true, "pending"], ["cancelled", "failed", "cancelled"]],
    cancelRun: [[false, "failed"]],
    retryTask: notFailed
  },
  "failed for good": {
    ...fenced("leaseLost"),
    cancelTask: [[false, "failed"]],
    cancelRun: [[false, "failed"]],
    retryTask: [false, ["pending", "failed", "pending"]]
  },
  "failed, task cancelled by its policy": {
    ...fenced("cancelled"),
    cancelTask: [[false, "cancelled"]],
    cancelRun: [[false, "failed"]],
    retryTask: notFailed
  },
  cancelled: {
    ...fenced("cancelled"),
    cancelTask: [[false, "cancelled"]],
    cancelRun: [[false, "cancelled"]],
    retryTask: notFailed
  }
}

const cells = Struct.keys(situations).flatMap((situation) =>
  Struct.keys(operations).map((operation) => [situation, operation] as const)
)

const tagOf = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "_tag" in error ? error._tag : error

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.each(cells)("%s: %s", ([situation, operation]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const begin: Situation = situations[situation]
        const apply: Operation = operations[operation]
        const run = yield* begin(q)
        const before = yield* q.snapshot(run.taskId)
        const [expected, states] = table[situation][operation]
        const answer = yield* Effect.catch(apply(q, run), (error) => Effect.succeed(tagOf(error)))
        assert.deepStrictEqual(answer, expected)
        if (states === undefined) assert.deepStrictEqual(yield* q.snapshot(run.taskId), before)
        else assert.deepStrictEqual(yield* q.states(run.taskId), states)
      }))
  })
