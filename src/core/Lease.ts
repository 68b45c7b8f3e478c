/**
 * What this process knows of the lease of a run that it executes, by its own monotonic clock.
 *
 *     claimedAt             |<--- 2/3: checkpoints renew it --->|<- 1/6 ->|
 *     |---------------------|-----------------------------------|---------| heldUntil
 *     nothing to do                                              nobody may work any more
 *
 * @since 0.1.0
 */
import { Clock, Duration, Effect } from "effect"

/**
 * The lease of one run.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  /** How long it is renewed for. */
  readonly duration: Duration.Duration
  /** The same in milliseconds. */
  readonly millis: number
  /** The present of the worker's clock, in monotonic milliseconds, whatever clock the handler has been given. */
  readonly now: () => number
  /** Until when it surely holds. */
  heldUntil: number
}

/**
 * Monotonic time in milliseconds.
 *
 * @since 0.1.0
 * @category constructors
 */
export const monotonicMillis: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos / 1_000_000n)
)

/**
 * The lease of a claim that was not sent before `claimedAt`, in monotonic milliseconds.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (duration: Duration.Duration, claimedAt: number): Effect.Effect<Lease> =>
  Effect.map(Clock.Clock, (clock) => maker(clock, duration)(claimedAt))

/**
 * The same by a given clock, for many claims.
 *
 * @since 0.1.0
 * @category constructors
 */
export const maker = (clock: Clock.Clock, duration: Duration.Duration): (claimedAt: number) => Lease => {
  const millis = Duration.toMillis(duration)
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  return (claimedAt) => ({ duration, millis, now, heldUntil: claimedAt + millis })
}

/**
 * Notes that the store has renewed the lease, by a request that was not sent before `sentAt`. No renewal shortens a lease.
 *
 * @since 0.1.0
 * @category combinators
 */
export const renewed = (self: Lease, sentAt: number, by?: Duration.Duration): void => {
  self.heldUntil = Math.max(self.heldUntil, sentAt + (by === undefined ? self.millis : Duration.toMillis(by)))
}

/**
 * Whether nobody else can have the run, with a sixth of the lease to spare.
 *
 * @since 0.1.0
 * @category predicates
 */
export const holds = (self: Lease): boolean => self.now() < self.heldUntil - self.millis / 6

/**
 * What a request that is sent `now` and could renew the lease should renew it by: nothing while more than two thirds of it are
 * left, as they are while heartbeats arrive, because each renewal writes the run's row anew.
 *
 * @since 0.1.0
 * @category combinators
 */
export const extension = (self: Lease, now = self.now()): Duration.Duration | null =>
  self.heldUntil - now < self.millis * 2 / 3 ? self.duration : null
