import { Layer } from "effect"
import { Absurd, PostgresDriver } from "effect-absurd"
import * as RetryProgramSuite from "../conformance/RetryProgramSuite.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const sql = Layer.mergeAll(Absurd.layer, TestTime.layerSql)
// Who listens looks every few seconds whether he still hears something, and here days go by.
const quiet = Absurd.layerDriver().pipe(Layer.provide(PostgresDriver.layerWith({ notifications: false })))

RetryProgramSuite.suite("trying again in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))
RetryProgramSuite.suite("trying again on PostgreSQL", Layer.provide(sql, TestPostgres.layer({ maxConnections: 1 })))
RetryProgramSuite.suite(
  "trying again on the embedded store",
  Layer.mergeAll(quiet, TestTime.layerSql).pipe(Layer.provide(EmbeddedStore.layer))
)
