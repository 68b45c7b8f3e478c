/**
 * A worker process of the crash test. It writes a line to its ledger, a file that is only ever appended to, when a step
 * begins, when its checkpoint is acknowledged, and when a wait is over.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { Absurd, Worker } from "effect-absurd"
import { appendFileSync } from "node:fs"
import * as Story from "./Story.ts"

const [url = "", ledger = "", grace = "5 seconds"] = process.argv.slice(2)

const write = (line: string) => Effect.sync(() => appendFileSync(ledger, `${line}\n`))

const Main = Worker.layer({
  queue: Story.queue,
  concurrency: 20,
  lease: "2 seconds",
  pollInterval: "50 millis",
  shutdownGrace: grace as `${number} seconds`
}).pipe(
  Layer.provide(Story.layer(write)),
  Layer.provide(Absurd.layerWith({ workerId: `pid-${process.pid}` })),
  Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 8 }))
)

NodeRuntime.runMain(Layer.launch(Layer.effectDiscard(write(`start ${process.pid}`)).pipe(Layer.provideMerge(Main))))
