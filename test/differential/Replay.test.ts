import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { afterAll } from "vitest"
import { Driver } from "../../src/core/Driver.ts"
import * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"
import * as PostgresDriver from "../../src/drivers/postgres/PostgresDriver.ts"
import * as Sql from "../../src/layers/AbsurdTestSql.ts"
import { TestStore } from "../../src/layers/testkit/TestStore.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import type { Command } from "./Command.ts"
import * as Differential from "./Differential.ts"
import { faults, load } from "./Faults.ts"
import { inMemory, memory, replay } from "./Replay.ts"

const folder = fileURLToPath(new URL(`../../.tmp/replay-${process.pid}`, import.meta.url))
afterAll(() => Fs.rmSync(folder, { recursive: true, force: true }))

const spawned = (params: string): Command => ({
  _tag: "spawn",
  queue: "a",
  tasks: [{
    name: "one",
    params: params as "1",
    headers: false,
    limit: null,
    retryStrategy: null,
    maxAttempts: null,
    cancellation: null,
    idempotencyKey: "k",
    delay: null
  }]
})

/** Gives a store to `replay`, as the layer of a test would. */
const on = (make: typeof MemoryDriver.make, commands: ReadonlyArray<Command>) =>
  Effect.gen(function*() {
    const { driver, store } = yield* make
    return yield* replay(commands).pipe(
      Effect.provideService(Driver, driver),
      Effect.provideService(TestStore, {
        ...store,
        setTime: () => Effect.void,
        settle: Effect.void,
        shifts: new Set<never>()
      })
    )
  })

describe("what prints when stores differ", () => {
  it.effect("is the call of a test, with no operation that it could do without", () =>
    Effect.gen(function*() {
      const copy = yield* Effect.promise(() => load(folder, faults["idempotency is ignored"]!))
      const faulty = yield* inMemory("faulty", copy.make)
      const found = yield* Effect.flip(
        Differential.explore(yield* memory, faulty, { operations: 20_000, seed: 1 })
      )
      assert.include(found.message, "memory and faulty differ (seed ")
      const call = /replay\((.*)\)\)\n/.exec(found.message)
      if (call === null) return assert.fail(`no call in ${found.message}`)
      const commands = JSON.parse(call[1]!) as ReadonlyArray<Command>

      assert.isAtMost(commands.length, 2)
      const difference = yield* Effect.flip(on(copy.make, commands))
      assert.instanceOf(difference, Differential.Difference)
      yield* on(MemoryDriver.make, commands)
      for (const place of commands.keys()) yield* on(copy.make, commands.toSpliced(place, 1))
    }), 60_000)
})

const sql = Layer.merge(PostgresDriver.layer, Sql.layer)

layer(sql.pipe(Layer.provide(EmbeddedStore.layer)))("replay", (it) => {
  it.effect("runs a sequence on the store of the test", () =>
    replay([
      spawned("1"),
      { _tag: "claim", queue: "a", lease: 1000, limit: 1, except: null },
      spawned("null"),
      spawned("1")
    ]))
})
