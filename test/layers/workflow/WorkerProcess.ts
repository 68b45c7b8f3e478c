/** A worker for `Processes.long.test.ts`, to be killed: `node WorkerProcess.ts <database url> <queue>`. */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { SqlClient } from "effect/sql"
import { Activity, DurableClock, DurableDeferred } from "effect/workflow"
import { Approval, Crashed, CrashedChild } from "./Crashed.ts"

const [url = "", queue = ""] = process.argv.slice(2)

const act = (executionId: string, name: string) =>
  Activity.make({
    name,
    execute: Effect.flatMap(SqlClient.SqlClient, (sql) =>
      Effect.orDie(sql`insert into acts (execution, name) values (${executionId}, ${name})`))
  })

const workflows = Layer.merge(
  Crashed.toLayer(Effect.fn(function*({ number }, executionId) {
    yield* act(executionId, "first")
    const winner = yield* DurableDeferred.raceAll({
      name: "race",
      success: Approval.successSchema,
      error: Approval.errorSchema,
      effects: [
        DurableDeferred.await(Approval),
        Effect.as(
          DurableClock.sleep({
            name: "race",
            duration: number % 2 === 0 ? "1 hour" : "1 second",
            inMemoryThreshold: 0
          }),
          -1
        )
      ]
    })
    const child = yield* CrashedChild.execute({ number })
    yield* act(executionId, "last")
    return { number, child, approved: winner >= 0 }
  })),
  CrashedChild.toLayer(Effect.fn(function*({ number }, executionId) {
    yield* act(executionId, "child")
    yield* DurableClock.sleep({ name: "nap", duration: "20 millis", inMemoryThreshold: 0 })
    return number * 2
  }))
)

NodeRuntime.runMain(Layer.launch(workflows.pipe(
  Layer.provide(AbsurdWorkflowEngine.layer({ queue, lease: "1 second", pollInterval: "50 millis", concurrency: 10 })),
  Layer.provide(Absurd.layer),
  Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 4 }))
)))
