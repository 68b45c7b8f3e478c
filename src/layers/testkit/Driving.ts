/**
 * A worker that does what the test says, when the test says it.
 *
 * @since 0.1.0
 */
import { Clock, DateTime, Duration, Effect, Fiber, Option } from "effect"
import type { Absurd } from "../../core/Absurd.ts"
import * as Cron from "../../core/Cron.ts"
import type { Result } from "../../core/Engine.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import * as Input from "../../core/Input.ts"
import * as Shift from "./Shift.ts"
import * as TestStore from "./TestStore.ts"

/**
 * How the worker of a test works. Without a `queue` it works on all queues of the store.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly queue?: string | undefined
  /** How many runs are executed at once; 50 by default. */
  readonly concurrency?: number | undefined
  /** How long a run stays claimed; 1 minute by default. */
  readonly lease?: Duration.Input | undefined
}

type Failure = InvalidInput | NotFound | DriverError
type Drives<A, R = Absurd> = Effect.Effect<A, Failure, R>

/**
 * Claims once from each queue, executes what was claimed, and returns how each run ended. Schedules whose ticks are due
 * spawn them before.
 *
 * Dies when a run waits for the clock, as in a step with a retry delay or a time limit: see {@link advance}.
 *
 * @since 0.1.0
 * @category driving
 */
export const runDue = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<ReadonlyArray<Result>, Failure, Absurd> {
  const settle = yield* settled
  const all: Array<Result> = []
  yield* tick(options)
  for (const queue of yield* TestStore.queues(options.queue)) {
    const shift = yield* begin(queue, options)
    const results = yield* orInterrupt([shift], Shift.rest(shift, settle))
    if (results === undefined) {
      shift.fiber.interruptUnsafe()
      // It hands back what it has not done, unless that takes time.
      for (let turns = 0; turns < 100 && shift.fiber.pollUnsafe() === undefined; turns++) yield* Effect.yieldNow
      return yield* Effect.die(
        new Error(
          "a run waits for the clock (a retry delay or a time limit of a step, or a sleep that is no step); " +
            "use advance, which lets time pass"
        )
      )
    }
    all.push(...(yield* results))
  }
  return all
})

/**
 * {@link runDue} until nothing is due. Dies when there is no end to it after 10,000 claims: a task that is retried at once
 * for ever.
 *
 * @since 0.1.0
 * @category driving
 */
export const runUntilIdle = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<ReadonlyArray<Result>, Failure, Absurd> {
  const all: Array<Result> = []
  for (let claims = 0; claims < 10_000; claims++) {
    const results = yield* runDue(options)
    if (results.length === 0) return all
    all.push(...results)
  }
  return yield* endless
})

/**
 * Lets time pass, and runs what becomes due on the way when it becomes due, ticks of schedules included. Returns how each
 * run ended.
 *
 * Runs that wait for the clock, in a step with a retry delay or a time limit, go on when it is time. Those that are not done
 * at the end stay as they are, and go on with the next `advance`. What a step waits for beside the clock is waited for, but
 * not while something in the run waits for the clock as well: then time passes.
 *
 * @since 0.1.0
 * @category driving
 */
export const advance = Effect.fnUntraced(function*(
  duration: Duration.Input,
  options: Options = {}
): Effect.fn.Return<ReadonlyArray<Result>, Failure, Absurd | TestStore.TestStore> {
  const length = yield* Input.duration("duration", duration, { maximum: Duration.days(36_500) })
  const end = (yield* Clock.currentTimeMillis) + Duration.toMillis(length)
  const { shifts } = yield* TestStore.TestStore
  return yield* drive(options, shifts, (next) => next !== undefined && next < end ? next : end, end)
})

/**
 * {@link runUntilIdle}, but while a run waits for the clock, time passes, and what becomes due meanwhile is run too.
 *
 * @since 0.1.0
 * @category driving
 */
export const runToRest = (options: Options): Drives<ReadonlyArray<Result>, Absurd | TestStore.TestStore> =>
  Effect.suspend(() => {
    const shifts = new Set<Shift.Shift>()
    return drive(options, shifts, (next) => shifts.size === 0 ? undefined : next, undefined)
  })

/**
 * The first instant after now at which there is something to do, or undefined when nothing will happen by itself: a run
 * becomes due, a lease ends, a policy cancels a task, a schedule ticks.
 *
 * @since 0.1.0
 * @category driving
 */
