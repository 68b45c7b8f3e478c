import { Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as BadInputSuite from "../conformance/BadInputSuite.ts"
import * as Dump from "../support/Dump.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

BadInputSuite.suite(
  "Bad input in memory",
  Layer.mergeAll(Layer.provideMerge(Absurd.layerDriver(), Dump.layerMemory), TestTime.layerMemory)
)

BadInputSuite.suite(
  "Bad input on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql, Dump.layerSql).pipe(
    Layer.provide(TestPostgres.layer({ maxConnections: 1 }))
  )
)

BadInputSuite.suite(
  "Bad input on the embedded store",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql, Dump.layerSql).pipe(Layer.provide(EmbeddedStore.layer))
)
