/**
 * Lets requests of concurrent fibers travel together, without a timer: an idle batch sends what comes in one turn of the
 * scheduler, and whatever gathers while it is busy is its next load.
 *
 * @since 0.1.0
 */
import { Cause, Deferred, Effect, Exit, FiberSet, Schema, type Scope } from "effect"
import { DriverError } from "./Errors.ts"

/**
 * How requests are sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<Item, Out, E, R> {
  /** Sends many items and answers for each, in their order. */
  readonly send: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Out>, E, R>
  /** The most items of one load; 500 by default. */
  readonly maxSize?: number | undefined
  /** How many loads may be on their way at once; 1 by default. */
  readonly lanes?: number | undefined
}

/**
 * A function that sends one item with the next load and returns its own answer.
 *
 * An error of a load that a single item may have caused (anything but trouble with the infrastructure) is settled by
 * sending each of its items alone, so one bad item fails alone. A caller that is interrupted before its item was sent takes
 * it back; afterwards the item is carried out, and nobody hears of it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*<Item, Out, E extends { readonly _tag: string }, R>(
  options: Options<Item, Out, E, R>
): Effect.fn.Return<(item: Item) => Effect.Effect<Out, E>, never, R | Scope.Scope> {
  const maxSize = options.maxSize ?? 500
  const lanes = options.lanes ?? 1
  const waiting = new Set<Entry<Item, Out, E>>()
  const sent = new Set<Entry<Item, Out, E>>()
  let busy = 0

  // When the scope closes nobody sends any more, so nobody may wait any more.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const entry of [...waiting, ...sent]) Deferred.doneUnsafe(entry.answer, Exit.interrupt())
    })
  )
  const fork = yield* FiberSet.makeRuntime<R>()

  const answer = (entry: Entry<Item, Out, E>, exit: Exit.Exit<Out, E>) => {
    sent.delete(entry)
    Deferred.doneUnsafe(entry.answer, exit)
  }

  const settle = (load: ReadonlyArray<Entry<Item, Out, E>>): Effect.Effect<void, never, R> =>
    Effect.flatMap(Effect.exit(options.send(load.map((entry) => entry.item))), (exit) => {
      if (Exit.isSuccess(exit)) {
        load.forEach((entry, index) => answer(entry, Exit.succeed(exit.value[index]!)))
        return Effect.void
      }
      if (load.length > 1 && mayBeOneItem(exit.cause)) {
        return Effect.forEach(load, (entry) => settle([entry]), { discard: true })
      }
      load.forEach((entry) => answer(entry, Exit.failCause(exit.cause)))
      return Effect.void
    })

  const work: Effect.Effect<void, never, R> = Effect.suspend(() => {
    const load = takeFirst(waiting, maxSize)
    if (load.length === 0) {
      busy--
      return Effect.void
    }
    load.forEach((entry) => sent.add(entry))
    return Effect.flatMap(settle(load), () => work)
  })

  return (item) =>
    Effect.suspend(() => {
      const entry: Entry<Item, Out, E> = { item, answer: Deferred.makeUnsafe<Out, E>() }
      waiting.add(entry)
      if (busy < lanes) {
        busy++
        // Fibers that go on in the same turn join the first load.
        fork(Effect.andThen(Effect.yieldNow, work))
      }
      return Effect.onInterrupt(Deferred.await(entry.answer), () => Effect.sync(() => waiting.delete(entry)))
    })
})

// --- internal

interface Entry<Item, Out, E> {
  readonly item: Item
  readonly answer: Deferred.Deferred<Out, E>
}

const takeFirst = <A>(set: Set<A>, count: number): Array<A> => {
  const taken: Array<A> = []
  for (const entry of set) {
    if (taken.length === count) break
    taken.push(entry)
    set.delete(entry)
  }
  return taken
}

const mayBeOneItem = <E extends { readonly _tag: string }>(cause: Cause.Cause<E>): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason) && !(isDriverError(reason.error) && reason.error.reason._tag !== "Rejected")
  )

const isDriverError = Schema.is(DriverError)
