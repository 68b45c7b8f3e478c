import { Effect, Schema } from "effect"
import { Activity, DurableClock, DurableDeferred, Workflow } from "effect/workflow"

export class Declined extends Schema.TaggedError<Declined>()("Declined", { orderId: Schema.String }) {}

/** Completed by whoever approves the order, with their name. */
export const Approval = DurableDeferred.make("approval", { success: Schema.String })

export const Order = Workflow.make("Order", {
  payload: { orderId: Schema.String, amount: Schema.Int },
  idempotencyKey: ({ orderId }) => orderId,
  success: Schema.Struct({ payment: Schema.String, approvedBy: Schema.String }),
  error: Declined
})

// Calls to a system outside, which recognises a repeated request by its key.
const charge = (orderId: string, amount: number) =>
  Activity.make({
    name: "charge",
    success: Schema.String,
    execute: Effect.map(Activity.idempotencyKey("charge"), () => `${amount} for ${orderId}`)
  })
const refund = (payment: string) => Activity.make({ name: "refund", execute: Effect.logInfo(`Refunding ${payment}`) })

const nobody = (orderId: string) =>
  Effect.andThen(
    DurableClock.sleep({ name: "a day", duration: "1 day" }),
    Effect.fail(new Declined({ orderId }))
  )

export const OrderLayer = Order.toLayer(Effect.fn(function*({ amount, orderId }) {
  const payment = yield* charge(orderId, amount).pipe(Order.withCompensation((payment) => refund(payment)))
  const approvedBy = yield* DurableDeferred.raceAll({
    name: "approval within a day",
    success: Schema.String,
    error: Declined,
    effects: [DurableDeferred.await(Approval), nobody(orderId)]
  })
  return { approvedBy, payment }
}))
