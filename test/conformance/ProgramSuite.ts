/** What programs see: tasks, steps, sleeps and events through the public doors, on any store. */
import { assert, layer } from "@effect/vitest"
import { DateTime, Deferred, Duration, Effect, Exit, Fiber, Layer, Ref, Schedule, Schema } from "effect"
import { Absurd, CurrentRun, Errors, Event, Identifiers, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

/** Executes everything that is due, until nothing is. */
const runUntilIdle = (queue: string) =>
  Worker.runOnce({ queue, concurrency: 50 }).pipe(Effect.repeat({ until: (results) => results.length === 0 }))

const fail = (message: string) => Effect.die(new Error(message))

const resultOf = <A, E, R>(self: { readonly await: Effect.Effect<A, E, R> }) => Effect.exit(self.await)

export const suite = (
  name: string,
  subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>
) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("an order is fulfilled across a sleep and an event, each step once", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const acts = yield* Ref.make<ReadonlyArray<string>>([])
        const act = (what: string) => Ref.update(acts, (all) => [...all, what])
        const Packed = Event.make("packed", { queue, payload: Schema.Struct({ tracking: Schema.String }) })
        const Order = Task.make("order", {
          queue,
          params: { orderId: Schema.String },
          success: Schema.Struct({ tracking: Schema.String, paidAt: Schema.Date })
        })
        const live = Order.toLayer(Effect.fn(function*({ orderId }) {
          const paidAt = yield* Step.run("charge", Effect.as(act("charge"), new Date(0)), { success: Schema.Date })
          yield* Step.sleep("cool-off", "3 days")
          yield* Step.run("reserve", act("reserve"))
          const { tracking } = yield* Packed.wait(orderId, { timeout: "14 days" })
          return { tracking, paidAt }
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const order = yield* Order.spawn({ orderId: "42" })
          assert.isTrue(order.created)
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* Ref.get(acts), ["charge"])
          yield* advance(Duration.sum(Duration.days(3), Duration.millis(-1)))
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
          yield* advance(Duration.millis(1))
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* Ref.get(acts), ["charge", "reserve"])
          assert.isTrue(yield* Packed.emit("42", { tracking: "T1" }))
          assert.isFalse(yield* Packed.emit("42", { tracking: "T2" }))
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* order.await, { tracking: "T1", paidAt: new Date(0) })
          assert.deepStrictEqual(yield* Ref.get(acts), ["charge", "reserve"])
          assert.strictEqual((yield* Absurd.getTaskStatus(order.taskId, { queue })).attempts, 1)
        }).pipe(Effect.provide(live))
      }))

    it.effect("a typed failure is retried by the task's schedule, keeps its steps, and reaches the waiter", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}
        const charges = yield* Ref.make(0)
        const attempts = yield* Ref.make(0)
        const Order = Task.make("order", {
          queue,
          params: { sku: Schema.String },
          error: OutOfStock,
          retry: Schedule.exponential("10 seconds").pipe(Schedule.upTo({ times: 2 }))
        })
        const live = Order.toLayer(Effect.fn(function*({ sku }) {
          yield* Ref.update(attempts, (n) => n + 1)
          yield* Step.run("charge", Ref.update(charges, (n) => n + 1))
          return yield* new OutOfStock({ sku })
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const order = yield* Order.spawn({ sku: "widget" })
          const seen: Array<number> = []
          for (const wait of [0, 9_999, 1, 19_999, 1]) {
            yield* advance(wait)
            yield* runUntilIdle(queue)
            seen.push(yield* Ref.get(attempts))
          }
          assert.deepStrictEqual(seen, [1, 1, 2, 2, 3])
          assert.strictEqual(yield* Ref.get(charges), 1)
          assert.deepStrictEqual(yield* resultOf(order), Exit.fail(new OutOfStock({ sku: "widget" })))
        }).pipe(Effect.provide(live))
      }))

    it.effect("a final error ends the task at once", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Always = Task.make("always", {
          queue,
          params: {},
          error: Schema.String,
          isFinal: (error) => error === "no use"
        })
        yield* Effect.gen(function*() {
          const task = yield* Always.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* resultOf(task), Exit.fail("no use"))
          assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
        }).pipe(Effect.provide(Always.toLayer(() => Effect.fail("no use"))))
      }))

    it.effect("a defect is stored readably and reaches the waiter as TaskFailed", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Broken = Task.make("broken", { queue, params: {}, maxAttempts: 1 })
        yield* Effect.gen(function*() {
          const task = yield* Broken.spawn({})
          yield* runUntilIdle(queue)
          const exit = yield* resultOf(task)
          assert.isTrue(Exit.isFailure(exit))
          const failed = yield* Effect.flip(task.await)
          assert.strictEqual(failed._tag, "TaskFailed")
          assert.include(failed.message, "kaputt")
        }).pipe(Effect.provide(Broken.toLayer(() => fail("kaputt\u0000"))))
      }))

    it.effect("no code of the handler can swallow a suspension", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const swallowed = yield* Ref.make(0)
        const released = yield* Ref.make(0)
        const Stubborn = Task.make("stubborn", { queue, params: {}, success: Schema.String })
        const live = Stubborn.toLayer(Effect.fn(function*() {
          yield* Effect.addFinalizer(() => Ref.update(released, (n) => n + 1))
          yield* Step.sleep("a while", "1 hour").pipe(Effect.catchCause(() => Ref.update(swallowed, (n) => n + 1)))
          return "slept"
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Stubborn.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
          assert.deepStrictEqual([yield* Ref.get(swallowed), yield* Ref.get(released)], [0, 1])
          yield* advance("1 hour")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Completed" }])
          assert.strictEqual(yield* task.await, "slept")
          assert.deepStrictEqual([yield* Ref.get(swallowed), yield* Ref.get(released)], [0, 2])
        }).pipe(Effect.provide(live))
      }))

    it.effect("several waits at once suspend the run once, and it wakes on the first that is over", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Go = Event.make("go", { queue, payload: Schema.Int })
        const Parallel = Task.make("parallel", { queue, params: {}, success: Schema.Array(Schema.Int) })
        const order = yield* Ref.make<ReadonlyArray<string>>([])
        const log = (what: string) => Ref.update(order, (all) => [...all, what])
        const live = Parallel.toLayer(() =>
          Effect.all([
            Step.sleep("long", "2 hours").pipe(Effect.andThen(Step.run("after long", log("long"))), Effect.as(1)),
            Step.sleep("short", "1 hour").pipe(Effect.andThen(Step.run("after short", log("short"))), Effect.as(2)),
            Go.wait("x").pipe(Effect.tap(() => Step.run("after go", log("go"))))
          ], { concurrency: "unbounded" })
        )
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Parallel.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
          yield* Go.emit("x", 3)
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
          assert.deepStrictEqual(yield* Ref.get(order), ["go"])
          yield* advance("1 hour")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
          yield* advance("1 hour")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Completed" }])
          assert.deepStrictEqual(yield* Ref.get(order), ["go", "short", "long"])
          assert.deepStrictEqual(yield* task.await, [1, 2, 3])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a branch that works on holds the run awake while another sleeps", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const gate = yield* Deferred.make<void>()
        const stepped = yield* Ref.make(0)
        const Mixed = Task.make("mixed", { queue, params: {} })
        const live = Mixed.toLayer(() =>
          Effect.all([
            Step.sleep("nap", "1 hour"),
            Effect.andThen(Deferred.await(gate), Step.run("work", Ref.update(stepped, (n) => n + 1)))
          ], { concurrency: "unbounded", discard: true })
        )
        yield* Effect.gen(function*() {
          yield* Mixed.spawn({})
          const worker = yield* Effect.forkChild(Worker.runOnce({ queue }))
          yield* Deferred.succeed(gate, undefined)
          assert.deepStrictEqual(yield* Fiber.join(worker), [{ _tag: "Suspended" }])
          assert.strictEqual(yield* Ref.get(stepped), 1)
        }).pipe(Effect.provide(live))
      }))

    it.effect("a timed-out wait times out on every replay, even when the event comes later", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Late = Event.make("late", { queue, payload: Schema.NullOr(Schema.String) })
        const Patient = Task.make("patient", { queue, params: {}, success: Schema.String, retry: RetryStrategy.none })
        const attempts = yield* Ref.make(0)
        const live = Patient.toLayer(Effect.fn(function*() {
          const outcome = yield* Late.wait("it", { timeout: "1 minute" }).pipe(
            Effect.map((payload) => `got ${payload}`),
            Effect.catchTag("Timeout", () => Effect.succeed("timed out"))
          )
          if ((yield* Ref.updateAndGet(attempts, (n) => n + 1)) === 1) return yield* fail("once more")
          return outcome
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Patient.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("1 minute")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: false }])
          yield* Late.emit("it", "too late")
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, "timed out")
        }).pipe(Effect.provide(live))
      }))

    it.effect("a null payload is an event, not a timeout", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Empty = Event.make("empty", { queue, payload: Schema.Null })
        const Waits = Task.make("waits", { queue, params: {}, success: Schema.Null })
        yield* Effect.gen(function*() {
          const task = yield* Waits.spawn({})
          yield* runUntilIdle(queue)
          yield* Empty.emit("", null)
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, null)
        }).pipe(
          Effect.provide(Waits.toLayer(() => Effect.orDie(Empty.wait("", { timeout: "1 day" }))))
        )
      }))

    it.effect("repeated names are numbered in the order of use, as in other languages", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Loop = Task.make("loop", { queue, params: {}, success: Schema.Array(Schema.Int) })
        const live = Loop.toLayer(() => Effect.forEach([1, 2, 3], (n) => Step.run("turn", Effect.succeed(n))))
        yield* Effect.gen(function*() {
          const task = yield* Loop.spawn({})
          yield* runUntilIdle(queue)
          const names = (yield* Absurd.getAllCheckpoints(task.taskId, { queue })).map((_) => _.name)
          assert.deepStrictEqual(names.map(String), ["turn", "turn#2", "turn#3"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("one name for two concurrent steps ends the task with InvalidUse", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Twice = Task.make("twice", { queue, params: {} })
        const live = Twice.toLayer(() =>
          Effect.all([Step.run("same", Effect.yieldNow), Step.run("same", Effect.yieldNow)], {
            concurrency: "unbounded",
            discard: true
          })
        )
        yield* Effect.gen(function*() {
          const task = yield* Twice.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
          const { failure } = yield* Absurd.getTaskResult(task.taskId, { queue })
          assert.strictEqual((failure as { readonly name: string }).name, "InvalidUse")
        }).pipe(Effect.provide(live))
      }))

    it.effect("a task without a handler is put back, without an attempt, and taken up when there is one", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const New = Task.make("new", { queue, params: {}, success: Schema.Int })
        const task = yield* New.spawn({})
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Deferred" }])
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
        yield* advance("30 seconds")
        yield* Effect.provide(runUntilIdle(queue), New.toLayer(() => Effect.succeed(1)))
        assert.strictEqual(yield* task.await, 1)
        assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
      }))

    it.effect("a run whose lease was taken over is interrupted, and stores nothing more", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const inStep = yield* Deferred.make<void>()
        const goOn = yield* Deferred.make<void>()
        const cleaned = yield* Deferred.make<void>()
        const Slow = Task.make("slow", { queue, params: {}, success: Schema.String, retry: RetryStrategy.none })
        const live = Slow.toLayer(Effect.fn(function*() {
          const { attempt } = yield* CurrentRun
          yield* Effect.addFinalizer(() => Deferred.succeed(cleaned, undefined))
          return yield* Step.run(
            "work",
            attempt === 1
              // Uninterruptible: a zombie that wakes up after its time.
              ? Effect.uninterruptible(
                Effect.andThen(Deferred.succeed(inStep, undefined), Effect.as(Deferred.await(goOn), "zombie"))
              )
              : Effect.succeed("successor")
          )
        }))
        yield* Effect.gen(function*() {
          const task = yield* Slow.spawn({})
          const zombie = yield* Effect.forkChild(Worker.runOnce({ queue }))
          yield* Deferred.await(inStep)
          // Somebody else takes the run, without its holder noticing.
          const { driver } = yield* Absurd.Absurd
          const { claimedBy } = yield* Absurd.getRunStatus(task.runId, { queue })
          const held = { runId: task.runId, token: Identifiers.ClaimToken.make(claimedBy ?? "") }
          const by = { queue: task.queue, runs: [{ ...held, reason: null, retry: Fixture.Retries.stored }] }
          assert.strictEqual(Fixture.only(yield* driver.fail(by)).outcome, "applied")
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, "successor")
          yield* Deferred.succeed(goOn, undefined)
          assert.deepStrictEqual(yield* Fiber.join(zombie), [{ _tag: "Lost" }])
          yield* Deferred.await(cleaned)
          const checkpoint = yield* Effect.flatMap(
            Absurd.getCheckpoint(task.taskId, "work", { queue }),
            Effect.fromOption
          )
          assert.strictEqual(checkpoint.state, "successor")
        }).pipe(Effect.provide(live))
      }))

    it.effect("a spawn with a taken key returns the task, and conflicts when name or params differ", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Keyed = Task.make("keyed", {
          queue,
          params: { id: Schema.String, n: Schema.Int },
          idempotencyKey: (_) => _.id
        })
        const first = yield* Keyed.spawn({ id: "a", n: 1 })
        const again = yield* Keyed.spawn({ id: "a", n: 1 })
        assert.deepStrictEqual([first.created, again.created], [true, false])
        assert.strictEqual(again.taskId, first.taskId)
        const conflict = yield* Effect.flip(Keyed.spawn({ id: "a", n: 2 }))
        assert.deepStrictEqual(
          conflict,
          new Errors.IdempotencyConflict({ key: "a", taskId: first.taskId, differs: "params" })
        )
      }))

    it.effect("bad input is refused with the field's name, before anything is stored", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const task = Task.make("task", { queue, params: Schema.Struct({ text: Schema.String }) })
        const field = <A>(spawn: Effect.Effect<A, { readonly _tag: string }, Absurd.Absurd>) =>
          Effect.map(Effect.flip(spawn), (error) => error instanceof Errors.InvalidInput ? error.field : error._tag)
        assert.deepStrictEqual(
          yield* Effect.all([
            field(task.spawn({ text: "\u0000" })),
            field(task.spawn({ text: "\uD800" })),
            field(task.spawn({ text: "x".repeat(3_000_000) })),
            field(task.spawn({ text: "" }, { maxAttempts: 0 })),
            field(task.spawn({ text: "" }, { maxAttempts: 2.5 })),
            field(task.spawn({ text: "" }, { idempotencyKey: " " })),
            field(task.spawn({ text: "" }, { delay: Duration.infinity })),
            field(task.spawn({ text: "" }, { cancellation: { maxDelay: 0 } })),
            field(task.spawn({ text: "" }, { headers: { a: Number.NaN } })),
            field(Task.make("", { queue, params: {} }).spawn({})),
            field(Task.make("x", { queue: "nowhere", params: {} }).spawn({})),
            field(Absurd.createQueue("orders_d")),
            field(Absurd.emitEvent(" ", null, { queue })),
            field(Absurd.emitEvent("e", { "\u0000": 1 }, { queue })),
            field(Absurd.getTaskStatus("no uuid", { queue })),
            field(Absurd.getTaskStatus(Fixture.unknownTask, { queue }))
          ]),
          [
            "params of task \"task\".text",
            "params of task \"task\".text",
            "params of task \"task\"",
            "maxAttempts",
            "maxAttempts",
            "idempotencyKey",
            "delay",
            "cancellation.maxDelay",
            "headers.a",
            "task",
            "NotFound",
            "queue",
            "event",
            "payload.\uFFFD",
            "taskId",
            "NotFound"
          ]
        )
        assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
      }))

    it.effect("a run driven by hand sleeps, waits and completes, and its old claim can do nothing", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const { taskId } = yield* Absurd.spawnTask("by hand", { n: 1 }, { queue })
        const claimOne = Effect.map(Absurd.claimTask({ queue }), Fixture.only)
        const first = yield* claimOne
        assert.strictEqual((yield* Effect.flip(Absurd.sleep(first, "1 hour")))._tag, "Sleep")
        assert.strictEqual((yield* Effect.flip(Absurd.completeTask(first)))._tag, "LeaseLost")
        yield* advance("1 hour")
        const second = yield* claimOne
        yield* Absurd.sleep(second, "1 hour")
        assert.strictEqual((yield* Effect.flip(Absurd.waitForEvent(second, "go", { timeout: "1 day" })))._tag, "Sleep")
        yield* Absurd.emitEvent("go", "now", { queue })
        const third = yield* claimOne
        assert.strictEqual(yield* Absurd.waitForEvent(third, "go", { timeout: "1 day" }), "now")
        yield* Absurd.completeTask(third, "done")
        assert.strictEqual((yield* Effect.flip(Absurd.completeTask(third, "again")))._tag, "LeaseLost")
        assert.strictEqual(yield* Absurd.awaitTaskResult(taskId, { queue }), "done")
      }))

    it.effect.prop("a value comes back as what the step returned, in the first run and in every replay", {
      value: Schema.Struct({
        date: Schema.DateTimeUtc,
        big: Schema.BigInt,
        optional: Schema.Option(Schema.Int),
        float: Schema.Number,
        nested: Schema.Record(Schema.String, Schema.Array(Schema.Boolean))
      })
    }, ({ value }) =>
      Effect.gen(function*() {
        const schema = Schema.Struct({
          date: Schema.DateTimeUtc,
          big: Schema.BigInt,
          optional: Schema.Option(Schema.Int),
          float: Schema.Number,
          nested: Schema.Record(Schema.String, Schema.Array(Schema.Boolean))
        })
        const storable = Object.keys(value.nested).every((key) => !key.includes("\u0000") && key.isWellFormed())
        if (!storable) return
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const seen = yield* Ref.make<ReadonlyArray<typeof value>>([])
        const Value = Task.make("value", { queue, params: {} })
        const live = Value.toLayer(Effect.fn(function*() {
          const returned = yield* Step.run("value", Effect.succeed(value), { success: schema })
          yield* Ref.update(seen, (all) => [...all, returned])
          yield* Step.sleep("a while", "1 minute")
        }))
        yield* Effect.gen(function*() {
          yield* Value.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("1 minute")
          yield* runUntilIdle(queue)
          const [first, replayed, ...more] = yield* Ref.get(seen)
          assert.deepStrictEqual(more, [])
          assert.deepStrictEqual(first, replayed)
          assert.deepStrictEqual(first?.date, value.date)
          assert.strictEqual(first?.big, value.big)
        }).pipe(Effect.provide(live))
      }), { arbitrary: { runs: 15 } })

    it.effect("sleepUntil an instant of the past goes on, and a delayed task starts when it is due", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance, now } = yield* TestTime
        const Early = Task.make("early", { queue, params: {}, success: Schema.String })
        const live = Early.toLayer(Effect.fn(function*() {
          yield* Step.sleepUntil("long ago", DateTime.makeUnsafe("2001-01-01T00:00:00Z"))
          return "went on"
        }))
        yield* Effect.gen(function*() {
          const task = yield* Early.spawn({}, { delay: "90 seconds" })
          const instant = DateTime.addDuration(yield* now, "30 seconds")
          const other = yield* Early.spawn({}, { delay: instant })
          yield* runUntilIdle(queue)
          yield* advance("30 seconds")
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* other.await, "went on")
          yield* advance("59 seconds")
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
          yield* advance("1 second")
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, "went on")
        }).pipe(Effect.provide(live))
      }))
  })
