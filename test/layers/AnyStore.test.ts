/** One test on every store: only the layer changes. */
import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, Layer, Schema } from "effect"
import { Absurd, Event, MemoryDriver, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import * as AbsurdTestSql from "effect-absurd/AbsurdTestSql"
import * as Invariants from "../../src/core/Invariants.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"

const Paid = Event.make("paid", { payload: Schema.Int })

const Dunning = Task.make("dunning", {
  params: { invoice: Schema.String },
  success: Schema.Struct({ reminders: Schema.Int })
})

let letters = 0

const DunningLive = Dunning.toLayer(Effect.fn(function*({ invoice }) {
  for (let reminders = 0; reminders < 12; reminders++) {
    const paid = yield* Effect.exit(Paid.wait(invoice, { timeout: "30 days" }))
    if (paid._tag === "Success") return { reminders }
    yield* Step.run("letter", Effect.sync(() => void letters++))
  }
  return { reminders: 12 }
}))

const queue = Layer.effectDiscard(Absurd.createQueue("absurd_default"))

const onSql = Layer.merge(queue.pipe(Layer.provideMerge(Absurd.layer)), AbsurdTestSql.layer)

const suite = (name: string, store: Layer.Layer<Absurd.Absurd | AbsurdTest.TestStore, unknown>) =>
  layer(DunningLive.pipe(Layer.provideMerge(store)), { concurrent: false })(`a year on ${name}`, (it) => {
    it.effect("passes while somebody does not pay", () =>
      Effect.gen(function*() {
        letters = 0
        const begin = yield* AbsurdTest.now
        const late = yield* Dunning.spawn({ invoice: "late" })
        const never = yield* Dunning.spawn({ invoice: "never" })
        yield* AbsurdTest.advance("100 days")
        yield* AbsurdTest.expectSuspended(late, { event: "paid:late", until: DateTime.add(begin, { days: 120 }) })
        assert.strictEqual(letters, 6)
        yield* Paid.emit("late", 1)
        yield* AbsurdTest.advance("265 days")
        yield* AbsurdTest.expectCompleted(late, { reminders: 3 })
        yield* AbsurdTest.expectCompleted(never, { reminders: 12 })
        assert.strictEqual(letters, 15)
        assert.deepStrictEqual(yield* AbsurdTest.now, DateTime.add(begin, { days: 365 }))
        assert.isUndefined(yield* AbsurdTest.nextDue())
        const { dump } = yield* AbsurdTest.TestStore
        const all = yield* dump(late.queue)
        assert.strictEqual(all.tasks.length, 2)
        assert.strictEqual(Invariants.format(Invariants.check(all)), "")
      }))

    it.effect("is told of in the same words", () =>
      Effect.gen(function*() {
        const task = yield* Dunning.spawn({ invoice: "words" })
        yield* AbsurdTest.runUntilIdle()
        const { steps, waitsFor } = yield* AbsurdTest.inspect(task)
        assert.deepStrictEqual(waitsFor, ["paid:words"])
        assert.lengthOf(Object.keys(steps), 1)
        yield* AbsurdTest.expectSpawned(Dunning, { invoice: "words" })
        const { dump } = yield* AbsurdTest.TestStore
        const error = yield* Effect.flip(dump(yield* Absurd.resolveQueue("no_such_queue")))
        assert.strictEqual(error._tag, "NotFound")
      }))
  })

suite("memory", AbsurdTest.layer)
suite("PostgreSQL", onSql.pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 }))))
suite("the embedded store", onSql.pipe(Layer.provide(EmbeddedStore.layer)))

layer(AbsurdTest.layer)(
  "the store that tests see",
  (it) =>
    it.effect("is the one in memory", () =>
      Effect.gen(function*() {
        const { dump } = yield* MemoryDriver.MemoryStore
        const name = yield* Absurd.resolveQueue(undefined)
        assert.deepStrictEqual(yield* dump(name), yield* (yield* AbsurdTest.TestStore).dump(name))
      }))
)
