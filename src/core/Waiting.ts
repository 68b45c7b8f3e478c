/**
 * How the fibers of one handler wait, and how it is found out that all of them do.
 *
 * @since 0.1.0
 */
import { Context, DateTime, Deferred, Duration, Effect, Fiber, Option, Scope } from "effect"
import type * as Driver from "./Driver.ts"
import { InvalidUse } from "./Errors.ts"
import type * as Family from "./Family.ts"
import type { CheckpointName } from "./Identifiers.ts"

/**
 * How the waits of a run are made.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How long a run may stay awake in which some fibers wait durably and the others do something that is neither a step
   * nor a wait.
   */
  readonly stallAfter: Duration.Duration
  /** Whether what keeps the run awake is no step, when so many fibers wait. */
  readonly isIdle: (waiting: number) => boolean
  readonly suspend: (waits: ReadonlyArray<Driver.Wait>) => Effect.Effect<Driver.Suspended>
  readonly suspended: () => void
  /** Ends a run that can neither be suspended nor go on. */
  readonly refused: (error: InvalidUse) => void
  readonly now: Effect.Effect<DateTime.Utc>
  /** Those of the handler. */
  readonly family: Family.Family
  /** Stores the wake time of a timer, unless there is one. */
  readonly fix: (step: CheckpointName, instant: DateTime.Utc) => Effect.Effect<void>
}

/**
 * The waits of a run.
 *
 * @since 0.1.0
 * @category models
 */
export interface Waiting {
  /** Waits until the wait is over, in this claim. With `dueAt` it is over by itself then. */
  readonly park: (wait: Driver.Wait, dueAt: DateTime.Utc | undefined) => Effect.Effect<Over>
}

/**
 * How a wait is over.
 *
 * @since 0.1.0
 * @category models
 */
export type Over = Exclude<Driver.WaitState, { readonly _tag: "Waiting" }>

/**
 * Suspends the run once for all its waits, as soon as nothing else goes on in it.
 *
 * Every fiber that the handler starts is counted. Nothing goes on when each of them waits here, or has started others and
 * so waits for them. A fiber that does something else holds the run awake, but no longer than `stallAfter`, unless it is in
 * a step; when it waits for a timer of Effect that is longer than that, the run ends with `InvalidUse`. While the run is
 * held awake, timers that become due are over here.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Effect.Effect<Waiting, never, Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Scope.Scope>) =>
    Effect.succeed(makeUnsafe(options, Context.get(context, Scope.Scope), context))
  )

/**
 * The same in a given scope, with a given context for what goes on beside the handler.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeUnsafe = (options: Options, scope: Scope.Scope, context: Context.Context<never>): Waiting => {
  const { family } = options
  const parked = new Map<Fiber.Fiber<unknown, unknown>, Parked>()
  let coordinating = false

  const suspend = Effect.suspend(() => {
    const entries = [...parked]
    return Effect.map(options.suspend(entries.map(([, entry]) => entry.wait)), (answer) => {
      if (answer.suspended) return options.suspended()
      entries.forEach(([fiber, entry], index) => {
        const state = answer.waits[index]!
        if (state._tag === "Waiting" || parked.get(fiber) !== entry) return
        parked.delete(fiber)
        Deferred.doneUnsafe(entry.over, Effect.succeed(state))
      })
    })
  })

  const wakeDue = Effect.gen(function*() {
    const now = yield* options.now
    for (const [fiber, entry] of parked) {
      if (entry.dueAt === undefined || DateTime.isGreaterThan(entry.dueAt, now)) continue
      yield* options.fix(entry.wait.step, entry.dueAt)
      if (parked.get(fiber) !== entry) continue
      parked.delete(fiber)
      Deferred.doneUnsafe(entry.over, Effect.succeed({ _tag: "Due" }))
    }
  })

  // Each resumption would start the timer anew, and no claim lasts long enough for it.
  const refuse = Effect.sync(() => {
    const [first] = parked.values()
    if (first !== undefined) options.refused(new InvalidUse({ step: first.wait.step, problem: timerBeside }))
    parked.clear()
  })

  const coordinate: Effect.Effect<void> = Effect.gen(function*() {
    while (parked.size > 0) {
      family.changed.closeUnsafe()
      // Fibers that were woken together get their turn before anything is decided.
      yield* Effect.yieldNow
      yield* Effect.yieldNow
      if (parked.size === 0) break
      if (family.allIn(parked)) {
        yield* suspend
        continue
      }
      const untilDue = yield* untilFirst(parked.values(), options.now)
      const patience = untilDue === undefined ? options.stallAfter : Duration.min(untilDue, options.stallAfter)
      if (Option.isSome(yield* Effect.timeoutOption(family.changed.await, patience))) continue
      if (patience !== options.stallAfter) yield* wakeDue
      else if (options.isIdle(parked.size)) yield* family.timerBeyond(options.stallAfter) ? refuse : suspend
    }
    coordinating = false
  })

  const park = (
    wait: Driver.Wait,
    dueAt: DateTime.Utc | undefined
  ): Effect.Effect<Over> =>
    Effect.withFiber((fiber) => {
      const entry: Parked = { wait, dueAt, over: Deferred.makeUnsafe() }
      parked.set(fiber, entry)
      family.changed.openUnsafe()
      const start = coordinating ? Effect.void : Effect.suspend(() => {
        // Not a child of the handler, whose children are counted.
        const coordinator = Effect.runForkWith(context)(coordinate)
        return Scope.addFinalizer(scope, Fiber.interrupt(coordinator))
      })
      coordinating = true
      return Effect.andThen(start, Deferred.await(entry.over)).pipe(
        Effect.interruptible,
        Effect.onInterrupt(() => Effect.sync(() => parked.delete(fiber)))
      )
    })

  return { park }
}

// --- internal

const timerBeside =
  "it waits durably while another part of the handler waits with a timer of Effect, such as Effect.timeout, " +
  "Effect.race or Effect.sleep, which does not outlive a suspension and so would never end; use Step.timeout, Step.race or " +
  "Step.sleep, or put it into a step"

interface Parked {
  readonly wait: Driver.Wait
  /** When the wait is over by itself. */
  readonly dueAt: DateTime.Utc | undefined
  readonly over: Deferred.Deferred<Over>
}

/** How long until the first of the waits is over by itself. */
const untilFirst = (waits: Iterable<Parked>, now: Effect.Effect<DateTime.Utc>) =>
  Effect.map(now, (present): Duration.Duration | undefined => {
    let first: number | undefined
    for (const { dueAt } of waits) {
      if (dueAt === undefined) continue
      const remaining = Math.max(1, dueAt.epochMilliseconds - present.epochMilliseconds)
      first = Math.min(remaining, first ?? remaining)
    }
    return first === undefined ? undefined : Duration.millis(first)
  })
