/**
 * Claims runs so that none stays claimed by nobody.
 *
 * Every claim has a fresh token. What a claim whose answer was lost has claimed is looked up by that token for as long as its
 * lease can last, soon and then less and less often, and adopted, or handed back when there is no room for it. A claim that
 * is on its way when the worker stops is waited for, and what it brings is handed back.
 *
 * @since 0.1.0
 */
import { DateTime, Duration, Effect, Exit, Fiber, Latch, Option, Random, type Scope } from "effect"
import { SecureRandom } from "effect/crypto"
import type { Absurd } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import { DriverError, type NotFound, OutcomeUnknown } from "./Errors.ts"
import { monotonicMillis } from "./Heartbeat.ts"
import { ClaimToken, type QueueName } from "./Identifiers.ts"
import * as Outage from "./Outage.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Claimer {
  /** Claims up to `limit` runs, starts them, and returns how many there were. None of the tasks in `except`. */
  readonly claim: (
    queue: QueueName,
    limit: number,
    except: ReadonlyArray<string>
  ) => Effect.Effect<number, DriverError | NotFound>
  /** Hands back what claims without an answer may have claimed, as far as the store can be asked. */
  readonly settle: Effect.Effect<void>
}

/**
 * Who works on what is claimed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly lease: Duration.Duration
  /** Starts a run whose claim was not sent before `claimedAt`, in monotonic milliseconds. Must not fail. */
  readonly start: (queue: QueueName, claimed: Driver.Claimed, claimedAt: number) => void
  /** For how many runs there is room. */
  readonly free: () => number
  /** Whether a run is worked on already. */
  readonly tracks: (runId: Driver.Claimed["runId"]) => boolean
}

/**
 * Makes a claimer. In the scope it looks for what was claimed without an answer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  absurd: Absurd["Service"],
  options: Options
): Effect.fn.Return<Claimer, never, Scope.Scope> {
  const doubtful = new Map<ClaimToken, Doubt>()
  const inDoubt = Latch.makeUnsafe(false)
  const doubt = (token: ClaimToken, queue: QueueName, claimedAt: number, request?: Fiber.Fiber<unknown, unknown>) => {
    doubtful.set(token, { queue, claimedAt, request, pause: shortestPause, askAt: 0 })
    inDoubt.openUnsafe()
  }

  const isFresh = (claimedAt: number, now: number) => now < claimedAt + Duration.toMillis(options.lease) / 2

  const makeToken = () => ClaimToken.make(`${absurd.workerId}:${SecureRandom.uuidV7Unsafe()}`)
  // Made while the claim before is on its way: when a claim is sent, work may be waiting for it.
  let spareToken: ClaimToken | undefined

  const claim: Claimer["claim"] = (queue, limit, except) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const token = spareToken ?? makeToken()
        spareToken = undefined
        const claimedAt = yield* monotonicMillis
        const request = absurd.driver.claim({ queue, token, lease: options.lease, limit, except })
        const fiber = yield* Effect.forkDetach(Effect.interruptible(request), { startImmediately: true })
        spareToken ??= makeToken()
        const answer = yield* restore(Effect.timeoutOption(Fiber.await(fiber), answerLimit)).pipe(
          Effect.onInterrupt(() => {
            // Whoever stops does not wait for ever; from here on settle() finds it by its token.
            doubt(token, queue, claimedAt, fiber)
            return Effect.flatMap(Effect.timeoutOption(Fiber.await(fiber), answerLimit), (late) => {
              if (Option.isNone(late)) fiber.interruptUnsafe()
              if (Option.isNone(late) || Exit.isFailure(late.value)) return Effect.void
              doubtful.delete(token)
              return giveBack(absurd, queue, late.value.value)
            })
          })
        )
        if (Option.isNone(answer)) {
          fiber.interruptUnsafe()
          doubt(token, queue, claimedAt)
          const cause = new Error(`no answer within ${Duration.format(answerLimit)}`)
          return yield* new DriverError({ operation: "claim", reason: new OutcomeUnknown({ cause }) })
        }
        // From here to the start of the runs nothing can interrupt.
        if (Exit.isSuccess(answer.value)) {
          const runs = answer.value.value
          // So old a claim might not hold until it is renewed, and then an attempt would be lost.
          if (isFresh(claimedAt, yield* monotonicMillis)) {
            for (const run of runs) options.start(queue, run, claimedAt)
          } else {
            yield* Effect.onInterrupt(
              restore(giveBack(absurd, queue, runs)),
              () => Effect.sync(() => doubt(token, queue, claimedAt))
            )
          }
          return runs.length
        }
        if (isUnknown(answer.value)) doubt(token, queue, claimedAt)
        return yield* Effect.failCause(answer.value.cause)
      })
    )

  const lookUp = (token: ClaimToken, { queue }: Doubt) =>
    Outage.answerWithin(absurd.driver.claimedWith({ queue, token }), "claimedWith", lookUpLimit)

  const adopt = Effect.fnUntraced(function*(
    token: ClaimToken,
    claim: Doubt,
    restore: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E>
  ) {
    const found = yield* restore(Effect.result(lookUp(token, claim)))
    if (found._tag === "Failure") return absurd.outage.report(found.failure)
    const now = yield* monotonicMillis
    const orphans = found.success.filter((run) => !options.tracks(run.runId))
    const room = isFresh(claim.claimedAt, now) ? Math.max(0, options.free()) : 0
    for (const run of orphans.slice(0, room)) options.start(claim.queue, run, claim.claimedAt)
    yield* giveBack(absurd, claim.queue, orphans.slice(room))
    // The claim may still be on its way to the store, until the latest time at which its lease can begin.
    const over = claim.claimedAt + Duration.toMillis(options.lease) + Duration.toMillis(answerLimit)
    if (now >= over) doubtful.delete(token)
    // Late claims are rare, and there may be many doubts; it is found well within its lease all the same.
    claim.askAt = now + claim.pause
    claim.pause = Math.min(claim.pause * 2, Math.max(shortestPause, Duration.toMillis(options.lease) / 4))
  })

  yield* Effect.gen(function*() {
    while (true) {
      yield* inDoubt.await
      yield* absurd.outage.up
      const now = yield* monotonicMillis
      yield* Effect.forEach(
        [...doubtful].filter(([, claim]) => claim.askAt <= now),
        ([token, claim]) => Effect.uninterruptibleMask((restore) => adopt(token, claim, restore)),
        // The queue of one may be locked.
        { discard: true, concurrency: 4 }
      )
      if (doubtful.size === 0) inDoubt.closeUnsafe()
      yield* Effect.sleep(Duration.millis(shortestPause))
    }
  }).pipe(Effect.forkScoped)

  const settleOne = (token: ClaimToken, claim: Doubt) =>
    Effect.gen(function*() {
      while (true) {
        // Looked at before the store is asked: what the store has not seen by then it may still see.
        const underway = claim.request !== undefined && claim.request.pollUnsafe() === undefined
        const runs = yield* absurd.outage.persist(lookUp(token, claim))
        yield* giveBack(absurd, claim.queue, runs.filter((run) => !options.tracks(run.runId)))
        if (!underway || runs.length > 0) return
        yield* Effect.sleep("250 millis")
      }
    })
  const settle = Effect.suspend(() =>
    Effect.forEach([...doubtful], ([token, claim]) => Effect.ignore(settleOne(token, claim)), {
      discard: true,
      concurrency: 4
    })
  )

  return { claim, settle }
})

/**
 * Hands runs back that nobody has begun to work on: due since when they were due before, and so first in their queue again.
 *
 * @since 0.1.0
 * @category combinators
 */
