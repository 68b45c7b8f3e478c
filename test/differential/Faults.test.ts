import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { afterAll } from "vitest"
import type * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"
import * as Differential from "./Differential.ts"
import { faults, load } from "./Faults.ts"
import * as Replay from "./Replay.ts"

const folder = fileURLToPath(new URL(`.faults-${process.pid}`, import.meta.url))
afterAll(() => Fs.rmSync(folder, { recursive: true, force: true }))

const explore = (name: string, make: typeof MemoryDriver.make, operations: number) =>
  Effect.gen(function*() {
    const sound = yield* Replay.memory
    return yield* Differential.explore(sound, yield* Replay.inMemory(name, make), {
      operations,
      seed: 1,
      length: 60,
      maxShrinks: 0
    })
  })

describe("faults", () => {
  it.effect("a faultless copy shows no difference", () =>
    Effect.gen(function*() {
      const copy = yield* Effect.promise(() => load(`${folder}/none`, { file: "none", find: "", put: "" }))
      assert.isAtLeast(yield* explore("copy", copy.make, 2000), 2000)
    }), 60_000)

  for (const [place, [name, fault]] of Object.entries(faults).entries()) {
    it.effect(`found: ${name}`, () =>
      Effect.gen(function*() {
        const copy = yield* Effect.promise(() => load(`${folder}/${place}`, fault))
        const exit = yield* Effect.exit(explore(name, copy.make, 20_000))
        if (Exit.isSuccess(exit)) return assert.fail(`not found in ${exit.value} operations`)
        assert.include(String(Cause.squash(exit.cause)), `memory and ${name} differ`)
      }), 60_000)
  }
})
