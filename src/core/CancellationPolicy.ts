/**
 * Policies under which a task is cancelled by the store.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Option, Schema } from "effect"
import { InvalidInput } from "./Errors.ts"
import * as Input from "./Input.ts"

/**
 * The form of the wire: whole seconds.
 *
 * - `max_delay`: cancelled when it has not been started this long after it was due for the first time.
 * - `max_duration`: cancelled this long after its first start, whatever it is doing, sleeping included.
 *
 * @since 0.1.0
 * @category models
 */
export const CancellationPolicy = Schema.Struct({
  max_delay: Schema.optionalKey(Schema.Natural),
  max_duration: Schema.optionalKey(Schema.Natural)
})
/** @since 0.1.0 */
export type CancellationPolicy = typeof CancellationPolicy.Type

/**
 * What programs write. Limits are rounded up to whole seconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** How long the task may wait for its first start, counted from when it became due. */
  readonly maxDelay?: Duration.Input | undefined
  /** How long the task may take, counted from its first start and including sleeps. */
  readonly maxDuration?: Duration.Input | undefined
}

/**
 * The policy in the form of the wire, or `InvalidInput` when a limit is below one second or above ten years.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<CancellationPolicy, InvalidInput> {
  if (typeof options !== "object" || options === null) {
    return yield* new InvalidInput({ field: "cancellation", problem: "must be an object of maxDelay and maxDuration" })
  }
  const maxDelay = yield* wholeSeconds("cancellation.maxDelay", options.maxDelay)
  const maxDuration = yield* wholeSeconds("cancellation.maxDuration", options.maxDuration)
  return {
    ...(maxDelay === undefined ? {} : { max_delay: maxDelay }),
    ...(maxDuration === undefined ? {} : { max_duration: maxDuration })
  }
})

// --- internal

const wholeSeconds = (field: string, input: Duration.Input | undefined) => {
  if (input === undefined) return Effect.succeed(undefined)
  const seconds = Option.match(Input.parseDuration(input), {
    onNone: () => NaN,
    onSome: (limit) => Math.ceil(Duration.toSeconds(limit))
  })
  return seconds >= 1 && seconds <= 315_360_000
    ? Effect.succeed(seconds)
    : Effect.fail(new InvalidInput({ field, problem: "must be a duration from 1 second to 10 years" }))
}