export const nextDue = (
  options: Options = {}
): Drives<DateTime.Utc | undefined, Absurd | TestStore.TestStore> =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    let first = yield* nextDueRun(options)
    for (const { next } of yield* schedules(options)) {
      if (Option.isNone(next) || next.value.epochMilliseconds <= now) continue
      if (first === undefined || DateTime.isLessThan(next.value, first)) first = next.value
    }
    return first
  })

/**
 * {@link nextDue} without schedules.
 *
 * @since 0.1.0
 * @category driving
 */
export const nextDueRun = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<DateTime.Utc | undefined, Failure, Absurd | TestStore.TestStore> {
  const store = yield* TestStore.TestStore
  let first: DateTime.Utc | undefined
  for (const queue of yield* TestStore.queues(options.queue)) {
    const next = yield* store.nextDue(queue)
    if (next !== null && (first === undefined || DateTime.isLessThan(next, first))) first = next
  }
  return first
})

// --- internal

const endless = Effect.die(
  new Error("there is always something due; does a task fail and start again at once, for ever?")
)

const settled = Effect.map(
  Effect.serviceOption(TestStore.TestStore),
  (store) => Option.match(store, { onNone: () => Effect.void, onSome: ({ settle }) => settle })
)

const begin = (queue: string, { concurrency = 50, lease = "1 minute" }: Options) =>
  Shift.start({ queue, concurrency, lease })

/** When whoever drives the shifts is interrupted, they are. */
const orInterrupt = <A, E, R>(shifts: Iterable<Shift.Shift>, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.onInterrupt(self, () => Fiber.interruptAll(Array.from(shifts, ({ fiber }) => fiber)))

/** The schedules that are not paused and spawn into what is driven. */
const schedules = Effect.fnUntraced(function*({ queue }: Options) {
  const all = yield* Cron.list
  return all.filter((schedule) => !schedule.paused && (queue === undefined || schedule.queue === queue))
})

/** Spawns the ticks that are due; returns how many. A loop that runs the schedules may do so as well: each is spawned once. */
const tick = Effect.fnUntraced(function*(options: Options) {
  const found = yield* schedules(options)
  if (found.length === 0) return 0
  const now = yield* Clock.currentTimeMillis
  const isDue = found.some(({ next }) => Option.isNone(next) || next.value.epochMilliseconds <= now)
  return isDue ? (yield* Cron.runDue).length : 0
})

/**
 * Works at this instant, then at the one that `stop` makes of the next at which something happens, and so on: until it is
 * `end`, or there is none. Shifts that wait for the clock stay in `shifts`.
 */
const drive = (
  options: Options,
  shifts: Set<Shift.Shift>,
  stop: (next: number | undefined) => number | undefined,
  end: number | undefined
): Drives<ReadonlyArray<Result>, Absurd | TestStore.TestStore> =>
  orInterrupt(
    shifts,
    Effect.gen(function*() {
      const all: Array<Result> = []
      for (;;) {
        yield* work(options, shifts, all)
        const now = yield* Clock.currentTimeMillis
        if (end !== undefined && now >= end) return all
        const due = yield* nextDue(options)
        const wake = Shift.nextWake(shifts) ?? Infinity
        const next = Math.min(due?.epochMilliseconds ?? Infinity, Math.max(wake, now))
        const instant = stop(next === Infinity ? undefined : next)
        if (instant === undefined) return all
        yield* TestStore.setTime(DateTime.makeUnsafe(instant))
      }
    })
  )

/** Runs all that is due now, and lets those go on that waited for the clock. */
const work = Effect.fnUntraced(function*(options: Options, shifts: Set<Shift.Shift>, all: Array<Result>) {
  const { settle } = yield* TestStore.TestStore
  const proceed = Effect.fnUntraced(function*(shift: Shift.Shift) {
    shifts.add(shift)
    const ended = yield* Shift.rest(shift, settle)
    if (ended === undefined) return 0
    shifts.delete(shift)
    const results = yield* ended
    all.push(...results)
    return results.length
  })
  for (let claims = 0; claims < 10_000; claims++) {
    let done = yield* tick(options)
    for (const shift of shifts) done += yield* proceed(shift)
    for (const queue of yield* TestStore.queues(options.queue)) done += yield* proceed(yield* begin(queue, options))
    if (done === 0) return
  }
  return yield* endless
})
