/**
 * Which instants a cron expression names.
 *
 * @since 0.1.0
 */
import { Cron, DateTime, Duration } from "effect"

/**
 * What becomes of ticks that came while nobody was there, beside the newest one that is due.
 *
 * - `last`: only the newest one counts, however late it is.
 * - `skip`: only the newest one counts, and only while it is no older than the tolerance.
 * - `all`: each one counts.
 *
 * @since 0.1.0
 * @category models
 */
export type Missed = "skip" | "last" | "all"

/**
 * The ticks that are due, and how the schedule goes on.
 *
 * @since 0.1.0
 * @category models
 */
export interface Due {
  /** Those that count, in order. */
  readonly ticks: ReadonlyArray<DateTime.Utc>
  /** The last one that has been dealt with. */
  readonly after: DateTime.Utc
  /** The first one that has not; it may be due, too. */
  readonly next: DateTime.Utc
}

/** How many ticks count at once; the others follow in the next pass. @since 0.1.0 */
export const most = 100

/**
 * The first tick after an instant.
 *
 * @since 0.1.0
 * @category combinators
 */
export const nextAfter = (cron: Cron.Cron, instant: DateTime.Utc): DateTime.Utc =>
  DateTime.makeUnsafe(Cron.next(cron, instant))

/**
 * The ticks after `after` that are due at `now`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const due = (cron: Cron.Cron, options: {
  readonly after: DateTime.Utc
  readonly now: DateTime.Utc
  readonly missed: Missed
  readonly tolerance: Duration.Duration
}): Due => {
  const { after, missed, now, tolerance } = options
  const first = nextAfter(cron, after)
  if (DateTime.isGreaterThan(first, now)) return { ticks: [], after, next: first }
  if (missed === "all") {
    const ticks = upTo(cron, first, now, most)
    const last = ticks[ticks.length - 1]!
    return { ticks, after: last, next: nextAfter(cron, last) }
  }
  const last = newest(cron, first, now)
  const late = Duration.isGreaterThan(DateTime.distance(last, now), tolerance)
  return { ticks: missed === "skip" && late ? [] : [last], after: last, next: nextAfter(cron, last) }
}

// --- internal

const upTo = (cron: Cron.Cron, first: DateTime.Utc, now: DateTime.Utc, count: number): ReadonlyArray<DateTime.Utc> => {
  const ticks: Array<DateTime.Utc> = []
  for (let tick = first; ticks.length < count && !DateTime.isGreaterThan(tick, now); tick = nextAfter(cron, tick)) {
    ticks.push(tick)
  }
  return ticks
}

/** Found backwards, for there may be millions of ticks in between; then forwards, which is what decides. */
const newest = (cron: Cron.Cron, first: DateTime.Utc, now: DateTime.Utc): DateTime.Utc => {
  const back = DateTime.makeUnsafe(Cron.prev(cron, DateTime.add(now, { milliseconds: 1 })))
  let tick = first
  if (DateTime.isGreaterThan(back, first)) {
    const found = nextAfter(cron, DateTime.subtract(back, { milliseconds: 1 }))
    if (!DateTime.isGreaterThan(found, now)) tick = found
  }
  for (let later = nextAfter(cron, tick); !DateTime.isGreaterThan(later, now); later = nextAfter(cron, later)) {
    tick = later
  }
  return tick
}
