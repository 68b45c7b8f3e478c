/**
 * Going on when the store cannot be reached.
 *
 *     up   --(a request fails for a passing reason)-->  down     one fiber asks the store whether it is back
 *     down --(the store answers, and takes writes)->    up       everybody who waited goes on
 *
 * While the store is away that one fiber is all that tries, soon after the first failure and then less than twice a second;
 * the log has one line about the beginning and one about the end.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Fiber, FiberSet, Latch, Option, Random, Schedule, type Scope } from "effect"
import type * as Driver from "./Driver.ts"
import { DriverError, OutcomeUnknown } from "./Errors.ts"

/**
 * The way in which one client goes through outages.
 *
 * @since 0.1.0
 * @category models
 */
export interface Outage {
  /**
   * Repeats a request until the store has answered it. The request must be harmless when it is repeated, for its outcome may
   * be unknown. Fails only with what is no passing trouble.
   */
  readonly persist: <A, E, R>(request: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The same for a request that is made anew each time, and what to do when it is settled. */
  readonly persistWith: <A, E, R, B, E2, R2, C, E3, R3>(
    request: () => Effect.Effect<A, E, R>,
    then: {
      readonly onSuccess: (answer: A) => Effect.Effect<B, E2, R2>
      readonly onFailure: (failure: E) => Effect.Effect<C, E3, R3>
    }
  ) => Effect.Effect<B | C, E2 | E3, R | R2 | R3>
  /** Returns when the store can be reached, as far as is known. */
  readonly up: Effect.Effect<void>
  /** Says that a request has failed; anything but passing trouble is ignored. */
  readonly report: (error: unknown) => void
}

/**
 * Whether an error of the infrastructure may pass by itself. What became of the request may be unknown.
 *
 * @since 0.1.0
 * @category guards
 */
export const isPassing = (error: unknown): error is DriverError =>
  error instanceof DriverError && (error.isRetryable || error.reason._tag === "OutcomeUnknown")

/**
 * Whether the store has refused a request because it takes no writes.
 *
 * @since 0.1.0
 * @category guards
 */
export const isReadOnly = (error: unknown): error is DriverError =>
  error instanceof DriverError && error.reason._tag === "ReadOnly"

/**
 * From half a second to less than two: at most two attempts per second, and soon there when the store is back. Spread, so
 * that many processes do not return at once.
 *
 * @since 0.1.0
 * @category schedules
 */
export const backoff = Schedule.min([Schedule.exponential("625 millis", 1.4), Schedule.spaced("1500 millis")]).pipe(
  Schedule.jittered
)

/**
 * How long a request that should take milliseconds is waited for. It is generous, for the request may have to wait for locks
 * of somebody's transaction.
 *
 * @since 0.1.0
 * @category models
 */
export const answerLimit = Duration.seconds(30)

/**
 * The request, or `OutcomeUnknown` when there is no answer after `limit`: a connection may be dead without anybody having
 * been told. Does not wait for a request that cannot be interrupted.
 *
 * @since 0.1.0
 * @category combinators
 */
export const answerWithin = <A, E, R>(
  request: Effect.Effect<A, E, R>,
  operation: string,
  limit: Duration.Duration
): Effect.Effect<A, E | DriverError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkDetach(Effect.interruptible(request), { startImmediately: true })
      const exit = yield* restore(Effect.timeoutOption(Fiber.await(fiber), limit)).pipe(
        Effect.onInterrupt(() => Fiber.interrupt(fiber))
      )
      if (Option.isSome(exit)) return yield* exit.value
      fiber.interruptUnsafe()
      const cause = new Error(`no answer within ${Duration.format(limit)}`)
      return yield* new DriverError({ operation, reason: new OutcomeUnknown({ cause }) })
    })
  )

/**
 * Starts up. Its fiber lives in the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  driver: Driver.Driver["Service"]
): Effect.fn.Return<Outage, never, Scope.Scope> {
  const fork = yield* FiberSet.makeRuntime<never>()
  const latch = Latch.makeUnsafe(true)

  const recover = (error: DriverError) =>
    Effect.gen(function*() {
      let last = error
      /** Whether the store is back. A refusal is an answer, too. */
      const ask = Effect.suspend(() => answerWithin(driver.probe(last), "probe", Duration.seconds(5))).pipe(
        Effect.match({
          onFailure: (failure) => {
            if (isPassing(failure)) last = failure
            return !isPassing(failure)
          },
          onSuccess: () => true
        }),
        Effect.catchCause(() => Effect.succeed(true))
      )
      // So that whoever had a connection to a store that takes no writes has let go of it.
      if (isReadOnly(error)) yield* Effect.sleep("250 millis")
      // One line for a store that is away, and one more when it comes back without taking writes.
      let told: string | undefined
      const attempt = Effect.tap(ask, (back) => {
        const line = isReadOnly(last) ? lines.readOnly : lines.away
        if (back || told === line || told === lines.readOnly) return Effect.void
        told = line
        return Effect.logWarning(line, last)
      })
      // Mostly it was one connection or one lock, and the store answers at once.
      if (!(yield* attempt)) {
        yield* Effect.repeat(attempt, { schedule: backoff, until: (back) => back })
        yield* Effect.logInfo("The store answers again")
      }
      latch.openUnsafe()
    })

  const report = (error: unknown) => {
    if (!isPassing(error) || !latch.closeUnsafe()) return
    fork(recover(error))
  }

  const again = <A, E, R>(request: Effect.Effect<A, E, R>, first: E): Effect.Effect<A, E, R> =>
    Effect.gen(function*() {
      let failure = first
      for (let failures = 1;; failures++) {
        if (!isPassing(failure)) return yield* Effect.fail(failure)
        report(failure)
        // A store that answers others, but not this, is not asked without a pause.
        if (failures > 1) yield* Effect.sleep(Duration.millis(500 + 200 * Math.min(failures, 5) * (yield* Random.next)))
        yield* latch.await
        const result = yield* Effect.result(request)
        if (result._tag === "Success") return result.success
        failure = result.failure
      }
    })

  // Nearly all requests are answered at once, and most of what a worker does are requests.
  const persistWith: Outage["persistWith"] = (request, then) =>
    Effect.suspend(() =>
      latch.isOpen()
        ? Effect.matchEffect(request(), {
          onSuccess: then.onSuccess,
          onFailure: (failure) => Effect.matchEffect(again(Effect.suspend(request), failure), then)
        })
        : Effect.andThen(latch.await, persistWith(request, then))
    )

  const persist: Outage["persist"] = (request) =>
    persistWith(() => request, { onSuccess: Effect.succeed, onFailure: Effect.fail })

  return { persist, persistWith, up: latch.await, report }
})

// --- internal

const lines = {
  away: "The store cannot be reached; trying again until it answers",
  readOnly: "The store takes no writes; trying again until it does"
}
