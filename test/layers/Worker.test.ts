/** What a worker does when things go wrong around it, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Layer, Ref, Schema, Scope } from "effect"
import { Absurd, CurrentRun, Event, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as FaultyStore from "../faults/FaultyStore.ts"

const queue = "orders"

/** A worker that lives until the returned effect is run. */
const start = (options?: Worker.Options) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(Worker.make(options?.queues === undefined ? { queue, ...options } : options), scope)
    return Scope.close(scope, Exit.void)
  })

const states = (taskId: string) =>
  Effect.gen(function*() {
    const task = yield* Absurd.getTaskStatus(taskId, { queue })
    return { state: task.state, attempts: task.attempts }
  })

/** Moves the time on in small steps, as it passes in reality. */
const pass = (duration: Duration.Input, step: Duration.Input = "100 millis") => {
  const steps = Math.ceil(Duration.toMillis(duration) / Duration.toMillis(step))
  return Effect.repeat(TestClock.adjust(step), { times: steps - 1 })
}

const inStore = <A, E>(
  body: (
    faults: FaultyStore.Faults
  ) => Effect.Effect<A, E, Layer.Success<ReturnType<typeof FaultyStore.make>["layer"]> | Scope.Scope>
) =>
  Effect.suspend(() => {
    const { faults, layer } = FaultyStore.make()
    return Effect.andThen(Absurd.createQueue(queue), Effect.scoped(body(faults))).pipe(Effect.provide(layer))
  })

/** A task that says when it is in its step, stays there until it is let go, and says how it was left. */
const makeGated = Effect.gen(function*() {
  const entered = yield* Deferred.make<void>()
  const gate = yield* Deferred.make<void>()
  const left = yield* Ref.make<ReadonlyArray<string>>([])
  const Gated = Task.make("gated", { queue, params: {}, success: Schema.Int })
  const live = Gated.toLayer(Effect.fn(function*() {
    yield* Effect.addFinalizer((exit) => Ref.update(left, (all) => [...all, exit._tag]))
    return yield* Step.run(
      "work",
      Effect.andThen(Deferred.succeed(entered, undefined), Effect.as(Deferred.await(gate), 1))
    )
  }))
  return { Gated, live, entered: Deferred.await(entered), open: Deferred.succeed(gate, undefined), left: Ref.get(left) }
})

describe("leases", () => {
  it.effect("are renewed while a step takes many times as long", () =>
    inStore(() =>
      Effect.gen(function*() {
        const { Gated, entered, live, open } = yield* makeGated
        yield* Effect.gen(function*() {
          const task = yield* Gated.spawn({})
          const stop = yield* start({ lease: "3 seconds" })
          yield* entered
          yield* pass("30 seconds")
          assert.deepStrictEqual(yield* states(task.taskId), { state: "running", attempts: 1 })
          yield* open
          assert.strictEqual(yield* task.await, 1)
          yield* stop
        }).pipe(Effect.provide(live))
      })
    ))

  for (const fault of ["refused", "silent"] as const) {
    it.effect(`code is stopped before a lease that cannot be renewed ends (${fault})`, () =>
      inStore((faults) =>
        Effect.gen(function*() {
          const { Gated, entered, left, live, open } = yield* makeGated
          yield* Effect.gen(function*() {
            const task = yield* Gated.spawn({})
            const stop = yield* start({ lease: "12 seconds" })
            yield* entered
            faults.decide = (operation) => operation === "results" ? undefined : fault
            yield* pass("9 seconds")
            assert.deepStrictEqual(yield* left, [])
            yield* pass("2900 millis")
            assert.deepStrictEqual(yield* left, ["Failure"])
            assert.deepStrictEqual(yield* states(task.taskId), { state: "running", attempts: 1 })
            faults.decide = () => undefined
            yield* open
            yield* pass("8 seconds")
            assert.deepStrictEqual(yield* states(task.taskId), { state: "completed", attempts: 2 })
            yield* stop
          }).pipe(Effect.provide(live))
        })
      ))
  }
})

