/** A worker process of `Stress.long.test.ts`: `node Worker.ts <database url> [polling]`. */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Layer, Redacted } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import * as Race from "./Race.ts"

const [url = "", how = ""] = process.argv.slice(2)

NodeRuntime.runMain(Layer.launch(Race.layer.pipe(
  Layer.provide(AbsurdWorkflowEngine.layer({ queue: Race.queue, pollInterval: Race.pollInterval, concurrency: 50 })),
  Layer.provide(how === "polling" ? Race.layerPolling : Absurd.layer),
  Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 10 }))
)))