export const giveBack = (
  { coalesced, outage }: Absurd["Service"],
  queue: QueueName,
  runs: ReadonlyArray<Driver.Claimed>
): Effect.Effect<void> =>
  Effect.forEach(
    runs,
    ({ claimedAt, runId, token, waited }) =>
      Effect.ignore(
        outage.persist(
          coalesced.release(queue, { runId, token, until: DateTime.subtractDuration(claimedAt, waited) })
        )
      ),
    { discard: true, concurrency: "unbounded" }
  )

/**
 * For how many milliseconds a queue is left alone when claiming from it failed, after `failures` others in a row. Trouble that
 * passes is reported.
 *
 * @since 0.1.0
 * @category combinators
 */
export const pauseAfter = (
  { outage }: Absurd["Service"],
  error: DriverError | NotFound,
  failures: number
): Effect.Effect<number> => {
  // Nobody can say when a queue is created or a schema installed, but it may be soon.
  if (!Outage.isPassing(error)) return Effect.succeed(Math.min(500 * 2 ** Math.min(failures, 4), 5000))
  outage.report(error)
  // The first time it is asked again as soon as the store answers.
  return failures === 0 ? Effect.succeed(0) : Effect.map(Random.next, (part) => 500 + 500 * part)
}

// --- internal

interface Doubt {
  readonly queue: QueueName
  readonly claimedAt: number
  /** The claim, if it may still be on its way. */
  readonly request: Fiber.Fiber<unknown, unknown> | undefined
  /** When the store is asked about it, in monotonic milliseconds, and how long after that again. */
  askAt: number
  pause: number
}

/** In milliseconds. */
const shortestPause = 500

const answerLimit = Duration.seconds(15)
const lookUpLimit = Duration.seconds(5)

const isUnknown = (exit: Exit.Failure<unknown, DriverError | NotFound>): boolean =>
  exit.cause.reasons.some((reason) =>
    reason._tag === "Fail" && reason.error._tag === "DriverError" && reason.error.reason._tag === "OutcomeUnknown"
  )
