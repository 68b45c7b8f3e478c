/** How a worker that is quick claims more than it executes, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Latch, Layer, Schema, Scope } from "effect"
import { Absurd, Identifiers, Step, Task, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"

const queue = Identifiers.QueueName.make("ahead")
const concurrency = 5

/** Takes a millisecond, or until it is let go. */
const Job = Task.make("job", { queue, params: { slow: Schema.Boolean } })

const makeJobs = Effect.gen(function*() {
  const gate = yield* Latch.make(false)
  const live = Job.toLayer(({ slow }) => Step.run("work", slow ? gate.await : Effect.sleep("1 millis")))
  return { live, open: gate.open }
})

const load = Effect.flatMap(Absurd.Absurd, ({ driver }) => driver.queueLoad(queue))

const startWorker = Effect.gen(function*() {
  const scope = yield* Scope.fork(yield* Effect.scope)
  yield* Scope.provide(Worker.make({ queue, concurrency, shutdownGrace: "4 seconds" }), scope)
  return Scope.close(scope, Exit.void)
})

/** How many runs were claimed at each of so many moments, 10 ms apart. */
const watch = (moments: number) =>
  Effect.forEach(
    Array.from({ length: moments }),
    () => Effect.andThen(TestClock.adjust("10 millis"), Effect.map(load, ({ running }) => running))
  )

const attempts = (tasks: ReadonlyArray<{ readonly taskId: string }>) =>
  Effect.map(
    Effect.forEach(tasks, ({ taskId }) => Absurd.getTaskStatus(taskId, { queue })),
    (rows) => new Set(rows.map((row) => row.attempts))
  )

const inMemory = <A, E>(body: Effect.Effect<A, E, Absurd.Absurd | Scope.Scope>) =>
  Effect.andThen(Absurd.createQueue(queue), Effect.scoped(body)).pipe(Effect.provide(Layer.fresh(Absurd.layerMemory)))

describe("a worker", () => {
  it.effect("claims no more of slow tasks than it executes", () =>
    inMemory(Effect.gen(function*() {
      const jobs = yield* makeJobs
      yield* Effect.gen(function*() {
        yield* Job.spawnMany(Array.from({ length: 50 }, () => ({ slow: true })))
        const stop = yield* startWorker
        assert.deepStrictEqual([...new Set(yield* watch(300))], [concurrency])
        yield* jobs.open
        yield* stop
      }).pipe(Effect.provide(jobs.live))
    })))

  it.effect("claims quick tasks ahead, and hands back those whose turn does not come, at no cost", () =>
    inMemory(Effect.gen(function*() {
      const jobs = yield* makeJobs
      yield* Effect.gen(function*() {
        const tasks = yield* Job.spawnMany(Array.from({ length: 2000 }, (_, n) => ({ slow: n >= 1000 })))
        const stop = yield* startWorker
        const claimed = yield* watch(300)
        assert.isAbove(Math.max(...claimed), concurrency * 2)
        // The slow ones hold the places; whatever was claimed beside them is somebody else's to take.
        assert.deepStrictEqual([...new Set(claimed.slice(-100))], [concurrency])
        yield* jobs.open
        yield* watch(500)
        assert.deepStrictEqual(yield* load, { paused: false, due: 0, later: 0, running: 0, oldest: null })
        assert.deepStrictEqual([...yield* attempts(tasks)], [1])
        yield* stop
      }).pipe(Effect.provide(jobs.live))
    })))

  it.effect("hands back at once, when it stops, what it has claimed ahead", () =>
    inMemory(Effect.gen(function*() {
      const jobs = yield* makeJobs
      yield* Effect.gen(function*() {
        const tasks = yield* Job.spawnMany(Array.from({ length: 2000 }, () => ({ slow: false })))
        const stop = yield* startWorker
        while ((yield* load).running <= concurrency) yield* TestClock.adjust("1 millis")
        const stopping = yield* Effect.forkChild(stop, { startImmediately: true })
        // Long before a task that waits for its turn would have had it.
        yield* TestClock.adjust("1 millis")
        assert.isAtMost((yield* load).running, concurrency)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(stopping)
        assert.strictEqual((yield* load).running, 0)
        assert.deepStrictEqual([...yield* attempts(tasks)], [1])
      }).pipe(Effect.provide(jobs.live))
    })))

  it.live("lets others have a turn between handlers that wait for nothing", () =>
    inMemory(Effect.gen(function*() {
      let millis = 0
      let turns = 0
      const handled: Array<number> = []
      const clock = Object.assign(Object.create(yield* Clock.Clock) as Clock.Clock, {
        monotonicTimeNanosUnsafe: () => BigInt(millis) * 1_000_000n
      })
      // Each takes a millisecond of everybody's time.
      const jobs = Job.toLayer(() =>
        Effect.sync(() => {
          millis++
          handled.push(turns)
        })
      )
      yield* Effect.gen(function*() {
        yield* Job.spawnMany(Array.from({ length: 1000 }, () => ({ slow: false })))
        yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sync(() => ++turns), Effect.yieldNow)))
        yield* Effect.provideService(Worker.make({ queue, concurrency }), Clock.Clock, clock)
        yield* Effect.repeat(Effect.yieldNow, { until: () => millis >= 1000 })
      }).pipe(Effect.provide(jobs))
      const perTurn = Map.groupBy(handled, (turn) => turn)
      assert.isAtMost(Math.max(...Array.from(perTurn.values(), ({ length }) => length)), 2 * concurrency)
    })))
})
