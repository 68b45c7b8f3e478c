import { assert, describe, layer } from "@effect/vitest"
import { Cause, DateTime, Duration, Effect, Exit, Layer, Ref, Schedule, Schema } from "effect"
import { Absurd, Event, MemoryDriver, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import * as Fs from "node:fs"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}

const Packed = Event.make("packed", { payload: Schema.Struct({ tracking: Schema.String }) })

const Mail = Task.make("mail", { params: { to: Schema.String } })

const Order = Task.make("order", {
  params: { id: Schema.String, sku: Schema.String },
  success: Schema.Struct({ tracking: Schema.String }),
  error: OutOfStock,
  retry: Schedule.spaced("1 minute").pipe(Schedule.upTo({ times: 3 }))
})

/** What the steps did to the world. */
const acts: Array<string> = []
const act = (what: string) => Effect.sync(() => void acts.push(what))

const OrderLive = Order.toLayer(Effect.fn(function*({ id, sku }) {
  yield* Step.run("charge", act("charge"))
  if (sku === "none") return yield* new OutOfStock({ sku })
  yield* Step.sleep("cool-off", "3 days")
  const packed = yield* Packed.wait(id)
  yield* Step.run("mail", Effect.asVoid(Mail.spawn({ to: id }, { idempotencyKey: `mail-${id}` })))
  return packed
}))

const MailLive = Mail.toLayer(({ to }) => Step.run("send", act(`mail ${to}`)))

const TestLive = Layer.merge(OrderLive, MailLive).pipe(Layer.provideMerge(AbsurdTest.layer))

const died = <A, E>(exit: Exit.Exit<A, E>): string =>
  Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : assert.fail("it did not fail")

const it = (name: string, test: () => Effect.Effect<void, unknown, Layer.Success<typeof TestLive>>) =>
  layer(TestLive)((it) => it.effect(name, () => Effect.andThen(Effect.sync(() => acts.length = 0), test())))

