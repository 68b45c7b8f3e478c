import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { Absurd, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import * as Order from "../../examples/readme/order.ts"

const root = new URL("../../", import.meta.url)
const read = (path: string) => Fs.readFileSync(new URL(path, root), "utf8")

describe("README", () => {
  it("shows its examples as they are", () => {
    for (const example of ["order", "main"]) assert.include(read("README.md"), read(`examples/readme/${example}.ts`))
  })

  it("links only to what exists", () => {
    const targets = [...read("README.md").matchAll(/\]\((?!https?:)([^)#]+)/g)].map((match) => match[1]!)
    assert.isAbove(targets.length, 3)
    assert.deepStrictEqual(targets.filter((target) => !Fs.existsSync(new URL(target, root))), [])
  })

  it("names only scripts that exist", () => {
    const scripts = Object.keys(JSON.parse(read("package.json")).scripts)
    const named = [...read("README.md").matchAll(/npm (?:run (?:--silent )?)?(quickstart|test|schema|bench[:\w]*)/g)]
    assert.deepStrictEqual(named.map((match) => match[1]!).filter((script) => !scripts.includes(script)), [])
  })

  it.effect("the order is fulfilled after its cool-off", () =>
    Effect.gen(function*() {
      yield* Absurd.createQueue("absurd_default")
      yield* Order.FulfilOrder.spawn({ orderId: "42", sku: "widget", amount: 9999 })
      assert.deepStrictEqual(yield* Worker.runOnce(), [{ _tag: "Suspended" }])
      yield* TestClock.adjust("3 days")
      assert.deepStrictEqual(yield* Worker.runOnce(), [{ _tag: "Suspended" }])
      // Finds the order by its key, emits, and waits.
      const program = yield* Effect.forkChild(Order.program)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* Worker.runOnce(), [{ _tag: "Completed" }])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(program), { tracking: "TRACK123" })
    }).pipe(Effect.provide(Layer.provideMerge(Order.FulfilOrderLive, Absurd.layerMemory))))
})
