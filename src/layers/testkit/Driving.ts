/**
 * A worker that does what the test says, when the test says it.
 *
 * @since 0.1.0
 */
import { Clock, DateTime, Duration, Effect } from "effect"
import { type Absurd, resolveQueue } from "../../core/Absurd.ts"
import type { Result } from "../../core/Engine.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import * as Input from "../../core/Input.ts"
import * as Worker from "../../core/Worker.ts"
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

type Drives<A, R = Absurd> = Effect.Effect<A, InvalidInput | NotFound | DriverError, R>

/**
 * Claims once from each queue, executes what was claimed, and returns how each run ended.
 *
 * @since 0.1.0
 * @category driving
 */
export const runDue = (options: Options = {}): Drives<ReadonlyArray<Result>> =>
  Effect.flatMap(TestStore.queues(options.queue), (queues) =>
    Effect.map(
      Effect.forEach(queues, (queue) =>
        Worker.runOnce({ queue, concurrency: options.concurrency ?? 50, lease: options.lease ?? "1 minute" })),
      (results) =>
        results.flat()
    ))

/**
 * {@link runDue} until nothing is due. Dies when there is no end to it after 10,000 claims: a task that is retried at once
 * for ever.
 *
 * @since 0.1.0
 * @category driving
 */
export const runUntilIdle = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<ReadonlyArray<Result>, InvalidInput | NotFound | DriverError, Absurd> {
  const all: Array<Result> = []
  for (let claims = 0; claims < 10_000; claims++) {
    const results = yield* runDue(options)
    if (results.length === 0) return all
    all.push(...results)
  }
  return yield* Effect.die(
    new Error("there is always something due; does a task fail and start again at once, for ever?")
  )
})

/**
 * Lets time pass, and runs what becomes due on the way when it becomes due. Returns how each run ended.
 *
 * @since 0.1.0
 * @category driving
 */
export const advance = Effect.fnUntraced(function*(
  duration: Duration.Input,
  options: Options = {}
): Effect.fn.Return<ReadonlyArray<Result>, InvalidInput | NotFound | DriverError, Absurd | TestStore.TestStore> {
  const length = yield* Input.duration("duration", duration, { maximum: Duration.days(36_500) })
  const end = (yield* Clock.currentTimeMillis) + Duration.toMillis(length)
  const all = [...(yield* runUntilIdle(options))]
  for (;;) {
    const next = yield* nextDue(options)
    if (next === undefined || next.epochMilliseconds >= end) break
    yield* TestStore.setTime(next)
    all.push(...(yield* runUntilIdle(options)))
  }
  yield* TestStore.setTime(DateTime.makeUnsafe(end))
  all.push(...(yield* runUntilIdle(options)))
  return all
})

/**
 * The first instant after now at which there is something to do, or undefined when nothing will happen by itself.
 *
 * @since 0.1.0
 * @category driving
 */
export const nextDue = (
  options: Options = {}
): Drives<DateTime.Utc | undefined, Absurd | TestStore.TestStore> =>
  Effect.flatMap(TestStore.queues(options.queue), (queues) =>
    Effect.map(
      Effect.forEach(queues, (queue) => Effect.flatMap(resolveQueue(queue), TestStore.nextDue)),
      (instants) => {
        let first: DateTime.Utc | undefined
        for (const instant of instants) {
          if (instant !== undefined && (first === undefined || DateTime.isLessThan(instant, first))) first = instant
        }
        return first
      }
    ))
