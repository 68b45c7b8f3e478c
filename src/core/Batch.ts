/**
 * Lets requests of concurrent fibers travel together, without a timer: an idle batch sends what comes in one turn of the
 * scheduler, and whatever gathers while it is busy is its next load.
 *
 *     line   items that may share a load; what has to wait in one line holds up no other
 *     lane   sends one load of its line after the other; another one opens only when all of a line's are held up
 *
 * @since 0.1.0
 */
import { Cause, Duration, Effect, Exit, FiberSet, Schema, type Scope } from "effect"
import { DriverError } from "./Errors.ts"

/**
 * How requests are sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<Item, Out, E, R> {
  /** Sends many items of one line and answers for each, in their order. */
  readonly send: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Out>, E, R>
  /** The line of an item; by default there is one for all. A line costs nothing while nothing is in it. */
  readonly lineOf?: ((item: Item) => string) | undefined
  /** The most items of one load; 500 by default. */
  readonly maxSize?: number | undefined
  /** About how long an item is when it is encoded; 0 by default. */
  readonly lengthOf?: ((item: Item) => number) | undefined
  /** How long the items of one load are together, unless one item is longer; 8 Mi by default. */
  readonly maxLength?: number | undefined
  /** How many loads of a line may be on their way at once, when those before are slow; 1 by default. */
  readonly lanes?: number | undefined
}

/**
 * For how long a load may be on its way before its line stops waiting for it, at the next look, which comes as late again at
 * most: much longer than a store takes that works, and much shorter than locks of somebody's transaction may last.
 *
 * @since 0.1.0
 * @category models
 */
export const patience = Duration.millis(50)

/**
 * A function that sends one item with the next load of its line and returns its own answer.
 *
 * An error of a load that a single item may have caused (anything but trouble with the infrastructure) is settled by
 * sending each of its items alone, so one bad item fails alone. So is a `send` that throws, for then nothing has been sent.
 * A defect of the request itself is told to all: what became of the load is not known.
 *
 * A caller that is interrupted before its item was sent takes it back; afterwards the item is carried out, and nobody hears
 * of it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*<Item, Out, E extends { readonly _tag: string }, R>(
  options: Options<Item, Out, E, R>
): Effect.fn.Return<(item: Item) => Effect.Effect<Out, E>, never, R | Scope.Scope> {
  const maxSize = options.maxSize ?? 500
  const maxLength = options.maxLength ?? 8 * 1024 * 1024
  const maxLanes = options.lanes ?? 1
  const lines = new Map<string, Line<Item, Out, E>>()
  const settle = settleWith(options.send)
  let closed = false

  // When the scope closes nobody sends any more, so nobody may wait any more.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const { lanes, waiting } of lines.values()) {
        answerAll(waiting, Exit.interrupt())
        for (const { load } of lanes) answerAll(load, Exit.interrupt())
      }
    })
  )
  const fork = yield* FiberSet.makeRuntime<R>()

  const lineOf = (item: Item) => {
    const name = options.lineOf?.(item) ?? ""
    const known = lines.get(name)
    if (known !== undefined) return known
    const line: Line<Item, Out, E> = { name, waiting: new Set(), lanes: new Set(), watched: false }
    lines.set(name, line)
    return line
  }
  const leave = (line: Line<Item, Out, E>) => {
    if (line.lanes.size === 0 && !line.watched) lines.delete(line.name)
  }

  const work = (line: Line<Item, Out, E>, lane: Lane<Item, Out, E>): Effect.Effect<void, never, R> =>
    Effect.suspend(() => {
      lane.load = takeFirst(line.waiting, maxSize, maxLength)
      lane.slow = false
      if (lane.load.length === 0) {
        line.lanes.delete(lane)
        leave(line)
        return Effect.void
      }
      attend(line)
      return Effect.flatMap(settle(lane.load), () => work(line, lane))
    })

  const open = (line: Line<Item, Out, E>) => {
    const lane: Lane<Item, Out, E> = { load: [], slow: false }
    line.lanes.add(lane)
    const working = Effect.onExit(
      // Fibers that go on in the same turn join the first load.
      Effect.andThen(Effect.yieldNow, work(line, lane)),
      (exit) =>
        Effect.sync(() => {
          // One that has ended as it should has left its line. Whatever else happens, nobody waits for a lane that is gone.
          if (!line.lanes.delete(lane)) return
          answerAll(lane.load, Exit.isFailure(exit) ? Exit.failCause(exit.cause) : Exit.interrupt())
          attend(line)
          leave(line)
        })
    )
    fork(working)
  }

  /** Sees to it that what waits will be sent. */
  const attend = (line: Line<Item, Out, E>): void => {
    if (line.waiting.size === 0 || line.lanes.size >= maxLanes) return
    let heldUp = true
    for (const lane of line.lanes) {
      // It is about to take what waits.
      if (lane.load.length === 0) return
      heldUp &&= lane.slow
    }
    if (heldUp) return open(line)
    if (line.watched) return
    line.watched = true
    fork(watch(line))
  }

  /** Notices that a line is held up, while something waits in it. */
  const watch = (line: Line<Item, Out, E>) =>
    Effect.gen(function*() {
      while (line.waiting.size > 0 && line.lanes.size < maxLanes) {
        const before = Array.from(line.lanes, (lane) => ({ lane, load: lane.load }))
        yield* Effect.sleep(patience)
        for (const { lane, load } of before) if (lane.load === load && load.length > 0) lane.slow = true
        attend(line)
      }
      line.watched = false
      leave(line)
    })

  return (item) =>
    Effect.callback<Out, E>((answer) => {
      if (closed) return answer(Effect.interrupt)
      const entry: Entry<Item, Out, E> = { item, length: options.lengthOf?.(item) ?? 0, answer }
      const line = lineOf(item)
      line.waiting.add(entry)
      attend(line)
      return Effect.sync(() => line.waiting.delete(entry))
    })
})

