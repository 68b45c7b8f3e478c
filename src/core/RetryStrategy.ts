/**
 * Retry strategies that are stored with a task, so that workers in every language understand them.
 *
 * A task may also be given any `Schedule`, which only this library understands; see `Task.make`.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Option, Predicate, Schema } from "effect"
import { InvalidInput } from "./Errors.ts"
import * as Input from "./Input.ts"

/**
 * How long a failed task waits before its next attempt, in the form of the wire: whole or fractional seconds.
 *
 * - `none`: no wait.
 * - `fixed`: always `base_seconds`.
 * - `exponential`: `base_seconds * factor ^ (attempt - 1)`, at most `max_seconds`.
 *
 * @since 0.1.0
 * @category models
 */
export const RetryStrategy = Schema.Union([
  Schema.Struct({ kind: Schema.Literal("none") }),
  Schema.Struct({ kind: Schema.Literal("fixed"), base_seconds: Schema.Finite }),
  Schema.Struct({
    kind: Schema.Literal("exponential"),
    base_seconds: Schema.Finite,
    factor: Schema.Finite,
    max_seconds: Schema.optionalKey(Schema.Finite)
  })
])
/** @since 0.1.0 */
export type RetryStrategy = typeof RetryStrategy.Type

/**
 * The longest delay that is ever stored: ten years. Longer ones are cut, so that no retry time overflows.
 *
 * @since 0.1.0
 * @category models
 */
export const maxDelay: Duration.Duration = Duration.days(3650)

/**
 * Retries at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const none: RetryStrategy = { kind: "none" }

/**
 * Retries after `base`, each time.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fixed = (base: Duration.Input): RetryStrategy => ({ kind: "fixed", base_seconds: seconds(base) })

/**
 * Retries after `base`, then `base * factor`, then `base * factor ^ 2`, and so on up to `max`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const exponential = (options?: {
  /** The first delay; 30 seconds by default. */
  readonly base?: Duration.Input | undefined
  /** How much longer each delay is than the one before it; 2 by default. */
  readonly factor?: number | undefined
  /** The longest delay; none by default (but see {@link maxDelay}). */
  readonly max?: Duration.Input | undefined
}): RetryStrategy => ({
  kind: "exponential",
  base_seconds: seconds(options?.base ?? "30 seconds"),
  factor: options?.factor ?? 2,
  ...(options?.max === undefined ? {} : { max_seconds: seconds(options.max) })
})

/**
 * What a task gets that names no strategy: exponential from one second to an hour.
 *
 * @since 0.1.0
 * @category constructors
 */
export const standard: RetryStrategy = exponential({ base: "1 second", factor: 2, max: "1 hour" })

/**
 * The delay before the attempt that follows `attempt` (the first attempt is 1). This is the arithmetic of the store.
 *
 * @since 0.1.0
 * @category combinators
 */
export const delayAfter = (strategy: RetryStrategy, attempt: number): Duration.Duration => {
  switch (strategy.kind) {
    case "none":
      return Duration.zero
    case "fixed":
      return clamp(strategy.base_seconds)
    case "exponential": {
      // Nothing times a power that overflowed would be no number.
      const grown = strategy.base_seconds === 0 ? 0 : strategy.base_seconds * strategy.factor ** (attempt - 1)
      return clamp(Math.min(grown, strategy.max_seconds ?? Infinity))
    }
  }
}

/**
 * The strategy, or `InvalidInput` when it is of no known kind, lacks a number, or has one that is negative, not finite, or
 * above ten years.
 *
 * @since 0.1.0
 * @category combinators
 */
export const validate = (strategy: RetryStrategy): Effect.Effect<RetryStrategy, InvalidInput> => {
  const limit = Duration.toSeconds(maxDelay)
  // Its type may be a promise that a tool could not keep.
  switch (Predicate.isObject(strategy) ? strategy.kind : undefined) {
    case "none":
      return Effect.succeed(none)
    case "fixed": {
      const { base_seconds } = strategy as Extract<RetryStrategy, { readonly kind: "fixed" }>
      return Effect.mapEager(within("base", base_seconds, limit), () => ({ kind: "fixed", base_seconds }))
    }
    case "exponential": {
      const { base_seconds, factor, max_seconds } = strategy as Extract<RetryStrategy, { readonly kind: "exponential" }>
      return within("base", base_seconds, limit).pipe(
        Effect.flatMapEager(() => within("factor", factor, 1e6)),
        Effect.flatMapEager(() => max_seconds === undefined ? Effect.void : within("max", max_seconds, limit)),
        Effect.mapEager(() => ({
          kind: "exponential",
          base_seconds,
          factor,
          ...(max_seconds === undefined ? {} : { max_seconds })
        }))
      )
    }
    default:
      return Effect.fail(new InvalidInput({ field: "retry.kind", problem: "must be none, fixed or exponential" }))
  }
}

// --- internal

const within = (field: string, value: number, limit: number): Effect.Effect<void, InvalidInput> =>
  typeof value === "number" && value >= 0 && value <= limit
    ? Effect.void
    : Effect.fail(
      new InvalidInput({ field: `retry.${field}`, problem: `must be a number from 0 to ${limit}, not ${value}` })
    )

// Declared as functions because constants above need them while the module loads.
/** What is no duration becomes no number, which {@link validate} refuses. */
function seconds(input: Duration.Input): number {
  return Option.match(Input.parseDuration(input), { onNone: () => NaN, onSome: Duration.toSeconds })
}

function clamp(value: number): Duration.Duration {
  return Number.isFinite(value) ? Duration.min(Duration.seconds(Math.max(0, value)), maxDelay) : maxDelay
}
