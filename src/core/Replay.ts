/**
 * Executing a handler only as far as its history goes.
 *
 * @since 0.1.0
 */
import { Context, Effect } from "effect"
import type { CurrentRun } from "./CurrentRun.ts"

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
    readonly register: (name: string, compensate: Effect.Effect<unknown, unknown, CurrentRun>) => void
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
