/**
 * The store of Effect's `PersistedQueue` on Absurd: an element is a task, named after its queue; taking one is claiming it.
 *
 * There is one loop for all that is taken in this process. It claims as many elements as are asked for, and leaves those of
 * queues from which nobody takes to other processes.
 */
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Latch, Schema, type Scope } from "effect"
import { PersistedQueue } from "effect/persistence"
import type { Absurd } from "../../core/Absurd.ts"
import * as Claimer from "../../core/Claimer.ts"
import type * as Driver from "../../core/Driver.ts"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import * as Failure from "../../core/Failure.ts"
import * as Heartbeat from "../../core/Heartbeat.ts"
import { IdempotencyKey, type QueueName, TaskName } from "../../core/Identifiers.ts"
import * as Input from "../../core/Input.ts"
import * as RetryStrategy from "../../core/RetryStrategy.ts"
import * as Stored from "../../core/Stored.ts"
import * as Claiming from "./Claiming.ts"

type Store = PersistedQueue.PersistedQueueStore["Service"]

export interface Settings {
  readonly queue: QueueName
  readonly lease: Duration.Duration
  readonly pollInterval: Duration.Duration
}

export const make = Effect.fnUntraced(function*(
  absurd: Absurd["Service"],
  settings: Settings
): Effect.fn.Return<Store, never, Scope.Scope> {
  const heartbeat = yield* Heartbeat.make(absurd, settings.lease)
  const takers = makeTakers(absurd, Effect.runForkWith(yield* Effect.context<never>()))
  const claimer = yield* Claimer.make(absurd, {
    lease: settings.lease,
    start: takers.start,
    free: takers.wanted,
    tracks: heartbeat.tracks
  })
  const claiming = { absurd, claimer, ...settings, ...takers }
  yield* Claiming.heed(claiming, heartbeat, () => {})
  const polling = yield* Effect.forkScoped(Claiming.poll(claiming))
  yield* Effect.addFinalizer(() =>
    Fiber.interrupt(polling).pipe(Effect.andThen(claimer.settle), Effect.timeoutOption("5 seconds"))
  )
  const store: Environment = { absurd, settings, heartbeat, takers }
  return PersistedQueue.PersistedQueueStore.of({
    offer: (options) => offer(store, options),
    take: (options) => take(store, options),
    cleanup: (options) => cleanup(store, options)
  })
})

// --- internal

interface Environment {
  readonly absurd: Absurd["Service"]
  readonly settings: Settings
  readonly heartbeat: Heartbeat.Heartbeat
  readonly takers: Takers
}

// --- offering

const Element = Schema.Struct({ id: Schema.String, element: Schema.Json })

const checkName = Input.check("name", TaskName)
const checkKey = Input.check("id", IdempotencyKey)

/** The tasks of all queues share their keys. */
const keyOf = (name: string, id: string) => JSON.stringify([name, id])

/** Whose process dies is tried again, but not in a loop. */
const crashStrategy = RetryStrategy.exponential({ base: "1 second", factor: 2, max: "5 minutes" })

const offer = (
  { absurd, settings: { queue }, takers }: Environment,
  options: Parameters<Store["offer"]>[0]
): ReturnType<Store["offer"]> =>
  Effect.gen(function*() {
    const { delay, element, id, name } = options
    const params = yield* Stored.normalize("element", { id, element })
    const item: Driver.SpawnItem = {
      name: yield* checkName(name),
      params,
      headers: null,
      retryStrategy: crashStrategy,
      // Who takes says how often.
      maxAttempts: null,
      cancellation: null,
      idempotencyKey: yield* checkKey(keyOf(name, id)),
      delay: delay ?? null
    }
    yield* absurd.coalesced.spawn(queue, item).pipe(
      // The first element under an id stays.
      Effect.catchTag("IdempotencyConflict", (error) => error.differs === "params" ? Effect.void : Effect.fail(error))
    )
    takers.wake.openUnsafe()
  }).pipe(Effect.catchCause((cause) => Effect.fail(failed("Failed to offer an element to the queue", cause))))

// --- taking

const take = (store: Environment, options: Parameters<Store["take"]>[0]): ReturnType<Store["take"]> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      while (true) {
        const run = yield* store.takers.next(options.name, restore)
        const untrack = track(store, run)
        const element = yield* Effect.result(Schema.decodeUnknownEffect(Element)(run.claimed.params))
        const spent = run.claimed.attempt > options.maxAttempts
        if (element._tag === "Success" && !spent) {
          yield* Effect.addFinalizer((exit) => Effect.ensuring(settle(store, run.claimed, exit, options), untrack))
          return { id: element.success.id, attempts: run.claimed.attempt, element: element.success.element }
        }
        const reason = spent ? new Error("Its processes have died too often") : element
        yield* Effect.ensuring(fail(store, run.claimed, reason, { _tag: "Never" }), untrack)
      }
    })
  )

/** Keeps the lease of what was taken. What is lost is found out at its end, which then does not apply. */
const track = ({ heartbeat, settings: { queue } }: Environment, { claimed, claimedAt }: Taken): Effect.Effect<void> =>
  Effect.sync(
    heartbeat.track(queue, { claimed, lease: heartbeat.leaseOf(claimedAt), settling: false, end: () => {} })
  )

/**
 * As Effect's own stores do it: an interruption gives the attempt back, what cannot be decoded is tried no more, and another
 * failure is tried again until the attempts are used up.
 */
