/**
 * The run that the calling code is part of: its identity, its checkpoints, and how it waits.
 *
 * A run moves through these states; every arrow but the last is taken at most once.
 *
 *     running --> suspended        everything in the run waits, so it was put to sleep in the store
 *             --> lost             its claim no longer holds: nothing it does is stored any more
 *             --> cancelled        its task was cancelled
 *             --> faulted          the store refuses to work, which is not the task's fault
 *             --> exited           it can neither be suspended nor go on, which is the program's fault
 *             --> (the handler's own exit)
 *
 * Once it has left `running`, the engine interrupts the handler, so no code of the handler can mistake it for an error.
 *
 * @since 0.1.0
 */
import { Clock, Context, DateTime, type Duration, Effect, Exit, Option, type Schema, type Scope } from "effect"
import type { Coalesced } from "./Coalesced.ts"
import * as Driver from "./Driver.ts"
import { type DriverError, InvalidUse, type NotFound } from "./Errors.ts"
import type { CheckpointName, QueueName, RunId, TaskId } from "./Identifiers.ts"
import * as Lease from "./Lease.ts"
import * as Outage from "./Outage.ts"
import * as SagaLog from "./SagaLog.ts"
import * as StepNames from "./StepNames.ts"
import * as Transacting from "./Transacting.ts"
import * as Waiting from "./Waiting.ts"

/**
 * How a run ended other than by its handler's own exit.
 *
 * @since 0.1.0
 * @category models
 */
export type Ending =
  | { readonly _tag: "Suspended" }
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Faulted"; readonly error: DriverError | NotFound }
  /** By what would have been the exit of a handler that noticed its wrong use. */
  | { readonly _tag: "Exited"; readonly exit: Exit.Exit<never> }

/**
 * The current run. Provided to every handler by the worker that executes it.
 *
 * @since 0.1.0
 * @category services
 */
export class CurrentRun extends Context.Service<CurrentRun, {
  readonly taskId: TaskId
  readonly runId: RunId
  /** The name of the task. */
  readonly task: string
  readonly queue: QueueName
  /** From 1. */
  readonly attempt: number
  readonly headers: { readonly [key: string]: Schema.Json }
  /**
   * Runs `use` under the checkpoint name that comes next for `base` within the calling code's `NameScope`: the base itself,
   * then `base#2`, and so on, in the order of calls. Dies with {@link InvalidUse} when the same base is in use already:
   * concurrent steps need names of their own; and within a transaction of the program, which could undo what is stored.
   */
  readonly named: <A, E, R>(
    base: string,
    use: (name: CheckpointName) => Effect.Effect<A, E, R>,
    /** What is named: something that keeps the run awake (by default), or a group of such things. */
    kind?: "step" | "group"
  ) => Effect.Effect<A, E, R>
  /**
   * Takes the next name for `base` as `named` does, until it is freed. Other fibers cannot use the base meanwhile, unless
   * the calling fiber has ended.
   */
  readonly begin: (base: string) => Effect.Effect<{ readonly name: CheckpointName; readonly free: Effect.Effect<void> }>
  /** The present of the store's clock, as far as this worker can tell: the claim's, and the time that has passed since. */
  readonly now: Effect.Effect<DateTime.Utc>
  /** The stored state of a checkpoint of this task, as of this run's claim and its own writes. */
  readonly recall: (name: CheckpointName) => Schema.Json | undefined
  /**
   * Returns at once while nobody else can have the run: to be run before whatever must not happen twice. Otherwise it ends the
   * run as lost and never returns, so a process that was stopped for longer than its lease begins nothing when it goes on.
   */
  readonly ensureHeld: Effect.Effect<void>
  /**
   * Stores a checkpoint, and renews the lease when a third of it has passed. Returns what is stored, which is older if there
   * already was one.
   */
  readonly remember: (name: CheckpointName, state: Schema.Json) => Effect.Effect<Schema.Json>
  /** Stores a checkpoint before whatever is stored or waited for next, if anything is. */
  readonly rememberNext: (name: CheckpointName, state: Schema.Json) => void
  /** Waits, durably: returns when the wait is over, in this claim or a later one. */
  readonly wait: (wait: Driver.Wait) => Effect.Effect<Exclude<Driver.WaitState, { readonly _tag: "Waiting" }>>
  /** Renews the lease, by the worker's lease or by `lease`. */
  readonly heartbeat: (lease?: Duration.Duration) => Effect.Effect<void>
  /**
   * Runs `self` in a transaction of the store and stores what it returns under `name` in the same commit. See
   * `Step.transaction`.
   */
  readonly transact: <E, R>(
    name: CheckpointName,
    self: Effect.Effect<Schema.Json, E, R>
  ) => Effect.Effect<Schema.Json, E, R>
  /** Whether the calling code is inside of `transact`. What it writes then needs no checkpoint of its own. */
  readonly transacting: boolean
  /** What parts of the library note down for as long as this execution lasts. Nothing of it is stored. */
  readonly notes: Map<string, unknown>
  /** Hands the run back until then: the handler begins anew, with its checkpoints and without having spent an attempt. */
  readonly snooze: (until: Duration.Duration | DateTime.Utc) => Effect.Effect<never>
  /** The log of the task's compensations. */
  readonly saga: SagaLog.SagaLog
}>()("effect-absurd/core/CurrentRun") {}

