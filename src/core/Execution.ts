/**
 * A run under execution: what the engine knows of it, and the `CurrentRun` of its handler.
 *
 * Most runs need little of what there is, so what only some of them need is made when it is asked for.
 *
 * @since 0.1.0
 */
import { type Clock, type Context, DateTime, type Duration, Effect, Exit, Option, type Schema, Scope } from "effect"
import type { Coalesced } from "./Coalesced.ts"
import { CurrentRun, type Ending, recallWait } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import { type DriverError, InvalidUse, type NotFound } from "./Errors.ts"
import * as Family from "./Family.ts"
import type { CheckpointName, QueueName } from "./Identifiers.ts"
import * as Lease from "./Lease.ts"
import * as Outage from "./Outage.ts"
import * as SagaLog from "./SagaLog.ts"
import * as StepNames from "./StepNames.ts"
import * as Telemetry from "./Telemetry.ts"
import * as Transacting from "./Transacting.ts"
import * as Waiting from "./Waiting.ts"

/**
 * What the executions of one worker have in common.
 *
 * @since 0.1.0
 * @category models
 */
export interface Host {
  readonly driver: Driver.Driver["Service"]
  /** The driver's own, at hand: each step asks. */
  readonly inTransaction: Effect.Effect<boolean>
  readonly coalesced: Coalesced
  readonly outage: Outage.Outage
  /** The lease of a claim that was not sent before then, in monotonic milliseconds. */
  readonly leaseOf: (claimedAt: number) => Lease.Lease
  /**
   * How long a run may stay awake in which some fibers wait durably and the others do something that is neither a step
   * nor a wait. After that it is suspended all the same, and what they did is done again on resumption.
   */
  readonly stallAfter: Duration.Duration
  /** The worker's, whatever clock a handler has been given. */
  readonly clock: Clock.Clock
}

/**
 * A run under execution.
 *
 * @since 0.1.0
 * @category models
 */
export class Execution {
  readonly host: Host
  readonly queue: QueueName
  readonly claimed: Driver.Claimed
  /** For what goes on beside the handler: with the run's place in logs and traces. */
  readonly context: Context.Context<never>
  /** What is known of its lease. Whoever renews it says so here. */
  readonly lease: Lease.Lease
  /** What the handler is given. */
  readonly service: CurrentRun["Service"]
  /** The fibers of the handler. */
  readonly family = new Family.Family()
  /** How it ended other than by its handler's own exit, if it did. */
  ended: Ending | undefined = undefined
  /** Told when {@link ended} is set. */
  onEnded: (() => void) | undefined = undefined
  /** Whether the handler has ended and the store is being told. From then on only the store's answer to that counts. */
  settling = false
  private readonly claimedAtLocally: number
  private checkpoints: Map<string, Schema.Json> | undefined
  private next: Map<CheckpointName, Schema.Json> | undefined = undefined
  private stepNames: StepNames.StepNames | undefined = undefined
  private holding: Effect.Effect<void> | undefined = undefined
  private noted: Map<string, unknown> | undefined = undefined
  private log: SagaLog.SagaLog | undefined = undefined
  private waits: { readonly waiting: Waiting.Waiting; readonly scope: Scope.Closeable } | undefined = undefined

  /** `claimedAt` is the monotonic time, in milliseconds, before which the claim was not sent. */
  constructor(
    host: Host,
    { claimedAt, queue }: { readonly queue: QueueName; readonly claimedAt: number },
    claimed: Driver.Claimed,
    context: Context.Context<never>
  ) {
    this.host = host
    this.queue = queue
    this.claimed = claimed
    this.context = context
    this.lease = host.leaseOf(claimedAt)
    this.claimedAtLocally = host.clock.currentTimeMillisUnsafe()
    this.checkpoints = claimed.checkpoints.length === 0 ? undefined : new Map(
      claimed.checkpoints.map(({ name, state }) => [name, state])
    )
    this.service = new Service(this)
  }

  /** Ends the run, if it still runs. */
  end(ending: Ending): void {
    if (this.ended !== undefined) return
    this.ended = ending
    this.onEnded?.()
  }

