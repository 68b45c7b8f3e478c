/**
 * Passes the hints of a store on to those of one client who want them, over one subscription.
 *
 * @since 0.1.0
 */
import { Effect, FiberSet, Schedule, Scope, Stream } from "effect"
import type * as Driver from "./Driver.ts"
import type { Outage } from "./Outage.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Signals {
  /** Calls `listener`, which must not fail, for every hint, until the scope closes. */
  readonly subscribe: (listener: (hint: Driver.Signal) => void) => Effect.Effect<void, never, Scope.Scope>
  /**
   * Calls `listener`, which must not fail, when the task may have ended, until the scope closes. What many wait for costs no
   * more than what one waits for: a hint is passed on only to those whom it concerns.
   */
  readonly subscribeEnd: (taskId: string, listener: () => void) => Effect.Effect<void, never, Scope.Scope>
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
  const listeners = new Set<(hint: Driver.Signal) => void>()
  const awaited = new Map<string, Set<() => void>>()
  const fork = yield* FiberSet.makeRuntime<never>()
  const tell = (hint: Driver.Signal) => {
    for (const listener of listeners) listener(hint)
    if (hint._tag === "Ended") {
      for (const listener of awaited.get(hint.taskId) ?? []) listener()
    } else if (hint._tag === "Gap") {
      for (const ofTask of awaited.values()) for (const listener of ofTask) listener()
    }
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

  const subscription = (add: () => void, remove: () => void) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        add()
        if (listening) return
        listening = true
        fork(listen)
      }),
      () => Effect.sync(remove)
    )

  return {
    subscribe: (listener) => subscription(() => listeners.add(listener), () => listeners.delete(listener)),
    subscribeEnd: (taskId, listener) =>
      subscription(() => {
        const ofTask = awaited.get(taskId)
        if (ofTask === undefined) awaited.set(taskId, new Set([listener]))
        else ofTask.add(listener)
      }, () => {
        const ofTask = awaited.get(taskId)
        if (ofTask?.delete(listener) === true && ofTask.size === 0) awaited.delete(taskId)
      })
  }
})