describe("a claim without an answer", () => {
  it.effect("is adopted by its token, and costs no attempt", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })
        yield* Effect.gen(function*() {
          const task = yield* Quick.spawn({})
          faults.decide = FaultyStore.first("claim", "lost")
          const stop = yield* start()
          yield* pass("3 seconds")
          assert.strictEqual(yield* task.await, 1)
          assert.deepStrictEqual(yield* states(task.taskId), { state: "completed", attempts: 1 })
          yield* stop
        }).pipe(Effect.provide(Quick.toLayer(() => Effect.succeed(1))))
      })
    ))

  it.effect("is handed back when the worker stops meanwhile", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })
        yield* Effect.gen(function*() {
          const task = yield* Quick.spawn({})
          const [lost, refused] = [FaultyStore.first("claim", "lost"), FaultyStore.first("claimedWith", "refused")]
          faults.decide = (operation) => lost(operation) ?? refused(operation)
          const stop = yield* start()
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(yield* states(task.taskId), { state: "running", attempts: 1 })
          yield* stop
          assert.deepStrictEqual(yield* states(task.taskId), { state: "sleeping", attempts: 1 })
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Completed" }])
        }).pipe(Effect.provide(Quick.toLayer(() => Effect.succeed(1))))
      })
    ))
})

describe("a claim whose answer comes when half of its lease has passed", () => {
  it.effect("is handed back at once, and costs no attempt", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })
        yield* Effect.gen(function*() {
          const task = yield* Quick.spawn({})
          faults.decide = FaultyStore.first("claim", "late")
          const stop = yield* start({ lease: "3 seconds" })
          yield* pass("5 seconds")
          assert.strictEqual(yield* task.await, 1)
          assert.deepStrictEqual(yield* states(task.taskId), { state: "completed", attempts: 1 })
          assert.deepStrictEqual(faults.log.filter((name) => name === "release"), ["release"])
          yield* stop
        }).pipe(Effect.provide(Quick.toLayer(() => Effect.as(Effect.sleep("1 second"), 1))))
      })
    ))
})

describe("a claim that is on its way when the worker stops", () => {
  it.effect("is waited for within the grace time, and handed back", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })
        yield* Effect.gen(function*() {
          const task = yield* Quick.spawn({})
          faults.decide = FaultyStore.first("claim", "late")
          const stop = yield* start({ shutdownGrace: "10 seconds" })
          yield* TestClock.adjust("1 millis")
          const stopping = yield* Effect.forkChild(stop, { startImmediately: true })
          yield* pass("4 seconds")
          assert.isDefined(stopping.pollUnsafe())
          assert.deepStrictEqual(yield* states(task.taskId), { state: "sleeping", attempts: 1 })
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Completed" }])
        }).pipe(Effect.provide(Quick.toLayer(() => Effect.succeed(1))))
      })
    ))
})

describe("an answer that was lost", () => {
  for (const operation of ["setCheckpoints", "suspend", "complete", "fail"] as const) {
    it.effect(`is settled by reading: ${operation}`, () =>
      inStore((faults) =>
        Effect.gen(function*() {
          const steps = yield* Ref.make(0)
          const Go = Event.make("go", { queue, payload: Schema.Int })
          const Story = Task.make("story", { queue, params: {}, success: Schema.Int, retry: RetryStrategy.none })
          const live = Story.toLayer(Effect.fn(function*() {
            const { attempt } = yield* CurrentRun
            yield* Step.run("step", Ref.update(steps, (n) => n + 1))
            if (attempt === 1) return yield* Effect.die(new Error("once more"))
            return yield* Go.wait("x")
          }))
          yield* Effect.gen(function*() {
            const task = yield* Story.spawn({})
            faults.decide = FaultyStore.first(operation, "lost")
            const stop = yield* start()
            yield* pass("3 seconds")
            yield* Go.emit("x", 7)
            yield* pass("3 seconds")
            assert.strictEqual(yield* task.await, 7)
            assert.strictEqual(yield* Ref.get(steps), 1)
            assert.deepStrictEqual(yield* states(task.taskId), { state: "completed", attempts: 2 })
            yield* stop
          }).pipe(Effect.provide(live))
        })
      ))
  }

  it.effect("of a completion is told as a completion", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })
        yield* Effect.gen(function*() {
          yield* Quick.spawn({})
          faults.decide = FaultyStore.first("complete", "lost")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Completed" }])
        }).pipe(Effect.provide(Quick.toLayer(() => Effect.succeed(1))))
      })
    ))
})

