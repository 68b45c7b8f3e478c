import { Effect, Layer, Schedule, Schema } from "effect"
import { Absurd, Event, Step, Task, Worker } from "effect-absurd"

const Packed = Event.make("shipment.packed", { payload: Schema.Struct({ tracking: Schema.String }) })

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}

export const FulfilOrder = Task.make("order-fulfilment", {
  params: { orderId: Schema.String, sku: Schema.String, amount: Schema.Int },
  success: Schema.Struct({ tracking: Schema.String }),
  error: OutOfStock,
  retry: Schedule.exponential("1 second").pipe(Schedule.jittered, Schedule.upTo({ times: 5 })),
  idempotencyKey: ({ orderId }) => orderId
})

const Payment = Schema.Struct({ id: Schema.String, at: Schema.Date })
const charge = (orderId: string, _amount: number) => Effect.succeed({ id: `ch_${orderId}`, at: new Date(0) })
const reserve = (sku: string) => sku === "unobtainium" ? Effect.fail(new OutOfStock({ sku })) : Effect.void

export const FulfilOrderLive = FulfilOrder.toLayer(Effect.fn(function*({ amount, orderId, sku }) {
  yield* Step.run("charge", charge(orderId, amount), { success: Payment })
  yield* Step.run("reserve", reserve(sku))
  yield* Step.sleep("cool-off", "3 days")
  return yield* Packed.wait(orderId, { timeout: "14 days" })
}))

/** Places an order and waits, perhaps for days, until it is fulfilled. */
export const program = Effect.gen(function*() {
  const order = yield* FulfilOrder.spawn({ orderId: "42", sku: "widget", amount: 9999 })
  yield* Packed.emit("42", { tracking: "TRACK123" })
  return yield* order.await
})

/** A worker with the handlers it serves. It needs a client: `Absurd.layer` on PostgreSQL, `Absurd.layerMemory` in tests. */
export const WorkerLive = Worker.layer({ concurrency: 50 }).pipe(
  Layer.provide([FulfilOrderLive, Absurd.layerQueue("absurd_default")])
)