const settle = (
  store: Environment,
  claimed: Driver.Claimed,
  exit: Exit.Exit<unknown, unknown>,
  { maxAttempts, retryDelay }: Parameters<Store["take"]>[0]
): Effect.Effect<void> => {
  const { absurd: { coalesced }, settings: { queue } } = store
  const { attempt, runId, token } = claimed
  if (Exit.isSuccess(exit)) {
    return tell(store, claimed, coalesced.complete(queue, { runId, token, result: null }))
  }
  const dead = exit.cause.reasons.find((reason) => Cause.isFailReason(reason) && isDeadLetter(reason.error))
  if (dead === undefined && Cause.hasInterruptsOnly(exit.cause)) {
    return Claimer.giveBack(store.absurd, queue, [claimed]).pipe(
      Effect.timeoutOption(store.settings.lease),
      Effect.asVoid
    )
  }
  const error = Cause.squash(exit.cause)
  if (dead !== undefined || attempt >= maxAttempts) return fail(store, claimed, error, { _tag: "Never" })
  return Effect.flatMap(retryDelay(attempt), (delay) => fail(store, claimed, error, { _tag: "After", delay }))
}

const fail = (
  store: Environment,
  claimed: Driver.Claimed,
  error: unknown,
  retry: Driver.Retry
): Effect.Effect<void> => {
  const { runId, token } = claimed
  const reason = Failure.toJson(Failure.fromUnknown(error))
  const request = store.absurd.coalesced.fail(store.settings.queue, { runId, token, reason, retry })
  return tell(store, claimed, Effect.map(request, ({ outcome }) => outcome))
}

/** What the store cannot be told before the lease ends, it finds out by itself. */
const tell = (
  { absurd: { outage }, settings: { lease } }: Environment,
  { runId }: Driver.Claimed,
  request: Effect.Effect<Driver.Outcome, DriverError | NotFound>
): Effect.Effect<void> =>
  outage.persist(request).pipe(
    Effect.timeoutOption(lease),
    Effect.flatMap((outcome) =>
      outcome._tag === "Some" && outcome.value === "applied"
        ? Effect.void
        : Effect.logDebug(`What became of the element of run ${runId} was not stored by this process`)
    ),
    Effect.catch((error) => Effect.logWarning("What became of an element could not be stored", error))
  )

/** Effect's word for an element that does not fit the schema of its queue. */
const isDeadLetter = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error &&
  error._tag === "~effect/persistence/PersistedQueue/DeadLetter"

// --- cleaning

/** The store deletes by the age of the end alone, so nothing is deleted before every limit has passed. */
const cleanup = (
  { absurd: { driver, outage }, settings: { queue } }: Environment,
  { failedTimeToLive, timeToLive }: Parameters<Store["cleanup"]>[0]
): ReturnType<Store["cleanup"]> => {
  if (failedTimeToLive === undefined) return Effect.void
  const ttl = Duration.max(timeToLive, failedTimeToLive)
  const limit = 1000
  return outage.persist(driver.cleanupTasks({ queue, ttl, limit })).pipe(
    Effect.repeat({ while: (deleted) => deleted === limit }),
    Effect.catchCause((cause) => Effect.fail(failed("Failed to clean up the queue", cause))),
    Effect.asVoid
  )
}

const failed = (message: string, cause: Cause.Cause<unknown>) =>
  new PersistedQueue.PersistedQueueError({ message, cause: Cause.squash(cause) })

// --- takers

interface Taken {
  readonly claimed: Driver.Claimed
  /** The monotonic time before which the claim was not sent. */
  readonly claimedAt: number
  readonly queue: QueueName
}

interface Takers {
  readonly wake: Latch.Latch
  readonly changed: Latch.Latch
  readonly wanted: () => number
  readonly except: () => ReadonlyArray<string>
  readonly start: Claimer.Options["start"]
  /** Waits for an element. It is the caller's once this returns; until then nothing is lost by an interruption. */
  readonly next: (
    name: string,
    restore: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ) => Effect.Effect<Taken>
}

/** Those who wait for elements, by name of the queue. */
const makeTakers = (absurd: Absurd["Service"], fork: (effect: Effect.Effect<unknown>) => unknown): Takers => {
  const waiting = new Map<string, Set<Deferred.Deferred<Taken>>>()
  const seen = new Set<string>()
  const [wake, changed] = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
  const wanted = () => [...waiting.values()].reduce((sum, all) => sum + all.size, 0)
  const remove = (name: string, taker: Deferred.Deferred<Taken>) => {
    const all = waiting.get(name)
    if (all?.delete(taker) === true && all.size === 0) waiting.delete(name)
  }
  return {
    wake,
    changed,
    wanted,
    except: () => [...seen].filter((name) => !waiting.has(name)),
    start: (queue, claimed, claimedAt) => {
      Claiming.remember(seen, claimed.name)
      for (const taker of waiting.get(claimed.name) ?? []) {
        remove(claimed.name, taker)
        return void Deferred.doneUnsafe(taker, Exit.succeed({ queue, claimed, claimedAt }))
      }
      fork(Claimer.giveBack(absurd, queue, [claimed]))
    },
    next: (name, restore) =>
      Effect.suspend(() => {
        const taker = Deferred.makeUnsafe<Taken>()
        waiting.set(name, (waiting.get(name) ?? new Set()).add(taker))
        wake.openUnsafe()
        changed.openUnsafe()
        return Effect.onInterrupt(restore(Deferred.await(taker)), () => {
          remove(name, taker)
          return Deferred.isDoneUnsafe(taker)
            ? Effect.flatMap(Deferred.await(taker), ({ claimed, queue }) => Claimer.giveBack(absurd, queue, [claimed]))
            : Effect.void
        })
      })
  }
}
