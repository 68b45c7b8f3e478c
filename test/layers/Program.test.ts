import { Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as ProgramSuite from "../conformance/ProgramSuite.ts"
import * as CheckedMemory from "../support/CheckedMemory.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

ProgramSuite.suite(
  "Program on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)

ProgramSuite.suite("Program in memory", Layer.mergeAll(CheckedMemory.layerAbsurd, TestTime.layerMemory))

ProgramSuite.suite(
  "Program on the embedded store",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(
    Layer.provide(EmbeddedStore.layer)
  )
)
