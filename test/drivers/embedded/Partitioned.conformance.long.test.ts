import { Layer } from "effect"
import * as PostgresDriver from "../../../src/drivers/postgres/PostgresDriver.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Suites from "../../conformance/Suites.ts"
import * as EmbeddedStore from "../../support/EmbeddedStore.ts"
import * as TestTime from "../../support/TestTime.ts"

// A store for each suite: what is done for all queues would take minutes with the partitions of a thousand.
Suites.all(
  "the embedded store with partitioned queues",
  Layer.mergeAll(PostgresDriver.layer, TestTime.layerSql, Layer.succeed(Fixture.Storage, "partitioned")).pipe(
    Layer.provide(EmbeddedStore.layer)
  )
)
