/** A worker process of `Processes.long.test.ts`, which starts and ends like that of the crash test. */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { existsSync, writeSync } from "node:fs"
import * as Ledger from "../../../faults/crash/Ledger.ts"
import * as Story from "./Story.ts"

const [url = "", ledger = "", lease = "", grace = ""] = process.argv.slice(2)

const write: Story.Write = (line) =>
  Effect.sync(() => Ledger.append(ledger, { at: Date.now(), pid: process.pid, ...line }))

const Main = Layer.suspend(() => Story.layer(write, existsSync(`${ledger}.last`))).pipe(
  Layer.provide(AbsurdWorkflowEngine.layer({
    queue: Story.queue,
    concurrency: 20,
    lease: `${Number(lease)} seconds`,
    pollInterval: "50 millis",
    shutdownGrace: `${Number(grace)} seconds`
  })),
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
