import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Config, Layer } from "effect"
import { Absurd, Installation, Worker } from "effect-absurd"
import { MakeReportLive, SendEmailLive } from "./tasks.ts"

const Main = Worker.layer({
  // While both have work, three places of four are for emails; what one does not need is the other's.
  queues: { emails: 3, reports: 1 },
  concurrency: 40,
  // Reports take memory.
  taskConcurrency: { "make-report": 2 },
  // Less than what the platform waits for after SIGTERM.
  shutdownGrace: "25 seconds"
}).pipe(
  Layer.provide([SendEmailLive, MakeReportLive, Absurd.layerQueue("emails"), Absurd.layerQueue("reports")]),
  Layer.provide(Absurd.layerConfig({
    workerId: Config.String("HOSTNAME").pipe(Config.withDefault("worker")),
    notifications: Config.Boolean("LISTEN").pipe(Config.withDefault(true))
  })),
  Layer.provide(Installation.layer),
  Layer.provide(PgClient.layerConfig({
    url: Config.Redacted("DATABASE_URL"),
    maxConnections: Config.succeed(12),
    // False behind a pooler of transactions.
    prepare: Config.Boolean("PREPARE").pipe(Config.withDefault(true))
  }))
)

NodeRuntime.runMain(Layer.launch(Main))
