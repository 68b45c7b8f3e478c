import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Config, Layer } from "effect"
import { Absurd, Installation, Worker } from "effect-absurd"
import { FulfilOrderLive } from "./order.ts"

const Database = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })

const Main = Worker.layer({ queue: "orders", concurrency: 50 }).pipe(
  Layer.provide([FulfilOrderLive, Absurd.layerQueue("orders")]), // the handlers this process serves, and its queue
  Layer.provide(Absurd.layerWith({ queue: "orders" })), // the client: needs an SqlClient
  Layer.provide(Installation.layer), // installs or upgrades the schema; leave it out where the role may not
  Layer.provide(Database)
)

NodeRuntime.runMain(Layer.launch(Main))