// --- internal

interface Entry<Item, Out, E> {
  readonly item: Item
  readonly length: number
  /** Lets its caller go on. */
  readonly answer: (exit: Exit.Exit<Out, E>) => void
}

interface Lane<Item, Out, E> {
  /** What is on its way; empty until the first load is taken. */
  load: ReadonlyArray<Entry<Item, Out, E>>
  /** Whether that takes so long that others need not wait for it. */
  slow: boolean
}

interface Line<Item, Out, E> {
  readonly name: string
  readonly waiting: Set<Entry<Item, Out, E>>
  readonly lanes: Set<Lane<Item, Out, E>>
  /** Whether a fiber looks after the lanes. */
  watched: boolean
}

const takeFirst = <Item, Out, E>(
  waiting: Set<Entry<Item, Out, E>>,
  maxSize: number,
  maxLength: number
): ReadonlyArray<Entry<Item, Out, E>> => {
  const taken: Array<Entry<Item, Out, E>> = []
  let length = 0
  for (const entry of waiting) {
    length += entry.length
    if (taken.length === maxSize || (length > maxLength && taken.length > 0)) break
    taken.push(entry)
    waiting.delete(entry)
  }
  return taken
}

const answerAll = <Item, Out, E>(entries: Iterable<Entry<Item, Out, E>>, exit: Exit.Exit<Out, E>) => {
  for (const entry of entries) entry.answer(exit)
}

/** Sends a load and answers everybody in it; never fails. */
const settleWith = <Item, Out, E extends { readonly _tag: string }, R>(
  send: Options<Item, Out, E, R>["send"]
) => {
  const settle = (load: ReadonlyArray<Entry<Item, Out, E>>): Effect.Effect<void, never, R> =>
    Effect.suspend(() => {
      let request: Effect.Effect<ReadonlyArray<Out>, E, R>
      try {
        request = send(load.map((entry) => entry.item))
      } catch (defect) {
        // Nothing has left yet, so sending the items again cannot do anything twice.
        if (load.length > 1) return eachAlone(load)
        answerAll(load, Exit.die(defect))
        return Effect.void
      }
      return Effect.flatMap(Effect.exit(request), (exit) => {
        if (Exit.isFailure(exit)) {
          if (load.length > 1 && mayBeOneItem(exit.cause)) return eachAlone(load)
          answerAll(load, Exit.failCause(exit.cause))
        } else if (exit.value.length !== load.length) {
          answerAll(load, Exit.die(new Error(`${exit.value.length} answers to ${load.length} requests`)))
        } else {
          load.forEach((entry, index) => entry.answer(Exit.succeed(exit.value[index]!)))
        }
        return Effect.void
      })
    })
  const eachAlone = (load: ReadonlyArray<Entry<Item, Out, E>>) =>
    Effect.forEach(load, (entry) => settle([entry]), { discard: true })
  return settle
}

const mayBeOneItem = <E extends { readonly _tag: string }>(cause: Cause.Cause<E>): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason) && !(isDriverError(reason.error) && reason.error.reason._tag !== "Rejected")
  )

const isDriverError = Schema.is(DriverError)