  /** Ends what goes on beside the handler, after what remains to be done. */
  closing<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    const { waits } = this
    return waits === undefined ? self : Effect.onExit(self, () => Scope.close(waits.scope, Exit.void))
  }

  /** What identifies the claim to the store. */
  get held(): typeof Driver.Held.Type {
    return { runId: this.claimed.runId, token: this.claimed.token }
  }

  /**
   * Repeats a fenced request until the store has answered, and ends the run when it no longer holds the claim.
   *
   * Repeating it is harmless even when its outcome is unknown: if it was carried out, the run no longer accepts it (or, for a
   * checkpoint, tells what is stored).
   */
  persist<A extends { readonly outcome: Driver.Outcome }>(
    request: Effect.Effect<A, DriverError | NotFound>
  ): Effect.Effect<A> {
    return this.persistThen(() => request, (answer) => answer)
  }

  private persistThen<A extends { readonly outcome: Driver.Outcome }, B>(
    request: () => Effect.Effect<A, DriverError | NotFound>,
    onApplied: (answer: A) => B
  ): Effect.Effect<B> {
    return this.host.outage.persistWith(request, {
      onFailure: (error) => {
        this.end({ _tag: "Faulted", error })
        return halt
      },
      onSuccess: (answer) => {
        if (answer.outcome === "applied") return Effect.succeed(onApplied(answer))
        this.end({ _tag: answer.outcome === "cancelled" ? "Cancelled" : "Lost" })
        return halt
      }
    })
  }

  get names(): StepNames.StepNames {
    return this.stepNames ??= StepNames.make(this.host.inTransaction)
  }

  get notes(): Map<string, unknown> {
    return this.noted ??= new Map()
  }

  get saga(): SagaLog.SagaLog {
    return this.log ??= SagaLog.make(this.claimed.checkpoints)
  }

  /** Behind the store's clock by as long as the claim's answer took, so nothing is due too early. */
  get now(): Effect.Effect<DateTime.Utc> {
    return Effect.clockWith((clock) =>
      Effect.map(
        clock.currentTimeMillis,
        (millis) => DateTime.add(this.claimed.claimedAt, { milliseconds: Math.max(0, millis - this.claimedAtLocally) })
      )
    )
  }

  get ensureHeld(): Effect.Effect<void> {
    return this.holding ??= Effect.suspend(() => {
      if (Lease.holds(this.lease)) return Effect.void
      this.end({ _tag: "Lost" })
      return halt
    })
  }

  recall(name: CheckpointName): Schema.Json | undefined {
    return this.checkpoints?.get(name)
  }

  remember(name: CheckpointName, state: Schema.Json): Effect.Effect<Schema.Json> {
    return Effect.flatMap(this.host.inTransaction, (inside) =>
      inside
        ? Effect.die(new InvalidUse({ step: name, problem: "it is inside a transaction; use Step.transaction" }))
        : this.next === undefined
        ? this.store(name, state)
        : this.afterNext(this.store(name, state)))
  }

  rememberNext(name: CheckpointName, state: Schema.Json): void {
    this.next ??= new Map()
    this.next.set(name, state)
  }

  wait(wait: Driver.Wait): Effect.Effect<Waiting.Over> {
    const known = recallWait(wait, this.known, this.claimed.claimedAt)
    if (isNoTimer(wait, this.known)) {
      const problem = "in an earlier execution of this task it was no sleep; give the new code another name"
      return Effect.die(new InvalidUse({ step: wait.step, problem }))
    }
    return known === undefined
      ? this.afterNext(
        Effect.flatMap(this.now, (present) => this.waiting.park(wait, dueAt(wait, this.known, present)))
      )
      : Effect.succeed(known)
  }

  heartbeat(by: Duration.Duration = this.lease.duration): Effect.Effect<void> {
    return Effect.asVoid(this.persist(Effect.suspend(() => {
      const sentAt = this.lease.now()
      return Effect.map(this.host.coalesced.extend(this.queue, { ...this.held, lease: by }), (outcome) => {
        if (outcome === "applied") Lease.renewed(this.lease, sentAt, by)
        return { outcome }
      })
    })))
  }

  transact<E, R>(name: CheckpointName, self: Effect.Effect<Schema.Json, E, R>): Effect.Effect<Schema.Json, E, R> {
    const transact = Transacting.make({
      driver: this.host.driver,
      queue: this.queue,
      taskId: this.claimed.taskId,
      held: this.held,
      lease: this.lease,
      ensureHeld: this.ensureHeld,
      persist: (request) => this.persist(request),
      stored: (name, state) => this.remembered(name, state)
    })
    return this.afterNext(transact(name, self))
  }

  snooze(until: Duration.Duration | DateTime.Utc): Effect.Effect<never> {
    const released = Effect.map(
      this.host.coalesced.release(this.queue, { ...this.held, until }),
      (outcome) => ({ outcome })
    )
    return Effect.flatMap(this.afterNext(this.persist(released)), () => {
      this.end({ _tag: "Suspended" })
      return halt
    })
  }

  private get known(): ReadonlyMap<string, Schema.Json> {
    return this.checkpoints ?? nothing
  }

  private remembered(name: CheckpointName, state: Schema.Json): void {
    this.checkpoints ??= new Map()
    this.checkpoints.set(name, state)
  }

  private store(name: CheckpointName, state: Schema.Json): Effect.Effect<Schema.Json> {
    let [sentAt, extendBy]: [number, Duration.Duration | null] = [0, null]
    // Each time that it is sent the lease is looked at anew.
    const request = () => {
      const { runId, token } = this.claimed
      sentAt = this.lease.now()
      extendBy = Lease.extension(this.lease, sentAt)
      return this.host.coalesced.setCheckpoint(this.queue, { runId, token, name, state, extendBy })
    }
    return this.persistThen(request, ({ existing }) => {
      if (extendBy !== null) Lease.renewed(this.lease, sentAt)
      const stored = existing === undefined ? state : existing
      this.remembered(name, stored)
      return stored
    })
  }

  /** Stores first what was to be stored before whatever comes next. */
  private afterNext<A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      if (this.next === undefined || this.next.size === 0) return self
      const all = [...this.next]
      this.next.clear()
      return Effect.andThen(
        Effect.forEach(all, ([name, state]) => this.store(name, state), { discard: true }),
        self
      )
    })
  }

  private get waiting(): Waiting.Waiting {
    if (this.waits === undefined) {
      const scope = Scope.makeUnsafe()
      this.waits = { waiting: this.makeWaiting(scope), scope }
    }
    return this.waits.waiting
  }

  private makeWaiting(scope: Scope.Scope): Waiting.Waiting {
    const { driver, stallAfter } = this.host
    return Waiting.makeUnsafe(
      {
        family: this.family,
        now: this.now,
        fix: (step, instant) =>
          this.known.has(step) ? Effect.void : Effect.asVoid(this.remember(step, DateTime.formatIso(instant))),
        stallAfter,
        isIdle: (parked) => this.names.inUse() === parked,
        suspend: (waits) =>
          this.persist(
            Outage.answerWithin(
              driver.suspend({ queue: this.queue, ...this.held, waits }),
              "suspend",
              Outage.answerLimit
            )
          ),
        suspended: () => this.end({ _tag: "Suspended" }),
        refused: (error) => this.end({ _tag: "Exited", exit: Exit.die(error) })
      },
      scope,
      this.context
    )
  }
}

