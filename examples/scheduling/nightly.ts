import { Duration, Effect, Schema } from "effect"
import { Cron, CurrentRun, RetryPolicy, RetryStrategy, Step, Task } from "effect-absurd"

class Busy extends Schema.TaggedError<Busy>()("Busy", { retryAfter: Schema.Duration }) {}

export const Report = Task.make("report", {
  params: { kind: Schema.String },
  success: Schema.String,
  error: Busy,
  // Another language's worker goes by the strategy as well.
  retry: RetryPolicy.fromStrategy(RetryStrategy.exponential({ base: "5 seconds", max: "10 minutes" })),
  // A service that says when to come back is listened to.
  retryAfter: ({ retryAfter }) => retryAfter
})

export const Nightly = Cron.make("nightly", "30 2 * * *", Report, { kind: "sales" }, {
  timeZone: "Europe/Berlin",
  missed: "last",
  overlap: "skip"
})

/** Stands for a service that is not ready at once. */
export class Sales {
  ready = false
  calls = 0
}

export const reportLive = (sales: Sales) =>
  Report.toLayer(Effect.fn(function*({ kind }) {
    const { headers } = yield* CurrentRun
    // No attempt is spent on having come too early.
    if (!sales.ready) return yield* Step.snooze("10 minutes")
    const total = yield* Step.run(
      "total",
      Effect.suspend(() =>
        sales.calls++ === 0 ? Effect.fail(new Busy({ retryAfter: Duration.minutes(1) })) : Effect.succeed(42)
      )
    )
    return `${kind} of ${headers["scheduledAt"]}: ${total}`
  }))

/** Provide it in any number of processes: each tick is spawned once. */
export const ScheduleLive = Cron.layer([Nightly])