/**
 * A run under execution, for the engine: the service, and how it ended.
 *
 * @since 0.1.0
 * @category models
 */
export interface Execution {
  readonly claimed: Driver.Claimed
  /** What is known of its lease. Whoever renews it says so here. */
  readonly lease: Lease.Lease
  readonly service: CurrentRun["Service"]
  /** How it ended other than by its handler's own exit, if it did. */
  ended: Ending | undefined
  /** Told when {@link ended} is set. */
  onEnded: (() => void) | undefined
  /** Ends the run, if it still runs. */
  readonly end: (ending: Ending) => void
  /** Whether the handler has ended and the store is being told. From then on only the store's answer to that counts. */
  settling: boolean
  /** Runs the handler so that it can be seen when everything in it waits. */
  readonly supervise: <A, E, R>(handler: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Repeats a fenced request until the store has answered, and ends the run when it no longer holds the claim. */
  readonly persist: <A extends { readonly outcome: Driver.Outcome }>(
    request: Effect.Effect<A, DriverError | NotFound>
  ) => Effect.Effect<A>
}

/**
 * Everything that an execution is made from.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly driver: Driver.Driver["Service"]
  readonly coalesced: Coalesced
  readonly outage: Outage.Outage
  readonly queue: QueueName
  readonly claimed: Driver.Claimed
  readonly lease: Duration.Duration
  /** When the run was claimed: the monotonic time, in milliseconds, before which the claim was not sent. */
  readonly claimedAt: number
  /**
   * How long a run may stay awake in which some fibers wait durably and the others do something that is neither a step
   * nor a wait. After that it is suspended all the same, and what they did is done again on resumption.
   */
  readonly stallAfter: Duration.Duration
}

