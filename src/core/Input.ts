/**
 * Checking what callers pass, before anything is stored.
 *
 * @since 0.1.0
 */
import { DateTime, Duration, Effect, Option, Schema } from "effect"
import { InvalidInput } from "./Errors.ts"

/**
 * A function that returns its argument as a value of `schema`, or fails with an `InvalidInput` that names `field`. It is an
 * `Exit` when the schema has nothing to wait for.
 *
 * @since 0.1.0
 * @category constructors
 */
export const check = <S extends Schema.ConstraintDecoder<unknown>>(field: string, schema: S) => {
  const decode = Schema.decodeUnknownEffect(schema)
  return (value: unknown): Effect.Effect<S["Type"], InvalidInput> =>
    Effect.mapErrorEager(decode(value), (error) => InvalidInput.fromSchema(field, error))
}

/**
 * The duration, or `InvalidInput` when it is not a duration from `minimum` to `maximum` (by default 0 and ten years). What is
 * no number is no duration.
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
  const parsed = parseDuration(value)
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
 * The duration, if it is one. `Duration.fromInput` takes what is no number for zero, and so any object that names no unit.
 *
 * @since 0.1.0
 * @category constructors
 */
export const parseDuration = Option.liftThrowable((value: Duration.Input): Duration.Duration => {
  if (Number.isNaN(value)) throw new Error("not a number")
  if (typeof value === "object" && !Duration.isDuration(value)) {
    const parts = Array.isArray(value)
      ? value
      : units.map((unit) => Reflect.get(value, unit)).filter((_) => _ !== undefined)
    if (parts.length === 0 || parts.some((part) => typeof part !== "number" || Number.isNaN(part))) {
      throw new Error("not a number")
    }
  }
  return Duration.fromInputUnsafe(value)
})

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

/**
 * The instant in UTC, or `InvalidInput` when it is not in the years 1970 to 9999: those that every store can hold, and that
 * ISO texts write with four digits.
 *
 * @since 0.1.0
 * @category constructors
 */
export const instant = (field: string, value: DateTime.DateTime): Effect.Effect<DateTime.Utc, InvalidInput> =>
  DateTime.isDateTime(value) && DateTime.between(value, { minimum: earliest, maximum: latest })
    ? Effect.succeed(DateTime.toUtc(value))
    : Effect.fail(new InvalidInput({ field, problem: "must be an instant in the years 1970 to 9999" }))

// --- internal

const [earliest, latest] = [DateTime.makeUnsafe(0), DateTime.makeUnsafe("9999-12-31T23:59:59.999Z")]

const units = ["weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"]
