/** How long a run may be worked on, as its own process knows, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Layer, Option, Schedule, Schema, Scope } from "effect"
import { Absurd, type CurrentRun, Driver, MemoryDriver, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as FaultyStore from "../faults/FaultyStore.ts"
import * as TestTime from "../support/TestTime.ts"

const queue = "orders"
const lease = "12 seconds"

/** Runs a body with a client whose driver `wrap` may change. */
const inStore = <A, E>(
  wrap: (driver: Driver.Driver["Service"]) => Driver.Driver["Service"],
  body: Effect.Effect<A, E, Absurd.Absurd | TestTime.TestTime | Scope.Scope>
) =>
  Effect.andThen(Absurd.createQueue(queue), Effect.scoped(body)).pipe(Effect.provide(
    Layer.merge(
      Absurd.layerDriver().pipe(Layer.provide(
        Layer.effect(Driver.Driver, Effect.map(Driver.Driver, wrap)).pipe(Layer.provide(MemoryDriver.layer))
      )),
      TestTime.layerMemory
    )
  ))

/** A process that can be stopped: monotonic time passes meanwhile, and nothing happens in it, so no timer fires. */
const makeProcess = Effect.map(Clock.Clock, (clock) => {
  let stopped = 0n
  const monotonicTimeNanosUnsafe = () => clock.monotonicTimeNanosUnsafe() + stopped
  const stop = (duration: Duration.Input) =>
    Effect.sync(() => {
      stopped += BigInt(Duration.toMillis(duration)) * 1_000_000n
    })
  const within = Effect.provideService(Clock.Clock, {
    ...clock,
    monotonicTimeNanosUnsafe,
    monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe)
  })
  return { stop, within }
})

type Body = (stop: Effect.Effect<void>, note: Effect.Effect<void>) => Effect.Effect<number, never, CurrentRun>

const bodies: Record<string, Body> = {
  "of a step": (stop, note) => Effect.andThen(stop, Step.run("work", Effect.as(note, 1))),
  "of a step that is tried again": (stop, note) =>
    Effect.suspend(() => {
      let tries = 0
      const work = Effect.suspend(() =>
        tries++ === 0 ? Effect.andThen(stop, Effect.fail("once more")) : Effect.as(note, 1)
      )
      return Effect.orDie(Step.run("work", work, { retry: Schedule.recurs(1) }))
    }),
  "of a step in two parts": (stop, note) =>
    Effect.gen(function*() {
      yield* stop
      const step = yield* Step.begin("work", { success: Schema.Int })
      if (Option.isSome(step.completed)) return step.completed.value
      yield* note
      return yield* step.complete(1)
    }),
  // The process is stopped while it gets a connection.
  "of a transaction": (_, note) => Step.transaction("work", Effect.as(note, 1))
}

describe("a process that was stopped for longer than its lease surely holds", () => {
  for (const [what, body] of Object.entries(bodies)) {
    for (const { begun, length } of [{ begun: 1, length: "9 seconds" }, { begun: 0, length: "10 seconds" }] as const) {
      it.effect(`${begun === 0 ? "does not begin" : "had it been shorter, begins"} the body ${what}`, () =>
        Effect.gen(function*() {
          const { stop, within } = yield* makeProcess
          let noted = 0
          let stops = 0
          const once = Effect.suspend(() => stops++ === 0 ? stop(length) : Effect.void)
          const wrap = (driver: Driver.Driver["Service"]): Driver.Driver["Service"] => ({
            ...driver,
            withTransaction: (self) => Effect.andThen(once, driver.withTransaction(self))
          })
          const note = Effect.sync(() => {
            noted++
          })
          const Stopped = Task.make("stopped", { queue, params: {}, success: Schema.Int, retry: RetryStrategy.none })
          const live = Stopped.toLayer(() => Effect.andThen(Step.run("before", Effect.void), body(once, note)))
          const worker = Effect.gen(function*() {
            const task = yield* Stopped.spawn({})
            const ended = yield* within(Worker.runOnce({ queue, lease }))
            assert.deepStrictEqual(ended, [{ _tag: begun === 0 ? "Lost" : "Completed" }])
            assert.strictEqual(noted, begun)
            if (begun === 1) return
            // Another process does it, once the lease has ended in the store as well.
            yield* TestClock.adjust(lease)
            assert.deepStrictEqual(yield* Worker.runOnce({ queue, lease }), [{ _tag: "Completed" }])
            assert.strictEqual(yield* task.await, 1)
            assert.strictEqual(noted, 1)
          })
          yield* inStore(wrap, Effect.provide(worker, live))
        }))
    }
  }
})

