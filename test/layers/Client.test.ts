import { Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as ClientSuite from "../conformance/ClientSuite.ts"
import * as FencingSuite from "../conformance/FencingSuite.ts"
import * as Dump from "../support/Dump.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const memory = Layer.mergeAll(Layer.provideMerge(Absurd.layerDriver(), Dump.layerMemory), TestTime.layerMemory)
const sql = Layer.mergeAll(Absurd.layer, TestTime.layerSql, Dump.layerSql)
const postgres = Layer.provide(sql, TestPostgres.layer({ maxConnections: 1 }))
const embedded = Layer.provide(sql, EmbeddedStore.layer)

ClientSuite.suite("The client in memory", memory)
ClientSuite.suite("The client on PostgreSQL", postgres)
ClientSuite.suite("The client on the embedded store", embedded)

FencingSuite.suite("Lost claims in memory", memory)
FencingSuite.suite("Lost claims on PostgreSQL", postgres)
FencingSuite.suite("Lost claims on the embedded store", embedded)
