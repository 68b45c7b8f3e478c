import { assert, layer as tests } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd, Cron, PostgresDriver, Task } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as CronSuite from "../conformance/CronSuite.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

CronSuite.suite(
  "Cron on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)

CronSuite.suite("Cron in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))

// Who listens looks every few seconds whether he still hears something: twelve million times within two years.
const quiet = Absurd.layerDriver().pipe(Layer.provide(PostgresDriver.layerWith({ notifications: false })))

CronSuite.suite(
  "Cron on the embedded store",
  Layer.mergeAll(quiet, TestTime.layerSql).pipe(Layer.provide(EmbeddedStore.layer))
)

tests(Layer.provideMerge(Absurd.layer, TestPostgres.layer({ maxConnections: 8 })))("Cron on many connections", (it) => {
  it.effect("passes that run at the same time spawn each tick once", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Absurd.createQueue("cron")
      const Tick = Task.make("tick", { queue: "cron", params: {} })
      yield* Cron.declare(Cron.make("each minute", "* * * * *", Tick, {}, { missed: "all" }))
      yield* sql`update absurd_effect.schedules set after = date_trunc('minute', now()) - interval '1 hour'`
      const passes = yield* Effect.all(Array.from({ length: 8 }, () => Cron.runDue), { concurrency: "unbounded" })
      const spawned = passes.flat()
      const stored = (yield* Absurd.claimTask({ queue: "cron", qty: 1000 })).map((run) => run.taskId)
      assert.isAtLeast(stored.length, 60)
      assert.deepStrictEqual([...spawned].sort(), [...stored].sort())
    }))
})
