/**
 * The one contract between this library and a store. It is for those who write drivers; programs use `Absurd`,
 * `Task`, `Event` and `Step`.
 *
 * Values cross the seam encoded: ids are strings, payloads are JSON that has been checked to be storable. Durations
 * cross it, instants do not (except those that a program itself asked for): only the store's clock decides what is
 * due. Operations that a busy worker calls take many items and answer for each of them, in the order of the items.
 *
 * A claim is fenced: every operation on a claimed run carries the claim's token, and changes something only while the
 * run is running and still carries that token. The order of locks, where a store has locks, is: events by name, awaited
 * tasks by id, runs by id, tasks by id, then waits and checkpoints.
 *
 * @since 0.1.0
 */
import { Context, type Effect, Schema, type Stream } from "effect"
import { CancellationPolicy } from "./CancellationPolicy.ts"
import type { DriverError, IdempotencyConflict, InvalidInput, InvalidState, NotFound } from "./Errors.ts"
import {
  CheckpointName,
  ClaimToken,
  EventName,
  IdempotencyKey,
  QueueName,
  RunId,
  State,
  TaskId,
  TaskName
} from "./Identifiers.ts"
import type { LimitStore } from "./LimitStore.ts"
import type { ListingStore } from "./ListingStore.ts"
import type { PendingStore } from "./PendingStore.ts"
import { Headers } from "./Records.ts"
import type {
  Checkpoint,
  Claimed,
  QueuePolicy,
  QueuePolicyUpdate,
  RunRow,
  StorageMode,
  StoredEvent,
  TaskResult,
  TaskRow,
  WaitRow
} from "./Records.ts"
import { RetryStrategy } from "./RetryStrategy.ts"
import type { ScheduleStore } from "./ScheduleStore.ts"
import type { UpkeepStore } from "./UpkeepStore.ts"
import type { WorkerStore } from "./WorkerStore.ts"
import type { WorkflowRunStore } from "./WorkflowRunStore.ts"

export * from "./LimitStore.ts"
export * from "./ListingStore.ts"
export * from "./PendingStore.ts"
export * from "./Records.ts"
export * from "./ScheduleStore.ts"
export * from "./UpkeepStore.ts"
export * from "./WorkerStore.ts"
export * from "./WorkflowRunStore.ts"

// --- spawning

/** One task to spawn. `null` means absent. @since 0.1.0 */
export const SpawnItem = Schema.Struct({
  name: TaskName,
  params: Schema.Json,
  headers: Schema.NullOr(Headers),
  retryStrategy: Schema.NullOr(RetryStrategy),
  /** From 1; `null` is no limit. */
  maxAttempts: Schema.NullOr(Schema.Int),
  cancellation: Schema.NullOr(CancellationPolicy),
  idempotencyKey: Schema.NullOr(IdempotencyKey),
  /** How long after now the first run becomes due. A delayed task is `sleeping` until then. */
  delay: Schema.NullOr(Schema.Union([Schema.Duration, Schema.DateTimeUtc]))
})
/** @since 0.1.0 */
export type SpawnItem = typeof SpawnItem.Type

/** Tasks to spawn in one queue: all or none. @since 0.1.0 */
export const Spawn = Schema.Struct({ queue: QueueName, tasks: Schema.Array(SpawnItem) })

/** The task that a spawn made or, for a taken idempotency key, found. @since 0.1.0 */
export const Spawned = Schema.Struct({
  taskId: TaskId,
  /** The newest run. */
  runId: RunId,
  attempt: Schema.Int,
  /** Whether this call made the task. */
  created: Schema.Boolean
})
/** @since 0.1.0 */
export type Spawned = typeof Spawned.Type

// --- claiming

/** A request for runs that are due. @since 0.1.0 */
export const Claim = Schema.Struct({
  queue: QueueName,
  /** Stored with every run that this call claims. Fresh for every call. */
  token: ClaimToken,
  /** From one second to 24 hours. */
  lease: Schema.Duration,
  limit: Schema.Int,
  /** Names of tasks whose runs are left alone; none by default. */
  except: Schema.optionalKey(Schema.Array(Schema.String))
})

