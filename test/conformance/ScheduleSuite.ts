import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import { Driver, type StoredSchedule } from "../../src/core/Driver.ts"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const make = Effect.gen(function*() {
  const driver = yield* Driver
  const time = yield* TestTime
  const name = `schedule${Fixture.fresh()}`
  const put = (definition: Schema.Json, declared = true) => driver.putSchedule({ name, definition, declared })
  const find = Effect.map(driver.listSchedules, (all) => all.find((row) => row.name === name))
  const row = Effect.map(find, (found) => found ?? assert.fail(`no schedule ${name}`))
  const isDue = Effect.map(driver.dueSchedules, ({ due }) => due.some((row) => row.name === name))
  const advance = (row: StoredSchedule, next: DateTime.Utc) =>
    driver.advanceSchedule({ name, revision: row.revision, after: row.after, next, lastTask: Fixture.unknownTask })
  return { driver, time, name, put, find, row, isDue, advance }
})

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a schedule begins when it is declared, to be computed", () =>
      Effect.gen(function*() {
        const s = yield* make
        assert.isTrue(yield* s.put({ a: [1, null] }))
        const { revision, ...row } = yield* s.row
        assert.isAbove(revision, 0)
        assert.deepStrictEqual(Fixture.plain(row), {
          name: s.name,
          definition: { a: [1, null] },
          paused: false,
          after: DateTime.formatIso(yield* s.time.now),
          next: null,
          lastTask: null
        })
        assert.isTrue(yield* s.isDue)
      }))

    it.effect("it is due from its next instant on, and only whoever saw it last moves it on", () =>
      Effect.gen(function*() {
        const s = yield* make
        yield* s.put(1)
        const first = yield* s.row
        const next = DateTime.addDuration(first.after, Duration.hours(1))
        assert.isTrue(yield* s.advance(first, next))
        assert.isFalse(yield* s.advance(first, next))
        assert.isFalse(yield* s.isDue)
        const { later } = yield* s.driver.dueSchedules
        assert.isTrue(later !== null && DateTime.isLessThanOrEqualTo(later, next))
        yield* s.time.advance(Duration.minutes(59))
        assert.isFalse(yield* s.isDue)
        yield* s.time.advance(Duration.minutes(1))
        assert.isTrue(yield* s.isDue)
        const second = yield* s.row
        assert.deepStrictEqual([second.next, second.lastTask], [next, Fixture.unknownTask])
        assert.deepStrictEqual((yield* s.driver.dueSchedules).now, yield* s.time.now)
      }))

    it.effect("declaring the same again changes nothing, another declaration begins anew", () =>
      Effect.gen(function*() {
        const s = yield* make
        yield* s.put({ a: 1, b: 2 })
        const first = yield* s.row
        const next = DateTime.addDuration(first.after, Duration.hours(1))
        yield* s.advance(first, next)
        yield* s.time.advance(Duration.minutes(1))
        const before = yield* s.row
        yield* s.put({ b: 2, a: 1 })
        assert.deepStrictEqual(yield* s.row, before)
        yield* s.put({ a: 2 })
        const after = yield* s.row
        assert.deepStrictEqual([after.definition, after.after, after.next], [{ a: 2 }, yield* s.time.now, null])
        assert.isFalse(yield* s.advance(before, next))
      }))

    it.effect("a change at run time holds until the declaration changes", () =>
      Effect.gen(function*() {
        const s = yield* make
        assert.isFalse(yield* s.put("changed", false))
        assert.isUndefined(yield* s.find)
        yield* s.put("declared")
        assert.isTrue(yield* s.put("changed", false))
        yield* s.put("declared")
        assert.strictEqual((yield* s.row).definition, "changed")
        yield* s.put("declared anew")
        assert.strictEqual((yield* s.row).definition, "declared anew")
        yield* s.put("changed", false)
        yield* s.put("changed")
        yield* s.put("declared anew")
        assert.strictEqual((yield* s.row).definition, "declared anew")
      }))

    it.effect("a paused schedule is never due, and begins anew when it is resumed", () =>
      Effect.gen(function*() {
        const s = yield* make
        const pause = (paused: boolean) => s.driver.pauseSchedule({ name: s.name, paused })
        assert.isFalse(yield* pause(true))
        yield* s.put(1)
        const first = yield* s.row
        assert.isTrue(yield* pause(true))
        assert.isFalse(yield* s.isDue)
        assert.isFalse(yield* s.advance(first, first.after))
        yield* s.put(2)
        assert.isTrue((yield* s.row).paused)
        yield* s.time.advance(Duration.days(1))
        assert.isTrue(yield* pause(false))
        const resumed = yield* s.row
        assert.deepStrictEqual([resumed.paused, resumed.after, resumed.next], [false, yield* s.time.now, null])
        assert.isTrue(yield* pause(false))
        assert.deepStrictEqual(yield* s.row, resumed)
      }))

    it.effect("a removed schedule is gone, and a new one of its name is another one", () =>
      Effect.gen(function*() {
        const s = yield* make
        yield* s.put(1)
        const first = yield* s.row
        assert.isTrue(yield* s.driver.deleteSchedule(s.name))
        assert.isFalse(yield* s.driver.deleteSchedule(s.name))
        assert.isUndefined(yield* s.find)
        yield* s.put(1)
        assert.isFalse(yield* s.advance(first, first.after))
      }))

    it.effect("changes are undone with their transaction", () =>
      Effect.gen(function*() {
        const s = yield* make
        yield* s.put(1)
        const before = yield* s.row
        const act = Effect.gen(function*() {
          yield* s.advance(before, before.after)
          yield* s.driver.deleteSchedule(s.name)
          return yield* Effect.fail("undo")
        })
        yield* Effect.flip(s.driver.withTransaction(act))
        assert.deepStrictEqual(yield* s.row, before)
        assert.isTrue(yield* s.advance(before, before.after))
      }))
  })
