/**
 * What a test has to know of a store beside its driver: how to set its clock, and everything that is in it.
 *
 * @since 0.1.0
 */
import { Clock, Context, DateTime, Duration, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Absurd } from "../../core/Absurd.ts"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import type { QueueName } from "../../core/Identifiers.ts"
import type { Dump } from "../../core/Invariants.ts"

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
}>()("effect-absurd/AbsurdTest/TestStore") {}

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
 * The first instant after now at which the queue has something to do by itself: a run becomes due, a lease ends, or a
 * policy cancels a task.
 *
 * @since 0.1.0
 * @category time
 */
export const nextDue = Effect.fnUntraced(function*(
  queue: QueueName
): Effect.fn.Return<DateTime.Utc | undefined, NotFound | DriverError, TestStore> {
  const store = yield* TestStore
  const present = yield* Clock.currentTimeMillis
  const { runs, tasks } = yield* store.dump(queue)
  let first = Infinity
  const consider = (instant: number | undefined) => {
    if (instant !== undefined && instant > present && instant < first) first = instant
  }
  for (const run of runs) {
    if (run.state === "pending" || run.state === "sleeping") consider(ceiling(run.availableAt))
    if (run.state === "running") consider(ceiling(run.claimExpiresAt))
  }
  for (const task of tasks) {
    if (task.state !== "pending" && task.state !== "sleeping" && task.state !== "running") continue
    const limit = secondsAt(task.cancellation, task.firstStartedAt === null ? "max_delay" : "max_duration")
    if (limit === undefined) continue
    const from = task.firstStartedAt ?? task.enqueueAt
    consider(ceiling(DateTime.addDuration(from, Duration.seconds(limit))))
  }
  return first === Infinity ? undefined : DateTime.makeUnsafe(first)
})

/**
 * The queues that a test drives: the one that was named, or all of the store.
 *
 * @since 0.1.0
 * @category time
 */
export const queues = (queue: string | undefined): Effect.Effect<ReadonlyArray<string>, DriverError, Absurd> =>
  queue === undefined ? Effect.flatMap(Absurd, ({ driver }) => driver.listQueues) : Effect.succeed([queue])

// --- internal

// A store keeps microseconds, of which a dump shows whole milliseconds: what is due within one is due at its end.
const ceiling = (instant: DateTime.Utc | null): number | undefined =>
  instant === null ? undefined : instant.epochMilliseconds

const secondsAt = (policy: unknown, key: string): number | undefined => {
  if (typeof policy !== "object" || policy === null) return undefined
  const value: unknown = Reflect.get(policy, key)
  return typeof value === "number" ? value : undefined
}
