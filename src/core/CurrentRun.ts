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
import { Context, DateTime, type Duration, type Effect, type Exit, Option, type Schema } from "effect"
import * as Driver from "./Driver.ts"
import type { DriverError, NotFound } from "./Errors.ts"
import type { CheckpointName, QueueName, RunId, TaskId } from "./Identifiers.ts"
import type * as SagaLog from "./SagaLog.ts"

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
 * Its members may be taken out of it. It has none of its own that could be copied by spreading it, for they are made when they
 * are asked for.
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
 * The run with some members replaced. Not a copy: what a run is asked for may be made only then.
 *
 * @since 0.1.0
 * @category combinators
 */
export const modified = (self: CurrentRun["Service"], members: Partial<CurrentRun["Service"]>): CurrentRun["Service"] =>
  Object.create(self, Object.getOwnPropertyDescriptors(members)) as CurrentRun["Service"]

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
