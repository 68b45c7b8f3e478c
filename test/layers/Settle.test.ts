import { Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as SettleSuite from "../conformance/SettleSuite.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

SettleSuite.suite("Settling in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))

SettleSuite.suite(
  "Settling on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)

SettleSuite.suite(
  "Settling on the embedded store",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(EmbeddedStore.layer))
)