/** A store without heartbeats, from the moment on that `cut` is run, and what its checkpoints were to extend leases by. */
const makeRecorded = () => {
  const extensions: Array<number | null> = []
  const faults: FaultyStore.Faults = { decide: () => undefined, log: [] }
  const wrap = (driver: Driver.Driver["Service"]): Driver.Driver["Service"] => ({
    ...FaultyStore.wrap(driver, faults),
    setCheckpoints: (request) => {
      for (const { extendBy } of request.checkpoints) {
        extensions.push(extendBy === null ? null : Duration.toSeconds(extendBy))
      }
      return driver.setCheckpoints(request)
    }
  })
  const cut = Effect.sync(() => {
    faults.decide = (operation) => operation === "extend" ? "silent" : undefined
  })
  return { cut, extensions, wrap }
}

const pass = (duration: Duration.Input) =>
  Effect.repeat(TestClock.adjust("100 millis"), { times: Duration.toMillis(duration) / 100 - 1 })

const start = Effect.gen(function*() {
  const scope = yield* Scope.fork(yield* Effect.scope)
  yield* Scope.provide(Worker.make({ queue, lease }), scope)
  return Scope.close(scope, Exit.void)
})

describe("a lease", () => {
  it.effect("is renewed by a checkpoint when a third of it has passed, and that keeps the run alive", () => {
    const { cut, extensions, wrap } = makeRecorded()
    const Slow = Task.make("slow", { queue, params: {}, success: Schema.Int })
    const live = Slow.toLayer(Effect.fn(function*() {
      for (const seconds of [0, 3, 2, 9, 3, 6]) {
        yield* Effect.sleep(Duration.seconds(seconds))
        yield* Step.run("turn", Effect.void)
      }
      return 1
    }))
    return inStore(
      wrap,
      Effect.gen(function*() {
        yield* cut
        const task = yield* Slow.spawn({})
        const stop = yield* start
        yield* pass("25 seconds")
        assert.deepStrictEqual(extensions, [null, null, 12, 12, null, 12])
        assert.strictEqual(yield* task.await, 1)
        assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
        yield* stop
      }).pipe(Effect.provide(live))
    )
  })

  it.effect("is left alone by checkpoints while heartbeats renew it", () => {
    const { extensions, wrap } = makeRecorded()
    const Slow = Task.make("slow", { queue, params: {}, success: Schema.Int })
    const live = Slow.toLayer(Effect.fn(function*() {
      for (let n = 0; n < 30; n++) {
        yield* Effect.sleep("1 second")
        yield* Step.run("turn", Effect.void)
      }
      return 1
    }))
    return inStore(
      wrap,
      Effect.gen(function*() {
        const task = yield* Slow.spawn({})
        const stop = yield* start
        yield* pass("31 seconds")
        assert.strictEqual(yield* task.await, 1)
        assert.deepStrictEqual(extensions, Array.from({ length: 30 }, () => null))
        yield* stop
      }).pipe(Effect.provide(live))
    )
  })

  it.effect("that a program has made longer holds as long as it asked for", () => {
    const { cut, wrap } = makeRecorded()
    const Slow = Task.make("slow", { queue, params: {}, success: Schema.Int })
    const live = Slow.toLayer(Effect.fn(function*() {
      yield* Step.heartbeat("1 minute")
      yield* cut
      yield* Effect.sleep("50 seconds")
      return yield* Step.run("work", Effect.succeed(1))
    }))
    return inStore(
      wrap,
      Effect.gen(function*() {
        const task = yield* Slow.spawn({})
        const stop = yield* start
        yield* pass("51 seconds")
        assert.strictEqual(yield* task.await, 1)
        assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
        yield* stop
      }).pipe(Effect.provide(live))
    )
  })
})