// --- internal

type Run = CurrentRun["Service"]

/** A handler's view of its execution. Its functions may be taken out of it. */
class Service implements Run {
  private readonly execution: Execution
  readonly transacting = false

  constructor(execution: Execution) {
    this.execution = execution
  }

  get taskId(): Run["taskId"] {
    return this.execution.claimed.taskId
  }
  get runId(): Run["runId"] {
    return this.execution.claimed.runId
  }
  get task(): Run["task"] {
    return this.execution.claimed.name
  }
  get queue(): Run["queue"] {
    return this.execution.queue
  }
  get attempt(): Run["attempt"] {
    return this.execution.claimed.attempt
  }
  get headers(): Run["headers"] {
    return this.execution.claimed.headers
  }
  get named(): Run["named"] {
    return this.execution.names.named
  }
  get begin(): Run["begin"] {
    return this.execution.names.begin
  }
  get now(): Run["now"] {
    return this.execution.now
  }
  get recall(): Run["recall"] {
    return (name) => this.execution.recall(name)
  }
  get ensureHeld(): Run["ensureHeld"] {
    return this.execution.ensureHeld
  }
  get remember(): Run["remember"] {
    return (name, state) => this.execution.remember(name, state)
  }
  get rememberNext(): Run["rememberNext"] {
    return (name, state) => this.execution.rememberNext(name, state)
  }
  get wait(): Run["wait"] {
    return (wait) => Telemetry.waiting(this, wait, () => this.execution.wait(wait))
  }
  get heartbeat(): Run["heartbeat"] {
    return (lease) => this.execution.heartbeat(lease)
  }
  get transact(): Run["transact"] {
    return (name, self) => this.execution.transact(name, self)
  }
  get notes(): Run["notes"] {
    return this.execution.notes
  }
  get snooze(): Run["snooze"] {
    return (until) => this.execution.snooze(until)
  }
  get saga(): Run["saga"] {
    return this.execution.saga
  }
}

/** Never goes on: the engine interrupts the handler of a run that has ended. */
const halt: Effect.Effect<never> = Effect.interruptible(Effect.never)

const nothing: ReadonlyMap<string, Schema.Json> = new Map()

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
