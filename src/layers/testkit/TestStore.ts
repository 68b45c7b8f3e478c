/**
 * What a test has to know of a store beside its driver: how to set its clock, and everything that is in it.
 *
 * @since 0.1.0
 */
import { Clock, Context, DateTime, Effect, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Absurd, resolveQueue } from "../../core/Absurd.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import type { QueueName } from "../../core/Identifiers.ts"
import type { Dump } from "../../core/Invariants.ts"
import type * as Shift from "./Shift.ts"
import * as TimeOfTest from "./TimeOfTest.ts"

/**
 * When every test begins: a Monday, far from the epoch and from the ends of time.
 *
 * @since 0.1.0
 * @category constants
 */
export const start: DateTime.Utc = DateTime.makeUnsafe("2026-01-05T00:00:00Z")

/**
 * A store under test.
 *
 * @since 0.1.0
 * @category services
 */
export class TestStore extends Context.Service<TestStore, {
  /** Sets the clock of the store; does nothing for a store on Effect's `Clock`. */
  readonly setTime: (instant: DateTime.Utc) => Effect.Effect<void>
  /** Everything in a queue. */
  readonly dump: (queue: QueueName) => Effect.Effect<Dump, NotFound | DriverError>
  /**
   * The first instant after the store's present at which the queue has something to do by itself: a run becomes due, a lease
   * ends, or a policy cancels a task. Null for never.
   */
  readonly nextDue: (queue: QueueName) => Effect.Effect<DateTime.Utc | null, NotFound | DriverError>
  /** Returns when the store has answered what it was asked before. */
  readonly settle: Effect.Effect<void>
  /** The workers that were left at work when the test went on. */
  readonly shifts: Set<Shift.Shift>
}>()("effect-absurd/AbsurdTest/TestStore") {}

/**
 * A store under test as a context, with a clock that knows who sleeps on it. Workers that are still at work when the scope
 * closes are interrupted.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  store: Omit<TestStore["Service"], "shifts">
): Effect.Effect<Context.Context<TestStore>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const shifts = new Set<Shift.Shift>()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const { fiber } of shifts) fiber.interruptUnsafe()
      })
    )
    return Context.make(TestStore, { ...store, shifts }).pipe(Context.add(Clock.Clock, yield* TimeOfTest.watched))
  })

/**
 * A service whose members are read from `current()` each time they are used.
 *
 * @since 0.1.0
 * @category constructors
 */
export const delegate = <S extends object>(current: () => S): S =>
  new Proxy({} as S, { get: (_, key): unknown => Reflect.get(current(), key) })

/**
 * The present, by the clock of the test.
 *
 * @since 0.1.0
 * @category time
 */
export const now: Effect.Effect<DateTime.Utc> = Effect.map(
  Clock.currentTimeMillis,
  (millis) => DateTime.makeUnsafe(millis)
)

/**
 * Sets the store's clock, then the test clock: a fiber that slept until then finds the store there as well. Nothing that
 * becomes due on the way is run.
 *
 * @since 0.1.0
 * @category time
 */
export const setTime = (instant: DateTime.DateTime): Effect.Effect<void, never, TestStore> =>
  Effect.flatMap(TestStore, (store) =>
    Effect.andThen(
      store.setTime(DateTime.toUtc(instant)),
      TestClock.setTime(DateTime.toEpochMillis(instant))
    ))

/**
 * Sets the test to its beginning when the layer is built.
 *
 * @since 0.1.0
 * @category time
 */
export const layerStart: Layer.Layer<never, never, TestStore> = Layer.effectDiscard(setTime(start))

/**
 * The queues that a test drives: the one that was named, or all of the store.
 *
 * @since 0.1.0
 * @category time
 */
export const queues = (
  queue: string | undefined
): Effect.Effect<ReadonlyArray<QueueName>, InvalidInput | DriverError, Absurd> =>
  Effect.flatMap(
    queue === undefined ? Effect.flatMap(Absurd, ({ driver }) => driver.listQueues) : Effect.succeed([queue]),
    Effect.forEach((name) => resolveQueue(name))
  )
