import { Layer } from "effect"
import * as PostgresDriver from "../../../src/drivers/postgres/PostgresDriver.ts"
import * as Suites from "../../conformance/Suites.ts"
import * as TestPostgres from "../../support/Postgres.ts"
import * as TestTime from "../../support/TestTime.ts"

Suites.all(
  "the PostgreSQL driver",
  Layer.merge(PostgresDriver.layer, TestTime.layerSql).pipe(
    Layer.provide(TestPostgres.layer({ maxConnections: 1 }))
  )
)
