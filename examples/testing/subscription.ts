/** A subscription that bills every month, for years. */
import { Context, DateTime, Effect, Schema } from "effect"
import { Step, Task } from "effect-absurd"

export class Billing extends Context.Service<Billing, {
  /** Bills a month once, however often it is asked. */
  readonly bill: (customer: string, month: number, cents: number) => Effect.Effect<void>
}>()("examples/testing/Billing") {}

export const Subscription = Task.make("subscription", {
  params: { customer: Schema.String, cents: Schema.Int, since: Schema.DateTimeUtcFromString, months: Schema.Int },
  success: Schema.Struct({ billed: Schema.Int }),
  maxAttempts: 1000
})

export const SubscriptionLive = Subscription.toLayer(Effect.fn(function*({ cents, customer, months, since }) {
  const { bill } = yield* Billing
  let billed = 0
  for (let month = 0; month < months; month++) {
    yield* Step.sleepUntil(`until month ${month}`, DateTime.add(since, { months: month }))
    yield* Step.run(`bill month ${month}`, bill(customer, month, cents))
    billed += cents
  }
  return { billed }
}))
