/**
 * The part of the seam that is about limits: how many tasks of a key run at a time, and how many start in a while.
 *
 * A task carries its limit in the header {@link limitHeader}; that is what a store goes by. Whoever spawns such a task stores the
 * figures of its limit with it, in the same commit; the newest ones hold for all tasks of the limit, unless somebody has
 * overridden them.
 *
 * A run whose limit lets it not start yet is parked by the claim that finds it: it is `sleeping`, claimable not before
 * {@link parkedUntil}, and holds no slot of a worker. Whatever takes the run that is in its way out of `running` lets the next
 * one of the key go, by the instants at which they became due, in the same commit. Waiting costs no attempt.
 *
 * @since 0.1.0
 */
import { DateTime, type Effect, Schema } from "effect"
import type { DriverError, NotFound } from "./Errors.ts"
import { LimitKey, LimitName, type QueueName, RunId } from "./Identifiers.ts"

/**
 * The header that carries the limit of a task.
 *
 * @since 0.1.0
 * @category models
 */
export const limitHeader = "$limit"

/**
 * When a parked run is claimable by what is stored: far away, but an instant that every program can read.
 *
 * @since 0.1.0
 * @category constants
 */
export const parkedUntil: DateTime.Utc = DateTime.makeUnsafe("9999-12-30T00:00:00Z")

const count = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 }))

/**
 * What a limit allows for each of its keys. `null` is no limit.
 *
 * Of a rate, starts are `seconds / (limit - burst + 1)` apart, rounded up to a microsecond, once `burst` of them have gone ahead
 * at once (at most ten years apart, and ahead). So no span of so many seconds, wherever it begins, sees more than `limit` starts.
 *
 * @since 0.1.0
 */
export const LimitFigures = Schema.Struct({
  /** How many runs at a time, from 1 to 1,000,000. */
  concurrency: Schema.NullOr(count),
  rate: Schema.NullOr(
    Schema.Struct({
      /** From 1 to 1,000,000. */
      limit: count,
      /** From 0.001 to 315,360,000. */
      seconds: Schema.Finite.check(Schema.isBetween({ minimum: 0.001, maximum: 315_360_000 })),
      /** From 1 to `limit`. */
      burst: count
    }).check(
      Schema.makeFilter((rate) => rate.burst <= rate.limit ? undefined : "must have a burst of at most its limit")
    )
  )
})
/** @since 0.1.0 */
export type LimitFigures = typeof LimitFigures.Type

/** What the header of a limited task holds. @since 0.1.0 */
export const TaskLimit = Schema.Struct({
  name: LimitName,
  key: LimitKey,
  ...LimitFigures.fields
})
/** @since 0.1.0 */
export type TaskLimit = typeof TaskLimit.Type

/** A limit of a queue, over all of its keys. @since 0.1.0 */
export interface LimitRow {
  readonly name: string
  /** Those of the task that was spawned last. */
  readonly figures: LimitFigures
  /** What holds instead of those, if anything does. */
  readonly override: LimitFigures | null
  /** How many runs are running, or may be claimed by what the limit says. */
  readonly admitted: number
  /** How many runs are parked. */
  readonly waiting: number
}

/** A key of a limit that has runs. @since 0.1.0 */
export interface LimitKeyRow {
  readonly key: string
  readonly admitted: number
  readonly waiting: number
}

/** What is stored of a limit. @since 0.1.0 */
export const StoredLimit = Schema.Struct({
  name: Schema.String,
  figures: LimitFigures,
  override: Schema.NullOr(LimitFigures),
  /** Whether its figures have changed since runs were last let go by them. */
  stale: Schema.Boolean
})
/** @since 0.1.0 */
export type StoredLimit = typeof StoredLimit.Type

/** A run that goes by a limit. @since 0.1.0 */
export const LimitedRun = Schema.Struct({
  runId: RunId,
  name: Schema.String,
  key: Schema.String,
  /** It is parked, or can be claimed once it is due, or is running. */
  state: Schema.Literals(["waiting", "admitted", "running"]),
  /** Since when it is due. */
  due: Schema.DateTimeUtc
})
/** @since 0.1.0 */
export type LimitedRun = typeof LimitedRun.Type

/** A key of a rate whose next start is expected later than at present. @since 0.1.0 */
export const LimitArrival = Schema.Struct({ name: Schema.String, key: Schema.String, arrival: Schema.DateTimeUtc })
/** @since 0.1.0 */
export type LimitArrival = typeof LimitArrival.Type

/** What a store must do about limits. `NotFound` is about the queue. @since 0.1.0 */
export interface LimitStore {
  /** The limits of a queue, by name. */
  readonly listLimits: (queue: QueueName) => Effect.Effect<ReadonlyArray<LimitRow>, DriverError | NotFound>
  /** The keys of a limit that have runs: those with most parked runs first, then by key. */
  readonly listLimitKeys: (request: {
    readonly queue: QueueName
    readonly name: LimitName
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<LimitKeyRow>, DriverError | NotFound>
  /**
   * Makes other figures hold than those of the tasks, from now on and for all keys; `null` takes that back. Runs that may go by
   * the new figures go in the same commit; none is stopped. Returns whether there is such a limit.
   */
  readonly overrideLimit: (request: {
    readonly queue: QueueName
    readonly name: LimitName
    readonly figures: LimitFigures | null
  }) => Effect.Effect<boolean, DriverError | NotFound>
}
