/**
 * Stored rows for the outside: instants as dates, JSON as copies.
 *
 * @since 0.1.0
 */
import { DateTime, type Schema } from "effect"
import type { Checkpoint, Claimed, RunRow, StoredEvent, TaskRow, WaitRow } from "../../core/Driver.ts"
import type { ClaimToken } from "../../core/Identifiers.ts"
import * as Instants from "./Instants.ts"
import * as Json from "./Json.ts"
import type * as Tables from "./Tables.ts"

/** @since 0.1.0 */
export const task = (row: Tables.Task): TaskRow => ({
  taskId: row.taskId,
  name: row.name,
  params: Json.copy(row.params),
  headers: Json.copy(row.headers),
  retryStrategy: Json.copy(row.retryStrategy),
  maxAttempts: row.maxAttempts,
  cancellation: Json.copy(row.cancellation),
  enqueueAt: Instants.toDateTime(row.enqueueAt),
  firstStartedAt: Instants.toNullable(row.firstStartedAt),
  state: row.state,
  attempts: row.attempts,
  lastAttemptRun: row.lastAttemptRun,
  completedPayload: orNull(row.completedPayload),
  cancelledAt: Instants.toNullable(row.cancelledAt),
  idempotencyKey: row.idempotencyKey
})

/** @since 0.1.0 */
export const run = (row: Tables.Run): RunRow => ({
  runId: row.runId,
  taskId: row.taskId,
  attempt: row.attempt,
  state: row.state,
  claimedBy: row.claimedBy,
  claimExpiresAt: Instants.toNullable(row.claimExpiresAt),
  availableAt: Instants.toNullable(row.availableAt),
  wakeEvent: row.wakeEvent,
  eventPayload: orNull(row.eventPayload),
  startedAt: Instants.toNullable(row.startedAt),
  completedAt: Instants.toNullable(row.completedAt),
  failedAt: Instants.toNullable(row.failedAt),
  result: orNull(row.result),
  failureReason: orNull(row.failureReason),
  createdAt: Instants.toDateTime(row.createdAt)
})

/** @since 0.1.0 */
export const checkpoint = (row: Tables.Checkpoint): Checkpoint => ({
  taskId: row.taskId,
  name: row.name,
  state: Json.copy(row.state),
  status: "committed",
  ownerRunId: row.ownerRunId,
  updatedAt: Instants.toDateTime(row.updatedAt)
})

/** @since 0.1.0 */
export const event = (row: Tables.Event): StoredEvent => ({
  name: row.name,
  payload: Json.copy(row.payload),
  emittedAt: Instants.toDateTime(row.emittedAt)
})

/** @since 0.1.0 */
export const wait = (row: Tables.Wait): WaitRow => ({
  taskId: row.taskId,
  runId: row.runId,
  step: row.step,
  event: row.event,
  timeoutAt: Instants.toNullable(row.timeoutAt),
  createdAt: Instants.toDateTime(row.createdAt)
})

/**
 * A run that was claimed at `at` and had been due since `dueAt`.
 *
 * @since 0.1.0
 */
export const claimed = (
  tables: Tables.Tables,
  token: ClaimToken,
  run: Tables.Run,
  task: Tables.Task,
  at: number,
  dueAt: number
): Claimed => ({
  runId: run.runId,
  taskId: task.taskId,
  token,
  name: task.name,
  attempt: run.attempt,
  params: Json.copy(task.params),
  headers: task.headers === null ? {} : copyHeaders(task.headers),
  retryStrategy: Json.copy(task.retryStrategy),
  maxAttempts: task.maxAttempts,
  wakeEvent: run.wakeEvent,
  eventPayload: run.eventPayload === undefined ? undefined : Json.copy(run.eventPayload),
  checkpoints: tables.checkpointsOf(task.taskId).map(({ name, state }) => ({ name, state: Json.copy(state) })),
  claimedAt: DateTime.makeUnsafe(Math.floor(at)),
  elapsed: Instants.between(task.firstStartedAt ?? at, at),
  waited: Instants.between(dueAt, at)
})

// --- internal

const orNull = (value: Schema.Json | undefined): Schema.Json | null => value === undefined ? null : Json.copy(value)

const copyHeaders = (headers: Claimed["headers"]): Claimed["headers"] =>
  Object.fromEntries(Object.entries(headers).map(([key, value]) => [key, Json.copy(value)]))