/**
 * Makes the execution of a claimed run, by the clock of `context`. It lives as long as the scope.
 *
 * Most runs need little of it, so what only some of them need is made when it is asked for.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeUnsafe = (options: Options, scope: Scope.Scope, context: Context.Context<never>): Execution => {
  const { claimed, coalesced, queue } = options
  const clock = Context.get(context, Clock.Clock)
  const lease = Lease.makeWith(clock, options.lease, options.claimedAt)
  const held = { runId: claimed.runId, token: claimed.token }
  const checkpoints = new Map<string, Schema.Json>(claimed.checkpoints.map((_) => [_.name, _.state]))
  const end = (ending: Ending) => {
    if (execution.ended !== undefined) return
    execution.ended = ending
    execution.onEnded?.()
  }
  // Repeating a fenced request is harmless even when its outcome is unknown: if it was carried out, the run no longer accepts
  // it (or, for a checkpoint, tells what is stored).
  const persist: Execution["persist"] = (request) => {
    const answered = Effect.catch(options.outage.persist(request), (error) => {
      end({ _tag: "Faulted", error })
      return halt
    })
    return Effect.flatMap(answered, (answer) => {
      if (answer.outcome === "applied") return Effect.succeed(answer)
      end({ _tag: answer.outcome === "cancelled" ? "Cancelled" : "Lost" })
      return halt
    })
  }
  const claimedAtLocally = clock.currentTimeMillisUnsafe()
  // Behind the store's clock by as long as the claim's answer took, so nothing is due too early.
  const now = Effect.map(
    Clock.currentTimeMillis,
    (millis) => DateTime.add(claimed.claimedAt, { milliseconds: Math.max(0, millis - claimedAtLocally) })
  )
  const store = (name: CheckpointName, state: Schema.Json) => {
    const request = Effect.suspend(() => {
      const sentAt = lease.now()
      const extendBy = Lease.extension(lease)
      return Effect.tap(
        coalesced.setCheckpoint(queue, { ...held, name, state, extendBy }),
        ({ outcome }) =>
          Effect.sync(() => {
            if (outcome === "applied" && extendBy !== null) Lease.renewed(lease, sentAt)
          })
      )
    })
    return Effect.map(persist(request), ({ existing }) => {
      const stored = existing === undefined ? state : existing
      checkpoints.set(name, stored)
      return stored
    })
  }
  const ensureHeld = Effect.suspend(() => {
    if (Lease.holds(lease)) return Effect.void
    end({ _tag: "Lost" })
    return halt
  })
  const next = new Map<CheckpointName, Schema.Json>()
  const storeNext: Effect.Effect<void> = Effect.suspend(() => {
    if (next.size === 0) return Effect.void
    const all = [...next]
    next.clear()
    return Effect.forEach(all, ([name, state]) => store(name, state), { discard: true })
  })
  const remember: CurrentRun["Service"]["remember"] = (name, state) =>
    Effect.flatMap(options.driver.inTransaction, (inside) =>
      inside
        ? Effect.die(new InvalidUse({ step: name, problem: "it is inside a transaction; use Step.transaction" }))
        : Effect.andThen(storeNext, store(name, state)))
  const names = StepNames.make(options.driver.inTransaction)
  const waiting = Waiting.makeUnsafe(
    {
      now,
      fix: (step, instant) =>
        checkpoints.has(step) ? Effect.void : Effect.asVoid(remember(step, DateTime.formatIso(instant))),
      stallAfter: options.stallAfter,
      isIdle: (parked) => names.inUse() === parked,
      suspend: (waits) =>
        persist(
          Outage.answerWithin(options.driver.suspend({ queue, ...held, waits }), "suspend", Outage.answerLimit)
        ),
      suspended: () => end({ _tag: "Suspended" }),
      refused: (error) => end({ _tag: "Exited", exit: Exit.die(error) })
    },
    scope,
    context
  )

  const transact: CurrentRun["Service"]["transact"] = (name, self) =>
    Transacting.make({
      driver: options.driver,
      queue,
      taskId: claimed.taskId,
      held,
      lease,
      ensureHeld,
      persist,
      stored: (name, state) => checkpoints.set(name, state)
    })(name, self)

  const service = CurrentRun.of({
    taskId: claimed.taskId,
    runId: claimed.runId,
    task: claimed.name,
    queue,
    attempt: claimed.attempt,
    headers: claimed.headers,
    named: names.named,
    begin: names.begin,
    now,
    recall: (name) => checkpoints.get(name),
    ensureHeld,
    remember,
    rememberNext: (name, state) => void next.set(name, state),
    wait: (wait) => {
      const known = recallWait(wait, checkpoints, claimed.claimedAt)
      if (isNoTimer(wait, checkpoints)) {
        const problem = "in an earlier execution of this task it was no sleep; give the new code another name"
        return Effect.die(new InvalidUse({ step: wait.step, problem }))
      }
      return known === undefined
        ? Effect.andThen(
          storeNext,
          Effect.flatMap(now, (present) => waiting.park(wait, dueAt(wait, checkpoints, present)))
        )
        : Effect.succeed(known)
    },
    heartbeat: (by = options.lease) =>
      Effect.asVoid(persist(Effect.suspend(() => {
        const sentAt = lease.now()
        return Effect.map(coalesced.extend(queue, { ...held, lease: by }), (outcome) => {
          if (outcome === "applied") Lease.renewed(lease, sentAt, by)
          return { outcome }
        })
      }))),
    transact: (name, self) => Effect.andThen(storeNext, transact(name, self)),
    transacting: false,
    notes: new Map(),
    saga: SagaLog.make(claimed.checkpoints),
    snooze: (until) =>
      Effect.andThen(
        storeNext,
        persist(Effect.map(coalesced.release(queue, { ...held, until }), (outcome) => ({ outcome })))
      ).pipe(
        Effect.tap(() => Effect.sync(() => end({ _tag: "Suspended" }))),
        Effect.andThen(halt)
      )
  })
  const execution: Execution = {
    claimed,
    lease,
    service,
    ended: undefined,
    onEnded: undefined,
    end,
    settling: false,
    persist,
    supervise: waiting.supervise
  }
  return execution
}

// --- internal

/** Never goes on: the engine interrupts the handler of a run that has ended. */
const halt: Effect.Effect<never> = Effect.interruptible(Effect.never)