// --- fenced operations

/**
 * What became of an operation on a claimed run. Only `applied` changed something.
 *
 * - `leaseLost`: the run is not running, or not under this token.
 * - `cancelled`: the task has been cancelled.
 * - `notFound`: there is no such run.
 *
 * @since 0.1.0
 */
export const Outcome = Schema.Literals(["applied", "leaseLost", "cancelled", "notFound"])
/** @since 0.1.0 */
export type Outcome = typeof Outcome.Type

/** A run under a claim. @since 0.1.0 */
export const Held = Schema.Struct({ runId: RunId, token: ClaimToken })
/** @since 0.1.0 */
export type Held = typeof Held.Type

/** A run to complete, with what its task returned. @since 0.1.0 */
export const CompleteItem = Held.mapFields((fields) => ({ ...fields, result: Schema.Json }))
/** Runs to complete, in one queue. @since 0.1.0 */
export const Complete = Schema.Struct({ queue: QueueName, runs: Schema.Array(CompleteItem) })

/** When the next attempt of a failed run starts. @since 0.1.0 */
export const Retry = Schema.Union([
  /** As the stored retry strategy says. */
  Schema.TaggedStruct("Stored", {}),
  Schema.TaggedStruct("After", { delay: Schema.Duration }),
  Schema.TaggedStruct("At", { instant: Schema.DateTimeUtc }),
  /** Not at all: the task has failed. */
  Schema.TaggedStruct("Never", {})
])
/** @since 0.1.0 */
export type Retry = typeof Retry.Type

/** A run to fail: what is stored as its reason, and when the next attempt starts. @since 0.1.0 */
export const FailItem = Held.mapFields((fields) => ({ ...fields, reason: Schema.Json, retry: Retry }))
/** Runs to fail, in one queue. @since 0.1.0 */
export const Fail = Schema.Struct({ queue: QueueName, runs: Schema.Array(FailItem) })

/** `state` is the task's state afterwards, when applied. @since 0.1.0 */
export const Failed = Schema.Struct({ outcome: Outcome, state: Schema.NullOr(State) })
/** @since 0.1.0 */
export type Failed = typeof Failed.Type

/** A checkpoint to write under a claim. @since 0.1.0 */
export const CheckpointItem = Held.mapFields((fields) => ({
  ...fields,
  name: CheckpointName,
  state: Schema.Json,
  /** Renews the lease in the same commit. */
  extendBy: Schema.NullOr(Schema.Duration)
}))
/** Checkpoints to write, in one queue. @since 0.1.0 */
export const SetCheckpoints = Schema.Struct({ queue: QueueName, checkpoints: Schema.Array(CheckpointItem) })

/**
 * `existing` is undefined when this call wrote the checkpoint. A committed checkpoint is never changed: when there
 * already was one, `existing` is its state and nothing was written (the lease is renewed all the same).
 *
 * @since 0.1.0
 */
export const CheckpointSet = Schema.Struct({ outcome: Outcome, existing: Schema.UndefinedOr(Schema.Json) })
/** @since 0.1.0 */
export type CheckpointSet = typeof CheckpointSet.Type

/** A run whose lease is to be renewed. @since 0.1.0 */
export const ExtendItem = Held.mapFields((fields) => ({ ...fields, lease: Schema.Duration }))
/** A lease then ends `lease` from now, but never earlier than it did before. @since 0.1.0 */
export const Extend = Schema.Struct({ queue: QueueName, runs: Schema.Array(ExtendItem) })

/** A run to hand back, and when it becomes due again. @since 0.1.0 */
export const ReleaseItem = Held.mapFields((fields) => ({
  ...fields,
  /** When the run becomes claimable again: so long after now, or then. */
  until: Schema.Union([Schema.Duration, Schema.DateTimeUtc])
}))
/** Hands runs back, as `sleeping`. Costs no attempt and keeps the checkpoints. @since 0.1.0 */
export const Release = Schema.Struct({ queue: QueueName, runs: Schema.Array(ReleaseItem) })

// --- suspending

