/** Pausing, heartbeats, and how much there is to do. */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer } from "effect"
import type { Driver, Held, QueueLoad, RunRow } from "../../src/core/Driver.ts"
import type { DriverError, NotFound } from "../../src/core/Errors.ts"
import type { TaskId } from "../../src/core/Identifiers.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { minutes, seconds } = Duration

const make = Effect.map(Fixture.make, (q) => ({
  ...q,
  pause: q.driver.setPaused({ queue: q.queue, paused: true }),
  resume: q.driver.setPaused({ queue: q.queue, paused: false }),
  load: q.driver.queueLoad(q.queue)
}))

type Queue = Effect.Success<typeof make>

/** What the load of a queue must be, by all its runs. */
const counted = (runs: ReadonlyArray<RunRow>, now: number): Omit<QueueLoad, "paused"> => {
  const waiting = runs.filter(({ state }) => state === "pending" || state === "sleeping")
  const due = waiting.flatMap(({ availableAt }) =>
    availableAt !== null && availableAt.epochMilliseconds <= now ? [availableAt.epochMilliseconds] : []
  )
  return {
    due: due.length,
    later: waiting.length - due.length,
    running: runs.filter(({ state }) => state === "running").length,
    oldest: due.length === 0 ? null : Duration.millis(now - Math.min(...due))
  }
}

/** Something of everything that a queue may hold. */
const fill = (q: Queue, numbers: { readonly [kind: string]: number }) =>
  Effect.gen(function*() {
    const tasks: Array<TaskId> = []
    const times = (kind: string, body: Effect.Effect<TaskId, unknown>) =>
      Effect.forEach(Array.from({ length: numbers[kind] ?? 0 }), () =>
        Effect.map(body, (taskId) => {
          tasks.push(taskId)
        }))
    const started = (end: (held: Held) => Effect.Effect<unknown, unknown>) =>
      Effect.flatMap(q.start(), (run) => Effect.as(end(Fixture.holding(run)), run.taskId))
    const spawned = (delay: Duration.Duration | null) => Effect.map(q.spawn({ delay }), ({ taskId }) => taskId)
    yield* times("completed", started((held) => q.complete(held)))
    yield* times("failed", started((held) => q.fail(held, Fixture.Retries.never)))
    yield* times("retried", started((held) => q.fail(held, Fixture.Retries.after(minutes(5)))))
    yield* times("asleep", started((held) => q.suspend(held, [Fixture.Waits.timer("nap", minutes(5))])))
    yield* times("waiting", started((held) => q.suspend(held, [Fixture.Waits.event("wait", "never")])))
    yield* times("running", started(() => Effect.void))
    yield* times(
      "cancelled",
      Effect.tap(spawned(null), (taskId) => q.driver.cancelTask({ queue: q.queue, taskId }))
    )
    yield* times("delayed", spawned(minutes(5)))
    yield* times("due", Effect.tap(spawned(null), () => q.time.advance("1 second")))
    return tasks
  })

