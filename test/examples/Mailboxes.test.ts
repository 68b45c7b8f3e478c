import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import * as Fs from "node:fs"
import * as Cart from "../../examples/mailboxes/Cart.ts"

const root = new URL("../../", import.meta.url)
const read = (path: string) => Fs.readFileSync(new URL(path, root), "utf8")

const program = Layer.provideMerge(Cart.CartLive, AbsurdTest.layer)

describe("docs/mailboxes.md", () => {
  it("shows its example as it is", () => {
    assert.include(read("docs/mailboxes.md"), read("examples/mailboxes/Cart.ts"))
  })

  it.effect("a cart takes what is put into it, and tells what it costs", () =>
    Effect.gen(function*() {
      const { items, total } = yield* Effect.raceFirst(Cart.shopping, Effect.forever(AbsurdTest.advance("1 second")))
      assert.strictEqual(total, 700)
      assert.deepStrictEqual(items.map(({ sku }) => sku), ["widget", "gadget"])
    }).pipe(Effect.provide(program)))

  it.effect("a cart is left as it is by a customer who stays away", () =>
    Effect.gen(function*() {
      const cart = yield* Cart.Cart.spawn({ size: 2 })
      yield* Cart.Added.send(cart, { sku: "widget", price: 300 })
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.advance("8 days")
      assert.deepStrictEqual(yield* cart.await, [{ sku: "widget", price: 300 }])
    }).pipe(Effect.provide(program)))
})
