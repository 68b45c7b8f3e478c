import { assert, layer } from "@effect/vitest"
import { Context, DateTime, Effect, Layer, Schema } from "effect"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import { Billing, months, Subscription, SubscriptionLive } from "./subscription.ts"

/** When each month was billed first, and how often billing still fails. */
class Ledger extends Context.Service<Ledger, {
  readonly billed: Map<number, DateTime.Utc>
  failures: number
}>()("examples/testing/Ledger") {}

const BillingLive = Layer.effect(
  Billing,
  Effect.map(Ledger, (ledger) => ({
    bill: (_, month) =>
      Effect.flatMap(DateTime.now, (now) =>
        Effect.suspend(() => {
          if (ledger.failures-- > 0) return Effect.die(new Error("the bank is closed"))
          if (!ledger.billed.has(month)) ledger.billed.set(month, now)
          return Effect.void
        }))
  }))
)

const TestLive = SubscriptionLive.pipe(
  Layer.provideMerge(BillingLive),
  Layer.provideMerge(Layer.sync(Ledger, () => ({ billed: new Map(), failures: 0 }))),
  Layer.provideMerge(AbsurdTest.layer)
)

const reset = (failures: number) =>
  Ledger.useSync((ledger) => {
    ledger.billed.clear()
    ledger.failures = failures
  })

layer(TestLive, { concurrent: false })("a subscription", (it) => {
  const params = { cents: Schema.Natural, failures: Schema.Literals([0, 1, 3]) }

  it.effect.prop("bills each month of two years on its day", params, ({ cents, failures }) =>
    Effect.gen(function*() {
      yield* reset(failures)
      const since = DateTime.add(yield* AbsurdTest.now, { days: 1 })
      const task = yield* Subscription.spawn({ customer: "c", cents, since })
      yield* AbsurdTest.advance("750 days")
      yield* AbsurdTest.expectCompleted(task, { billed: months * cents })
      const { billed } = yield* Ledger
      assert.strictEqual(billed.size, months)
      for (const [month, at] of billed) {
        const late = at.epochMilliseconds - DateTime.add(since, { months: month }).epochMilliseconds
        assert.isAtLeast(late, 0)
        assert.isAtMost(late, failures === 0 ? 0 : 60_000)
      }
    }), { arbitrary: { runs: 10 } })

  it.effect("survives every crash of two years", () =>
    Effect.gen(function*() {
      const since = AbsurdTest.start
      const { points } = yield* AbsurdTest.crashEverywhere(Subscription, { customer: "c", cents: 1, since }, {
        before: reset(0),
        after: Ledger.useSync(({ billed }) => assert.strictEqual(billed.size, months))
      })
      assert.isAbove(points.length, 4 * months)
    }), 60_000)
})
