/**
 * A worker process with a task that ends with its worker only. Its arguments are the URL of the database and the grace time
 * in seconds.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Absurd, Task, Worker } from "effect-absurd"
import { writeSync } from "node:fs"

export const Forever = Task.make("forever", { queue: "deploy", params: Schema.Null })

const say = (line: string) => Effect.sync(() => writeSync(1, `${line}\n`))

const ForeverLive = Forever.toLayer(() =>
  Effect.andThen(say("begun"), Effect.never).pipe(Effect.ensuring(say("finalized")))
)

const [url, grace] = process.argv.slice(2)
if (import.meta.main && url !== undefined) {
  NodeRuntime.runMain(Layer.launch(
    Worker.layer({ queue: "deploy", shutdownGrace: `${Number(grace)} seconds` }).pipe(
      Layer.provide(ForeverLive),
      Layer.provide(Absurd.layer),
      Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 4 }))
    )
  ))
}
