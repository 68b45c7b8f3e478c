/** Compensations of programs whose way through their steps is not straight, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, Ref, Schema } from "effect"
import { Absurd, Event, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { makeLog, makeQueue, runUntilIdle } = Program

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { seat: Schema.String }) {}

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const make = Effect.gen(function*() {
      const queue = yield* makeQueue
      const acts = yield* makeLog
      const { advance } = yield* TestTime
      const book = (what: string) =>
        Step.run(what, acts.add(what)).pipe(Step.withCompensation(`undo ${what}`, () => acts.add(`undo ${what}`)))
      const Trip = Task.make("trip", { queue, params: {}, maxAttempts: 1 })
      /** Executes what is due, and once more after each pause. */
      const pass = (pauses: ReadonlyArray<"1 minute" | "1 hour" | "2 hours">) =>
        Effect.andThen(
          runUntilIdle(queue),
          Effect.forEach(pauses, (pause) => Effect.andThen(advance(pause), runUntilIdle(queue)), { discard: true })
        )
      return { queue, acts, advance, book, Trip, pass }
    })

    it.effect("what the loser of a race has booked is undone, and what the winner did", () =>
      Effect.gen(function*() {
        const { acts, book, pass, Trip } = yield* make
        const live = Trip.toLayer(Effect.fn(function*() {
          yield* Step.race("first", {
            slow: Effect.andThen(book("a"), Step.sleep("long", "2 hours")),
            quick: Effect.andThen(Step.sleep("short", "1 hour"), book("b"))
          })
          yield* book("c")
          return yield* Effect.die("later")
        }))
        yield* Effect.gen(function*() {
          yield* Trip.spawn({})
          yield* pass(["1 hour", "1 minute"])
          assert.deepStrictEqual(yield* acts.all, ["a", "b", "c", "undo c", "undo b", "undo a"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("what was booked within a time limit that passed is undone", () =>
      Effect.gen(function*() {
        const { acts, book, pass, queue, Trip } = yield* make
        const Confirmed = Event.make("confirmed", { queue })
        const live = Trip.toLayer(() =>
          book("hotel").pipe(
            Effect.andThen(Confirmed.wait("it")),
            Step.timeout("limit", "1 hour")
          )
        )
        yield* Effect.gen(function*() {
          yield* Trip.spawn({})
          yield* pass(["1 hour", "1 hour"])
          assert.deepStrictEqual(yield* acts.all, ["hotel", "undo hotel"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("what was booked after a failure that was dealt with is undone, whatever way the failure took", () =>
      Effect.gen(function*() {
        const { acts, book, pass, Trip } = yield* make
        const live = Trip.toLayer(Effect.fn(function*() {
          yield* Step.run("airline a", Effect.fail(new SoldOut({ seat: "12" }))).pipe(
            Effect.catchTag("SoldOut", ({ seat }) => book(`seat ${seat}`))
          )
          yield* Step.run("airline b", Effect.fail("no")).pipe(Effect.catch((error) => book(`after ${error}`)))
          yield* Step.transaction("airline c", Effect.fail({ code: 3 })).pipe(
            Effect.catch(({ code }) => book(`code ${code}`))
          )
          return yield* Effect.die("later")
        }))
        yield* Effect.gen(function*() {
          yield* Trip.spawn({})
          yield* pass(["1 minute", "1 minute"])
          assert.deepStrictEqual(yield* acts.all, [
            "seat 12",
            "after no",
            "code 3",
            "undo code 3",
            "undo after no",
            "undo seat 12"
          ])
        }).pipe(Effect.provide(live))
      }))

    it.effect("what was booked on a way that a later attempt did not take is undone with the rest", () =>
      Effect.gen(function*() {
        const { acts, book, pass, queue } = yield* make
        const attempts = yield* Ref.make(0)
        const Trip = Task.make("trip", { queue, params: {}, maxAttempts: 2, retry: RetryStrategy.none })
        const live = Trip.toLayer(Effect.fn(function*() {
          const attempt = yield* Ref.updateAndGet(attempts, (n) => n + 1)
          yield* Step.run("airline", attempt === 1 ? Effect.fail("no") : Effect.void).pipe(
            Effect.catch(() => book("train"))
          )
          if (attempt > 1) yield* book("hotel")
          return yield* Effect.die("later")
        }))
        yield* Effect.gen(function*() {
          yield* Trip.spawn({})
          yield* pass(["1 minute", "1 minute"])
          assert.deepStrictEqual(yield* acts.all, ["train", "hotel", "undo hotel", "undo train"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("each is undone once, though every look at the history meets the branches in another order", () =>
      Effect.gen(function*() {
        const { acts, pass, Trip } = yield* make
        const executions = yield* Ref.make(0)
        const tries = yield* Ref.make(0)
        const branch = (what: string, late: boolean) =>
          Effect.gen(function*() {
            if (late) yield* Effect.repeat(Effect.yieldNow, { times: 5 })
            yield* Step.run(what, acts.add(what)).pipe(
              Step.withCompensation(`undo ${what}`, () =>
                Effect.flatMap(
                  what === "a" ? Ref.updateAndGet(tries, (n) => n + 1) : Effect.succeed(0),
                  (n) => n === 1 ? Effect.fail("not yet") : acts.add(`undo ${what}`)
                ))
            )
          })
        const live = Trip.toLayer(Effect.fn(function*() {
          const execution = yield* Ref.updateAndGet(executions, (n) => n + 1)
          yield* Effect.all([branch("a", execution > 2), branch("b", execution <= 2)], {
            concurrency: "unbounded"
          })
          return yield* Effect.die("later")
        }))
        yield* Effect.gen(function*() {
          yield* Trip.spawn({})
          yield* pass(["1 minute", "1 minute", "1 minute"])
          assert.deepStrictEqual(yield* acts.all, ["a", "b", "undo b", "undo a"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a compensation that the handler does not come to any more is told of, and tried again until it does", () =>
      Effect.gen(function*() {
        const { acts, book, pass, queue, Trip } = yield* make
        const before = Trip.toLayer(() => Effect.andThen(book("a"), Effect.andThen(book("b"), Effect.die("later"))))
        const without = Trip.toLayer(() => Effect.andThen(book("b"), Effect.die("later")))
        const trip = yield* Trip.spawn({})
        yield* Effect.provide(Worker.runOnce({ queue }), before)
        yield* Effect.provide(pass(["1 minute"]), without)
        assert.deepStrictEqual(yield* acts.all, ["a", "b", "undo b"])
        const { driver } = yield* Absurd.Absurd
        const guardian = (yield* Program.checkpointsOf(queue, trip.taskId))["$guardian"] as string
        const [run] = (yield* driver.listRuns({ queue: trip.queue, taskId: guardian as typeof trip.taskId })).filter(
          ({ state }) => state === "failed"
        )
        assert.deepInclude(run?.failureReason, { name: "InvalidState" })
        assert.include(JSON.stringify(run?.failureReason), "undo a")
        yield* Effect.provide(pass(["1 minute", "1 minute"]), before)
        assert.deepStrictEqual(yield* acts.all, ["a", "b", "undo b", "undo a"])
      }))

    it.effect("the guardian does not go where the task has not been, however long a compensation takes", () =>
      Effect.gen(function*() {
        const { acts, advance, pass, queue, Trip } = yield* make
        const tries = yield* Ref.make(0)
        const Gone = Event.make("gone", { queue })
        const live = Trip.toLayer(Effect.fn(function*() {
          yield* Step.run("a", acts.add("a")).pipe(
            Step.withCompensation(
              "undo a",
              () =>
                Effect.flatMap(
                  Ref.updateAndGet(tries, (n) => n + 1),
                  (n) => n < 5 ? Effect.fail("not yet") : acts.add("undo a")
                )
            )
          )
          yield* Step.sleep("an hour", "1 hour")
          yield* acts.add("never")
          yield* Effect.orDie(Gone.emit("it", undefined))
        }))
        yield* Effect.gen(function*() {
          const trip = yield* Trip.spawn({})
          yield* runUntilIdle(queue)
          yield* trip.cancel
          yield* runUntilIdle(queue)
          yield* advance("2 hours")
          yield* pass(["1 hour", "1 hour", "1 hour", "1 hour"])
          assert.deepStrictEqual(yield* acts.all, ["a", "undo a"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("what a program writes through the client is not written again when its history is looked at", () =>
      Effect.gen(function*() {
        const { acts, book, pass, queue, Trip } = yield* make
        const client = yield* Absurd.Absurd
        const executions = yield* Ref.make(0)
        const live = Trip.toLayer(Effect.fn(function*() {
          const execution = yield* Ref.updateAndGet(executions, (n) => n + 1)
          yield* book("a")
          const say = Absurd.emitEvent(`execution ${execution}`, null, { queue })
          yield* Effect.orDie(Effect.provideService(say, Absurd.Absurd, client))
          yield* acts.add("said")
          return yield* Effect.die("later")
        }))
        yield* Effect.gen(function*() {
          yield* Trip.spawn({})
          yield* pass(["1 minute"])
          assert.deepStrictEqual(yield* acts.all, ["a", "said", "undo a"])
          assert.strictEqual(yield* Ref.get(executions), 2)
          assert.isTrue(yield* Absurd.emitEvent("execution 2", null, { queue }))
        }).pipe(Effect.provide(live))
      }))
  })
