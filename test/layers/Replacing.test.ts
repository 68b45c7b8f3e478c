import { Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as ReplacingSuite from "../conformance/ReplacingSuite.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const sql = Layer.mergeAll(Absurd.layer, TestTime.layerSql)

ReplacingSuite.suite("Replacing in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))
ReplacingSuite.suite("Replacing on PostgreSQL", Layer.provide(sql, TestPostgres.layer({ maxConnections: 1 })))
ReplacingSuite.suite("Replacing on the embedded store", Layer.provide(sql, EmbeddedStore.layer))
