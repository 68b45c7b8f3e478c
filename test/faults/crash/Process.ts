/**
 * A worker process of the crash test. It loads its code, begins to work when it is told to by a line on its standard input,
 * says so on its standard output, and is gone when its input is closed.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { Absurd, Worker } from "effect-absurd"
import { writeSync } from "node:fs"
import * as Ledger from "./Ledger.ts"
import * as Story from "./Story.ts"

const [url = "", ledger = "", lease = "", grace = ""] = process.argv.slice(2)

const write = (line: Omit<Ledger.Line, "at" | "pid">) =>
  Effect.sync(() => Ledger.append(ledger, { at: Date.now(), pid: process.pid, ...line }))

const Main = Worker.layer({
  queue: Story.queue,
  concurrency: 20,
  lease: `${Number(lease)} seconds`,
  pollInterval: Story.pollInterval,
  shutdownGrace: `${Number(grace)} seconds`
}).pipe(
  Layer.provide(Story.layer(write)),
  Layer.provide(Absurd.layerWith({ workerId: `pid-${process.pid}` })),
  Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 8 }))
)

process.stdin.once("data", () => {
  process.stdin.once("end", () => process.exit(1))
  NodeRuntime.runMain(
    Layer.launch(Layer.effectDiscard(Effect.sync(() => writeSync(1, "started\n"))).pipe(Layer.provideMerge(Main)))
  )
})
process.stdin.once("end", () => process.exit(1))
