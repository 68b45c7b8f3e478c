import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Limit } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import * as Fs from "node:fs"
import * as Tenants from "../../examples/limits/tenants.ts"

const root = new URL("../../", import.meta.url)
const read = (path: string) => Fs.readFileSync(new URL(path, root), "utf8")

const program = Layer.mergeAll(Tenants.ImportLive, Tenants.CallLive).pipe(Layer.provideMerge(AbsurdTest.layer))

describe("docs/limits.md", () => {
  it("shows its example as it is", () => {
    assert.include(read("docs/limits.md"), read("examples/limits/tenants.ts"))
  })

  it.effect("imports of a tenant take turns, and all of them are done", () =>
    Effect.gen(function*() {
      const imports = yield* Tenants.Import.spawnMany(
        ["one", "two", "three", "four"].map((file) => ({ tenant: "acme", file }))
      )
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.advance("1 hour")
      const done = yield* Effect.forEach(imports, (task) => task.await)
      assert.deepStrictEqual(done, ["one of acme", "two of acme", "three of acme", "four of acme"])
    }).pipe(Effect.provide(program)))

  it.effect("calls of a key are spread, those of others are not kept waiting", () =>
    Effect.gen(function*() {
      yield* Tenants.Call.spawnMany([{ apiKey: "a" }, { apiKey: "a" }, { apiKey: "a" }, { apiKey: "b" }])
      yield* AbsurdTest.runUntilIdle()
      const waiting = Effect.map(Limit.list(), (limits) => limits.map((limit) => limit.admitted + limit.waiting))
      assert.deepStrictEqual(yield* waiting, [2])
      yield* AbsurdTest.advance("6 seconds")
      assert.deepStrictEqual(yield* waiting, [1])
      yield* AbsurdTest.advance("6 seconds")
      assert.deepStrictEqual(yield* waiting, [0])
    }).pipe(Effect.provide(program)))

  it.effect("an operator makes other figures hold for a while, and sees what there is", () =>
    Effect.gen(function*() {
      yield* Tenants.Import.spawn({ tenant: "acme", file: "one" })
      const { all, largest } = yield* Tenants.hurry
      assert.deepStrictEqual(largest, [])
      assert.deepStrictEqual(all, [{
        name: "imports-per-tenant",
        figures: { concurrency: 20, rate: null },
        declared: { concurrency: 2, rate: null },
        isOverridden: true,
        admitted: 0,
        waiting: 0
      }])
    }).pipe(Effect.provide(program)))
})
