import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import { Absurd, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import * as Trip from "../../examples/composition/Trip.ts"

const root = new URL("../../", import.meta.url)
const read = (path: string) => Fs.readFileSync(new URL(path, root), "utf8")

const work = Worker.runOnce().pipe(Effect.repeat({ until: (results) => results.length === 0 }))

const program = Layer.provideMerge(Layer.mergeAll(Trip.BookTripLive, Trip.BookLegLive), Absurd.layerMemory)

describe("docs/composition.md", () => {
  it("shows its example as it is", () => {
    assert.include(read("docs/composition.md"), read("examples/composition/Trip.ts"))
  })

  const book = (legs: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      yield* Absurd.createQueue("absurd_default")
      const trip = yield* Trip.BookTrip.spawn({ tripId: "t1", suppliers: ["ab", "abc", "abcd"], legs })
      yield* work
      return trip
    })

  it.effect("a trip is booked once it is approved", () =>
    Effect.gen(function*() {
      const trip = yield* book(["Rome", "Oslo"])
      yield* TestClock.adjust("29 days")
      yield* Trip.Approved.emit("t1", { by: "Ada" })
      yield* work
      assert.deepStrictEqual(yield* trip.await, { price: 200, seats: ["seat to Rome", "seat to Oslo"] })
    }).pipe(Effect.provide(program)))

  it.effect("a trip that nobody approves is rejected, in every attempt", () =>
    Effect.gen(function*() {
      const trip = yield* book(["Rome"])
      yield* TestClock.adjust("30 days")
      // Each attempt of the task meets the same decision.
      for (let attempt = 0; attempt < 5; attempt++) {
        yield* work
        yield* TestClock.adjust("1 hour")
      }
      assert.deepStrictEqual(yield* Effect.exit(trip.await), Exit.fail({ _tag: "Rejected" as const }))
    }).pipe(Effect.provide(program)))
})
