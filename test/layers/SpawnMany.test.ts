import { Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as SpawnManySuite from "../conformance/SpawnManySuite.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const sql = Layer.mergeAll(Absurd.layer, TestTime.layerSql)

SpawnManySuite.suite("Many spawns in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))
SpawnManySuite.suite("Many spawns on PostgreSQL", Layer.provide(sql, TestPostgres.layer({ maxConnections: 1 })))
SpawnManySuite.suite("Many spawns on the embedded store", Layer.provide(sql, EmbeddedStore.layer))
