/** Compensations, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, Ref, Schema } from "effect"
import { Absurd, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { makeLog, makeQueue, runUntilIdle } = Program

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", {}) {}

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    /** A trip of three steps; the third fails, waits or succeeds. */
    const makeTrip = (end: Effect.Effect<void, SoldOut>, maxAttempts = 1) =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const acts = yield* makeLog
        const book = (what: string) =>
          Step.run(`book ${what}`, Effect.as(acts.add(`book ${what}`), what.length)).pipe(
            Step.withCompensation(`cancel ${what}`, (length) => acts.add(`cancel ${what} ${length}`))
          )
        const Trip = Task.make("trip", { queue, params: {}, error: SoldOut, maxAttempts })
        const live = Trip.toLayer(Effect.fn(function*() {
          yield* book("hotel")
          yield* book("flight")
          yield* Step.sleep("think", "1 hour")
          yield* Step.run("pay", Effect.andThen(acts.add("pay"), end)).pipe(
            Step.withCompensation("refund", () => acts.add("refund"))
          )
        }))
        return { queue, acts, Trip, live }
      })

    it.effect("when a task has failed for good its stored steps are undone in reverse, and no step runs again", () =>
      Effect.gen(function*() {
        const { acts, live, queue, Trip } = yield* makeTrip(Effect.fail(new SoldOut()), 2)
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          yield* Trip.spawn({})
          for (const wait of ["0 seconds", "1 hour", "1 hour"] as const) {
            yield* advance(wait)
            yield* runUntilIdle(queue)
          }
          assert.deepStrictEqual(yield* acts.all, [
            "book hotel",
            "book flight",
            "pay",
            "pay",
            "cancel flight 6",
            "cancel hotel 5"
          ])
        }).pipe(Effect.provide(live))
      }))

    it.effect("when a task is cancelled while it sleeps, its stored steps are undone", () =>
      Effect.gen(function*() {
        const { acts, live, queue, Trip } = yield* makeTrip(Effect.void)
        yield* Effect.gen(function*() {
          const trip = yield* Trip.spawn({})
          yield* runUntilIdle(queue)
          assert.isTrue(yield* trip.cancel)
          yield* runUntilIdle(queue)
          assert.deepStrictEqual((yield* acts.all).slice(2), ["cancel flight 6", "cancel hotel 5"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("when a task has completed nothing is undone", () =>
      Effect.gen(function*() {
        const { acts, live, queue, Trip } = yield* makeTrip(Effect.void)
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const trip = yield* Trip.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("1 hour")
          yield* runUntilIdle(queue)
          yield* trip.await
          yield* advance("1 day")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
          assert.deepStrictEqual(yield* acts.all, ["book hotel", "book flight", "pay"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a compensation that fails or crashes is tried again, and those before it are not", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const acts = yield* makeLog
        const tries = yield* Ref.make(0)
        const Trip = Task.make("trip", { queue, params: {}, error: SoldOut, maxAttempts: 1 })
        const live = Trip.toLayer(Effect.fn(function*() {
          yield* Step.run("a", Effect.void).pipe(
            Step.withCompensation("undo a", () =>
              Effect.andThen(
                Step.run("within", acts.add("within")),
                Effect.flatMap(Ref.updateAndGet(tries, (n) => n + 1), (n) =>
                  n === 1 ? Effect.fail("no") : n === 2 ? Effect.die("crash") : acts.add("undo a"))
              ))
          )
          yield* Step.run("b", Effect.void).pipe(Step.withCompensation("undo b", () => acts.add("undo b")))
          return yield* new SoldOut()
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          yield* Trip.spawn({})
          for (let attempt = 0; attempt < 4; attempt++) {
            yield* runUntilIdle(queue)
            yield* advance("1 minute")
          }
          assert.deepStrictEqual(yield* acts.all, ["undo b", "within", "undo a"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a task whose lease runs out too often is compensated by whoever has its handler", () =>
      Effect.gen(function*() {
        const { acts, live, queue, Trip } = yield* makeTrip(Effect.void)
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const { driver } = yield* Absurd.Absurd
          yield* Trip.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("1 hour")
          // A worker takes it and is never heard of again.
          yield* Program.claimAndVanish(driver, queue)
          yield* advance("1 minute")
          yield* runUntilIdle(queue)
          yield* advance("1 hour")
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* acts.all, ["book hotel", "book flight", "cancel flight 6", "cancel hotel 5"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a child is cancelled with its parent by a compensation", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const Child = Task.make("child", { queue, params: {} })
        const Parent = Task.make("parent", { queue, params: {} })
        const live = Parent.toLayer(() =>
          Child.spawn({}, { delay: "1 day" }).pipe(
            Step.withCompensation("cancel the child", (child) => child.cancel),
            Effect.flatMap((child) => Effect.orDie(child.await))
          )
        )
        yield* Effect.gen(function*() {
          const parent = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          yield* parent.cancel
          yield* runUntilIdle(queue)
          const stored = yield* Program.checkpointsOf(queue, parent.taskId)
          const [child] = stored["$spawn:child"] as unknown as ReadonlyArray<{ readonly taskId: string }>
          assert.strictEqual((yield* Absurd.getTaskResult(child!.taskId, { queue })).state, "cancelled")
        }).pipe(Effect.provide([live, Child.toLayer(() => Effect.void)]))
      }))
  })
