/**
 * The run that the calling code is part of: its identity, its checkpoints, and how it waits.
 *
 * A run moves through these states; every arrow but the last is taken at most once.
 *
 *     running --> suspended        everything in the run waits, so it was put to sleep in the store
 *             --> lost             its claim no longer holds: nothing it does is stored any more
 *             --> cancelled        its task was cancelled
 *             --> faulted          the store refuses to work, which is not the task's fault
 *             --> (the handler's own exit)
 *
 * Once it has left `running`, the engine interrupts the handler, so no code of the handler can mistake it for an error.
 *
 * @since 0.1.0
 */
import { Clock, Context, DateTime, Deferred, Duration, Effect, Fiber, Latch, Metric, Option, Scope } from "effect"
import type { Schema } from "effect"
import type { Coalesced } from "./Coalesced.ts"
import * as Driver from "./Driver.ts"
import { type DriverError, InvalidUse, type NotFound } from "./Errors.ts"
import { CheckpointName, type QueueName, type RunId, type TaskId } from "./Identifiers.ts"
import * as Lease from "./Lease.ts"
import * as NameScope from "./NameScope.ts"
import * as Outage from "./Outage.ts"
import * as Transacting from "./Transacting.ts"

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
   * then `base#2`, and so on, in the order of calls. Dies with {@link InvalidUse} when the same base is in use already: concurrent steps need names of
   * their own.
   */
  readonly named: <A, E, R>(
    base: string,
    use: (name: CheckpointName) => Effect.Effect<A, E, R>,
    /** What is named: something that keeps the run awake (by default), or a group of such things. */
    kind?: "step" | "group"
  ) => Effect.Effect<A, E, R>
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
  /** Hands the run back until then: the handler begins anew, with its checkpoints and without having spent an attempt. */
  readonly snooze: (until: Duration.Duration | DateTime.Utc) => Effect.Effect<never>
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
  readonly ended: Deferred.Deferred<Ending>
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
 * Makes the execution of a claimed run. It lives as long as the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Execution, never, Scope.Scope> {
  const { claimed, coalesced, queue } = options
  const lease = yield* Lease.make(options.lease, options.claimedAt)
  const held = { runId: claimed.runId, token: claimed.token }
  const checkpoints = new Map<string, Schema.Json>(claimed.checkpoints.map((_) => [_.name, _.state]))
  const ended = Deferred.makeUnsafe<Ending>()
  const end = (ending: Ending) => {
    Deferred.doneUnsafe(ended, Effect.succeed(ending))
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
  const claimedAtLocally = yield* Clock.currentTimeMillis
  // Behind the store's clock by as long as the claim's answer took, so nothing is due too early.
  const now = Effect.map(
    Clock.currentTimeMillis,
    (millis) => DateTime.add(claimed.claimedAt, { milliseconds: Math.max(0, millis - claimedAtLocally) })
  )
  const remember: CurrentRun["Service"]["remember"] = (name, state) => {
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
  const names = makeNames()
  const waiting = yield* makeWaiting({
    now,
    fix: (step, instant) =>
      checkpoints.has(step) ? Effect.void : Effect.asVoid(remember(step, DateTime.formatIso(instant))),
    stallAfter: options.stallAfter,
    namesInUse: names.inUse,
    suspend: (waits) =>
      persist(
        Outage.answerWithin(options.driver.suspend({ queue, ...held, waits }), "suspend", Outage.answerLimit)
      ),
    suspended: () => end({ _tag: "Suspended" })
  })

  const service = CurrentRun.of({
    taskId: claimed.taskId,
    runId: claimed.runId,
    task: claimed.name,
    queue,
    attempt: claimed.attempt,
    headers: claimed.headers,
    named: names.named,
    now,
    recall: (name) => checkpoints.get(name),
    ensureHeld,
    remember,
    wait: (wait) => {
      const known = recallWait(wait, checkpoints, claimed.claimedAt)
      return known === undefined
        ? Effect.flatMap(now, (present) => waiting.park(wait, dueAt(wait, checkpoints, present)))
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
    transact: Transacting.make({
      driver: options.driver,
      queue,
      taskId: claimed.taskId,
      held,
      lease,
      ensureHeld,
      persist,
      stored: (name, state) => checkpoints.set(name, state)
    }),
    transacting: false,
    snooze: (until) =>
      persist(Effect.map(coalesced.release(queue, { ...held, until }), (outcome) => ({ outcome }))).pipe(
        Effect.tap(() => Effect.sync(() => end({ _tag: "Suspended" }))),
        Effect.andThen(halt)
      )
  })
  return { claimed, lease, service, ended, end, settling: false, persist, supervise: waiting.supervise }
})

// --- internal

/** Never goes on: the engine interrupts the handler of a run that has ended. */
const halt: Effect.Effect<never> = Effect.interruptible(Effect.never)

/** See `Outage.backoff`. */
export const outageBackoff = Outage.backoff

const recallWait = (
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

const makeNames = () => {
  const counts = new Map<string, number>()
  const active = new Set<string>()
  let groups = 0
  const named: CurrentRun["Service"]["named"] = (own, use, kind) =>
    Effect.withFiber((fiber) => {
      const base = NameScope.within(fiber.getRef(NameScope.NameScope), own)
      if (active.has(base)) {
        return Effect.die(
          new InvalidUse({
            step: base,
            problem: "this name is in use by a concurrent step of the same run; give each concurrent step its own name"
          })
        )
      }
      active.add(base)
      if (kind === "group") groups++
      const count = (counts.get(base) ?? 0) + 1
      counts.set(base, count)
      const name = CheckpointName.make(count === 1 ? base : `${base}#${count}`)
      const free = Effect.sync(() => {
        active.delete(base)
        if (kind === "group") groups--
      })
      return Effect.ensuring(use(name), free)
    })
  return { named, inUse: () => active.size - groups }
}

interface Parked {
  readonly wait: Driver.Wait
  /** When the wait is over by itself. */
  readonly dueAt: DateTime.Utc | undefined
  readonly over: Deferred.Deferred<Exclude<Driver.WaitState, { readonly _tag: "Waiting" }>>
}

/**
 * Suspends the run once for all its waits, as soon as nothing else goes on in it.
 *
 * Every fiber that the handler starts is counted. Nothing goes on when each of them waits here, or has started others and
 * so waits for them. A fiber that does something else holds the run awake, but no longer than `stallAfter`, unless it is in
 * a step. While the run is held awake, timers that become due are over here.
 */
const makeWaiting = Effect.fnUntraced(function*(options: {
  readonly stallAfter: Duration.Duration
  /** How many names are in use: by steps, and by the waits themselves. */
  readonly namesInUse: () => number
  readonly suspend: (waits: ReadonlyArray<Driver.Wait>) => Effect.Effect<Driver.Suspended>
  readonly suspended: () => void
  readonly now: Effect.Effect<DateTime.Utc>
  /** Stores the wake time of a timer, unless there is one. */
  readonly fix: (step: CheckpointName, instant: DateTime.Utc) => Effect.Effect<void>
}) {
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  const parked = new Map<Fiber.Fiber<unknown, unknown>, Parked>()
  const family = makeFamily()
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
      else if (options.namesInUse() === parked.size) yield* suspend
    }
    coordinating = false
  })

  const park = (
    wait: Driver.Wait,
    dueAt: DateTime.Utc | undefined
  ): Effect.Effect<Exclude<Driver.WaitState, { readonly _tag: "Waiting" }>> =>
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

  return { park, supervise: family.supervise }
})

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

