/** One test on every store: only the layer changes. */
import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, Layer, Schedule, Schema } from "effect"
import { Absurd, Cron, Event, MemoryDriver, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import * as AbsurdTestSql from "effect-absurd/AbsurdTestSql"
import * as Embedded from "effect-absurd/Embedded"
import * as Invariants from "../../src/core/Invariants.ts"
import * as TestPostgres from "../support/Postgres.ts"

const Paid = Event.make("paid", { payload: Schema.Int })

const Dunning = Task.make("dunning", {
  params: { invoice: Schema.String },
  success: Schema.Struct({ reminders: Schema.Int })
})

let letters = 0

const DunningLive = Dunning.toLayer(Effect.fn(function*({ invoice }) {
  for (let reminders = 0; reminders < 12; reminders++) {
    const paid = yield* Effect.exit(Paid.wait(invoice, { timeout: "30 days" }))
    if (paid._tag === "Success") return { reminders }
    yield* Step.run("letter", Effect.sync(() => void letters++))
  }
  return { reminders: 12 }
}))

const suite = (name: string, store: Layer.Layer<Absurd.Absurd | AbsurdTest.TestStore, unknown>) =>
  layer(DunningLive.pipe(Layer.provideMerge(store)), { concurrent: false })(`a year on ${name}`, (it) => {
    it.effect("passes while somebody does not pay", () =>
      Effect.gen(function*() {
        letters = 0
        const begin = yield* AbsurdTest.now
        const late = yield* Dunning.spawn({ invoice: "late" })
        const never = yield* Dunning.spawn({ invoice: "never" })
        yield* AbsurdTest.advance("100 days")
        yield* AbsurdTest.expectSuspended(late, { event: "paid:late", until: DateTime.add(begin, { days: 120 }) })
        assert.strictEqual(letters, 6)
        yield* Paid.emit("late", 1)
        yield* AbsurdTest.advance("265 days")
        yield* AbsurdTest.expectCompleted(late, { reminders: 3 })
        yield* AbsurdTest.expectCompleted(never, { reminders: 12 })
        assert.strictEqual(letters, 15)
        assert.deepStrictEqual(yield* AbsurdTest.now, DateTime.add(begin, { days: 365 }))
        assert.isUndefined(yield* AbsurdTest.nextDue())
        const { dump } = yield* AbsurdTest.TestStore
        const all = yield* dump(late.queue)
        assert.strictEqual(all.tasks.length, 2)
        assert.strictEqual(Invariants.format(Invariants.check(all)), "")
      }))

    it.effect("is told of in the same words", () =>
      Effect.gen(function*() {
        const task = yield* Dunning.spawn({ invoice: "words" })
        yield* AbsurdTest.runUntilIdle()
        const { steps, waitsFor } = yield* AbsurdTest.inspect(task)
        assert.deepStrictEqual(waitsFor, ["paid:words"])
        assert.lengthOf(Object.keys(steps), 1)
        yield* AbsurdTest.expectSpawned(Dunning, { invoice: "words" })
        const { dump } = yield* AbsurdTest.TestStore
        const error = yield* Effect.flip(dump(yield* Absurd.resolveQueue("no_such_queue")))
        assert.strictEqual(error._tag, "NotFound")
      }))
  })

const Report = Task.make("report", { params: { of: Schema.String } })
const ReportLive = Report.toLayer(() => Step.run("write", Effect.void))

/** Schedules, runs that wait for the clock, and what comes next. */
const timed = (name: string, store: Layer.Layer<Absurd.Absurd | AbsurdTest.TestStore, unknown>) =>
  layer(ReportLive.pipe(Layer.provideMerge(store)), { concurrent: false })(`time on ${name}`, (it) => {
    const startedAt = Effect.fnUntraced(function*(of: string) {
      const reports = (yield* AbsurdTest.spawned(Report)).filter(({ params }) => params.of === of)
      return yield* Effect.forEach(
        reports,
        (report) =>
          Effect.map(Absurd.getTaskStatus(report.taskId), ({ firstStartedAt, state }) => {
            assert.strictEqual(state, "completed")
            return firstStartedAt
          })
      )
    })
    const noons = (from: DateTime.Utc, days: number) =>
      Array.from({ length: days }, (_, day) => DateTime.add(DateTime.startOf(from, "day"), { days: day, hours: 12 }))

    for (const overlap of ["allow", "skip"] as const) {
      for (const missed of ["last", "skip", "all"] as const) {
        it.effect(`ticks each day (overlap ${overlap}, missed ${missed})`, () =>
          Effect.gen(function*() {
            const of = `${overlap}-${missed}`
            const begin = yield* AbsurdTest.now
            yield* Cron.declare(Cron.make(of, "0 12 * * *", Report, { of }, { overlap, missed }))
            yield* AbsurdTest.advance("10 days")
            assert.deepStrictEqual(yield* startedAt(of), noons(begin, 10))
            yield* Cron.remove(of)
          }))
      }
    }

    it.effect("ticks each day, while the program runs its schedules itself", () =>
      Effect.gen(function*() {
        const begin = yield* AbsurdTest.now
        const daily = Cron.make("daily", "0 12 * * *", Report, { of: "loop" }, { overlap: "skip" })
        yield* Layer.build(Cron.layer([daily], { pollInterval: "1 hour" }))
        yield* AbsurdTest.advance("10 days")
        assert.deepStrictEqual(yield* startedAt("loop"), noons(begin, 10))
        assert.deepStrictEqual(yield* AbsurdTest.nextDue(), DateTime.add(begin, { days: 10, hours: 12 }))
        yield* Cron.remove("daily")
        assert.isUndefined(yield* AbsurdTest.nextDue())
      }).pipe(Effect.scoped))

    it.effect("knows the first of a delay, a lease and a deadline", () =>
      Effect.gen(function*() {
        const begin = yield* AbsurdTest.now
        const after = (seconds: number) => DateTime.add(begin, { seconds })
        yield* Report.spawn({ of: "late" }, { delay: "90 seconds" })
        assert.deepStrictEqual(yield* AbsurdTest.nextDue(), after(90))
        const queue = "unattended"
        yield* Absurd.createQueue(queue)
        yield* Absurd.spawnTask("report", null, { queue, cancellation: { maxDuration: "75 seconds" } })
        yield* Absurd.spawnTask("report", null, { queue, cancellation: { maxDelay: "80 seconds" } })
        assert.deepStrictEqual(yield* AbsurdTest.nextDue(), after(80))
        const [claim] = yield* Absurd.claimTask({ queue, claimTimeout: "70 seconds" })
        assert.deepStrictEqual(yield* AbsurdTest.nextDue(), after(70))
        yield* Absurd.extendClaim(claim!, "1 hour")
        assert.deepStrictEqual(yield* AbsurdTest.nextDue(), after(75))
        assert.deepStrictEqual(yield* AbsurdTest.nextDue({ queue: "absurd_default" }), after(90))
        yield* Absurd.dropQueue(queue)
        yield* AbsurdTest.advance("90 seconds")
        assert.isUndefined(yield* AbsurdTest.nextDue())
      }))

    it.effect("passes for steps that wait for the clock, whose leases are kept", () => {
      const Patient = Task.make("patient", { params: {}, success: Schema.Int })
      let tries = 0
      return Effect.gen(function*() {
        const patient = yield* Patient.spawn({})
        yield* AbsurdTest.advance("2 minutes")
        assert.strictEqual((yield* AbsurdTest.inspect(patient)).state, "running")
        yield* AbsurdTest.advance("3 minutes")
        yield* AbsurdTest.expectCompleted(patient, 3)
        assert.strictEqual((yield* AbsurdTest.inspect(patient)).attempts, 1)
      }).pipe(Effect.provide(Patient.toLayer(() =>
        Step.run(
          "try",
          Effect.suspend(() => ++tries < 3 ? Effect.never : Effect.succeed(tries)),
          { timeout: "100 seconds", retry: Schedule.spaced("5 seconds") }
        ).pipe(Effect.orDie)
      )))
    })
  })

timed("memory", AbsurdTest.layer)
timed("PostgreSQL", AbsurdTestSql.layerOn(TestPostgres.layer({ maxConnections: 1 })))
timed("the embedded store", AbsurdTestSql.layerOn(Embedded.layer(), { queues: ["another"] }))

suite("memory", AbsurdTest.layer)
suite("PostgreSQL", AbsurdTestSql.layerOn(TestPostgres.layerEmpty({ maxConnections: 1 })))
suite("the embedded store", AbsurdTestSql.layerOn(Embedded.layer()))

layer(AbsurdTest.layer)(
  "the store that tests see",
  (it) =>
    it.effect("is the one in memory", () =>
      Effect.gen(function*() {
        const { dump } = yield* MemoryDriver.MemoryStore
        const name = yield* Absurd.resolveQueue(undefined)
        assert.deepStrictEqual(yield* dump(name), yield* (yield* AbsurdTest.TestStore).dump(name))
      }))
)
