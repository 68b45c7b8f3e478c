import { Effect, Schedule, Schema } from "effect"
import { Event, Step, Task, TaskHandle } from "effect-absurd"

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { leg: Schema.String }) {}

export const Approved = Event.make("trip.approved", { payload: Schema.Struct({ by: Schema.String }) })

// A call to a system outside, which recognises a repeated request by its key.
const askForQuote = (supplier: string, key: string) => Effect.succeed({ supplier, key, price: supplier.length * 100 })

export const BookLeg = Task.make("book-leg", {
  params: { leg: Schema.String },
  success: Schema.String,
  error: SoldOut,
  isFinal: () => true
})

export const BookLegLive = BookLeg.toLayer(({ leg }) =>
  leg === "the moon"
    ? Effect.fail(new SoldOut({ leg }))
    : Step.run("reserve", Effect.succeed(`seat to ${leg}`))
)

export const BookTrip = Task.make("book-trip", {
  params: { tripId: Schema.String, suppliers: Schema.Array(Schema.String), legs: Schema.Array(Schema.String) },
  success: Schema.Struct({ price: Schema.Int, seats: Schema.Array(Schema.String) }),
  error: Schema.Union([SoldOut, Schema.TaggedStruct("Rejected", {})])
})

const quote = (supplier: string) =>
  Step.run("quote", Effect.flatMap(Step.idempotencyKey(), (key) => askForQuote(supplier, key)), {
    timeout: "10 seconds",
    retry: Schedule.exponential("200 millis").pipe(Schedule.upTo({ times: 3 }))
  })

export const BookTripLive = BookTrip.toLayer(Effect.fn(function*({ legs, suppliers, tripId }) {
  // All at once. Each branch has its own names, so it does not matter which is the first.
  const quotes = yield* Effect.forEach(suppliers, (supplier) => Step.scoped(supplier)(quote(supplier)), {
    concurrency: "unbounded"
  })
  const price = Math.min(...quotes.map((quote) => quote.price))

  // Decided once. Until then the task sleeps, in no worker's way.
  const decision = yield* Step.race("decision", {
    approved: Effect.as(Approved.wait(tripId), "yes"),
    tooLate: Effect.as(Step.sleep("30 days", "30 days"), "no")
  })
  if (decision === "no") return yield* Effect.fail({ _tag: "Rejected" } as const)

  // One child per leg, once over all executions, and one wait for all of them. Without the trip they are of no use.
  const children = yield* BookLeg.spawnMany(legs.map((leg) => ({ leg })), { owned: true })
  const seats = yield* TaskHandle.all(children).pipe(
    Step.timeout("booking", "2 days")
  )
  return { price, seats }
}))
