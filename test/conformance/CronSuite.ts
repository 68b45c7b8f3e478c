/** Schedules as programs see them, on any store. */
import { assert, layer } from "@effect/vitest"
import { Cron as Expression, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { Absurd, Cron, CurrentRun, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const make = Effect.gen(function*() {
  const queue: string = Fixture.freshQueue()
  yield* Absurd.createQueue(queue)
  const Tick = Task.make("tick", { queue, params: { n: Schema.Int } })
  const name = `cron${Fixture.fresh()}`
  /** The ticks that were spawned since the last time, in order. */
  const ticks = Effect.flatMap(Absurd.claimTask({ queue, qty: 1000 }), (runs) =>
    Effect.as(
      Effect.forEach(runs, (run) => Absurd.completeTask(run), { discard: true }),
      runs.map((run) => String(run.headers["scheduledAt"])).sort()
    ))
  // The passes of other tests must not run it.
  yield* Effect.addFinalizer(() => Effect.ignore(Cron.remove(name)))
  const found = Effect.map(Cron.list, (all) => all.find((one) => one.name === name) ?? assert.fail(name))
  return { queue, Tick, name, ticks, found }
})

/** From the test clock's present to that instant. */
const travel = (iso: string) =>
  Effect.gen(function*() {
    const { advance, now } = yield* TestTime
    yield* advance(DateTime.distance(yield* now, DateTime.makeUnsafe(iso)))
  })

const after = (instant: DateTime.Utc, duration: Duration.Input) =>
  DateTime.formatIso(DateTime.addDuration(instant, Duration.fromInputUnsafe(duration)))

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect(
      "two years of nights in a zone with daylight saving time, one task each, at the wall time",
      () =>
        Effect.gen(function*() {
          const { Tick, name, ticks } = yield* make
          const { advance, now } = yield* TestTime
          const begin = yield* now
          yield* Cron.declare(Cron.make(name, "30 2 * * *", Tick, { n: 1 }, { timeZone: "Europe/Berlin" }))
          const seen: Array<string> = []
          for (let week = 0; week < 105; week++) {
            for (let day = 0; day < 7; day++) {
              yield* advance("1 day")
              yield* Cron.runDue
            }
            seen.push(...(yield* ticks))
          }
          const zone = DateTime.zoneMakeNamedUnsafe("Europe/Berlin")
          const walls = seen.map((iso) => DateTime.toParts(DateTime.makeZonedUnsafe(iso, { timeZone: zone })))
          assert.lengthOf(seen, 735)
          assert.strictEqual(new Set(walls.map((_) => `${_.year}-${_.month}-${_.day}`)).size, 735)
          const moved = walls.filter((_) => _.hour !== 2 || _.minute !== 30)
          assert.deepStrictEqual(moved.map((_) => [_.month, _.day, _.hour, _.minute]), [[3, 29, 3, 30], [3, 28, 3, 30]])
          assert.isTrue(DateTime.isGreaterThan(DateTime.makeUnsafe(seen[0]!), begin))
        }),
      60_000
    )

    it.effect("schedules that cannot be run hold up no other, and are tried again", () =>
      Effect.gen(function*() {
        const { Tick, name, ticks } = yield* make
        const { advance } = yield* TestTime
        const { driver } = yield* Absurd.Absurd
        // As another version may have stored them; as many as one look at the store returns, and before it by name.
        const broken = Array.from({ length: 100 }, (_, n) => `a-${String(n).padStart(3, "0")}-${name}`)
        yield* Effect.forEach(broken, (one) => driver.putSchedule({ name: one, definition: { of: 2 }, declared: true }))
        yield* Effect.addFinalizer(() => Effect.ignore(Effect.forEach(broken, Cron.remove)))
        yield* Cron.declare(Cron.make(name, "*/5 * * * *", Tick, { n: 1 }))
        yield* Cron.runDue
        yield* Cron.runDue
        yield* advance("5 minutes")
        yield* Cron.runDue
        yield* Cron.runDue
        assert.lengthOf(yield* ticks, 1)
        // Repaired, one of them ticks as if nothing had been.
        const good = (yield* driver.listSchedules).find((row) => row.name === name)!
        const [first] = broken
        yield* driver.putSchedule({ name: first!, definition: good.definition, declared: false })
        yield* advance("5 minutes")
        yield* Cron.runDue
        yield* Cron.runDue
        assert.lengthOf(yield* ticks, 2)
      }))

    it.effect("a wall time that comes twice ticks once, or as often as the Cron says", () =>
      Effect.gen(function*() {
        const year = DateTime.toPartsUtc(yield* (yield* TestTime).now).year + 1
        // A zone of Europe repeats the hour before 01:00Z on the last Sunday of October.
        const october = DateTime.makeUnsafe({ year, month: 10, day: 31 })
        const sunday = DateTime.subtract(october, { days: DateTime.toPartsUtc(october).weekDay })
        yield* travel(DateTime.formatIso(sunday))
        const [once, twice] = [yield* make, yield* make]
        yield* Cron.declare(Cron.make(once.name, "30 2 * * *", once.Tick, { n: 1 }, { timeZone: "Europe/Berlin" }))
        const both = Expression.parseUnsafe("30 2 * * *", "Europe/Berlin", { onDstOverlap: "both" })
        yield* Cron.declare(Cron.make(twice.name, both, twice.Tick, { n: 1 }, { missed: "all" }))
        yield* travel(after(sunday, "12 hours"))
        yield* Cron.runDue
        assert.deepStrictEqual(yield* once.ticks, [after(sunday, "30 minutes")])
        assert.deepStrictEqual(yield* twice.ticks, [after(sunday, "30 minutes"), after(sunday, "90 minutes")])
      }))

    it.effect("many processes at once spawn each tick once", () =>
      Effect.gen(function*() {
        const { Tick, name, ticks } = yield* make
        const { advance, now } = yield* TestTime
        yield* Cron.declare(Cron.make(name, "* * * * *", Tick, { n: 1 }))
        const begin = yield* now
        for (let minute = 0; minute < 5; minute++) {
          yield* advance("1 minute")
          yield* Effect.all(Array.from({ length: 8 }, () => Cron.runDue), { concurrency: "unbounded" })
        }
        assert.lengthOf(yield* ticks, 5)
        assert.isTrue(DateTime.isLessThan(begin, yield* now))
      }))

    it.effect.each([["last", 1], ["skip", 0], ["all", 250]] as const)(
      "after a long absence, missed ticks are dealt with by \"%s\"",
      ([missed, count]) =>
        Effect.gen(function*() {
          const { Tick, name, ticks } = yield* make
          const { advance, now } = yield* TestTime
          const hour = DateTime.startOf(yield* now, "hour")
          yield* travel(after(hour, "1 hour"))
          yield* Cron.declare(Cron.make(name, "30 * * * *", Tick, { n: 1 }, { missed }))
          const begin = yield* now
          yield* advance("250 hours")
          yield* Cron.runDue.pipe(Effect.repeat({ until: (tasks) => tasks.length === 0 }))
          const seen = yield* ticks
          assert.lengthOf(seen, count)
          if (count > 0) assert.strictEqual(seen.at(-1), after(begin, "14970 minutes"))
          // It goes on as if nothing had been.
          yield* advance("30 minutes")
          yield* Cron.runDue
          assert.deepStrictEqual(yield* ticks, [after(begin, "15030 minutes")])
        })
    )

    it.effect("a tick that is late by no more than the tolerance counts", () =>
      Effect.gen(function*() {
        const { Tick, name, ticks } = yield* make
        const { advance, now } = yield* TestTime
        yield* travel(after(DateTime.startOf(yield* now, "hour"), "1 hour"))
        yield* Cron.declare(Cron.make(name, "0 * * * *", Tick, { n: 1 }, { missed: "skip", tolerance: "5 minutes" }))
        yield* advance("65 minutes")
        yield* Cron.runDue
        assert.lengthOf(yield* ticks, 1)
        yield* advance("60 minutes")
        yield* advance("1 millis")
        yield* Cron.runDue
        assert.lengthOf(yield* ticks, 0)
      }))

    it.effect("overlap: a tick is left out while the task before has not ended", () =>
      Effect.gen(function*() {
        const { Tick, name, queue } = yield* make
        const { advance } = yield* TestTime
        yield* Cron.declare(Cron.make(name, "* * * * *", Tick, { n: 1 }, { overlap: "skip", missed: "all" }))
        const minute = Effect.andThen(advance("1 minute"), Cron.runDue)
        assert.lengthOf(yield* minute, 1)
        assert.lengthOf(yield* minute, 0)
        assert.lengthOf(yield* minute, 0)
        const live = Tick.toLayer(() => Effect.void)
        yield* Effect.provide(Worker.runOnce({ queue }), live)
        assert.lengthOf(yield* minute, 1)
      }))

    it.effect("the handler knows its tick", () =>
      Effect.gen(function*() {
        const { Tick, name, queue } = yield* make
        const { advance } = yield* TestTime
        yield* Cron.declare(Cron.make(name, "* * * * *", Tick, { n: 7 }, { spawn: { headers: { own: true } } }))
        yield* advance("1 minute")
        yield* Cron.runDue
        let seen: unknown
        const live = Tick.toLayer(({ n }) =>
          Effect.map(CurrentRun, ({ headers }) => {
            seen = [n, headers["own"], headers["schedule"], typeof headers["scheduledAt"]]
          })
        )
        yield* Effect.provide(Worker.runOnce({ queue }), live)
        assert.deepStrictEqual(seen, [7, true, name, "string"])
      }))

    it.effect("a schedule is listed, paused, resumed, changed and removed while programs run", () =>
      Effect.gen(function*() {
        const { Tick, found, name, queue, ticks } = yield* make
        const { advance } = yield* TestTime
        const cron = Cron.make(name, "* * * * *", Tick, { n: 3 })
        yield* Cron.declare(cron)
        const minute = Effect.andThen(advance("1 minute"), Cron.runDue)
        yield* minute
        const { lastTask, next, ...listed } = yield* found
        assert.deepStrictEqual(listed, {
          name,
          cron: "* * * * *",
          timeZone: "UTC",
          missed: "last",
          overlap: "allow",
          queue,
          task: "tick",
          params: { n: 3 },
          paused: false
        })
        assert.isTrue(Option.isSome(lastTask) && Option.isSome(next))
        yield* Cron.pause(name)
        assert.isTrue((yield* found).paused)
        yield* minute
        yield* Cron.resume(name)
        assert.lengthOf(yield* ticks, 1)
        yield* minute
        assert.lengthOf(yield* ticks, 1)
        yield* Cron.change(name, { cron: "0 0 1 1 *", timeZone: "Asia/Tokyo" })
        // A restart with the same declaration keeps the change.
        yield* Cron.declare(cron)
        yield* minute
        assert.lengthOf(yield* ticks, 0)
        assert.deepInclude(yield* found, { cron: "0 0 1 1 *", timeZone: "Asia/Tokyo" })
        assert.isTrue(yield* Cron.remove(name))
        assert.isFalse(yield* Cron.remove(name))
        const missing = yield* Effect.flip(Cron.pause(name))
        assert.deepInclude(missing, { _tag: "NotFound", kind: "schedule" })
        assert.strictEqual((yield* Effect.flip(Cron.change(name, {})))._tag, "NotFound")
      }))

    it.effect("a tick whose transaction was lost is spawned by the next pass", () =>
      Effect.gen(function*() {
        const { Tick, name, ticks } = yield* make
        const { advance } = yield* TestTime
        yield* Cron.declare(Cron.make(name, "* * * * *", Tick, { n: 1 }))
        yield* advance("1 minute")
        const cut = Effect.updateService(Cron.runDue, Absurd.Absurd, (absurd) => ({
          ...absurd,
          driver: { ...absurd.driver, advanceSchedule: () => Effect.die("cut") }
        }))
        assert.deepStrictEqual(yield* cut, [])
        assert.lengthOf(yield* ticks, 0)
        yield* Cron.runDue
        assert.lengthOf(yield* ticks, 1)
      }))

    it.effect("the layer runs what is declared, and what is stored", () =>
      Effect.gen(function*() {
        const { Tick, name, ticks } = yield* make
        const { advance } = yield* TestTime
        const running = Cron.layer([Cron.make(name, "* * * * *", Tick, { n: 1 })], { pollInterval: "1 minute" })
        yield* Effect.gen(function*() {
          yield* advance("1 minute")
          for (let tries = 0; tries < 1000; tries++) {
            if (Option.isSome((yield* Effect.map(Cron.list, (all) => all.find((_) => _.name === name)!)).lastTask)) {
              break
            }
            yield* advance("1 second")
          }
          assert.lengthOf(yield* ticks, 1)
        }).pipe(Effect.provide(running))
      }))

    it.effect("what cannot be run is refused when it is declared", () =>
      Effect.gen(function*() {
        const { Tick, name } = yield* make
        const refused = (cron: string | Expression.Cron, timeZone?: string) =>
          Effect.map(
            Effect.flip(Cron.declare(Cron.make(name, cron, Tick, { n: 1 }, { timeZone }))),
            (error) => error._tag
          )
        assert.strictEqual(yield* refused("every night"), "InvalidInput")
        assert.strictEqual(yield* refused("0 0 30 2 *"), "InvalidInput")
        assert.strictEqual(yield* refused("0 0 * * *", "Europe/Atlantis"), "InvalidInput")
        const all = { minutes: [0], hours: [0], months: [] }
        const and = Expression.make({ ...all, days: [1], weekdays: [1], and: true })
        assert.strictEqual(yield* refused(and), "InvalidInput")
        yield* Cron.declare(Cron.make(name, Expression.make({ ...all, days: [1], weekdays: [1] }), Tick, { n: 1 }))
      }))
  })