describe("cancelling", () => {
  it.effect("reaches running code at once by a hint; its finalizers run, and nothing more is stored", () =>
    inStore(() =>
      Effect.gen(function*() {
        const { Gated, entered, left, live } = yield* makeGated
        yield* Effect.gen(function*() {
          const task = yield* Gated.spawn({})
          const stop = yield* start({ lease: "1 hour" })
          yield* entered
          assert.isTrue(yield* task.cancel)
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(yield* left, ["Failure"])
          yield* stop
          assert.deepStrictEqual(yield* states(task.taskId), { state: "cancelled", attempts: 1 })
          assert.deepStrictEqual(yield* Absurd.getAllCheckpoints(task.taskId, { queue }), [])
        }).pipe(Effect.provide(live))
      })
    ))
})

describe("stopping", () => {
  it.effect("lets work end within the grace time, with its lease alive", () =>
    inStore(() =>
      Effect.gen(function*() {
        const { Gated, entered, live, open } = yield* makeGated
        yield* Effect.gen(function*() {
          const task = yield* Gated.spawn({})
          const stop = yield* start({ lease: "2 seconds", shutdownGrace: "30 seconds" })
          yield* entered
          const later = yield* Gated.spawn({})
          const stopping = yield* Effect.forkChild(stop)
          yield* pass("20 seconds")
          assert.deepStrictEqual(yield* states(task.taskId), { state: "running", attempts: 1 })
          yield* open
          yield* pass("1 second")
          assert.isDefined(stopping.pollUnsafe())
          assert.deepStrictEqual(yield* states(task.taskId), { state: "completed", attempts: 1 })
          assert.strictEqual((yield* states(later.taskId)).state, "completed")
        }).pipe(Effect.provide(live))
      })
    ))

  it.effect("then hands back what is left: due at once, no attempt spent, no failure stored", () =>
    inStore(() =>
      Effect.gen(function*() {
        const { Gated, entered, left, live } = yield* makeGated
        yield* Effect.gen(function*() {
          const task = yield* Gated.spawn({})
          const stop = yield* start({ shutdownGrace: "10 seconds" })
          yield* entered
          const stopping = yield* Effect.forkChild(stop)
          yield* pass("7 seconds")
          assert.deepStrictEqual(yield* left, [])
          yield* pass("3 seconds")
          assert.isDefined(stopping.pollUnsafe())
          assert.deepStrictEqual(yield* left, ["Failure"])
          const [run, ...others] = yield* Absurd.listRuns(task.taskId, { queue })
          assert.deepStrictEqual(others, [])
          assert.deepStrictEqual([run?.state, run?.attempt, run?.failureReason], ["sleeping", 1, null])
          const claimed = yield* Absurd.claimTask({ queue })
          assert.strictEqual(claimed.length, 1)
        }).pipe(Effect.provide(live))
      })
    ))

  it.effect("ends within the grace time whatever code does, and whatever the store does", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const entered = yield* Deferred.make<void>()
        const Stubborn = Task.make("stubborn", { queue, params: {} })
        const live = Stubborn.toLayer(() =>
          Effect.uninterruptible(Effect.andThen(Deferred.succeed(entered, undefined), Effect.never))
        )
        yield* Effect.gen(function*() {
          yield* Stubborn.spawn({})
          const stop = yield* start({ shutdownGrace: "5 seconds" })
          yield* Deferred.await(entered)
          faults.decide = () => "silent"
          const stopping = yield* Effect.forkChild(stop)
          yield* pass("5 seconds")
          assert.isDefined(stopping.pollUnsafe())
        }).pipe(Effect.provide(live))
      })
    ))

  it.effect("ends within the grace time although a claim has no answer", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        faults.decide = FaultyStore.first("claim", "silent")
        const stop = yield* start({ shutdownGrace: "5 seconds" })
        yield* TestClock.adjust("10 millis")
        assert.include(faults.log, "claim")
        const stopping = yield* Effect.forkChild(stop)
        yield* pass("5 seconds")
        assert.isDefined(stopping.pollUnsafe())
      })
    ))
})

describe("an outage", () => {
  it.effect("is sat out with less than two requests per second, and work goes on within two seconds", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const { Gated, entered, live, open } = yield* makeGated
        yield* Effect.gen(function*() {
          const task = yield* Gated.spawn({})
          const stop = yield* start({ lease: "1 hour" })
          yield* entered
          faults.decide = () => "refused"
          yield* open
          faults.log.length = 0
          yield* pass("60 seconds")
          assert.isAtMost(faults.log.length, 120)
          assert.isAtLeast(faults.log.length, 20)
          faults.decide = () => undefined
          yield* pass("2 seconds")
          assert.deepStrictEqual(yield* states(task.taskId), { state: "completed", attempts: 1 })
          yield* stop
        }).pipe(Effect.provide(live))
      })
    ))
})