/**
 * The fibers of a handler. Effect tells a fiber's metrics about the start and end of each fiber that inherits its context,
 * whichever combinator started it; while it starts, its parent is the current fiber.
 */
const makeFamily = () => {
  const changed = Latch.makeUnsafe(false)
  const parents = new Set<Fiber.Fiber<unknown, unknown>>()
  let root: Fiber.Fiber<unknown, unknown> | undefined
  let children = 0

  const supervise = <A, E, R>(handler: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      root = fiber
      const outer = fiber.getRef(Metric.FiberRuntimeMetrics)
      const metrics: Metric.FiberRuntimeMetricsService = {
        recordFiberStart: (context) => {
          outer?.recordFiberStart(context)
          children++
          const parent = Fiber.getCurrent()
          if (parent === undefined || parents.has(parent)) return
          if (parent !== root && parent.getRef(Metric.FiberRuntimeMetrics) !== metrics) return
          parents.add(parent)
          parent.addObserver(() => parents.delete(parent))
        },
        recordFiberEnd: (context, exit) => {
          outer?.recordFiberEnd(context, exit)
          children--
          changed.openUnsafe()
        }
      }
      return Effect.provideService(handler, Metric.FiberRuntimeMetrics, metrics)
    })

  /** Whether every fiber is in `waiting` or waits for fibers that it started. */
  const allIn = (waiting: ReadonlyMap<Fiber.Fiber<unknown, unknown>, unknown>): boolean => {
    if (root === undefined || !(waiting.has(root) || parents.has(root))) return false
    let accounted = 0
    for (const fiber of waiting.keys()) if (fiber !== root) accounted++
    for (const fiber of parents) if (fiber !== root && !waiting.has(fiber)) accounted++
    return accounted === children
  }

  return { supervise, changed, allIn }
}