/** See `Outage.backoff`. */
export const outageBackoff = Outage.backoff

/**
 * How a wait is over according to what is stored, for a run that was claimed at that time.
 *
 * @since 0.1.0
 * @category combinators
 */
export const recallWait = (
  wait: Driver.Wait,
  checkpoints: ReadonlyMap<string, Schema.Json>,
  claimedAt: DateTime.Utc
): Exclude<Driver.WaitState, { readonly _tag: "Waiting" }> | undefined => {
  const stored = checkpoints.get(wait.step)
  if (wait._tag === "Timer") {
    // Both instants are the store's: a wake time that had passed at the claim has passed.
    const wakeAt = typeof stored === "string" ? DateTime.make(stored) : Option.none()
    return Option.isSome(wakeAt) && DateTime.isLessThanOrEqualTo(wakeAt.value, claimedAt) ? { _tag: "Due" } : undefined
  }
  if (wait._tag === "Tasks") return undefined
  if (stored !== undefined) return { _tag: "Emitted", payload: stored }
  return checkpoints.has(Driver.timeoutOf(wait.step)) ? { _tag: "TimedOut" } : undefined
}

const isNoTimer = (wait: Driver.Wait, checkpoints: ReadonlyMap<string, Schema.Json>): boolean => {
  const stored = wait._tag === "Timer" ? checkpoints.get(wait.step) : undefined
  return stored !== undefined && !(typeof stored === "string" && Option.isSome(DateTime.make(stored)))
}

/** When a timer is due by itself. */
const dueAt = (
  wait: Driver.Wait,
  checkpoints: ReadonlyMap<string, Schema.Json>,
  now: DateTime.Utc
): DateTime.Utc | undefined => {
  if (wait._tag !== "Timer") return undefined
  const stored = checkpoints.get(wait.step)
  if (stored !== undefined) return typeof stored === "string" ? Option.getOrUndefined(DateTime.make(stored)) : undefined
  return DateTime.isDateTime(wait.until) ? wait.until : DateTime.addDuration(now, wait.until)
}
