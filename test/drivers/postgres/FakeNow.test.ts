import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd, PostgresDriver } from "effect-absurd"
import * as AbsurdTestSql from "effect-absurd/AbsurdTestSql"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "../../support/Postgres.ts"
import * as TestTime from "../../support/TestTime.ts"

const withSetting = (now: string) =>
  TestPostgres.layerClient({ maxConnections: 1, startupParameters: { "absurd.fake_now": now } })

const starts = <A, E>(subject: Layer.Layer<A, E, SqlClient.SqlClient>, client: ReturnType<typeof withSetting>) =>
  Effect.scoped(Layer.build(Layer.fresh(Layer.provide(subject, client)))).pipe(
    Effect.match({ onSuccess: () => "starts", onFailure: String })
  )

layer(Layer.effect(TestPostgres.TestDatabase, TestPostgres.database))("on a clock that was set", (it) => {
  it.effect("no driver and no client starts, and the error says what to reset", () =>
    Effect.gen(function*() {
      const set = withSetting("2020-01-01T00:00:00Z")
      for (const answer of [yield* starts(PostgresDriver.layer, set), yield* starts(Absurd.layer, set)]) {
        assert.include(answer, "absurd.fake_now makes the store's clock stand at 2020-01-01T00:00:00Z")
        assert.include(answer, "RESET absurd.fake_now")
      }
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(Layer.fresh(Layer.provide(PostgresDriver.layer, set))))
      )
      assert.strictEqual(error.reason._tag, "ClockTampered")
      assert.isFalse(error.isRetryable)
    }))

  it.effect("also when it was set for the database or the role", () =>
    Effect.gen(function*() {
      const { name } = yield* TestPostgres.TestDatabase
      const admin = yield* Effect.flatMap(TestPostgres.TestDatabase, TestPostgres.session)
      const query = (text: string) => Effect.promise(() => admin.query(text))
      yield* query(`alter database ${name} set absurd.fake_now = '2020-01-01'`)
      yield* Effect.gen(function*() {
        const answer = yield* starts(Absurd.layer, TestPostgres.layerClient({ maxConnections: 1 }))
        assert.include(answer, "ALTER ROLE")
      }).pipe(Effect.ensuring(query(`alter database ${name} reset absurd.fake_now`)))
    }))

  it.effect("but on blanks, which set nothing, and where a test asks for it", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* starts(Absurd.layer, withSetting(" \t")), "starts")
      const allowed = PostgresDriver.layerWith({ allowFakeNow: true })
      assert.strictEqual(yield* starts(allowed, withSetting("2020-01-01T00:00:00Z")), "starts")
    }))

  it.effect("and under the test kit, in whatever order things start", () =>
    Effect.gen(function*() {
      const kits: ReadonlyArray<Layer.Layer<never, never, SqlClient.SqlClient>> = [
        AbsurdTestSql.layer,
        TestTime.layerSql
      ]
      for (const kit of kits) {
        const client = TestPostgres.layerClient({ maxConnections: 1 })
        assert.strictEqual(yield* starts(Layer.provide(Absurd.layer, kit), client), "starts")
        assert.strictEqual(yield* starts(Layer.merge(Absurd.layer, kit), client), "starts")
      }
    }))
})
