/**
 * Checking what callers pass, before anything is stored.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Option, Schema } from "effect"
import { InvalidInput } from "./Errors.ts"

/**
 * A function that returns its argument as a value of `schema`, or fails with an `InvalidInput` that names `field`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const check = <S extends Schema.ConstraintDecoder<unknown>>(field: string, schema: S) => {
  const decode = Schema.decodeUnknownEffect(schema)
  return (value: unknown): Effect.Effect<S["Type"], InvalidInput> =>
    Effect.mapError(decode(value), (error) => InvalidInput.fromSchema(field, error))
}

/**
 * The duration, or `InvalidInput` when it is not a duration from `minimum` to `maximum` (by default 0 and ten years).
 *
 * @since 0.1.0
 * @category constructors
 */
export const duration = (
  field: string,
  value: Duration.Input,
  limits?: { readonly minimum?: Duration.Input | undefined; readonly maximum?: Duration.Input | undefined }
): Effect.Effect<Duration.Duration, InvalidInput> => {
  const minimum = Duration.fromInputUnsafe(limits?.minimum ?? 0)
  const maximum = Duration.fromInputUnsafe(limits?.maximum ?? Duration.days(3650))
  const parsed = Duration.fromInput(value)
  return Option.isSome(parsed) && Duration.between(parsed.value, { minimum, maximum })
    ? Effect.succeed(parsed.value)
    : Effect.fail(
      new InvalidInput({
        field,
        problem: `must be a duration from ${Duration.format(minimum)} to ${Duration.format(maximum)}`
      })
    )
}

/**
 * A whole number from `minimum` to `maximum`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const integer = (
  field: string,
  value: number,
  limits: { readonly minimum: number; readonly maximum: number }
): Effect.Effect<number, InvalidInput> =>
  Number.isInteger(value) && value >= limits.minimum && value <= limits.maximum
    ? Effect.succeed(value)
    : Effect.fail(
      new InvalidInput({ field, problem: `must be a whole number from ${limits.minimum} to ${limits.maximum}` })
    )
