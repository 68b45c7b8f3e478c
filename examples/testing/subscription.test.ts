import { assert, layer } from "@effect/vitest"
import { Context, DateTime, Effect, Layer, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import { Billing, Subscription, SubscriptionLive } from "./subscription.ts"

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
  Layer.provideMerge(Layer.sync(Ledger, () => ({ billed: new Map(), failures: 0 })))
)

const reset = (failures: number) =>
  Ledger.useSync((ledger) => {
    ledger.billed.clear()
    ledger.failures = failures
  })

/** Runs on any store. */
export const suite = (
  store: string,
  storeLive: Layer.Layer<Absurd.Absurd | AbsurdTest.TestStore, unknown>,
  runs = 10
) =>
  layer(TestLive.pipe(Layer.provideMerge(storeLive)), { concurrent: false })(`a subscription, ${store}`, (it) => {
    const params = { cents: Schema.Natural, failures: Schema.Literals([0, 1, 3]) }
    const months = 24

    it.effect.prop("bills each month of two years on its day", params, ({ cents, failures }) =>
      Effect.gen(function*() {
        yield* reset(failures)
        const since = DateTime.add(yield* AbsurdTest.now, { days: 1 })
        const task = yield* Subscription.spawn({ customer: "c", cents, since, months })
        yield* AbsurdTest.advance("750 days")
        yield* AbsurdTest.expectCompleted(task, { billed: months * cents })
        const { billed } = yield* Ledger
        assert.strictEqual(billed.size, months)
        for (const [month, at] of billed) {
          const late = at.epochMilliseconds - DateTime.add(since, { months: month }).epochMilliseconds
          assert.isAtLeast(late, 0)
          assert.isAtMost(late, failures === 0 ? 0 : 60_000)
        }
      }), { arbitrary: { runs } })
  })

suite("in memory", AbsurdTest.layer)

layer(TestLive.pipe(Layer.provideMerge(AbsurdTest.layer)), { concurrent: false })(
  "a subscription that crashes",
  (it) => {
    const since = AbsurdTest.start
    const billed = (months: number) => Ledger.useSync(({ billed }) => assert.strictEqual(billed.size, months))

    it.effect.prop(
      "bills each month, whatever fails",
      {
        cents: Schema.Natural,
        months: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 })),
        failures: Schema.Literals([0, 1, 3])
      },
      ({ cents, failures, months }) =>
        Effect.gen(function*() {
          const { outcome } = yield* AbsurdTest.crashEverywhere(Subscription, { customer: "c", cents, since, months }, {
            before: reset(failures),
            after: billed(months)
          })
          assert.deepStrictEqual(outcome.result, { billed: months * cents })
        }),
      { arbitrary: { runs: 5 } }
    )

    it.effect("bills each month of two years", () =>
      Effect.gen(function*() {
        const months = 24
        const { points } = yield* AbsurdTest.crashEverywhere(Subscription, { customer: "c", cents: 1, since, months }, {
          before: reset(0),
          after: billed(months)
        })
        assert.isAbove(points.length, 4 * months)
      }), 60_000)
  }
)