describe("several queues", () => {
  it.effect("share the places by weight while all have work, and lend them otherwise", () =>
    inStore(() =>
      Effect.gen(function*() {
        yield* Absurd.createQueue("heavy")
        const seen = yield* Ref.make<ReadonlyArray<string>>([])
        const [Light, Heavy] = ["orders", "heavy"].map((queue) => Task.make("job", { queue, params: {} }))
        const live = Layer.mergeAll(
          Light!.toLayer(() => Ref.update(seen, (all) => [...all, "light"])),
          Heavy!.toLayer(() => Ref.update(seen, (all) => [...all, "heavy"]))
        )
        yield* Effect.gen(function*() {
          yield* Light!.spawnMany(Array.from({ length: 40 }, () => ({})))
          yield* Heavy!.spawnMany(Array.from({ length: 30 }, () => ({})))
          const stop = yield* start({ queues: { orders: 1, heavy: 3 }, concurrency: 4 })
          yield* pass("2 seconds", "1 millis")
          const all = yield* Ref.get(seen)
          assert.strictEqual(all.length, 70)
          assert.strictEqual(all.slice(0, 40).filter((name) => name === "heavy").length, 30)
          yield* stop
        }).pipe(Effect.provide(live))
      })
    ))

  it.effect("a task's own limit holds, and others are worked on meanwhile", () =>
    inStore(() =>
      Effect.gen(function*() {
        const running = yield* Ref.make(0)
        const most = yield* Ref.make(0)
        const quick = yield* Ref.make(0)
        const Slow = Task.make("slow", { queue, params: {} })
        const Quick = Task.make("quick", { queue, params: {} })
        const live = Layer.mergeAll(
          Slow.toLayer(() =>
            Ref.updateAndGet(running, (n) => n + 1).pipe(
              Effect.flatMap((now) => Ref.update(most, (before) => Math.max(before, now))),
              Effect.andThen(Effect.sleep("1 second")),
              Effect.andThen(Ref.update(running, (n) => n - 1))
            )
          ),
          Quick.toLayer(() => Ref.update(quick, (n) => n + 1))
        )
        yield* Effect.gen(function*() {
          const slow = yield* Slow.spawnMany(Array.from({ length: 6 }, () => ({})))
          yield* Quick.spawnMany(Array.from({ length: 20 }, () => ({})))
          const stop = yield* start({ concurrency: 5, taskConcurrency: { slow: 2 } })
          yield* pass("900 millis", "10 millis")
          assert.strictEqual(yield* Ref.get(quick), 20)
          yield* pass("5 seconds")
          assert.strictEqual(yield* Ref.get(most), 2)
          for (const { taskId } of slow) {
            assert.deepStrictEqual(yield* states(taskId), { state: "completed", attempts: 1 })
          }
          yield* stop
        }).pipe(Effect.provide(live))
      })
    ))

  it.effect("a paused queue is left alone by all workers until it is resumed", () =>
    inStore(() =>
      Effect.gen(function*() {
        const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })
        yield* Effect.gen(function*() {
          assert.isTrue(yield* Worker.pause(queue))
          assert.isFalse(yield* Worker.pause(queue))
          const task = yield* Quick.spawn({})
          const stop = yield* start()
          yield* pass("10 seconds")
          assert.deepStrictEqual(yield* states(task.taskId), { state: "pending", attempts: 1 })
          assert.deepStrictEqual(yield* Worker.load(queue), {
            paused: true,
            due: 1,
            later: 0,
            running: 0,
            oldest: Duration.seconds(10)
          })
          assert.isTrue(yield* Worker.resume(queue))
          yield* TestClock.adjust("1 millis")
          assert.strictEqual(yield* task.await, 1)
          yield* stop
        }).pipe(Effect.provide(Quick.toLayer(() => Effect.succeed(1))))
      })
    ))

  it.effect("tasks without a handler are counted", () =>
    inStore(() =>
      Effect.gen(function*() {
        yield* Absurd.spawnTask("unheard of", null, { queue })
        yield* Worker.runOnce({ queue })
        assert.deepStrictEqual(yield* Worker.unknownTasks, [{ queue: queue as never, task: "unheard of", runs: 1 }])
      })
    ))
})
