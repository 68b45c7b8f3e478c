/**
 * Instants of the store: milliseconds since 1970 with the microseconds as a fraction, like PostgreSQL's `timestamptz`.
 *
 * @since 0.1.0
 */
import { DateTime, Duration } from "effect"

/** The last instant that a `Date` can hold; anything later is cut to it. */
const last = 8.64e15

/**
 * The instant `delay` after `now`, to the microsecond.
 *
 * @since 0.1.0
 * @category constructors
 */
export const after = (now: number, delay: Duration.Duration): number => afterMillis(now, Duration.toMillis(delay))

/**
 * {@link after} for a number of milliseconds.
 *
 * @since 0.1.0
 * @category constructors
 */
export const afterMillis = (now: number, millis: number): number => {
  const at = now + (Number.isInteger(millis) ? millis : Math.round(millis * 1000) / 1000)
  return Math.min(at, last)
}

/**
 * So long after `now`, or the instant that was named.
 *
 * @since 0.1.0
 * @category constructors
 */
export const resolve = (now: number, until: Duration.Duration | DateTime.Utc): number =>
  DateTime.isDateTime(until) ? until.epochMilliseconds : after(now, until)

/**
 * How long after an instant another one is, to the microsecond; nothing when it is earlier.
 *
 * @since 0.1.0
 * @category constructors
 */
export const between = (from: number, to: number): Duration.Duration =>
  Duration.millis(Math.max(0, Math.round((to - from) * 1000) / 1000))

/**
 * The instant for the outside, in whole milliseconds.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toDateTime = (at: number): DateTime.Utc => DateTime.makeUnsafe(Math.floor(at))

/**
 * {@link toDateTime} of an instant that may be missing.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toNullable = (at: number | null): DateTime.Utc | null => at === null ? null : toDateTime(at)

/**
 * ISO text in UTC with six digits after the point, the form in which checkpoints hold instants.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toIso = (at: number): string =>
  `${new Date(Math.floor(at)).toISOString().slice(0, -1)}${microseconds(at)}Z`

/**
 * The text that PostgreSQL makes of an instant in JSON: no zeros at the end, and an offset.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toJsonText = (at: number): string => `${toIso(at).slice(0, -1).replace(/\.?0+$/, "")}+00:00`

/**
 * The instant that a stored text names, or undefined when it names none. Texts without an offset are in UTC.
 *
 * @since 0.1.0
 * @category conversions
 */
export const parse = (text: string): number | undefined => {
  const found = /^\s*(\d{4,}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?\s*(Z|[+-]\d\d(?::?\d\d)?)?\s*$/i.exec(text)
  if (found === null) return undefined
  const [, seconds = "", fraction = "0", offset = "Z"] = found
  const [, sign = "+", hours = "00", minutes = "00"] = /^([+-])(\d\d):?(\d\d)?$/.exec(offset) ?? []
  const whole = Date.parse(`${seconds.replace(" ", "T")}${sign}${hours}:${minutes}`)
  return Number.isNaN(whole) ? undefined : whole + Math.round(Number(fraction) * 1e6) / 1000
}

// --- internal

const microseconds = (at: number): string =>
  String(Math.min(999, Math.round((at - Math.floor(at)) * 1000))).padStart(3, "0")