describe("AbsurdTest", () => {
  it("runs what is due, and tells what a task waits for", () =>
    Effect.gen(function*() {
      const order = yield* Order.spawn({ id: "1", sku: "a" })
      assert.deepStrictEqual(yield* AbsurdTest.runDue(), [{ _tag: "Suspended" }])
      const asleep = yield* AbsurdTest.expectSuspended(order, { until: DateTime.add(AbsurdTest.start, { days: 3 }) })
      assert.deepStrictEqual(Object.keys(asleep.steps), ["charge", "cool-off"])
      yield* AbsurdTest.advance("3 days")
      assert.deepStrictEqual((yield* AbsurdTest.expectSuspended(order, { event: "packed:1" })).waitsFor, ["packed:1"])
      assert.isUndefined(yield* AbsurdTest.nextDue())
      yield* AbsurdTest.emit("packed:1", { tracking: "T" })
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.expectCompleted(order, { tracking: "T" })
      const mail = yield* AbsurdTest.expectSpawned(Mail, { to: "1" })
      assert.strictEqual((yield* AbsurdTest.inspect(mail)).state, "completed")
      assert.deepStrictEqual(acts, ["charge", "mail 1"])
    }))

  it("advance stops wherever something becomes due", () =>
    Effect.gen(function*() {
      const order = yield* Order.spawn({ id: "1", sku: "none" })
      const results = yield* AbsurdTest.advance("30 days")
      assert.deepStrictEqual(results.map((result) => result._tag), ["Failed", "Failed", "Failed", "Failed"])
      assert.strictEqual((yield* AbsurdTest.inspect(order)).attempts, 4)
      assert.deepStrictEqual(acts, ["charge"])
      assert.deepStrictEqual(
        yield* AbsurdTest.expectFailed(order, new OutOfStock({ sku: "none" })),
        new OutOfStock({ sku: "none" })
      )
      assert.deepStrictEqual(yield* AbsurdTest.now, DateTime.add(AbsurdTest.start, { days: 30 }))
      const row = yield* Absurd.getTaskStatus(order.taskId)
      const [, second] = yield* Absurd.listRuns(order.taskId)
      assert.deepStrictEqual(second?.startedAt, DateTime.add(row.firstStartedAt!, { minutes: 1 }))
    }))

  it("advance meets the deadlines of cancellation policies", () =>
    Effect.gen(function*() {
      const order = yield* Order.spawn({ id: "1", sku: "a" }, { cancellation: { maxDuration: "1 day" } })
      yield* AbsurdTest.advance("2 days")
      const row = yield* Absurd.getTaskStatus(order.taskId)
      assert.strictEqual(row.state, "cancelled")
      assert.deepStrictEqual(row.cancelledAt, DateTime.add(AbsurdTest.start, { days: 1 }))
    }))

  it("what was expected and is not so is said in words", () =>
    Effect.gen(function*() {
      const order = yield* Order.spawn({ id: "1", sku: "a" })
      assert.include(
        died(yield* Effect.exit(AbsurdTest.expectCompleted(order))),
        "expected the task to be completed, but it is pending"
      )
      yield* AbsurdTest.runUntilIdle()
      assert.include(died(yield* Effect.exit(AbsurdTest.expectFailed(order))), "it is sleeping in attempt 1")
      assert.include(
        died(yield* Effect.exit(AbsurdTest.expectSuspended(order, { event: "x" }))),
        `wait for the event "x"`
      )
      assert.include(
        died(yield* Effect.exit(AbsurdTest.expectSuspended(order, { until: AbsurdTest.start }))),
        "due at \"2026-01-08T00:00:00.000Z\""
      )
      assert.include(died(yield* Effect.exit(AbsurdTest.expectSpawned(Mail))), "there is none")
      assert.include(died(yield* Effect.exit(AbsurdTest.expectSpawned(Order, { id: "2", sku: "a" }))), `"id":"1"`)
      yield* AbsurdTest.emit("packed:1", { tracking: "T" })
      yield* AbsurdTest.advance("3 days")
      const wrong = yield* Effect.exit(AbsurdTest.expectCompleted(order, { tracking: "U" }))
      assert.include(died(wrong), `it is {"tracking":"T"}`)
      assert.include(died(yield* Effect.exit(AbsurdTest.expectSuspended(order))), "it is completed")
    }))

  it("a task that survives every crash", () =>
    Effect.gen(function*() {
      const bystander = yield* Order.spawn({ id: "other", sku: "a" })
      const { outcome, points } = yield* AbsurdTest.crashEverywhere(Order, { id: "1", sku: "a" }, {
        whenIdle: Packed.emit("1", { tracking: "T" })
      })
      assert.deepStrictEqual(outcome.result, { tracking: "T" })
      assert.isAbove(points.length, 20)
      for (const name of ["before claim", "after setCheckpoints", "before suspend", "after complete", "before spawn"]) {
        assert.include(points, name)
      }
      // Its own stores, and its own time.
      assert.strictEqual((yield* AbsurdTest.inspect(bystander)).state, "pending")
      assert.deepStrictEqual((yield* AbsurdTest.spawned(Order)).length, 1)
    }))

  it("a failure is the same after every crash", () =>
    Effect.gen(function*() {
      const { outcome } = yield* AbsurdTest.crashEverywhere(Order, { id: "1", sku: "none" })
      assert.strictEqual(outcome.state, "failed")
    }))

  const Forgetful = Task.make("forgetful", { params: {}, success: Schema.Int })
  const Impatient = Task.make("impatient", { params: {}, maxAttempts: 1 })

  const crashing = (
    name: string,
    live: (entries: Ref.Ref<number>) => Layer.Layer<never, unknown, Absurd.Absurd>,
    expected: string
  ) =>
    layer(AbsurdTest.layer)((it) =>
      it.effect(name, () =>
        Effect.gen(function*() {
          const entries = yield* Ref.make(0)
          const exit = yield* Effect.exit(
            AbsurdTest.crashEverywhere(Forgetful, {}, { before: Ref.set(entries, 0) }).pipe(
              Effect.provide(live(entries))
            )
          )
          assert.include(died(exit), expected)
        }))
    )

  crashing(
    "finds a result that depends on how often the handler was entered",
    (entries) =>
      Forgetful.toLayer(() =>
        Effect.gen(function*() {
          const entered = yield* Ref.updateAndGet(entries, (n) => n + 1)
          yield* Step.run("one", Effect.void)
          return entered
        })
      ),
    `the task ended with {"state":"completed","result":2,"failure":null} instead of {"state":"completed","result":1`
  )

  crashing(
    "finds a task that never ends",
    () => Forgetful.toLayer(() => Effect.as(Packed.wait("nobody"), 1)),
    "the task did not end: it is sleeping"
  )

  layer(Impatient.toLayer(() => Step.run("one", Effect.void)).pipe(Layer.provideMerge(AbsurdTest.layer)))((it) =>
    it.effect("a check of the test's own is made after each crash", () =>
      Effect.gen(function*() {
        let checks = 0
        const { points } = yield* AbsurdTest.crashEverywhere(Impatient, {}, { after: Effect.sync(() => checks++) })
        assert.strictEqual(checks, points.length + 1)
        const exit = yield* Effect.exit(AbsurdTest.crashEverywhere(Impatient, {}, { after: Effect.fail("no") }))
        assert.include(died(exit), "the check afterwards failed")
      }))
  )

  layer(TestLive)((it) =>
    it.effect("a process that has died writes nothing more", () =>
      Effect.gen(function*() {
        const processes = yield* AbsurdTest.Processes
        const store = yield* MemoryDriver.MemoryStore
        const order = yield* Order.spawn({ id: "1", sku: "a" })
        const dies = (dieAt: number) => processes.run(AbsurdTest.runUntilIdle(), { dieAt, points: [], repeated: [] })
        assert.isUndefined(yield* dies(2))
        const after = yield* store.dump(order.queue)
        assert.deepStrictEqual(after.runs.map((run) => run.state), ["running"])
        assert.deepStrictEqual(after.checkpoints, [])
        assert.deepStrictEqual(yield* AbsurdTest.runUntilIdle(), [])
        yield* AbsurdTest.advance(Duration.minutes(1))
        assert.strictEqual((yield* AbsurdTest.inspect(order)).attempts, 2)
      }))
  )
})

describe("the entry point", () => {
  layer(Layer.empty)((it) =>
    it.effect("needs no Node and no PostgreSQL", () =>
      Effect.sync(() => {
        const seen = new Set<string>()
        const outside = new Set<string>()
        const visit = (file: URL) => {
          if (seen.has(file.href)) return
          seen.add(file.href)
          for (
            const [, typeOnly, specifier = ""] of Fs.readFileSync(file, "utf8").matchAll(
              /^(?:import|export) (type )?[^;]*? from "([\w@./-]+)"$/gm
            )
          ) {
            if (typeOnly !== undefined) continue
            if (specifier.startsWith(".")) visit(new URL(specifier, file))
            else outside.add(specifier)
          }
        }
        visit(new URL("../../src/layers/AbsurdTest.ts", import.meta.url))
        assert.isAbove(seen.size, 20)
        assert.deepStrictEqual([...seen].filter((file) => file.includes("/drivers/postgres/")), [])
        assert.isTrue(outside.has("effect"))
        // Nothing but Effect's own modules, and of those none that is about SQL or processes.
        const foreign = [...outside].filter((module) => !/^effect(\/(crypto|testing|[A-Z]\w*))?$/.test(module))
        assert.deepStrictEqual(foreign, [])
      }))
  )
})