/**
 * One thing that a run waits for.
 *
 * - `Timer`: the checkpoint `step` holds the wake time as ISO text in UTC. It is written, as now plus `duration` or as
 *   the given instant, when it does not exist yet; so a wake time is fixed once.
 * - `Event`: the checkpoint `step` receives the payload. With a `timeout`, the checkpoint `$deadline:` + step holds the
 *   deadline as ISO text, fixed at the first suspension; once it has passed without the event the checkpoint
 *   `$timeout:` + step is written (state true), and from then on the wait is timed out whatever happens.
 * - `Tasks`: over once all of the tasks have ended; with `failFast`, as soon as one of them has ended other than completed.
 *   A task that does not exist counts as ended. Ends in the run's own queue wake the run in the commit in which the task
 *   ends. Of ends that the store does not see (those in other queues, and those that foreign SQL makes) the run learns
 *   by looking again: {@link recheckAfter}.
 *
 * @since 0.1.0
 */
export const Wait = Schema.Union([
  Schema.TaggedStruct("Timer", {
    step: CheckpointName,
    until: Schema.Union([Schema.Duration, Schema.DateTimeUtc])
  }),
  Schema.TaggedStruct("Event", {
    step: CheckpointName,
    event: EventName,
    timeout: Schema.NullOr(Schema.Duration)
  }),
  Schema.TaggedStruct("Tasks", {
    /** At most 600 bytes long. Nothing is stored under it. */
    step: CheckpointName,
    queue: QueueName,
    taskIds: Schema.Array(TaskId),
    failFast: Schema.Boolean
  })
])
/** @since 0.1.0 */
export type Wait = typeof Wait.Type

/**
 * Puts a run to sleep until the first of its waits is over, or says which of them already are. With exactly one `Event`
 * wait and no other wait, `wake_event` of the run names the event, for workers in other languages; with any other set it
 * is null.
 *
 * @since 0.1.0
 */
export const Suspend = Schema.Struct({
  queue: QueueName,
  runId: RunId,
  token: ClaimToken,
  waits: Schema.Array(Wait)
})

/** What is known of one wait. @since 0.1.0 */
export const WaitState = Schema.Union([
  Schema.TaggedStruct("Waiting", {}),
  /** The timer is due. */
  Schema.TaggedStruct("Due", {}),
  Schema.TaggedStruct("Emitted", { payload: Schema.Json }),
  Schema.TaggedStruct("TimedOut", {}),
  /** The tasks have ended, as the wait wanted it. */
  Schema.TaggedStruct("Ended", {})
])
/** @since 0.1.0 */
export type WaitState = typeof WaitState.Type

/**
 * When `outcome` is `applied`: `suspended` says whether the run now sleeps (then every wait is `Waiting`) or goes on
 * running because at least one wait is over.
 *
 * @since 0.1.0
 */
export const Suspended = Schema.Struct({
  outcome: Outcome,
  suspended: Schema.Boolean,
  waits: Schema.Array(WaitState)
})
/** @since 0.1.0 */
export type Suspended = typeof Suspended.Type

// --- events

/** An event to emit, with its payload. @since 0.1.0 */
export const Emit = Schema.Struct({ queue: QueueName, event: EventName, payload: Schema.Json })

/** `emitted` is false when the event had been emitted before; then nothing changed. @since 0.1.0 */
export const Emitted = Schema.Struct({ emitted: Schema.Boolean, woken: Schema.Int })
/** @since 0.1.0 */
export type Emitted = typeof Emitted.Type

/** A hint that something happened, which never carries correctness. @since 0.1.0 */
export const Signal = Schema.Union([
  /** New work may be due in the queue. */
  Schema.TaggedStruct("Work", { queue: Schema.String }),
  /** The task has ended or was cancelled. */
  Schema.TaggedStruct("Ended", { queue: Schema.String, taskId: Schema.String }),
  /** Hints may have been missed until now. */
  Schema.TaggedStruct("Gap", {})
])
/** @since 0.1.0 */
export type Signal = typeof Signal.Type

type Of<S extends Schema.Constraint> = S["Type"]

/** `NotFound` is always about the queue unless a method says otherwise. */
type Fails = DriverError | NotFound

