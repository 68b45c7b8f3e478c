import { assert, describe, it, layer } from "@effect/vitest"
import { DateTime, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "./Postgres.ts"
import { layerSql, start, TestTime } from "./TestTime.ts"

describe("a database for tests", () => {
  it.effect("has the schema when asked for, and is nobody else's", () =>
    Effect.gen(function*() {
      const names = yield* Effect.forEach([1, 2], () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql`select absurd.create_queue('mine')`
          const queues = yield* sql<{ readonly name: string }>`select queue_name as name from absurd.list_queues()`
          assert.deepStrictEqual(queues.map(({ name }) => name), ["mine"])
          return (yield* TestPostgres.TestDatabase).name
        }).pipe(Effect.provide(TestPostgres.layer())), { concurrency: 2 })
      assert.notStrictEqual(names[0], names[1])
    }))

  it.effect("is empty, reachable in each way, and gone afterwards", () =>
    Effect.gen(function*() {
      const name = yield* Effect.scoped(
        Effect.gen(function*() {
          const database = yield* TestPostgres.TestDatabase
          const sql = yield* SqlClient.SqlClient
          const client = yield* TestPostgres.session(database)
          yield* sql`create table kept (id int)`
          yield* Effect.exit(sql`select missing from kept`)
          const rows = yield* Effect.promise(() => client.query("select current_database() as name from kept"))
          assert.strictEqual(rows.rowCount, 0)
          const errors = yield* database.errors
          assert.strictEqual(errors.length, 1)
          return database.name
        }).pipe(Effect.provide(TestPostgres.layerEmpty()))
      )
      const client = yield* TestPostgres.session({
        ...(yield* TestPostgres.emptyDatabase)
      })
      const found = yield* Effect.promise(() => client.query("select from pg_database where datname = $1", [name]))
      assert.strictEqual(found.rowCount, 0)
    }))
})

layer(Layer.provideMerge(layerSql, TestPostgres.layerEmpty({ maxConnections: 1 })), { concurrent: false })(
  "virtual time",
  (it) => {
    it.effect("is the same on both clocks, also a year later", () =>
      Effect.gen(function*() {
        const time = yield* TestTime
        const sql = yield* SqlClient.SqlClient
        const stored = sql<{ readonly now: string }>`
          select current_setting('absurd.fake_now') as now`.pipe(Effect.map((rows) => rows[0]?.now))
        assert.strictEqual(yield* stored, DateTime.formatIso(start))
        yield* time.advance("365 days")
        assert.strictEqual(yield* stored, "2027-01-05T00:00:00.000Z")
        assert.strictEqual(DateTime.formatIso(yield* time.now), "2027-01-05T00:00:00.000Z")
      }))
  }
)
