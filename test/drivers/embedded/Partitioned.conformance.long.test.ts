import { afterAll } from "@effect/vitest"
import { Layer, ManagedRuntime } from "effect"
import * as PostgresDriver from "../../../src/drivers/postgres/PostgresDriver.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Suites from "../../conformance/Suites.ts"
import * as EmbeddedStore from "../../support/EmbeddedStore.ts"
import * as TestTime from "../../support/TestTime.ts"

// An embedded PostgreSQL takes more than a second to start, so all suites share one.
const store = ManagedRuntime.make(EmbeddedStore.layer)
afterAll(() => store.dispose())

Suites.all(
  "the embedded store with partitioned queues",
  Layer.mergeAll(PostgresDriver.layer, TestTime.layerSql, Layer.succeed(Fixture.Storage, "partitioned")).pipe(
    Layer.provide(Layer.effectContext(store.contextEffect))
  )
)