/** The parts of the seam that have files of their own. @since 0.1.0 */
export interface Parts
  extends WorkerStore, WorkflowRunStore, UpkeepStore, ScheduleStore, PendingStore, ListingStore, LimitStore
{}

/**
 * What a store must do.
 *
 * @since 0.1.0
 * @category services
 */
export class Driver extends Context.Service<
  Driver,
  Parts & {
    /** Idempotent. `InvalidState` when the queue exists in the other mode. */
    readonly createQueue: (request: {
      readonly queue: QueueName
      readonly storage: StorageMode
    }) => Effect.Effect<void, DriverError | InvalidState>
    /** Removes the queue and all that is in it. Idempotent. */
    readonly dropQueue: (queue: QueueName) => Effect.Effect<void, DriverError>
    /** Sorted by name. */
    readonly listQueues: Effect.Effect<ReadonlyArray<string>, DriverError>
    readonly getQueuePolicy: (queue: QueueName) => Effect.Effect<QueuePolicy, Fails>
    readonly setQueuePolicy: (
      queue: QueueName,
      policy: QueuePolicyUpdate
    ) => Effect.Effect<void, Fails | InvalidInput | InvalidState>

    /**
     * Spawns all tasks or none. A task whose idempotency key is taken is not spawned; its item tells the task that has the
     * key. `IdempotencyConflict` when that task has another name or other params.
     */
    readonly spawn: (
      request: Of<typeof Spawn>
    ) => Effect.Effect<ReadonlyArray<Spawned>, Fails | IdempotencyConflict>

    /**
     * Applies cancellation policies that are due, turns expired leases into failures (`$ClaimTimeout`), then leases up to
     * `limit` due runs, oldest first, unless the queue is paused. Never waits for a run that another transaction has locked.
     * Runs that may not start by the limits of their tasks are parked instead: see `LimitStore`.
     */
    readonly claim: (request: Of<typeof Claim>) => Effect.Effect<ReadonlyArray<Claimed>, Fails>
    /** The runs that still carry a token: what a claim whose answer was lost had claimed. */
    readonly claimedWith: (request: {
      readonly queue: QueueName
      readonly token: ClaimToken
    }) => Effect.Effect<ReadonlyArray<Claimed>, Fails>

    readonly complete: (request: Of<typeof Complete>) => Effect.Effect<ReadonlyArray<Outcome>, Fails>
    readonly fail: (request: Of<typeof Fail>) => Effect.Effect<ReadonlyArray<Failed>, Fails>
    readonly setCheckpoints: (request: Of<typeof SetCheckpoints>) => Effect.Effect<ReadonlyArray<CheckpointSet>, Fails>
    readonly extend: (request: Of<typeof Extend>) => Effect.Effect<ReadonlyArray<Outcome>, Fails>
    readonly release: (request: Of<typeof Release>) => Effect.Effect<ReadonlyArray<Outcome>, Fails>
    readonly suspend: (request: Of<typeof Suspend>) => Effect.Effect<Suspended, Fails>

    /** First write wins. Every run that waits for the event becomes pending in the same commit. */
    readonly emit: (request: Of<typeof Emit>) => Effect.Effect<Emitted, Fails>
    readonly readEvent: (request: {
      readonly queue: QueueName
      readonly event: EventName
    }) => Effect.Effect<StoredEvent | undefined, Fails>
    /** Only those that have been emitted, each once, in any order. */
    readonly readEvents: (request: {
      readonly queue: QueueName
      readonly events: ReadonlyArray<EventName>
    }) => Effect.Effect<ReadonlyArray<StoredEvent>, Fails>

    /** Cancels a task that has not ended; otherwise changes nothing. `state` is the state before. `NotFound` also for the task. */
    readonly cancelTask: (request: {
      readonly queue: QueueName
      readonly taskId: TaskId
    }) => Effect.Effect<{ readonly cancelled: boolean; readonly state: State }, Fails>
    /** Cancels the run's task if the run is pending or sleeping. `state` is the run's state before. `NotFound` also for the run. */
    readonly cancelRun: (request: {
      readonly queue: QueueName
      readonly runId: RunId
    }) => Effect.Effect<{ readonly cancelled: boolean; readonly state: State }, Fails>
    /**
     * Revives a failed task: in place, with one more attempt or up to `maxAttempts`; or as a new task. `NotFound` also for
     * the task, `InvalidState` when it has not failed, `InvalidInput` when `maxAttempts` leaves no attempt.
     */
    readonly retryTask: (request: {
      readonly queue: QueueName
      readonly taskId: TaskId
      readonly maxAttempts: number | null
      readonly spawnNew: boolean
    }) => Effect.Effect<Spawned, Fails | InvalidState | InvalidInput>

    /** Only the tasks that exist, in any order. */
    readonly results: (request: {
      readonly queue: QueueName
      readonly taskIds: ReadonlyArray<TaskId>
    }) => Effect.Effect<ReadonlyArray<TaskResult>, Fails>
    readonly getTask: (request: {
      readonly queue: QueueName
      readonly taskId: TaskId
    }) => Effect.Effect<TaskRow | undefined, Fails>
    readonly getRun: (request: {
      readonly queue: QueueName
      readonly runId: RunId
    }) => Effect.Effect<RunRow | undefined, Fails>
    readonly findTask: (request: {
      readonly queue: QueueName
      readonly idempotencyKey: IdempotencyKey
    }) => Effect.Effect<TaskId | undefined, Fails>
    /** By attempt. */
    readonly listRuns: (request: {
      readonly queue: QueueName
      readonly taskId: TaskId
    }) => Effect.Effect<ReadonlyArray<RunRow>, Fails>
    /** By step. */
    readonly listWaits: (request: {
      readonly queue: QueueName
      readonly taskId: TaskId
    }) => Effect.Effect<ReadonlyArray<WaitRow>, Fails>
    /** The task's checkpoints in the order they were written, committed ones only unless `includePending`. */
    readonly getCheckpoints: (request: {
      readonly queue: QueueName
      readonly taskId: TaskId
      readonly name: CheckpointName | null
      readonly includePending: boolean
    }) => Effect.Effect<ReadonlyArray<Checkpoint>, Fails>

    /** Deletes at most `limit` ended tasks, oldest first, that ended more than `ttl` ago; returns how many. */
    readonly cleanupTasks: (request: CleanupRequest) => Effect.Effect<number, Fails>
    /** Deletes at most `limit` events that were emitted more than `ttl` ago; returns how many. */
    readonly cleanupEvents: (request: CleanupRequest) => Effect.Effect<number, Fails>

    /** Everything done inside commits together or not at all; nested uses are savepoints. */
    readonly withTransaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | DriverError, R>
    /** Whether the calling fiber is inside a transaction of this store, so that its requests must not leave the fiber. */
    readonly inTransaction: Effect.Effect<boolean>
    /**
     * Hints about work and ends, from this and other processes. The stream may miss some; it fails when it is cut off. Where
     * it takes time to begin to listen, a `Gap` says that it has begun.
     */
    readonly signals: Stream.Stream<Signal, DriverError>
  }
>()("effect-absurd/core/Driver") {}

/** What is to be deleted of one queue. @since 0.1.0 */
export interface CleanupRequest {
  readonly queue: QueueName
  /** Counted in whole seconds, rounded up. */
  readonly ttl: Schema.Schema.Type<typeof Schema.Duration>
  readonly limit: number
}

/** The checkpoint that holds the deadline of the wait `step`. @since 0.1.0 */
export const deadlineOf = (step: CheckpointName): CheckpointName => CheckpointName.make(`$deadline:${step}`)

/** The checkpoint that says that the wait `step` timed out. @since 0.1.0 */
export const timeoutOf = (step: CheckpointName): CheckpointName => CheckpointName.make(`$timeout:${step}`)

/**
 * After how many seconds a run that waits for tasks looks at them again by itself: half the age of the oldest that has not
 * ended, within these limits. A wait in the run's own queue needs it only where other software ends tasks behind the store's
 * back.
 *
 * @since 0.1.0
 */
export const recheckAfter = {
  ownQueue: { minimum: 60, maximum: 3_600 },
  otherQueue: { minimum: 1, maximum: 30 }
} as const
