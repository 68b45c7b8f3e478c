import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd, Installation } from "effect-absurd"
import * as PostgresDriver from "../../../src/drivers/postgres/PostgresDriver.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as ProgramSuite from "../../conformance/ProgramSuite.ts"
import * as Suites from "../../conformance/Suites.ts"
import * as ForeignPostgres from "../../support/ForeignPostgres.ts"
import * as TestPostgres from "../../support/Postgres.ts"
import * as TestTime from "../../support/TestTime.ts"

layer(TestPostgres.layerEmpty({ maxConnections: 1 }))("installing beside another installation", (it) => {
  it.effect("adds the kernel and leaves every object of the other one as it is", () =>
    Effect.gen(function*() {
      yield* ForeignPostgres.prepare
      const before = yield* ForeignPostgres.definitions
      assert.isAbove(before.length, 50)
      yield* Installation.install
      assert.deepStrictEqual(yield* ForeignPostgres.definitions, before)
      assert.strictEqual((yield* Installation.status).mode, "additive")
    }))
})

Suites.all(
  "the PostgreSQL driver on another installation",
  Layer.merge(PostgresDriver.layer, TestTime.layerSql).pipe(Layer.provide(ForeignPostgres.layer({ maxConnections: 1 })))
)

Suites.all(
  "the PostgreSQL driver on another installation with partitioned queues",
  Layer.mergeAll(PostgresDriver.layer, TestTime.layerSql, Layer.succeed(Fixture.Storage, "partitioned")).pipe(
    Layer.provide(ForeignPostgres.layer({ maxConnections: 1 }))
  )
)

ProgramSuite.suite(
  "Program on another installation",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(ForeignPostgres.layer({ maxConnections: 1 })))
)
