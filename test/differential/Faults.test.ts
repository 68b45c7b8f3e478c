import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { afterAll } from "vitest"
import type * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"
import * as Differential from "./Differential.ts"
import { faults, load } from "./Faults.ts"
import * as Replay from "./Replay.ts"

const folder = fileURLToPath(new URL(`../../.tmp/faults-${process.pid}`, import.meta.url))
afterAll(() => Fs.rmSync(folder, { recursive: true, force: true }))

/** Far enough apart that no two of them explore the same sequences. */
const seeds = [1, 10_001, 20_001]

const explore = (name: string, make: typeof MemoryDriver.make, options: { operations: number; seed: number }) =>
  Effect.gen(function*() {
    const sound = yield* Replay.memory
    return yield* Differential.explore(sound, yield* Replay.inMemory(name, make), { ...options, maxShrinks: 0 })
  })

describe("faults", () => {
  it.effect("a faultless copy shows no difference", () =>
    Effect.gen(function*() {
      const copy = yield* Effect.promise(() => load(`${folder}/none`, { file: "none", find: "", put: "" }))
      assert.isAtLeast(yield* explore("copy", copy.make, { operations: 2000, seed: 1 }), 2000)
    }), 60_000)

  for (const [place, [name, fault]] of Object.entries(faults).entries()) {
    it.effect(`found from any seed: ${name}`, () =>
      Effect.gen(function*() {
        const copy = yield* Effect.promise(() => load(`${folder}/${place}`, fault))
        for (const seed of seeds) {
          const found = yield* Effect.flip(explore(name, copy.make, { operations: 5000, seed }))
          assert.instanceOf(found, Differential.Found)
          assert.include(found.message, `memory and ${name} differ`)
          // A copy that does not work at all would be found too.
          const { actual, expected, what } = found.difference
          assert.notStrictEqual(what, "a defect")
          assert.notInclude(expected + actual, "{\"defect\"")
        }
      }), 120_000)
  }
})
