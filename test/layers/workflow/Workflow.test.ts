import { afterAll } from "@effect/vitest"
import { Layer, ManagedRuntime } from "effect"
import { Absurd, Installation } from "effect-absurd"
import * as Embedded from "effect-absurd/Embedded"
import * as TestPostgres from "../../support/Postgres.ts"
import * as TestTime from "../../support/TestTime.ts"
import * as BasicSuite from "./BasicSuite.ts"
import * as DurableSuite from "./DurableSuite.ts"
import * as EndingSuite from "./EndingSuite.ts"
import * as ListSuite from "./ListSuite.ts"
import * as OnceSuite from "./OnceSuite.ts"
import * as QueueSuite from "./QueueSuite.ts"
import * as SameSuite from "./SameSuite.ts"
import * as StressSuite from "./StressSuite.ts"

// An embedded PostgreSQL takes more than a second to start, so all suites share one.
const embedded = ManagedRuntime.make(Layer.provideMerge(Installation.layer, Embedded.layer()))
afterAll(() => embedded.dispose())

const stores = {
  "in memory": Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory),
  "on the embedded store": Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(
    Layer.provide(Layer.effectContext(embedded.contextEffect))
  ),
  "on PostgreSQL": Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(
    Layer.provide(TestPostgres.layer({ maxConnections: 1 }))
  )
}

for (const [where, store] of Object.entries(stores)) {
  BasicSuite.suite(`Executions ${where}`, store)
  DurableSuite.suite(`Waits and children ${where}`, store)
  OnceSuite.suite(`Happening once ${where}`, store)
  EndingSuite.suite(`Interrupts and ends ${where}`, store)
  ListSuite.suite(`Lists ${where}`, store)
  QueueSuite.suite(`Durable queues ${where}`, store)
  SameSuite.suite(`As in Effect's engine ${where}`, store)
  StressSuite.suite(`Stress ${where}`, where === "in memory" ? 1000 : 100, store)
}
