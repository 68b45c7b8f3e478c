/**
 * What the crash test makes of what happened: figures to be printed, and everything that is not as it was promised.
 *
 * Nothing can pass for want of samples: too few deeds, or too little to judge them by, is a problem as well.
 */
import type { Line } from "./Ledger.ts"

/** In milliseconds of the wall clock, which the store's clock is as well. */
export interface Span {
  readonly from: number
  readonly until: number
}

/** An attempt that ended with its lease. */
export interface Burnt {
  readonly n: number
  /** Of the process that had claimed it. */
  readonly pid: number
  readonly expiredAt: number
  /** When a claim found it and made the next attempt. */
  readonly foundAt: number
}

/** An attempt that the task's own code failed. */
export interface Failed {
  readonly n: number
  readonly at: number
  /** What it failed with. */
  readonly reason: string
}

/** A server that was started anew. */
export interface Restart {
  /** When it answered again. */
  readonly at: number
  /** When a worker executed what was spawned then. */
  readonly claimedAt: number | undefined
}

export interface Facts {
  /** In milliseconds. */
  readonly lease: number
  /** In milliseconds. */
  readonly pollInterval: number
  /** How often each deed was done. */
  readonly done: { readonly [deed: string]: number }
  readonly deaths: ReadonlyArray<{ readonly pid: number; readonly at: number }>
  /** Who was stopped, and for how long. */
  readonly stops: ReadonlyArray<Span & { readonly pid: number }>
  /** When workers could not reach the store, with the time after that in which they come back to it. */
  readonly outages: ReadonlyArray<Span>
  readonly restarts: ReadonlyArray<Restart>
  readonly burnt: ReadonlyArray<Burnt>
  readonly failed: ReadonlyArray<Failed>
  /** How many attempts each task took. */
  readonly attempts: ReadonlyArray<number>
  /** Beginnings of steps after their checkpoint was acknowledged. */
  readonly repeated: ReadonlyArray<Line>
  readonly lines: ReadonlyArray<Line>
  /** How many checkpoints were acknowledged. */
  readonly acknowledged: number
}

/** How often a run of the test must do something at least, to count. */
export const least = { kill: 50, server: 4, zombie: 10 } as const

/** How soon after a restart the first run is claimed, in milliseconds. */
export const recovery = 2000

/**
 * How much later than by the rules something may be seen to happen, in milliseconds, on a machine that has two processors for
 * a server, eight processes of Node and their starts.
 */
export const slack = { usual: 500, most: 1000 } as const

/**
 * How many attempts a task may take at most, and which part of the attempts that ended with their lease may have no reason that
 * is known: a process that gets no processor for the time of a lease loses it like one that was stopped.
 */
export const limits = { attempts: 10, unexplained: 1 / 10 } as const

/** What is to be printed. */
export const figures = (facts: Facts) => ({
  attemptsPerTask: summary(facts.attempts),
  attemptsBurnt: facts.burnt.length,
  attemptsFailed: facts.failed.length,
  attemptsBurntWithoutReason: facts.burnt.filter((one) => !isExplained(facts, one)).length,
  takeUpMillis: summary(takeUps(facts)),
  firstClaimAfterRestartMillis: facts.restarts.map(({ at, claimedAt }) => (claimedAt ?? Infinity) - at)
})

