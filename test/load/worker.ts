/** A worker process of the load test. Its argument is the URL of the database. */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Absurd, Step, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"

export const ThreeSteps = Task.make("three-steps", {
  queue: "load",
  params: { n: Schema.Int },
  success: Schema.Int
})

const ThreeStepsLive = ThreeSteps.toLayer(Effect.fn(function*({ n }) {
  const sql = yield* SqlClient.SqlClient
  // The ledger is told of every time that a body runs.
  const step = (name: string, value: number) =>
    Step.run(name, Effect.orDie(Effect.as(sql`INSERT INTO public.bodies VALUES (${String(n)}, ${name})`, value)))
  const first = yield* step("first", n + 1)
  const second = yield* step("second", first + 1)
  return yield* step("third", second + 1)
}))

const url = process.argv[2]
if (import.meta.main && url !== undefined) {
  NodeRuntime.runMain(Layer.launch(
    Worker.layer({ queue: "load", concurrency: 100, pollInterval: "50 millis" }).pipe(
      Layer.provide(ThreeStepsLive),
      Layer.provide(Absurd.layer),
      Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 4 }))
    )
  ))
}
