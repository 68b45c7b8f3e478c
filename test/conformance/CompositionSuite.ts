/** Steps, branches, races and timeouts of programs, on any store. */
import { assert, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, type Layer, Option, Ref, Schedule, Schema } from "effect"
import { Absurd, type CurrentRun, Event, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { checkpointsOf, failureOf, makeLog, makeQueue, runUntilIdle } = Program

class Declined extends Schema.TaggedError<Declined>()("Declined", { code: Schema.Int }) {}

const once = (counter: Ref.Ref<number>, message: string) =>
  Effect.flatMap(Ref.getAndUpdate(counter, (n) => n + 1), (n) => n === 0 ? Effect.die(new Error(message)) : Effect.void)

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a step is retried by its schedule without spending an attempt of the task", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const tries = yield* Ref.make(0)
        const Charge = Task.make("charge", { queue, params: {}, success: Schema.Int })
        const attempt = Effect.flatMap(
          Ref.updateAndGet(tries, (n) => n + 1),
          (n) => n < 3 ? Effect.fail(new Declined({ code: n })) : Effect.succeed(n)
        )
        const live = Charge.toLayer(() => Effect.orDie(Step.run("charge", attempt, { retry: Schedule.recurs(5) })))
        yield* Effect.gen(function*() {
          const task = yield* Charge.spawn({})
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, 3)
          assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
        }).pipe(Effect.provide(live))
      }))

    it.effect("each try of a step has its time limit, and a schedule sees the timeouts", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const started = yield* Ref.make(0)
        const interrupted = yield* Ref.make(0)
        const Slow = Task.make("slow", { queue, params: {}, success: Schema.String })
        const hang = Effect.andThen(Ref.update(started, (n) => n + 1), Effect.never).pipe(
          Effect.onInterrupt(() => Ref.update(interrupted, (n) => n + 1))
        )
        const live = Slow.toLayer(() =>
          Step.run("hang", hang, { timeout: "10 seconds", retry: Schedule.recurs(1) }).pipe(
            Effect.catchTag("Timeout", (error) => Effect.succeed(error.subject))
          )
        )
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Slow.spawn({})
          const worker = yield* Effect.forkChild(Worker.runOnce({ queue }))
          yield* Program.until(Effect.map(Ref.get(started), (n) => n === 1))
          yield* advance("10 seconds")
          yield* Program.until(Effect.map(Ref.get(started), (n) => n === 2))
          yield* advance("10 seconds")
          assert.deepStrictEqual(yield* Fiber.join(worker), [{ _tag: "Completed" }])
          assert.strictEqual(yield* task.await, `step "hang"`)
          assert.strictEqual(yield* Ref.get(interrupted), 2)
        }).pipe(Effect.provide(live))
      }))

    it.effect("with an error schema the typed failure is remembered, and without one it is not", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const remembered = yield* Ref.make(0)
        const forgotten = yield* Ref.make(0)
        const crashes = yield* Ref.make(0)
        const decline = (tries: Ref.Ref<number>) =>
          Effect.flatMap(Ref.updateAndGet(tries, (n) => n + 1), (code) => Effect.fail(new Declined({ code })))
        const codeOf = <A>(self: Effect.Effect<A, Declined, CurrentRun>) =>
          Effect.match(self, { onSuccess: () => 0, onFailure: (error) => error.code })
        const Order = Task.make("order", {
          queue,
          params: {},
          success: Schema.Array(Schema.Int),
          retry: RetryStrategy.none
        })
        const live = Order.toLayer(Effect.fn(function*() {
          const kept = yield* codeOf(
            Step.run("kept", decline(remembered), { success: Schema.Void, error: Declined })
          )
          const lost = yield* codeOf(Step.run("lost", decline(forgotten)))
          const done = yield* Effect.orDie(
            Step.run("done", Effect.succeed(7), { success: Schema.Int, error: Declined })
          )
          yield* once(crashes, "crash")
          return [kept, lost, done]
        }))
        yield* Effect.gen(function*() {
          const task = yield* Order.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, [1, 2, 7])
          assert.deepStrictEqual(yield* checkpointsOf(queue, task.taskId), {
            kept: { _tag: "Failure", error: { _tag: "Declined", code: 1 } },
            done: { _tag: "Success", value: 7 }
          })
        }).pipe(Effect.provide(live))
      }))

    it.effect("an idempotency key is the same in every execution, and another one per task, name and branch", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const keys = yield* makeLog
        const crashes = yield* Ref.make(0)
        const Pay = Task.make("pay", { queue, params: {}, retry: RetryStrategy.none })
        const live = Pay.toLayer(Effect.fn(function*() {
          yield* keys.add(yield* Step.idempotencyKey("charge"))
          yield* keys.add(yield* Step.scoped("left")(Step.idempotencyKey("charge")))
          yield* once(crashes, "crash")
        }))
        yield* Effect.gen(function*() {
          const task = yield* Pay.spawn({})
          yield* runUntilIdle(queue)
          const [a, b, c, d, ...more] = yield* keys.all
          assert.deepStrictEqual([a, b, more], [c, d, []])
          assert.notStrictEqual(a, b)
          assert.include(a, task.taskId)
        }).pipe(Effect.provide(live))
      }))

    it.effect("a step in a loop has another key in each round, in every execution", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const tries = yield* Ref.make(0)
        const keys = yield* makeLog
        const Pay = Task.make("pay", { queue, params: {}, retry: RetryStrategy.none })
        const live = Pay.toLayer(Effect.fn(function*() {
          for (const round of [1, 2]) {
            const key = yield* Step.run(
              "charge",
              Effect.tap(Effect.all([Step.idempotencyKey(), Step.idempotencyKey("charge")]), ([own, named]) =>
                Effect.andThen(
                  keys.add(own === named ? own : "another"),
                  // The request was sent, and its answer lost.
                  round === 2 ? once(tries, "crash") : Effect.void
                )),
              { success: Schema.Array(Schema.String) }
            )
            assert.lengthOf(key, 2)
          }
        }))
        yield* Effect.gen(function*() {
          const { taskId } = yield* Pay.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* keys.all, [`${taskId}:charge`, `${taskId}:charge#2`, `${taskId}:charge#2`])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a step that was begun is completed once, and stays as it was completed first", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const seen = yield* makeLog
        const crashes = yield* Ref.make(0)
        const Upload = Task.make("upload", { queue, params: {}, retry: RetryStrategy.none })
        const live = Upload.toLayer(Effect.fn(function*() {
          const step = yield* Step.begin("upload", { success: Schema.Date })
          yield* seen.add(Option.match(step.completed, { onNone: () => "none", onSome: (_) => `${_.getTime()}` }))
          assert.deepStrictEqual(yield* step.complete(new Date(5)), new Date(5))
          assert.deepStrictEqual(yield* step.complete(new Date(6)), new Date(5))
          yield* once(crashes, "crash")
        }))
        yield* Effect.gen(function*() {
          const task = yield* Upload.spawn({})
          yield* runUntilIdle(queue)
          yield* task.await
          assert.deepStrictEqual(yield* seen.all, ["none", "5"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("branches use the same names at once, told apart by their scopes, whichever arrives first", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const acts = yield* makeLog
        const crashes = yield* Ref.make(0)
        const Go = Event.make("go", { queue, payload: Schema.Int })
        const All = Task.make("all", {
          queue,
          params: {},
          success: Schema.Array(Schema.Int),
          retry: RetryStrategy.none
        })
        const live = All.toLayer(Effect.fn(function*() {
          // The second execution meets the branches in the opposite order.
          const items = (yield* Ref.get(crashes)) === 0 ? [1, 2, 3] : [3, 2, 1]
          const sums = yield* Effect.forEach(items, (item) =>
            Step.scoped(`item-${item}`)(Effect.gen(function*() {
              const squared = yield* Step.run("square", Effect.as(acts.add(`square ${item}`), item * item))
              const added = yield* Go.wait("now")
              return squared + added
            })), { concurrency: "unbounded" })
          yield* once(crashes, "crash")
          return sums
        }))
        yield* Effect.gen(function*() {
          const task = yield* All.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
          yield* Go.emit("now", 10)
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, [19, 14, 11])
          assert.deepStrictEqual((yield* acts.all).toSorted(), ["square 1", "square 2", "square 3"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("the first branch that fails interrupts its siblings, and finished steps stay", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const acts = yield* makeLog
        const Both = Task.make("both", { queue, params: {}, error: Declined, maxAttempts: 1 })
        const live = Both.toLayer(() =>
          Effect.all([
            Step.run("quick", acts.add("quick")).pipe(Effect.andThen(Step.sleep("long", "52 weeks"))),
            Step.run("hangs", Effect.never).pipe(Effect.onInterrupt(() => acts.add("interrupted"))),
            Step.run("fails", Effect.yieldNow).pipe(Effect.andThen(Effect.fail(new Declined({ code: 9 }))))
          ], { concurrency: "unbounded", discard: true })
        )
        yield* Effect.gen(function*() {
          const task = yield* Both.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
          assert.deepStrictEqual(yield* Effect.exit(task.await), Exit.fail(new Declined({ code: 9 })))
          assert.deepStrictEqual(yield* acts.all, ["quick", "interrupted"])
          assert.sameMembers(Object.keys(yield* checkpointsOf(queue, task.taskId)), ["quick", "fails"])
        }).pipe(Effect.provide(live))
      }))

    it.effect.each(["event", "timer"] as const)(
      "a race of 30 days and an event is decided once, by the %s",
      (winner) =>
        Effect.gen(function*() {
          const queue = yield* makeQueue
          const crashes = yield* Ref.make(0)
          const acts = yield* makeLog
          const Approved = Event.make("approved", { queue, payload: Schema.String })
          const Review = Task.make("review", { queue, params: {}, success: Schema.String, retry: RetryStrategy.none })
          const live = Review.toLayer(Effect.fn(function*() {
            const decision = yield* Step.race("decision", {
              event: Approved.wait("it"),
              timer: Effect.as(Step.sleep("a month", "30 days"), "too late")
            })
            yield* Step.run("act", acts.add(decision))
            yield* once(crashes, "crash")
            return decision
          }))
          yield* Effect.gen(function*() {
            const { advance } = yield* TestTime
            const task = yield* Review.spawn({})
            assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
            yield* advance(Duration.subtract(Duration.days(30), Duration.millis(1)))
            assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
            if (winner === "event") yield* Approved.emit("it", "yes")
            else yield* advance(Duration.millis(1))
            assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: false }])
            // What happens afterwards changes nothing: neither the other event nor the time.
            yield* Approved.emit("it", "after all")
            yield* advance("60 days")
            yield* runUntilIdle(queue)
            const decision = winner === "event" ? "yes" : "too late"
            assert.strictEqual(yield* task.await, decision)
            assert.deepStrictEqual(yield* acts.all, [decision])
            assert.deepStrictEqual((yield* checkpointsOf(queue, task.taskId))["decision"], { winner })
          }).pipe(Effect.provide(live))
        })
    )

    it.effect("a race in a loop keeps its rounds apart, and a failing branch decides nothing for good", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const crashes = yield* Ref.make(0)
        const Rounds = Task.make("rounds", { queue, params: {}, success: Schema.Array(Schema.Int) })
        const live = Rounds.toLayer(() =>
          Effect.forEach([1, 2, 3], (round) =>
            Step.race("round", {
              step: Step.run("count", Effect.as(round === 2 ? once(crashes, "crash") : Effect.void, round)),
              never: Effect.as(Step.sleep("long", "52 weeks"), 0)
            }))
        )
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Rounds.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: false }])
          yield* advance("10 seconds")
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, [1, 2, 3])
          assert.sameMembers(Object.keys(yield* checkpointsOf(queue, task.taskId)), [
            "round/step/count",
            "round",
            "round~2/step/count",
            "round#2",
            "round~3/step/count",
            "round#3"
          ])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a durable timeout counts from the first time, over suspensions, and is remembered", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const crashes = yield* Ref.make(0)
        const Paid = Event.make("paid", { queue, payload: Schema.String })
        const Order = Task.make("order", { queue, params: {}, success: Schema.String, retry: RetryStrategy.none })
        const live = Order.toLayer(Effect.fn(function*() {
          const paid = yield* Step.sleep("first", "4 days").pipe(
            Effect.andThen(Paid.wait("it")),
            Step.timeout("payment", "7 days"),
            Effect.catchTag("Timeout", (error) => Effect.succeed(error.message))
          )
          yield* once(crashes, "crash")
          return paid
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Order.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("4 days")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
          yield* advance(Duration.subtract(Duration.days(3), Duration.millis(1)))
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
          yield* advance(Duration.millis(1))
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: false }])
          yield* Paid.emit("it", "late")
          yield* runUntilIdle(queue)
          assert.include(yield* task.await, `"payment"`)
        }).pipe(Effect.provide(live))
      }))

    it.effect("a durable timeout interrupts a step that runs when the time is up, and lets a quick effect pass", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const started = yield* Deferred.make<void>()
        const Slow = Task.make("slow", { queue, params: {}, success: Schema.Array(Schema.String) })
        const live = Slow.toLayer(() =>
          Effect.all([
            Step.run("quick", Effect.succeed("quick")).pipe(Step.timeout("in time", "1 minute")),
            Step.run("hang", Effect.andThen(Deferred.succeed(started, undefined), Effect.never)).pipe(
              Step.timeout("limit", "10 seconds"),
              Effect.catchTag("Timeout", () => Effect.succeed("timed out"))
            )
          ])
        )
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Slow.spawn({})
          const worker = yield* Effect.forkChild(Worker.runOnce({ queue }))
          yield* Deferred.await(started)
          // The deadline counts from when it is stored.
          yield* Program.until(
            Effect.map(checkpointsOf(queue, task.taskId), (stored) => "limit/deadline/$timer" in stored)
          )
          yield* Program.settle
          // Within the lease.
          yield* advance("10 seconds")
          assert.deepStrictEqual(yield* Fiber.join(worker), [{ _tag: "Completed" }])
          assert.deepStrictEqual(yield* task.await, ["quick", "timed out"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a race that an earlier execution decided for a branch that is gone says so", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const Renamed = Task.make("renamed", { queue, params: {} })
        const wait = Step.sleep("pause", "1 hour")
        const first = Renamed.toLayer(() =>
          Effect.andThen(Step.race("choice", { old: Step.run("n", Effect.void) }), wait)
        )
        const second = Renamed.toLayer(() =>
          Effect.andThen(Step.race("choice", { new: Step.run("n", Effect.void) }), wait)
        )
        const { advance } = yield* TestTime
        const task = yield* Renamed.spawn({})
        assert.deepStrictEqual(yield* Effect.provide(Worker.runOnce({ queue }), first), [{ _tag: "Suspended" }])
        yield* advance("1 hour")
        assert.deepStrictEqual(yield* Effect.provide(Worker.runOnce({ queue }), second), [
          { _tag: "Failed", final: true }
        ])
        const failure = yield* failureOf(queue, task.taskId)
        assert.strictEqual(failure.name, "InvalidUse")
        assert.include(failure.message, `Step "choice"`)
        assert.include(failure.message, `branch "old"`)
      }))

    it.effect("two races of one name at once, and branch names without end, are wrong use", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const Twice = Task.make("twice", { queue, params: {} })
        const Deep = Task.make("deep", { queue, params: {} })
        const same = Step.race("same", { a: Step.run("n", Effect.yieldNow) })
        const deep = (levels: number): Effect.Effect<void, never, CurrentRun> =>
          levels === 0 ? Step.run("n", Effect.void) : Step.scoped("a-level-of-many")(deep(levels - 1))
        yield* Effect.gen(function*() {
          const twice = yield* Twice.spawn({})
          const nested = yield* Deep.spawn({})
          yield* runUntilIdle(queue)
          for (const { taskId } of [twice, nested]) {
            assert.strictEqual((yield* failureOf(queue, taskId)).name, "InvalidUse")
          }
        }).pipe(
          Effect.provide(Twice.toLayer(() => Effect.all([same, same], { concurrency: "unbounded", discard: true }))),
          Effect.provide(Deep.toLayer(() => deep(50)))
        )
      }))
  })
