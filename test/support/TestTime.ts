/**
 * Virtual time that the test clock and the store share.
 *
 * Provide `layerMemory` beside a store that lives on Effect's clock, and `layerSql` over a client with exactly one
 * connection. Tests that move time share their layer's clock, so they run one after the other.
 */
import { Clock, Context, DateTime, Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import * as FakeNow from "../../src/drivers/postgres/FakeNow.ts"

/** When every test begins: a Monday, far from the epoch and from the ends of time. */
export const start: DateTime.Utc = DateTime.makeUnsafe("2026-01-05T00:00:00Z")

export class TestTime extends Context.Service<TestTime, {
  /**
   * Moves the store's clock, then the test clock. In this order a fiber that slept until an instant finds the store
   * there as well. Not to be called inside a transaction of the store.
   */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void>
  /** The present of both clocks. */
  readonly now: Effect.Effect<DateTime.Utc>
}>()("test/support/TestTime") {}

/** For stores that read Effect's clock. Sets the test clock to {@link start}. */
export const layerMemory: Layer.Layer<TestTime> = Layer.effect(
  TestTime,
  Effect.gen(function*() {
    yield* TestClock.setTime(start.epochMilliseconds)
    return TestTime.of({ advance: TestClock.adjust, now })
  })
)

/** For PostgreSQL, embedded or not, over one connection. Sets both clocks to {@link start}. */
export const layerSql: Layer.Layer<TestTime, never, SqlClient.SqlClient> = Layer.effect(
  TestTime,
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const set = (instant: DateTime.DateTime) => Effect.orDie(FakeNow.set(sql, instant))
    yield* set(start)
    yield* TestClock.setTime(start.epochMilliseconds)
    return TestTime.of({
      advance: (duration) =>
        now.pipe(
          Effect.flatMap((instant) => set(DateTime.addDuration(instant, Duration.fromInputUnsafe(duration)))),
          Effect.andThen(TestClock.adjust(duration))
        ),
      now
    })
  })
)

// --- internal

const now = Effect.map(Clock.currentTimeMillis, (millis) => DateTime.makeUnsafe(millis))
