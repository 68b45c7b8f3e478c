/**
 * When a failed task is tried again: the policy a task was declared with, applied to one failure.
 *
 * @since 0.1.0
 */
import { Cause, DateTime, Duration, Effect, Exit, Option, Pull, References, Schedule } from "effect"
import type * as Driver from "./Driver.ts"
import { maxDelay, RetryStrategy } from "./RetryStrategy.ts"
import * as RetryStrategies from "./RetryStrategy.ts"

/**
 * A `RetryStrategy`, which is stored with the task and understood by workers of every language, or a `Schedule` over the
 * task's typed error, which the worker evaluates.
 *
 * A schedule is asked once for each attempt so far; its elapsed time counts from the task's first start. When it is done
 * the task has failed.
 *
 * @since 0.1.0
 * @category models
 */
export type RetryPolicy<E = unknown> = RetryStrategy | Schedule.Schedule<unknown, E>

/**
 * A schedule with the strategy that is stored with the task beside it. This library's workers go by the schedule; workers in
 * other languages, and the store itself when a lease runs out, by the strategy.
 *
 * Attach it last: what is made from the schedule afterwards is another schedule, without a strategy.
 *
 * ```ts
 * import { Schedule } from "effect"
 * import { RetryPolicy, RetryStrategy } from "effect-absurd"
 *
 * const policy = RetryPolicy.storedAs(
 *   Schedule.exponential("2 seconds").pipe(Schedule.jittered),
 *   RetryStrategy.exponential({ base: "2 seconds" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const storedAs = <Output, E, Error, R>(
  schedule: Schedule.Schedule<Output, E, Error, R>,
  strategy: RetryStrategy
): Schedule.Schedule<Output, E, Error, R> => {
  // Another schedule of the same steps, so that the one that was given stays as it was.
  const copy = Schedule.fromStep(Schedule.toStep(schedule))
  strategies.set(copy, strategy)
  return copy
}

/**
 * The delays of a strategy as a schedule, for composing it. As it is, it is stored as the strategy; see {@link storedAs}.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromStrategy = (strategy: RetryStrategy): Schedule.Schedule<number> => {
  const delays = Schedule.modifyDelay(
    Schedule.forever,
    ({ attempt }) => Effect.succeed(RetryStrategies.delayAfter(strategy, attempt))
  )
  return storedAs(delays, strategy)
}

/**
 * What is known of the failure.
 *
 * @since 0.1.0
 * @category models
 */
export interface Failed<E> {
  readonly attempt: number
  /** Since the task's first start. */
  readonly elapsed: Duration.Duration
  /** The typed error; undefined for a defect. */
  readonly error: E | undefined
}

/**
 * What is stored with the task, by which workers that cannot evaluate a schedule, and the store itself when a lease runs
 * out, go: the strategy itself, or for a schedule the one that it is {@link storedAs}, else the one that has its delays, if
 * there is one, else {@link RetryStrategies.standard}.
 *
 * To find out about its delays the schedule is asked for them, once. One that looks at the error, at the time or at
 * chance has none of its own.
 *
 * @since 0.1.0
 * @category destructors
 */
export const stored = <E>(policy: RetryPolicy<E>): RetryStrategy =>
  Schedule.isSchedule(policy) ? strategies.get(policy) ?? expressed(policy) : policy

/**
 * The nearest delay that can be stored: none for what is no duration or negative, and at most ten years.
 *
 * @since 0.1.0
 * @category combinators
 */
export const limit = (delay: Duration.Input): Duration.Duration =>
  Option.match(Duration.fromInput(delay), {
    onNone: () => Duration.zero,
    onSome: (duration) => Duration.clamp(duration, { minimum: Duration.zero, maximum: maxDelay })
  })

/**
 * When the next attempt starts, as the driver is to be told.
 *
 * @since 0.1.0
 * @category combinators
 */
