/**
 * The part of the seam that is about workflow runs: a record of what belongs together, beside the queues. Tasks name their
 * workflow run in a header; nothing else connects the two.
 *
 * @since 0.1.0
 */
import { type DateTime, type Duration, type Effect, Schema } from "effect"
import type { DriverError, InvalidState, NotFound } from "./Errors.ts"
import { Tag, WorkflowName, WorkflowRunId, WorkflowVersion } from "./Identifiers.ts"

/** @since 0.1.0 */
export const WorkflowRunStatus = Schema.Literals(["pending", "running", "completed", "failed", "cancelled"])
/** @since 0.1.0 */
export type WorkflowRunStatus = typeof WorkflowRunStatus.Type

/** Whether a workflow run of this status has ended. @since 0.1.0 */
export const hasEnded = (status: WorkflowRunStatus): boolean => status !== "pending" && status !== "running"

/** What a workflow run is created with. `null` means absent. @since 0.1.0 */
export const NewWorkflowRun = Schema.Struct({
  id: WorkflowRunId,
  name: WorkflowName,
  version: WorkflowVersion,
  inputs: Schema.Json,
  createdBy: Schema.NullOr(Schema.String),
  hash: Schema.NullOr(Schema.String),
  tags: Schema.Array(Tag)
})
/** @since 0.1.0 */
export type NewWorkflowRun = typeof NewWorkflowRun.Type

const optionalInstant = Schema.NullOr(Schema.DateTimeUtc)

/** Everything that is stored of a workflow run. Instants are of whole milliseconds. @since 0.1.0 */
export const WorkflowRun = NewWorkflowRun.mapFields((fields) => ({
  ...fields,
  status: WorkflowRunStatus,
  result: Schema.Json,
  error: Schema.Json,
  taskCount: Schema.NullOr(Schema.Int),
  createdAt: Schema.DateTimeUtc,
  updatedAt: Schema.DateTimeUtc,
  startedAt: optionalInstant,
  /** When it ended; null while it has not. */
  completedAt: optionalInstant
}))
/** @since 0.1.0 */
export type WorkflowRun = typeof WorkflowRun.Type

/** A change of status. What is undefined stays as it is, except for the instants. @since 0.1.0 */
export interface WorkflowRunUpdate {
  readonly id: WorkflowRunId
  readonly status: WorkflowRunStatus
  readonly result: Schema.Json | undefined
  readonly error: Schema.Json | undefined
  readonly taskCount: number | undefined
  /** The store's present by default, when the status becomes `running` for the first time. */
  readonly startedAt: DateTime.Utc | undefined
  /** The store's present by default, when the run ends; forgotten when it goes on. Only for a status that is an end. */
  readonly completedAt: DateTime.Utc | undefined
}

/** Which workflow runs are asked for; `null` asks for nothing. @since 0.1.0 */
export interface WorkflowRunFilter {
  readonly name: WorkflowName | null
  readonly version: WorkflowVersion | null
  readonly status: WorkflowRunStatus | null
  /** The run has this one among its tags. */
  readonly tag: Tag | null
  /** Created then or later. */
  readonly createdFrom: DateTime.Utc | null
  /** Created earlier. */
  readonly createdBefore: DateTime.Utc | null
  /** Only those that come after this one in the list. */
  readonly after: { readonly createdAt: DateTime.Utc; readonly id: WorkflowRunId } | null
  readonly limit: number
}

/** What a store must do about workflow runs. @since 0.1.0 */
export interface WorkflowRunStore {
  /**
   * Stores a run as `pending`. When the id is taken: nothing happens if that run has the same name, version and inputs, so
   * that the request may be repeated; otherwise `InvalidState`.
   */
  readonly createWorkflowRun: (run: NewWorkflowRun) => Effect.Effect<void, DriverError | InvalidState>
  /** `InvalidState` when a run that is completed or cancelled would get another status. `NotFound` about the run. */
  readonly updateWorkflowRun: (
    update: WorkflowRunUpdate
  ) => Effect.Effect<void, DriverError | NotFound | InvalidState>
  readonly getWorkflowRun: (id: WorkflowRunId) => Effect.Effect<WorkflowRun | undefined, DriverError>
  /** The newest first, those of one millisecond by id, descending. */
  readonly listWorkflowRuns: (filter: WorkflowRunFilter) => Effect.Effect<ReadonlyArray<WorkflowRun>, DriverError>
  /** Deletes at most `limit` runs, oldest end first, that ended more than `ttl` ago; returns how many. */
  readonly cleanupWorkflowRuns: (request: {
    readonly ttl: Duration.Duration
    readonly limit: number
  }) => Effect.Effect<number, DriverError>
}
