/**
 * What a store tells of its rows: the shapes that reading operations return.
 *
 * @since 0.1.0
 */
import { Schema } from "effect"
import { CheckpointName, ClaimToken, RunId, State, TaskId } from "./Identifiers.ts"

/** @since 0.1.0 */
export const Headers = Schema.Record(Schema.String, Schema.Json)

/** @since 0.1.0 */
export const Checkpoint = Schema.Struct({
  taskId: TaskId,
  name: CheckpointName,
  /** JSON null for a stored SQL null. */
  state: Schema.Json,
  status: Schema.String,
  ownerRunId: Schema.NullOr(RunId),
  updatedAt: Schema.DateTimeUtc
})
/** @since 0.1.0 */
export type Checkpoint = typeof Checkpoint.Type

/** A claimed run with all that is needed to work on it. @since 0.1.0 */
export const Claimed = Schema.Struct({
  runId: RunId,
  taskId: TaskId,
  token: ClaimToken,
  name: Schema.String,
  attempt: Schema.Int,
  params: Schema.Json,
  headers: Headers,
  /** As stored, perhaps by a program in another language: to be decoded leniently. */
  retryStrategy: Schema.NullOr(Schema.Json),
  maxAttempts: Schema.NullOr(Schema.Int),
  /** The event whose wait timed out and thereby woke the run, else null. */
  wakeEvent: Schema.NullOr(Schema.String),
  /** The payload that woke the run; undefined when no event did. */
  eventPayload: Schema.UndefinedOr(Schema.Json),
  /** The task's committed checkpoints. */
  checkpoints: Schema.Array(Schema.Struct({ name: CheckpointName, state: Schema.Json })),
  /** The store's clock at this claim, to be compared with other instants of the store only. */
  claimedAt: Schema.DateTimeUtc,
  /** Time since the task was started first, by the store's clock. */
  elapsed: Schema.Duration,
  /** How long the run was due before this claim, by the store's clock. */
  waited: Schema.Duration
})
/** @since 0.1.0 */
export type Claimed = typeof Claimed.Type

/** @since 0.1.0 */
export const StoredEvent = Schema.Struct({
  name: Schema.String,
  payload: Schema.Json,
  emittedAt: Schema.DateTimeUtc
})
/** @since 0.1.0 */
export type StoredEvent = typeof StoredEvent.Type

const optionalInstant = Schema.NullOr(Schema.DateTimeUtc)

/** Everything that is stored of a task. @since 0.1.0 */
export const TaskRow = Schema.Struct({
  taskId: TaskId,
  name: Schema.String,
  params: Schema.Json,
  headers: Schema.NullOr(Schema.Json),
  retryStrategy: Schema.NullOr(Schema.Json),
  maxAttempts: Schema.NullOr(Schema.Int),
  cancellation: Schema.NullOr(Schema.Json),
  enqueueAt: Schema.DateTimeUtc,
  firstStartedAt: optionalInstant,
  state: State,
  attempts: Schema.Int,
  lastAttemptRun: Schema.NullOr(RunId),
  completedPayload: Schema.NullOr(Schema.Json),
  cancelledAt: optionalInstant,
  idempotencyKey: Schema.NullOr(Schema.String)
})
/** @since 0.1.0 */
export type TaskRow = typeof TaskRow.Type

/** Everything that is stored of a run. @since 0.1.0 */
export const RunRow = Schema.Struct({
  runId: RunId,
  taskId: TaskId,
  attempt: Schema.Int,
  state: State,
  claimedBy: Schema.NullOr(Schema.String),
  claimExpiresAt: optionalInstant,
  /** Null for a run that waits for an event without limit. */
  availableAt: optionalInstant,
  wakeEvent: Schema.NullOr(Schema.String),
  eventPayload: Schema.NullOr(Schema.Json),
  startedAt: optionalInstant,
  completedAt: optionalInstant,
  failedAt: optionalInstant,
  result: Schema.NullOr(Schema.Json),
  failureReason: Schema.NullOr(Schema.Json),
  createdAt: Schema.DateTimeUtc
})
/** @since 0.1.0 */
export type RunRow = typeof RunRow.Type

/** A registered wait of a sleeping run. @since 0.1.0 */
export const WaitRow = Schema.Struct({
  taskId: TaskId,
  runId: RunId,
  step: Schema.String,
  event: Schema.String,
  timeoutAt: optionalInstant,
  createdAt: Schema.DateTimeUtc
})
/** @since 0.1.0 */
export type WaitRow = typeof WaitRow.Type

/** The state of a task with its result (when completed) or the reason of its last failure (when failed). @since 0.1.0 */
export const TaskResult = Schema.Struct({
  taskId: TaskId,
  state: State,
  result: Schema.NullOr(Schema.Json),
  failure: Schema.NullOr(Schema.Json)
})
/** @since 0.1.0 */
export type TaskResult = typeof TaskResult.Type

/** How a queue's rows are kept: in plain tables, or partitioned by week. @since 0.1.0 */
export const StorageMode = Schema.Literals(["unpartitioned", "partitioned"])
/** @since 0.1.0 */
export type StorageMode = typeof StorageMode.Type

/** @since 0.1.0 */
export const QueuePolicy = Schema.Struct({
  storageMode: StorageMode,
  defaultPartition: Schema.Literals(["enabled", "disabled"]),
  partitionLookahead: Schema.Duration,
  partitionLookback: Schema.Duration,
  cleanupTtl: Schema.Duration,
  cleanupLimit: Schema.Int,
  detachMode: Schema.Literals(["none", "empty"]),
  detachMinAge: Schema.Duration
})
/** @since 0.1.0 */
export type QueuePolicy = typeof QueuePolicy.Type

/** The parts of a policy that can be changed; absent ones stay as they are. @since 0.1.0 */
export type QueuePolicyUpdate = {
  readonly [K in Exclude<keyof QueuePolicy, "storageMode">]?: QueuePolicy[K] | undefined
}