export const decide = <E>(policy: RetryPolicy<E>, failed: Failed<E>): Effect.Effect<Driver.Retry> =>
  Schedule.isSchedule(policy)
    ? Effect.map(
      delayBySchedule(policy, failed),
      (delay): Driver.Retry =>
        delay === undefined ? { _tag: "Never" } : { _tag: "After", delay: Duration.min(delay, maxDelay) }
    )
    : Effect.succeed({ _tag: "Stored" })

// --- internal

const strategies = new WeakMap<object, RetryStrategy>()

const expressed = <E>(schedule: Schedule.Schedule<unknown, E>): RetryStrategy => {
  // Once at one instant, and once over months, at all times of the day.
  const [now, later] = [probe(schedule, 0), probe(schedule, 5_003_009)]
  const delays = now.length === later.length && now.every((delay, index) => delay === later[index]) ? now : []
  const strategy = strategyOf(delays) ?? RetryStrategies.standard
  strategies.set(schedule, strategy)
  return strategy
}

/** So many that a usual longest delay is reached. */
const probes = 48

/** The delays in milliseconds, up to where the schedule ends; none when it looks at the error. */
const probe = <E>(schedule: Schedule.Schedule<unknown, E>, interval: number): ReadonlyArray<number> => {
  const taken = Effect.gen(function*() {
    const step = yield* Schedule.toStep(schedule)
    const delays: Array<number> = []
    for (let index = 0; index < probes; index++) {
      const exit = yield* Effect.exit(step(index * index * interval, unreadable as E))
      if (Exit.isFailure(exit)) return Pull.isDoneCause(exit.cause) ? delays : []
      delays.push(Duration.toMillis(limit(exit.value[1])))
    }
    return delays
  })
  // What has to wait for something is not asked to the end.
  const exit = Effect.runSyncExit(Effect.provideService(taken, References.MinimumLogLevel, "None"))
  return Exit.isSuccess(exit) ? exit.value : []
}

const unreadable: unknown = new Proxy({}, {
  get: () => {
    throw new Error("there is no error yet")
  }
})

/** The strategy whose delays these are. A few delays could be anything's. */
const strategyOf = (delays: ReadonlyArray<number>): RetryStrategy | undefined => {
  const [first, second, third] = delays
  if (first === undefined || second === undefined || third === undefined) return undefined
  const fits = (strategy: RetryStrategy) =>
    delays.every((delay, index) =>
      Math.abs(Duration.toMillis(RetryStrategies.delayAfter(strategy, index + 1)) - delay) <= 1 + delay * 1e-9
    )
  const base = Duration.millis(first)
  const growing = { base, factor: first === 0 ? 1 : second / first }
  const candidates = [
    RetryStrategies.none,
    RetryStrategies.fixed(base),
    RetryStrategies.exponential(growing),
    RetryStrategies.exponential({ ...growing, max: Duration.millis(Math.max(...delays)) })
  ]
  return candidates.find(fits)
}

/**
 * A schedule keeps its state in a closure, which no store can hold, so it is stepped anew once per attempt. All steps see
 * the error of this failure; the first is taken at the task's start, the others at this failure.
 */
const delayBySchedule = Effect.fnUntraced(function*<E>(
  schedule: Schedule.Schedule<unknown, E>,
  { attempt, elapsed, error }: Failed<E>
) {
  const step = yield* Schedule.toStep(schedule)
  const start = DateTime.toEpochMillis(yield* DateTime.now) - Duration.toMillis(elapsed)
  let delay: Duration.Duration | undefined
  for (let taken = 1; taken <= attempt; taken++) {
    const now = taken === 1 && attempt > 1 ? start : start + Duration.toMillis(elapsed)
    const exit = yield* Effect.exit(step(now, error as E))
    if (Exit.isFailure(exit)) {
      // One that dies is not done.
      const died = exit.cause.reasons.find(Cause.isDieReason)
      return died === undefined ? undefined : yield* Effect.die(died.defect)
    }
    delay = exit.value[1]
  }
  return delay
})
