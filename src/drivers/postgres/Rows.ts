/**
 * Rows of the kernel, decoded.
 *
 * @since 0.1.0
 */
import { DateTime, Duration, Schema } from "effect"
import {
  Checkpoint,
  type Claimed,
  type Held,
  LimitArrival,
  LimitedRun,
  type Outcome,
  RunRow,
  type Spawned,
  StoredEvent,
  StoredLimit,
  TaskRow,
  WaitRow,
  WaitState
} from "../../core/Driver.ts"
import { CheckpointName, type ClaimToken, type RunId, type TaskId } from "../../core/Identifiers.ts"

/** A claimed run. JSON comes as text, so that SQL null and JSON null differ and no client's own parser matters. */
export interface ClaimedRow {
  readonly runId: RunId
  readonly taskId: TaskId
  readonly attempt: number
  readonly name: string
  readonly params: string
  readonly headers: string | null
  readonly retryStrategy: string | null
  readonly maxAttempts: number | null
  readonly wakeEvent: string | null
  readonly eventPayload: string | null
  /** An array of [name, state]. */
  readonly checkpoints: string | null
  readonly claimedAt: number
  readonly elapsed: number
  readonly waited: number
}

/** The row as a claim under `token`. */
export const claimed = (token: ClaimToken) => (row: ClaimedRow): Claimed => ({
  runId: row.runId,
  taskId: row.taskId,
  token,
  name: row.name,
  attempt: row.attempt,
  params: parse(row.params),
  headers: row.headers === null ? {} : headersOf(parse(row.headers)),
  retryStrategy: row.retryStrategy === null ? null : parse(row.retryStrategy),
  maxAttempts: row.maxAttempts,
  wakeEvent: row.wakeEvent,
  eventPayload: row.eventPayload === null ? undefined : parse(row.eventPayload),
  checkpoints: row.checkpoints === null ? [] : checkpointsOf(row.checkpoints),
  claimedAt: DateTime.makeUnsafe(row.claimedAt),
  elapsed: millis(row.elapsed),
  waited: millis(row.waited)
})

/** A stretch of time, to the microsecond that the store keeps: sums of floats would say a little more, or less. */
const millis = (value: number): Duration.Duration => Duration.millis(Math.max(0, Math.round(value * 1000) / 1000))

/** An item that an operation did not apply to, by its place counted from 1. */
export interface RefusedRow<O = Outcome> {
  readonly ord: number
  readonly outcome: O
}

/** The outcome of every item, given those that were refused. */
export const outcomes = <O extends string = never>(
  count: number,
  refused: ReadonlyArray<RefusedRow<Outcome | O>>
): ReadonlyArray<Outcome | O> => {
  const all: Array<Outcome | O> = Array.from({ length: count }, () => "applied")
  for (const row of refused) all[row.ord - 1] = row.outcome
  return all
}

/** A spawned or found task; `conflict` is the only row of a batch that was refused. */
export interface SpawnedRow extends Spawned {
  readonly conflict: string | null
}

/** The fields of an item that name a claim. */
export const heldItem = (held: Held) => ({ run: held.runId, token: held.token })

/** The number of seconds in a duration, or of an instant since 1970, in the words of the kernel. */
export const dueItem = (until: Duration.Duration | DateTime.Utc): { delay: number } | { at: number } =>
  DateTime.isDateTime(until) ? { at: until.epochMilliseconds / 1000 } : { delay: Duration.toSeconds(until) }

/** Parses JSON text of the store. */
export const parse = (text: string): Schema.Json => JSON.parse(text) as Schema.Json

const stored = <S extends Schema.Constraint>(schema: S) =>
  Schema.decodeUnknownEffect(Schema.Array(Schema.Struct({ row: Schema.fromJsonString(schema) })))

const instant = Schema.DateTimeUtcFromMillis
const optionalInstant = Schema.NullOr(instant)

/** @since 0.1.0 */
export const tasks = stored(TaskRow.mapFields((fields) => ({
  ...fields,
  enqueueAt: instant,
  firstStartedAt: optionalInstant,
  cancelledAt: optionalInstant
})))

/** @since 0.1.0 */
export const runs = stored(RunRow.mapFields((fields) => ({
  ...fields,
  claimExpiresAt: optionalInstant,
  availableAt: optionalInstant,
  startedAt: optionalInstant,
  completedAt: optionalInstant,
  failedAt: optionalInstant,
  createdAt: instant
})))

/** @since 0.1.0 */
export const waits = stored(
  WaitRow.mapFields((fields) => ({ ...fields, timeoutAt: optionalInstant, createdAt: instant }))
)

/** @since 0.1.0 */
export const checkpoints = stored(Checkpoint.mapFields((fields) => ({ ...fields, updatedAt: instant })))

/** @since 0.1.0 */
export const events = stored(StoredEvent.mapFields((fields) => ({ ...fields, emittedAt: instant })))

/** @since 0.1.0 */
export const limits = stored(StoredLimit)

/** @since 0.1.0 */
export const limitedRuns = stored(LimitedRun.mapFields((fields) => ({ ...fields, due: instant })))

/** @since 0.1.0 */
export const limitKeys = stored(LimitArrival.mapFields((fields) => ({ ...fields, arrival: instant })))

/** @since 0.1.0 */
export const suspensions = stored(Schema.Struct({
  outcome: Schema.Literals(["applied", "leaseLost", "cancelled", "notFound"]),
  suspended: Schema.Boolean,
  waits: Schema.Array(WaitState)
}))

/** @since 0.1.0 */
export const conflicts = stored(Schema.Struct({
  key: Schema.String,
  task: TaskRow.fields.taskId,
  differs: Schema.Literals(["name", "params"])
}))

// --- internal

const headersOf = (value: Schema.Json): Claimed["headers"] =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value as Claimed["headers"] : {}

const checkpointsOf = (text: string): Claimed["checkpoints"] =>
  (JSON.parse(text) as ReadonlyArray<readonly [string, Schema.Json]>).map(([name, state]) => ({
    // Stored names need not keep the rules for new ones.
    name: CheckpointName.make(name, { disableChecks: true }),
    state
  }))
