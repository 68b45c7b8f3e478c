/** What cannot be durable is refused, and says so, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, type Layer, Ref, Schedule, Schema } from "effect"
import { Absurd, type CurrentRun, Event, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { checkpointsOf, failureOf, makeLog, makeQueue, runUntilIdle } = Program

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const make = Effect.gen(function*() {
      const queue = yield* makeQueue
      const seen = yield* makeLog
      const { advance } = yield* TestTime
      const Job = Task.make("job", { queue, params: {}, success: Schema.Json })
      /** Executes what is due; what keeps a worker busy beyond the time after which it is suspended is waited for. */
      const pass = Effect.gen(function*() {
        const worker = yield* Effect.forkChild(runUntilIdle(queue))
        yield* Program.settle
        yield* advance("11 seconds")
        yield* Program.settle
        yield* advance("11 seconds")
        yield* Fiber.join(worker)
      })
      return { queue, seen, advance, Job, pass }
    })

    it.effect.each(
      [
        ["a step", () => Step.run("inner", Effect.void)],
        ["a sleep", () => Step.sleep("inner", "1 hour")],
        ["a step that begins", () => Step.begin("inner")]
      ] as const
    )("%s within a transaction of the program is refused, with the remedy", ([, inner]) =>
      Effect.gen(function*() {
        const { Job, queue } = yield* make
        const live = Job.toLayer(() =>
          Effect.flatMap(Absurd.Absurd, ({ driver }) => Effect.as(driver.withTransaction(inner()), null))
        )
        yield* Effect.gen(function*() {
          const task = yield* Job.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
          const failure = yield* failureOf(queue, task.taskId)
          assert.strictEqual(failure.name, "InvalidUse")
          assert.include(failure.message, `Step "inner"`)
          assert.include(failure.message, "Step.transaction")
        }).pipe(Effect.provide(live))
      }))

    it.effect("a child within a transaction of the program needs an idempotency key", () =>
      Effect.gen(function*() {
        const { Job, queue } = yield* make
        const Child = Task.make("child", { queue, params: {} })
        const spawn = (key: string | undefined) =>
          Job.toLayer(() =>
            Effect.flatMap(
              Absurd.Absurd,
              ({ driver }) =>
                Effect.as(driver.withTransaction(Child.spawn({}, { idempotencyKey: key, delay: "1 day" })), null)
            )
          )
        const without = yield* Job.spawn({})
        yield* Effect.provide(Worker.runOnce({ queue }), spawn(undefined))
        assert.strictEqual((yield* failureOf(queue, without.taskId)).name, "InvalidUse")
        const withKey = yield* Job.spawn({})
        yield* Effect.provide(Worker.runOnce({ queue }), spawn("own"))
        yield* withKey.await
      }))

    it.effect("a step that is interrupted gives its name back", () =>
      Effect.gen(function*() {
        const { Job, queue } = yield* make
        const live = Job.toLayer(Effect.fnUntraced(function*() {
          const step = yield* Effect.forkChild(Step.run("x", Effect.never), { startImmediately: true })
          yield* Fiber.interrupt(step)
          return yield* Step.run("x", Effect.succeed("again"))
        }))
        const task = yield* Job.spawn({})
        yield* Effect.provide(Worker.runOnce({ queue }), live)
        assert.strictEqual(yield* task.await, "again")
      }))

    it.effect("a step that has begun keeps its name from other fibers until it is complete", () =>
      Effect.gen(function*() {
        const { Job, queue } = yield* make
        const half = (value: string) =>
          Effect.gen(function*() {
            const step = yield* Step.begin("x")
            yield* Effect.yieldNow
            return yield* step.complete(value)
          })
        const live = Job.toLayer(() => Effect.all([half("1"), half("2")], { concurrency: "unbounded" }))
        yield* Effect.gen(function*() {
          const task = yield* Job.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
          assert.strictEqual((yield* failureOf(queue, task.taskId)).name, "InvalidUse")
        }).pipe(Effect.provide(live))
      }))

    it.effect("one after the other the name may be begun again, also when the first was given up", () =>
      Effect.gen(function*() {
        const { Job, queue } = yield* make
        const tries = yield* Ref.make(0)
        const upload = Effect.gen(function*() {
          const step = yield* Step.begin("x")
          if ((yield* Ref.updateAndGet(tries, (n) => n + 1)) === 1) return yield* Effect.fail("once more")
          return yield* step.complete("done")
        })
        const live = Job.toLayer(() =>
          Effect.orDie(Effect.andThen(Effect.retry(upload, Schedule.recurs(1)), Effect.timeout(upload, "1 minute")))
        )
        yield* Effect.gen(function*() {
          const task = yield* Job.spawn({})
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, "done")
          assert.deepStrictEqual(yield* checkpointsOf(queue, task.taskId), { "x#2": "done", "x#3": "done" })
        }).pipe(Effect.provide(live))
      }))

    it.effect.each(
      [
        ["a timeout", <R>(self: Effect.Effect<void, never, R>) => Effect.ignore(Effect.timeout(self, "1 hour"))],
        ["a race", <R>(self: Effect.Effect<void, never, R>) => Effect.race(self, Effect.sleep("1 hour"))]
      ] as const
    )("%s of Effect around a wait could never end it, and is refused", ([, limited]) =>
      Effect.gen(function*() {
        const { Job, pass, queue } = yield* make
        const Paid = Event.make("paid", { queue })
        const live = Job.toLayer(() => Effect.as(limited<CurrentRun>(Paid.wait("it")), null))
        yield* Effect.gen(function*() {
          const task = yield* Job.spawn({})
          yield* pass
          const failure = yield* failureOf(queue, task.taskId)
          assert.strictEqual(failure.name, "InvalidUse")
          assert.include(failure.message, `Step "$awaitEvent:paid:it"`)
          assert.include(failure.message, "Step.timeout")
        }).pipe(Effect.provide(live))
      }))

    it.effect("what is neither a step nor a wait keeps a run awake for a while, and is done again on resumption", () =>
      Effect.gen(function*() {
        const { Job, pass, queue, seen } = yield* make
        const Paid = Event.make("paid", { queue, payload: Schema.Int })
        const poll = Effect.andThen(seen.add("looked"), Effect.sleep("9 seconds"))
        const live = Job.toLayer(() =>
          Effect.raceFirst(Paid.wait("it"), Effect.andThen(Effect.forever(poll), Effect.never))
        )
        yield* Effect.gen(function*() {
          const task = yield* Job.spawn({})
          yield* pass
          assert.strictEqual((yield* Absurd.getTaskResult(task.taskId, { queue })).state, "sleeping")
          const looked = (yield* seen.all).length
          assert.isAtLeast(looked, 1)
          yield* Paid.emit("it", 5)
          yield* pass
          assert.strictEqual(yield* task.await, 5)
        }).pipe(Effect.provide(live))
      }))

    it.effect("a step that takes long keeps its run awake, whatever waits beside it", () =>
      Effect.gen(function*() {
        const { advance, Job, queue } = yield* make
        const Paid = Event.make("paid", { queue, payload: Schema.Int })
        const live = Job.toLayer(() =>
          Effect.all([Paid.wait("it"), Step.run("slow", Effect.as(Effect.sleep("25 seconds"), 1))], {
            concurrency: "unbounded"
          })
        )
        yield* Effect.gen(function*() {
          const task = yield* Job.spawn({})
          const worker = yield* Effect.forkChild(Worker.runOnce({ queue }))
          for (let seconds = 0; seconds < 25; seconds += 5) {
            yield* Program.settle
            yield* advance("5 seconds")
          }
          assert.deepStrictEqual(yield* Fiber.join(worker), [{ _tag: "Suspended" }])
          assert.deepStrictEqual(yield* checkpointsOf(queue, task.taskId), { slow: 1 })
          yield* Paid.emit("it", 5)
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, [5, 1])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a sleep that has the name of an earlier step says so", () =>
      Effect.gen(function*() {
        const { advance, Job, queue } = yield* make
        const before = Job.toLayer(() =>
          Effect.as(Effect.andThen(Step.run("x", Effect.succeed(5)), Step.sleep("y", "1 hour")), null)
        )
        const after = Job.toLayer(() => Effect.as(Step.sleep("x", "1 hour"), null))
        const task = yield* Job.spawn({})
        yield* Effect.provide(Worker.runOnce({ queue }), before)
        yield* advance("1 hour")
        assert.deepStrictEqual(yield* Effect.provide(Worker.runOnce({ queue }), after), [
          { _tag: "Failed", final: true }
        ])
        assert.deepInclude(yield* failureOf(queue, task.taskId), { name: "InvalidUse" })
      }))
  })
