/**
 * Passes the hints of a store on to those of one client who want them, over one subscription.
 *
 * @since 0.1.0
 */
import { Effect, FiberSet, Schedule, Scope, Stream } from "effect"
import type * as Driver from "./Driver.ts"
import type { Outage } from "./Outage.ts"

/**
 * A hint, or `Gap`: some may have been missed.
 *
 * @since 0.1.0
 * @category models
 */
export type Hint = Driver.Signal | { readonly _tag: "Gap" }

/**
 * @since 0.1.0
 * @category models
 */
export interface Signals {
  /** Calls `listener`, which must not fail, for every hint, until the scope closes. */
  readonly subscribe: (listener: (hint: Hint) => void) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * Listens to the store from the first subscription on, until the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  driver: Driver.Driver["Service"],
  outage: Outage
): Effect.fn.Return<Signals, never, Scope.Scope> {
  const listeners = new Set<(hint: Hint) => void>()
  const fork = yield* FiberSet.makeRuntime<never>()
  const tell = (hint: Hint) => {
    for (const listener of listeners) listener(hint)
  }
  const listen = Effect.andThen(
    outage.up,
    Stream.runForEach(driver.signals, (signal) => Effect.sync(() => tell(signal)))
  ).pipe(
    Effect.tapError((error) => Effect.sync(() => outage.report(error))),
    Effect.ignore,
    Effect.andThen(Effect.sync(() => tell({ _tag: "Gap" }))),
    Effect.repeat(Schedule.spaced("1 second").pipe(Schedule.jittered))
  )
  let listening = false

  return {
    subscribe: (listener) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          listeners.add(listener)
          if (listening) return
          listening = true
          fork(listen)
        }),
        () => Effect.sync(() => listeners.delete(listener))
      )
  }
})
