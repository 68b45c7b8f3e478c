/**
 * Executing a handler only as far as its history goes.
 *
 * @since 0.1.0
 */
import { Context, Effect, type Schema } from "effect"
import type { CurrentRun } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import type { CheckpointName } from "./Identifiers.ts"
import * as SagaLog from "./SagaLog.ts"

/**
 * Set while a handler is executed for its history alone: nothing new may happen.
 *
 * @since 0.1.0
 * @category references
 */
export const Replay = Context.Reference<
  {
    /** What to do instead of anything that has not been stored: it never returns. */
    readonly end: Effect.Effect<never>
    /** The failures of the execution that is followed, by the names of the steps. */
    readonly failures: { readonly [step: string]: Schema.Json }
    /** Executes what decides nothing any more, such as the loser of a race, to the end of its history. */
    readonly aside: <A, E, R>(branch: Effect.Effect<A, E, R>) => Effect.Effect<void, never, R>
    readonly register: (name: CheckpointName, compensate: Effect.Effect<unknown, unknown, CurrentRun>) => void
  } | undefined
>("effect-absurd/core/Replay", { defaultValue: () => undefined })

/**
 * The effect, unless the handler is executed for its history alone: then what ends that.
 *
 * @since 0.1.0
 * @category combinators
 */
export const atEndOfHistory = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Replay, (replay): Effect.Effect<A, E, R> => replay === undefined ? effect : replay.end)

/**
 * What becomes of a step: what was stored of it, or else the step itself, whose failure is noted. When the handler is
 * executed for its history alone, a step that failed in the execution that is followed fails again, and there are no others.
 *
 * @since 0.1.0
 * @category combinators
 */
export const once = <A, E, R, E2, R2>(
  run: CurrentRun["Service"],
  step: CheckpointName,
  stored: (state: Schema.Json) => Effect.Effect<A, E, R>,
  first: Effect.Effect<A, E2, R2>
): Effect.Effect<A, E | E2, R | R2> =>
  Effect.withFiber((fiber): Effect.Effect<A, E | E2, R | R2> => {
    const replay = fiber.getRef(Replay)
    const failure = replay?.failures[step]
    if (failure !== undefined) return Effect.fail(SagaLog.revive(failure) as E2)
    const state = run.recall(step)
    if (state !== undefined) return stored(state)
    if (replay !== undefined) return replay.end
    return Effect.tapCause(first, (cause) =>
      Effect.sync(() => {
        // A failure that was stored is found as that.
        if (run.recall(step) === undefined) run.saga.failed(step, cause)
      }))
  })

/**
 * What guards a write of a program.
 *
 * @since 0.1.0
 * @category models
 */
export type Guard = <A, E, R>(write: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * A write that is guarded ends a history, and `onError` is told of its failure.
 *
 * @since 0.1.0
 * @category constructors
 */
export const guard = (onError: (error: unknown) => void): Guard => (write) =>
  Effect.tapError(atEndOfHistory(write), (error) => Effect.sync(() => onError(error)))

/**
 * The driver for programs, whose writes through it are guarded. What workers write for their runs is as it was.
 *
 * @since 0.1.0
 * @category combinators
 */
export const guardWrites = (driver: Driver.Driver["Service"], guarded: Guard): Driver.Driver["Service"] => {
  const writes: Partial<Driver.Driver["Service"]> = {
    createQueue: (request) => guarded(driver.createQueue(request)),
    dropQueue: (queue) => guarded(driver.dropQueue(queue)),
    spawn: (request) => guarded(driver.spawn(request)),
    emit: (request) => guarded(driver.emit(request)),
    cancelTask: (request) => guarded(driver.cancelTask(request)),
    cancelRun: (request) => guarded(driver.cancelRun(request)),
    retryTask: (request) => guarded(driver.retryTask(request)),
    revisePending: (request) => guarded(driver.revisePending(request)),
    withTransaction: (self) => guarded(driver.withTransaction(self))
  }
  // No copy: a driver may be one whose members are found when they are asked for.
  return new Proxy(driver, {
    get: (target, key): unknown => Reflect.get(Object.hasOwn(writes, key) ? writes : target, key)
  })
}