/** Everything that is not as promised, in words. */
export const problems = (facts: Facts): ReadonlyArray<string> => {
  const { acknowledged, attempts, burnt, done, failed, lease, lines, pollInterval, repeated, restarts } = facts
  const found: Array<string> = []
  const must = (holds: boolean, problem: string) => {
    if (!holds) found.push(problem)
  }
  for (const [deed, times] of Object.entries(least)) {
    must((done[deed] ?? 0) >= times, `${deed}: ${done[deed] ?? 0} times, and ${times} are needed`)
  }

  const taken = takeUps(facts)
  must(taken.length >= least.kill / 2, `only ${taken.length} runs were in the hands of a worker that was killed`)
  const { max, p99 } = summary(taken)
  const limit = lease + pollInterval
  must(p99 <= limit + slack.usual, `1% of what dead workers had was taken up after ${p99} ms or more`)
  must(max <= limit + slack.most, `something of a dead worker was taken up after ${max} ms`)

  must(restarts.length === (done["server"] ?? 0), `${restarts.length} restarts were looked at, of ${done["server"]}`)
  for (const { at, claimedAt = Infinity } of restarts) {
    must(claimedAt - at < recovery, `the first claim after a restart came after ${claimedAt - at} ms`)
  }

  must(attempts.length > 0, "there were no tasks")
  const further = attempts.reduce((sum, attempt) => sum + attempt - 1, 0)
  must(
    further === burnt.length + failed.length,
    `there were ${further} further attempts, ${burnt.length} leases that ended and ${failed.length} failures`
  )
  const most = attempts.reduce((most, attempt) => Math.max(most, attempt), 0)
  must(most <= limits.attempts, `a task took ${most} attempts`)
  const mysterious = burnt.filter((one) => !isExplained(facts, one))
  if (mysterious.length > burnt.length * limits.unexplained) {
    for (const one of mysterious) found.push(unexplained(facts, one))
  }
  for (const { at, n, reason } of failed) {
    // A statement of its own, while its connection was cut.
    must(isDuring(facts.outages, at), `task ${n} failed at ${at}, when the store could be reached: ${reason}`)
  }

  must(acknowledged > 0, "no step was acknowledged")
  for (const { at, detail, n, pid } of repeated) {
    const story = lines.filter((line) => line.n === n && line.what !== "probe").map((line) =>
      `${line.at} ${line.pid} ${line.what} ${line.detail}`
    )
    found.push(`step ${detail} of task ${n} was begun again at ${at} by ${pid}:\n${story.join("\n")}`)
  }
  return found
}

// --- internal

/**
 * For how long what dead workers had was left alone, from the death on. Of the time after the end of the lease only that
 * counts in which the store could be reached.
 */
const takeUps = ({ burnt, deaths, outages }: Facts): ReadonlyArray<number> => {
  const diedAt = new Map(deaths.map(({ at, pid }) => [pid, at]))
  return burnt.flatMap(({ expiredAt, foundAt, pid }) => {
    const death = diedAt.get(pid)
    // One whose lease had ended before was not held by a worker that lived.
    if (death === undefined || expiredAt < death) return []
    return [expiredAt - death + outside(outages, { from: expiredAt, until: foundAt })]
  })
}

/** Its worker was killed, or stopped or cut off while it should have renewed the lease. */
const isExplained = ({ deaths, lease, outages, stops }: Facts, { expiredAt, pid }: Burnt): boolean => {
  const unrenewed = { from: expiredAt - lease, until: expiredAt }
  return deaths.some((death) => death.pid === pid && death.at <= expiredAt) ||
    stops.some((stop) => stop.pid === pid && overlap(stop, unrenewed) > 0) ||
    outages.some((outage) => overlap(outage, unrenewed) > 0)
}

/** All that may help to find out why. */
const unexplained = ({ lines, outages, stops }: Facts, { expiredAt, foundAt, n, pid }: Burnt): string => {
  const since = (at: number) => `${at - expiredAt} ms`
  const seen = lines.filter((line) => line.pid === pid)
  const last = seen.filter((line) => line.at <= expiredAt).slice(-4)
  const next = seen.filter((line) => line.at > expiredAt).slice(0, 2)
  const told = [...last, ...next].map((line) => `${line.what} ${line.n} at ${since(line.at)}`)
  const near = [...outages, ...stops.filter((stop) => stop.pid === pid)]
    .filter(({ until }) => until > expiredAt - 10_000)
    .map(({ from, until }) => `${since(from)} to ${since(until)}`)
  return `task ${n} lost an attempt of process ${pid}, which nothing had happened to: found ${
    since(foundAt)
  } after its ` +
    `lease had ended; the process did: ${told.join(", ")}; outages and stops: ${near.join(", ")}`
}

const isDuring = (spans: ReadonlyArray<Span>, at: number): boolean =>
  spans.some(({ from, until }) => from <= at && at <= until)

const overlap = (a: Span, b: Span): number => Math.max(0, Math.min(a.until, b.until) - Math.max(a.from, b.from))

/** How much of a span is in none of the others. */
const outside = (others: ReadonlyArray<Span>, { from, until }: Span): number => {
  let left = 0
  let reached = from
  for (const other of [...others].sort((a, b) => a.from - b.from)) {
    if (other.until <= reached) continue
    if (other.from >= until) break
    left += Math.max(0, other.from - reached)
    reached = Math.min(until, other.until)
  }
  return left + Math.max(0, until - reached)
}

/** Of nothing, all is infinite, so that no bound holds by accident. */
const summary = (numbers: ReadonlyArray<number>) => {
  const sorted = [...numbers].sort((a, b) => a - b)
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Infinity
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}
