import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import { Order, OrderLive, OutOfStock, Packed, Shop } from "./order.ts"

/** The shop of the tests: what was done, and what goes wrong. */
class World extends Context.Service<World, {
  charges: Map<string, number>
  told: Array<string>
  /** How often reserving fails before it works. */
  failures: number
}>()("examples/testing/World") {}

const WorldLive = Layer.sync(World, () => ({ charges: new Map(), told: [], failures: 0 }))

const ShopLive = Layer.effect(
  Shop,
  Effect.map(World, (world) => ({
    charge: (key, cents) => Effect.sync(() => (world.charges.set(key, cents), `charge ${key}`)),
    reserve: (sku) => Effect.suspend(() => world.failures-- > 0 ? new OutOfStock({ sku }) : Effect.void),
    tell: (orderId, what) => Effect.sync(() => void world.told.push(`${orderId}: ${what}`))
  }))
)

const TestLive = OrderLive.pipe(Layer.provideMerge(ShopLive), Layer.provideMerge(WorldLive))

const Cents = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 }))

const reset = (failures: number) =>
  World.useSync((world) => {
    world.charges.clear()
    world.told.length = 0
    world.failures = failures
  })

const Params = Schema.Struct({ sku: Schema.Literals(["book", "lamp"]), cents: Cents })

let count = 0

/** Runs on any store. */
export const suite = (
  store: string,
  storeLive: Layer.Layer<Absurd.Absurd | AbsurdTest.TestStore, unknown>,
  runs = 50
) =>
  layer(TestLive.pipe(Layer.provideMerge(storeLive)), { concurrent: false })(`an order, ${store}`, (it) => {
    it.effect.prop(
      "ends as it should, whatever fails, and charges once",
      { order: Params, failures: Schema.Literals([0, 1, 4, 5]), packed: Schema.Boolean },
      ({ failures, order, packed }) =>
        Effect.gen(function*() {
          yield* reset(failures)
          const orderId = `order ${count++}`
          const task = yield* Order.spawn({ ...order, orderId })
          yield* AbsurdTest.advance("4 days")
          if (failures === 5) {
            yield* AbsurdTest.expectFailed(task, new OutOfStock({ sku: order.sku }))
            const { charges } = yield* World
            return assert.strictEqual(charges.size, 0)
          }
          yield* AbsurdTest.expectSuspended(task, { event: `packed:${orderId}` })
          if (packed) yield* Packed.emit(orderId, { tracking: "T1" })
          yield* AbsurdTest.advance("30 days")
          yield* AbsurdTest.expectCompleted(task, packed ? { _tag: "Sent", tracking: "T1" } : { _tag: "GivenUp" })
          const { charges, told } = yield* World
          assert.deepStrictEqual([...charges], [[orderId, order.cents]])
          assert.deepStrictEqual(told, [`${orderId}: ${packed ? "T1" : "given up"}`])
        }),
      { arbitrary: { runs } }
    )
  })

suite("in memory", AbsurdTest.layer)

layer(TestLive.pipe(Layer.provideMerge(AbsurdTest.layer)), { concurrent: false })("an order that crashes", (it) => {
  it.effect.prop(
    "ends as it should, whatever fails, and charges once",
    { order: Params, failures: Schema.Literals([0, 1, 3, 9]), packed: Schema.Boolean },
    ({ failures, order, packed }) =>
      Effect.gen(function*() {
        const sold = failures < 9
        const { outcome } = yield* AbsurdTest.crashEverywhere(Order, { ...order, orderId: "1" }, {
          before: reset(failures),
          whenIdle: packed ? Packed.emit("1", { tracking: "T1" }) : Effect.void,
          after: World.useSync(({ charges }) => assert.deepStrictEqual([...charges], sold ? [["1", order.cents]] : []))
        })
        assert.strictEqual(outcome.state, sold ? "completed" : "failed")
      }),
    { arbitrary: { runs: 5 } }
  )
})
