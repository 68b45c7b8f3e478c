/** An order: paid, cooled off, packed by the warehouse, and the customer told. */
import { Context, Effect, Schedule, Schema } from "effect"
import { Event, Step, Task } from "effect-absurd"

export class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}

/** What the order needs of the world. */
export class Shop extends Context.Service<Shop, {
  /** Takes money once per key, however often it is asked. */
  readonly charge: (key: string, cents: number) => Effect.Effect<string>
  readonly reserve: (sku: string) => Effect.Effect<void, OutOfStock>
  readonly tell: (orderId: string, what: string) => Effect.Effect<void>
}>()("examples/testing/Shop") {}

export const Packed = Event.make("packed", { payload: Schema.Struct({ tracking: Schema.String }) })

export const Order = Task.make("order", {
  params: { orderId: Schema.String, sku: Schema.String, cents: Schema.Int },
  success: Schema.Union([
    Schema.TaggedStruct("Sent", { tracking: Schema.String }),
    Schema.TaggedStruct("GivenUp", {})
  ]),
  error: OutOfStock,
  retry: Schedule.exponential("1 minute").pipe(Schedule.upTo({ times: 4 })),
  idempotencyKey: ({ orderId }) => orderId
})

export const OrderLive = Order.toLayer(Effect.fn(function*({ cents, orderId, sku }) {
  const shop = yield* Shop
  yield* Step.run("reserve", shop.reserve(sku))
  yield* Step.run("charge", shop.charge(orderId, cents))
  yield* Step.sleep("cool-off", "3 days")
  const packed = yield* Packed.wait(orderId, { timeout: "14 days" }).pipe(
    Effect.catchTag("Timeout", () => Effect.succeed(undefined))
  )
  yield* Step.run("tell", shop.tell(orderId, packed === undefined ? "given up" : packed.tracking))
  return packed === undefined ? { _tag: "GivenUp" as const } : { _tag: "Sent" as const, tracking: packed.tracking }
}))
