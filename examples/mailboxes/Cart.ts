import { Effect, Schema } from "effect"
import { Mailbox, Step, Task } from "effect-absurd"

const Item = Schema.Struct({ sku: Schema.String, price: Schema.Int })

/** What a customer puts into a cart. */
export const Added = Mailbox.make("added", { payload: Item })

/** What somebody wants to know of a cart. */
export const Total = Mailbox.requests("total", { payload: Schema.Void, reply: Schema.Int })

export const Cart = Task.make("cart", { params: { size: Schema.Int }, success: Schema.Array(Item) })

/** Takes so many items, tells what they cost, and ends; a customer who stays away for a week ends it as well. */
export const CartLive = Cart.toLayer(Effect.fn(function*({ size }) {
  const items: Array<typeof Item.Type> = []
  while (items.length < size) {
    const item = yield* Added.take.pipe(
      Step.timeout("next item", "7 days"),
      Effect.catchTag("Timeout", () => Effect.undefined)
    )
    if (item === undefined) return items
    items.push(item)
  }
  const { reply } = yield* Total.take
  yield* Effect.orDie(reply(items.reduce((sum, { price }) => sum + price, 0)))
  return items
}))

/** A customer. */
export const shopping = Effect.gen(function*() {
  const cart = yield* Cart.spawn({ size: 2 })
  yield* Added.send(cart, { sku: "widget", price: 300 })
  yield* Added.send(cart, { sku: "gadget", price: 400 })
  const total = yield* Total.ask(cart, undefined, { timeout: "1 minute" })
  return { total, items: yield* cart.await }
})
