import { Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as RetryProgramSuite from "../conformance/RetryProgramSuite.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

RetryProgramSuite.suite(
  "trying again on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)

RetryProgramSuite.suite("trying again in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))
