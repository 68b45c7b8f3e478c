/** A worker process of ours for the mixed tasks. Its argument is the URL of the database. */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Layer, Logger, Redacted } from "effect"
import { Absurd, Worker } from "effect-absurd"
import { Pool } from "pg"
import * as Mixed from "../interop/support/Mixed.ts"

const url = process.argv[2]
if (url === undefined) throw new Error("The URL of the database is missing")

const witness = Mixed.databaseWitness(new Pool({ connectionString: url, max: 2 }))

NodeRuntime.runMain(Layer.launch(
  Worker.layer({ queue: "load", concurrency: 20, pollInterval: "50 millis" }).pipe(
    Layer.provide(Mixed.ourHandlers("load", witness)),
    Layer.provide(Absurd.layer),
    Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 4 })),
    // What fails as planned is no news.
    Layer.provide(Logger.layer([]))
  )
))
