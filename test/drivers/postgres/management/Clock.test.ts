import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Session from "./Session.ts"

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

Session.everywhere("the clock and the ids of the schema", (it) => {
  it.effect("the clock moves within a transaction", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("begin")
      const moved = yield* sql.value(
        "select b > a from (select absurd.current_time() as a, pg_sleep(0.001), clock_timestamp() as b) as t"
      )
      const later = yield* sql.value("select absurd.current_time() > now()")
      yield* sql.rows("rollback")
      assert.deepStrictEqual([moved, later], [true, true])
    }))

  it.effect("absurd.fake_now stands in for the clock, blanks do not", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const now = "select to_char(absurd.current_time() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
      yield* sql.rows("set absurd.fake_now = '2024-05-01T10:00:00.123456Z'")
      assert.strictEqual(yield* sql.value(now), "2024-05-01 10:00:00.123456")
      yield* sql.value("select set_config('absurd.fake_now', '2024-05-01 12:00:00+02', false)")
      assert.strictEqual(yield* sql.value(now), "2024-05-01 10:00:00.000000")
      const real = "select absurd.current_time() between now() and clock_timestamp()"
      for (const blank of ["", "  ", "\t\n"]) {
        yield* sql.value("select set_config('absurd.fake_now', $1, false)", blank)
        assert.strictEqual(yield* sql.value(real), true)
      }
      yield* sql.rows("set absurd.fake_now = default")
      assert.strictEqual(yield* sql.value(real), true)
    }))

  it.effect("ids are of version 7, of the clock's millisecond, and in order", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const make = "select absurd.portable_uuidv7()::text from generate_series(1, 200)"
      const real = yield* sql.column(make)
      assert.isTrue(real.every((id) => uuid.test(String(id))))
      assert.deepStrictEqual([...real].sort(), real)
      assert.strictEqual(
        yield* sql.value(
          "select abs(extract(epoch from clock_timestamp() - absurd.uuidv7_timestamp($1))) < 60",
          real[0]
        ),
        true
      )
      yield* sql.rows("set absurd.fake_now = '2001-09-09T01:46:40.123Z'")
      const fake = yield* sql.column(make)
      assert.isTrue(fake.every((id) => uuid.test(String(id))))
      assert.strictEqual(new Set(fake).size, 200)
      assert.deepStrictEqual(
        yield* sql.column(
          "select distinct absurd.uuidv7_timestamp(id) = absurd.current_time() from unnest($1::uuid[]) id",
          [
            ...fake
          ]
        ),
        [true]
      )
      yield* sql.rows("reset absurd.fake_now")
    }))

  it.effect("an id made while time stands still is greater than those made before", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("set absurd.fake_now = '2026-01-05T00:00:00Z'")
      const first = yield* sql.value("select absurd.portable_uuidv7()::text")
      const second = yield* sql.value("select absurd.portable_uuidv7()::text")
      yield* sql.rows("reset absurd.fake_now")
      assert.isBelow(String(first).localeCompare(String(second)), 0)
    }))

  it.effect("the instant of an id comes back to the millisecond, and is null for other versions", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      for (const time of ["1970-01-01 00:00:00.000+00", "2026-11-23 21:09:26.789+00", "9999-12-31 23:59:59.999+00"]) {
        assert.strictEqual(
          yield* sql.value("select absurd.uuidv7_timestamp(absurd.uuidv7_floor($1)) = $1::timestamptz", time),
          true,
          time
        )
      }
      assert.strictEqual(yield* sql.value("select absurd.uuidv7_timestamp(gen_random_uuid())"), null)
      assert.strictEqual(yield* sql.value("select absurd.uuidv7_timestamp(null)"), null)
    }))

  it.effect("the floor is the smallest id of its millisecond", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      assert.strictEqual(
        yield* sql.value("select absurd.uuidv7_floor('2023-11-14 22:13:20.000999+00')::text"),
        "018bcfe5-6800-7000-8000-000000000000"
      )
      for (const time of ["1969-12-31 23:59:59.999+00", "10889-08-02 05:31:50.656+00", "infinity", "-infinity"]) {
        const refused = yield* sql.refusal("select absurd.uuidv7_floor($1)", time)
        assert.strictEqual(refused.code, "P0001")
        assert.include(refused.message, "outside UUIDv7 supported range")
      }
      assert.strictEqual(
        yield* sql.value("select absurd.uuidv7_floor('10889-08-02 05:31:50.655+00')::text"),
        "ffffffff-ffff-7000-8000-000000000000"
      )
    }))

  it.effect("weeks begin on Monday and have their tags, both in UTC", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      for (const zone of ["UTC", "Pacific/Auckland", "America/Los_Angeles"]) {
        yield* sql.value("select set_config('timezone', $1, false)", zone)
        const found = yield* sql.rows(`
          select to_char(absurd.week_bucket_utc(day) at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as week,
            absurd.partition_week_tag(day) as tag
          from unnest(array['2021-01-01 12:00+00', '2024-12-31 23:59+00', '2026-11-22 23:59:59+00', '2026-11-23 00:00+00']::timestamptz[]) as day
        `)
        assert.deepStrictEqual(found, [
          { week: "2020-12-28 00:00", tag: "053" },
          { week: "2024-12-30 00:00", tag: "501" },
          { week: "2026-11-16 00:00", tag: "647" },
          { week: "2026-11-23 00:00", tag: "648" }
        ])
      }
      yield* sql.rows("reset timezone")
    }))

  it.effect("the version can be replaced by a function of the same kind", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      assert.match(String(yield* sql.value("select absurd.get_schema_version()")), /^effect-absurd \d+$/)
      yield* sql.rows("begin")
      yield* sql.rows(
        "create or replace function absurd.get_schema_version() returns text language sql as $$ select '9.9.9'::text $$"
      )
      assert.strictEqual(yield* sql.value("select absurd.get_schema_version()"), "9.9.9")
      yield* sql.rows("rollback")
    }))

  it.effect("every function has one signature, except create_queue with two", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const repeated = yield* sql.rows(`
        select proname, count(*)::integer as signatures from pg_proc
        where pronamespace in ('absurd'::regnamespace, 'absurd_effect'::regnamespace)
        group by pronamespace, proname having count(*) > 1
      `)
      assert.deepStrictEqual(repeated, [{ proname: "create_queue", signatures: 2 }])
    }))
})
