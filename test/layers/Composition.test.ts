import { Layer } from "effect"
import { Absurd, PostgresDriver } from "effect-absurd"
import * as ChangedCodeSuite from "../conformance/ChangedCodeSuite.ts"
import * as ChildSuite from "../conformance/ChildSuite.ts"
import * as CompositionSuite from "../conformance/CompositionSuite.ts"
import * as DecisionSuite from "../conformance/DecisionSuite.ts"
import * as MisuseSuite from "../conformance/MisuseSuite.ts"
import * as OwnershipSuite from "../conformance/OwnershipSuite.ts"
import * as SagaReplaySuite from "../conformance/SagaReplaySuite.ts"
import * as SagaSuite from "../conformance/SagaSuite.ts"
import * as CheckedMemory from "../support/CheckedMemory.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

// Who listens looks every few seconds whether he still hears something: half a million times within 30 days.
const client = Absurd.layerDriver().pipe(Layer.provide(PostgresDriver.layerWith({ notifications: false })))

const inMemory = Layer.mergeAll(CheckedMemory.layerAbsurd, TestTime.layerMemory)
const onPostgres = Layer.mergeAll(client, TestTime.layerSql).pipe(
  Layer.provide(TestPostgres.layer({ maxConnections: 1 }))
)
const onEmbedded = Layer.mergeAll(client, TestTime.layerSql).pipe(Layer.provide(EmbeddedStore.layer))

CompositionSuite.suite("Composition in memory", inMemory)
CompositionSuite.suite("Composition on PostgreSQL", onPostgres)
CompositionSuite.suite("Composition on the embedded store", onEmbedded)

ChildSuite.suite("Children in memory", inMemory)
ChildSuite.suite("Children on PostgreSQL", onPostgres)
ChildSuite.suite("Children on the embedded store", onEmbedded)

SagaSuite.suite("Sagas in memory", inMemory)
SagaSuite.suite("Sagas on PostgreSQL", onPostgres)
SagaSuite.suite("Sagas on the embedded store", onEmbedded)

SagaReplaySuite.suite("Sagas of all ways in memory", inMemory)
SagaReplaySuite.suite("Sagas of all ways on PostgreSQL", onPostgres)
SagaReplaySuite.suite("Sagas of all ways on the embedded store", onEmbedded)

DecisionSuite.suite("Decisions in memory", inMemory)
DecisionSuite.suite("Decisions on PostgreSQL", onPostgres)
DecisionSuite.suite("Decisions on the embedded store", onEmbedded)

MisuseSuite.suite("Misuse in memory", inMemory)
MisuseSuite.suite("Misuse on PostgreSQL", onPostgres)
MisuseSuite.suite("Misuse on the embedded store", onEmbedded)

OwnershipSuite.suite("Ownership in memory", inMemory)
OwnershipSuite.suite("Ownership on PostgreSQL", onPostgres)
OwnershipSuite.suite("Ownership on the embedded store", onEmbedded)

ChangedCodeSuite.suite("Changed code in memory", inMemory)
ChangedCodeSuite.suite("Changed code on PostgreSQL", onPostgres)
ChangedCodeSuite.suite("Changed code on the embedded store", onEmbedded)
