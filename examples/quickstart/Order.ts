/**
 * An order, fulfilled durably: the task, its event, and its handler.
 */
import { Effect, Schedule, Schema } from "effect"
import { CurrentRun, Event, Step, Task } from "effect-absurd"
import { Story } from "./Story.ts"

export const Packed = Event.make("shipment.packed", {
  queue: "orders",
  payload: Schema.Struct({ tracking: Schema.String })
})

export class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}

export const FulfilOrder = Task.make("order-fulfilment", {
  queue: "orders",
  params: { orderId: Schema.String, sku: Schema.String, amount: Schema.Int },
  success: Schema.Struct({ tracking: Schema.String }),
  error: OutOfStock,
  retry: Schedule.exponential("1 second").pipe(Schedule.jittered, Schedule.upTo({ times: 5 })),
  idempotencyKey: ({ orderId }) => orderId
})

const Payment = Schema.Struct({ id: Schema.String, at: Schema.Date })

export const FulfilOrderLive = FulfilOrder.toLayer(Effect.fn(function*({ amount, orderId, sku }) {
  const story = yield* Story
  const { attempt } = yield* CurrentRun
  yield* story.tell("worker", `claimed the run, attempt ${attempt}`)
  const payment = yield* Step.run("charge", story.charge(orderId, amount), { success: Payment })
  yield* story.betweenSteps
  yield* Step.run("reserve", story.reserve(sku))
  yield* Step.sleep("cool-off", "1 second").pipe(story.suspending("the sleep cool-off, one second"))
  const { tracking } = yield* Packed.wait(orderId, { timeout: "14 days" }).pipe(
    story.suspending("the event shipment.packed")
  )
  yield* Step.run("notify", story.notify(orderId, payment.id, tracking))
  return { tracking }
}))