const Few = Fixture.between(0, 3)
const numbers = {
  completed: Few,
  failed: Few,
  retried: Few,
  asleep: Few,
  waiting: Few,
  running: Few,
  cancelled: Few,
  delayed: Few,
  due: Few
}

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("from a paused queue nothing is claimed, whoever asks, and from others as ever", () =>
      Effect.gen(function*() {
        const q = yield* make
        const other = yield* make
        yield* q.spawn()
        yield* other.spawn()
        assert.isTrue(yield* q.pause)
        assert.isFalse(yield* q.pause)
        yield* q.spawn()
        for (let n = 0; n < 3; n++) assert.deepStrictEqual(yield* q.claim(), [])
        assert.isTrue((yield* q.load).paused)
        assert.isFalse((yield* other.load).paused)
        assert.lengthOf(yield* other.claim(), 1)
        yield* q.time.advance(Duration.days(400))
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.isTrue(yield* q.resume)
        assert.isFalse(yield* q.resume)
        assert.lengthOf(yield* q.claim(), 2)
      }))

    it.effect("what runs in a paused queue goes on to its end", () =>
      Effect.gen(function*() {
        const q = yield* make
        const [one, two, three, four] = yield* Effect.forEach([1, 2, 3, 4], () => q.start())
        yield* q.pause
        assert.strictEqual((yield* q.checkpoint(one!, "step", 1)).outcome, "applied")
        assert.strictEqual(yield* q.extend(one!, minutes(5)), "applied")
        assert.strictEqual(yield* q.complete(one!), "applied")
        assert.strictEqual((yield* q.fail(two!, Fixture.Retries.after(Duration.zero))).outcome, "applied")
        assert.deepStrictEqual((yield* q.suspend(three!, [Fixture.Waits.event("wait", "go")])).outcome, "applied")
        assert.strictEqual(yield* q.release(four!), "applied")
        yield* q.emit("go")
        // The next attempt, what was woken, and what was handed back.
        assert.strictEqual((yield* q.load).due, 3)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.resume
        assert.lengthOf(yield* q.claim(), 3)
      }))

    it.effect("leases end and policies cancel in a paused queue as in any other", () =>
      Effect.gen(function*() {
        const q = yield* make
        const { taskId } = yield* q.start({ maxAttempts: 1 }, seconds(10))
        const limited = yield* q.spawn({ cancellation: { max_delay: 10 } })
        yield* q.pause
        yield* q.time.advance("10 seconds")
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(yield* q.states(taskId), ["failed", "failed"])
        assert.deepStrictEqual(yield* q.states(limited.taskId), ["cancelled", "cancelled"])
      }))

    it.effect("a pause and its end are undone with their transaction", () =>
      Effect.gen(function*() {
        const q = yield* make
        yield* q.spawn()
        const undone = (self: Effect.Effect<boolean, unknown>) =>
          Effect.flip(q.driver.withTransaction(Effect.andThen(self, Effect.fail("undo"))))
        yield* undone(q.pause)
        assert.isFalse((yield* q.load).paused)
        yield* q.pause
        yield* undone(q.resume)
        assert.isTrue((yield* q.load).paused)
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect("a queue that was dropped while it was paused, and made again, is not", () =>
      Effect.gen(function*() {
        const q = yield* make
        yield* q.pause
        yield* q.driver.dropQueue(q.queue)
        // Another installation of Absurd tells queues of one name apart by when they were made.
        yield* q.time.advance("1 second")
        yield* q.driver.createQueue({ queue: q.queue, storage: "unpartitioned" })
        yield* q.spawn()
        assert.isFalse((yield* q.load).paused)
        assert.lengthOf(yield* q.claim(), 1)
        assert.isFalse(yield* q.resume)
      }))

    it.effect("an empty queue has no load", () =>
      Effect.gen(function*() {
        const q = yield* make
        assert.deepStrictEqual(yield* q.load, { paused: false, due: 0, later: 0, running: 0, oldest: null })
      }))

    it.effect.prop(
      "the load is what a count of all runs comes to, at any time",
      numbers,
      (numbers) =>
        Effect.gen(function*() {
          const q = yield* make
          const tasks = yield* fill(q, numbers)
          const isRight = Effect.gen(function*() {
            const runs = yield* Effect.forEach(tasks, (taskId) => q.driver.listRuns({ queue: q.queue, taskId }))
            const { epochMilliseconds } = yield* q.time.now
            assert.deepStrictEqual(yield* q.load, { paused: false, ...counted(runs.flat(), epochMilliseconds) })
          })
          yield* isRight
          // Leases have ended, and nobody has claimed since: they count as before.
          yield* q.time.advance("31 seconds")
          yield* isRight
          yield* q.time.advance("5 minutes")
          yield* isRight
          yield* q.claim({ limit: 2 })
          yield* isRight
        }),
      { arbitrary: { runs: 15 } }
    )

    it.effect("heartbeats extend leases, and tell of each run what became of it", () =>
      Effect.scoped(Effect.gen(function*() {
        const q = yield* make
        const { extend } = yield* q.driver.heartbeats
        const beating = yield* q.start({}, seconds(10))
        const ended = yield* q.start()
        yield* q.complete(ended)
        const cancelled = yield* q.start()
        yield* q.driver.cancelTask({ queue: q.queue, taskId: cancelled.taskId })
        const stranger = { runId: beating.runId, token: Fixture.freshToken() }
        const unknown = { runId: Fixture.unknownRun, token: beating.token }
        yield* q.time.advance("9 seconds")
        const beat = extend({
          queue: q.queue,
          runs: [beating, ended, cancelled, stranger, unknown].map(({ runId, token }) => ({
            runId,
            token,
            lease: seconds(10)
          }))
        })
        const outcomes = ["applied", "leaseLost", "cancelled", "leaseLost", "notFound"] as const
        for (let n = 0; n < 3; n++) assert.deepStrictEqual([...yield* beat], [...outcomes])
        const { claimExpiresAt } = yield* q.getRun(beating.runId)
        const { epochMilliseconds } = yield* q.time.now
        assert.strictEqual(claimExpiresAt?.epochMilliseconds, epochMilliseconds + 10_000)
        // It never shortens a lease.
        const shorter = { runId: beating.runId, token: beating.token, lease: seconds(1) }
        assert.deepStrictEqual(yield* extend({ queue: q.queue, runs: [shorter] }), ["applied"])
        assert.deepStrictEqual((yield* q.getRun(beating.runId)).claimExpiresAt, claimExpiresAt)
        assert.deepStrictEqual(yield* extend({ queue: q.queue, runs: [] }), [])
      })))

    it.effect("an unknown queue is NotFound, and stays unknown", () =>
      Effect.scoped(Effect.gen(function*() {
        const { driver } = yield* make
        const { extend } = yield* driver.heartbeats
        const queue = Fixture.freshQueue()
        const runs = [{ runId: Fixture.unknownRun, token: Fixture.freshToken(), lease: seconds(10) }]
        const requests: ReadonlyArray<Effect.Effect<unknown, DriverError | NotFound>> = [
          driver.setPaused({ queue, paused: true }),
          driver.setPaused({ queue, paused: false }),
          driver.queueLoad(queue),
          extend({ queue, runs })
        ]
        for (const request of requests) {
          const error = yield* Effect.flip(request)
          assert.strictEqual(error._tag, "NotFound")
          assert.include(error, { kind: "queue", id: queue })
        }
        yield* driver.createQueue({ queue, storage: "unpartitioned" })
        assert.isFalse((yield* driver.queueLoad(queue)).paused)
      })))
  })
