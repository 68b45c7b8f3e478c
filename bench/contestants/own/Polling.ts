/** A worker that hears no hints. */
import { PgClient } from "@effect/sql-pg"
import { Duration, Layer, Logger, ManagedRuntime, Redacted } from "effect"
import { Effect } from "effect"
import { Absurd, PostgresDriver, Task, Worker } from "effect-absurd"
import { queue } from "../AbsurdTables.ts"
import type { Own } from "./Own.ts"

const Noop = Task.make("noop", { params: {}, queue })
const interval = Duration.millis(250)

/** With a client of its own, since hints pass from whoever spawns to the workers of the same client. */
export const startPolling = (url: string): Own["startPolling"] => async (onTask) => {
  const client = Absurd.layerDriver({ queue }).pipe(
    Layer.provide(PostgresDriver.layerWith({ notifications: false })),
    Layer.provide(PgClient.layer({ url: Redacted.make(url) }))
  )
  const worker = Worker.layer({ concurrency: 50, pollInterval: interval }).pipe(
    Layer.provide(Noop.toLayer(() => Effect.sync(onTask))),
    Layer.provide(client),
    Layer.provide(Logger.layer([]))
  )
  const runtime = ManagedRuntime.make(worker)
  await runtime.context()
  return { stop: () => runtime.dispose(), interval: Duration.toMillis(interval) }
}
