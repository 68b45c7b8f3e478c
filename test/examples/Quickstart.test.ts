import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import * as TestPostgres from "../support/Postgres.ts"

const main = fileURLToPath(new URL("../../examples/quickstart/main.ts", import.meta.url))

const quickstart = (...flags: ReadonlyArray<string>) =>
  Effect.flatMap(
    ChildProcessSpawner.ChildProcessSpawner,
    (spawner) =>
      spawner.string(ChildProcess.make(process.execPath, ["--conditions=source", main, ...flags]), {
        includeStderr: true
      })
  )

/** The lines that tell of steps, in order. */
const steps = (output: string) => [...output.matchAll(/ step +(\w+):/g)].map((match) => match[1]!)

layer(Layer.mergeAll(NodeServices.layer, Layer.effect(TestPostgres.TestDatabase, TestPostgres.database)), {
  excludeTestServices: true
})(
  "quick start",
  (it) => {
    it.effect("tells the story of an order in memory", () =>
      Effect.gen(function*() {
        const output = yield* quickstart("--memory")
        assert.deepStrictEqual(steps(output), ["charge", "reserve", "notify"])
        assert.include(output, "task order-fulfilment: completed, attempts 1")
        assert.include(output, "the order is fulfilled, tracking TRACK123")
      }), 60_000)

    it.effect("survives the death of its worker on a server, and no step runs twice", () =>
      Effect.gen(function*() {
        const { url } = yield* TestPostgres.TestDatabase
        const output = yield* quickstart("--crash", "--url", url)
        assert.deepStrictEqual(steps(output), ["charge", "reserve", "notify"])
        assert.include(output, "task order-fulfilment: completed, attempts 2")
        assert.include(output, "charge, reserve, notify. No step ran twice.")
      }), 60_000)
  }
)
