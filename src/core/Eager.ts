/**
 * Doing for many values at once what hardly ever has to wait.
 *
 * @since 0.1.0
 */
import { Effect, Exit } from "effect"

/**
 * What `use` makes of each value and its place, in their order, up to the first failure: `Effect.forEach`, but without a step
 * of the fiber for what is an `Exit` already, as most checks and codecs are.
 *
 * @since 0.1.0
 * @category combinators
 */
export const forEach = <A, B, E, R>(
  values: Iterable<A>,
  use: (value: A, place: number) => Effect.Effect<B, E, R>
): Effect.Effect<ReadonlyArray<B>, E, R> =>
  Effect.suspend(() => {
    const all = Array.from(values)
    const made: Array<B> = []
    const goOn = (): Effect.Effect<ReadonlyArray<B>, E, R> => {
      for (let done = 0; made.length < all.length; done++) {
        // Others have their turn, too.
        if (done === turn) return Effect.andThen(Effect.yieldNow, Effect.suspend(goOn))
        const step = Effect.mapEager(use(all[made.length]!, made.length), (value) => void made.push(value))
        if (!Exit.isExit(step) || Exit.isFailure(step)) return Effect.flatMap(step, goOn)
      }
      return Effect.succeed(made)
    }
    return goOn()
  })

// --- internal

/** So many take about a millisecond. */
const turn = 500
