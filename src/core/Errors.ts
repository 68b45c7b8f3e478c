/**
 * Everything that can go wrong, as typed errors.
 *
 * Outcomes of the domain have their own tags. Trouble with the infrastructure is one {@link DriverError} with a
 * tagged `reason`. What cannot happen is a defect.
 *
 * @since 0.1.0
 */
import { Schema, SchemaIssue } from "effect"
import { RunId, State, TaskId } from "./Identifiers.ts"

/**
 * The run has been put to sleep and will be claimed again later. Only the operations that a program drives by
 * itself fail with it; inside a task that a worker runs, suspension is interruption.
 *
 * @since 0.1.0
 * @category domain
 */
export class Sleep extends Schema.TaggedError<Sleep>()("Sleep", { runId: RunId }) {
  override get message(): string {
    return `Run ${this.runId} has been suspended; stop working on it, a later claim resumes it`
  }
}

/**
 * A wait ended before what it waited for. `subject` says what that was, for example `event "order.packed"`.
 *
 * @since 0.1.0
 * @category domain
 */
export class Timeout extends Schema.TaggedError<Timeout>()("Timeout", { subject: Schema.String }) {
  override get message(): string {
    return `Timed out waiting for ${this.subject}`
  }
}

/**
 * Nothing of that kind exists under that name or id.
 *
 * @since 0.1.0
 * @category domain
 */
export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", {
  kind: Schema.Literals(["queue", "task", "run", "checkpoint", "event", "workflow run", "schedule", "limit"]),
  id: Schema.String
}) {
  override get message(): string {
    const remedy = this.kind === "queue" ? `; create it with Absurd.createQueue` : ""
    return `The ${this.kind} "${this.id}" does not exist${remedy}`
  }
}

/**
 * The task was cancelled: the operation changed nothing, or what was waited for will never come.
 *
 * @since 0.1.0
 * @category domain
 */
export class Cancelled extends Schema.TaggedError<Cancelled>()("Cancelled", {
  taskId: Schema.optionalKey(TaskId),
  runId: Schema.optionalKey(RunId)
}) {
  override get message(): string {
    return `The task${this.taskId === undefined ? "" : ` ${this.taskId}`} has been cancelled`
  }
}

/**
 * The claim under which this was attempted no longer holds: its lease was taken over, handed back, or the run has
 * ended. Nothing was changed.
 *
 * @since 0.1.0
 * @category domain
 */
export class LeaseLost extends Schema.TaggedError<LeaseLost>()("LeaseLost", { runId: RunId }) {
  override get message(): string {
    return `The claim on run ${this.runId} no longer holds; nothing was written`
  }
}

/**
 * A task ended without a result and without a typed error of its own: a defect, an error that its schema does not
 * describe, or a lease that ran out too often. `failure` is what was stored, readable by every SDK.
 *
 * @since 0.1.0
 * @category domain
 */
export class TaskFailed extends Schema.TaggedError<TaskFailed>()("TaskFailed", {
  taskId: TaskId,
  failure: Schema.Json
}) {
  override get message(): string {
    const failure = this.failure
    const text = typeof failure === "object" && failure !== null && "message" in failure
      ? String(failure.message)
      : JSON.stringify(failure)
    return `Task ${this.taskId} failed: ${text}`
  }
}

/**
 * The idempotency key belongs to a task with another name or other params. Nothing was spawned.
 *
 * @since 0.1.0
 * @category domain
 */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>()("IdempotencyConflict", {
  key: Schema.String,
  taskId: TaskId,
  differs: Schema.Literals(["name", "params"])
}) {
  override get message(): string {
    return `The idempotency key "${this.key}" belongs to task ${this.taskId}, whose ${this.differs} differ; use another key`
  }
}

/**
 * The operation is not allowed in the state that its subject is in. Nothing was changed.
 *
 * @since 0.1.0
 * @category domain
 */
export class InvalidState extends Schema.TaggedError<InvalidState>()("InvalidState", {
  operation: Schema.String,
  id: Schema.String,
  state: Schema.Union([State, Schema.String]),
  expected: Schema.String
}) {
  override get message(): string {
    return `${this.operation}: "${this.id}" is ${this.state}, expected ${this.expected}`
  }
}

/**
 * A value was refused before anything was stored. `field` names it, `problem` says what is wrong with it and what
 * would be accepted.
 *
 * @since 0.1.0
 * @category domain
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  field: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `Invalid ${this.field}: ${this.problem}`
  }

  /** An `InvalidInput` for `field` out of a failed decode or encode. */
  static fromSchema(field: string, error: Schema.SchemaError): InvalidInput {
    return new InvalidInput({ field, problem: formatIssue(error.issue) })
  }
}

/**
 * A value was read from the store and does not fit the schema that the program has for it. `slot` says which value.
 *
 * @since 0.1.0
 * @category domain
 */
export class DecodeError extends Schema.TaggedError<DecodeError>()("DecodeError", {
  slot: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `The stored ${this.slot} does not fit its schema: ${this.problem}`
  }

  /** A `DecodeError` for `slot` out of a failed decode. */
  static fromSchema(slot: string, error: Schema.SchemaError): DecodeError {
    return new DecodeError({ slot, problem: formatIssue(error.issue) })
  }
}

/**
 * The task was used in a way that cannot be durable, for example one step name twice at the same time. `step` names the
 * step and `problem` the remedy. It ends the task at once, for another attempt would meet it again.
 *
 * @since 0.1.0
 * @category domain
 */
export class InvalidUse extends Schema.TaggedError<InvalidUse>()("InvalidUse", {
  step: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `Step "${this.step}": ${this.problem}`
  }
}

/**
 * The errors of this library that a handler may leave unhandled: they fail the run like any other error, and whoever waits
 * for the task sees them as `TaskFailed`.
 *
 * @since 0.1.0
 * @category domain
 */
export type Unhandled =
  | Timeout
  | NotFound
  | Cancelled
  | LeaseLost
  | TaskFailed
  | IdempotencyConflict
  | InvalidState
  | InvalidInput
  | DecodeError
  | DriverError

const cause = { cause: Schema.Defect() }

/**
 * The store cannot be reached, or is too busy. Trying again later may work.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", cause) {
  readonly isRetryable = true
}

/**
 * The store takes no writes: it is a standby, as after a failover, or somebody has made it read-only. Trying again later may
 * work, once the client is connected to the primary. Nothing was changed.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class ReadOnly extends Schema.TaggedError<ReadOnly>()("ReadOnly", cause) {
  readonly isRetryable = true
}

/**
 * The connection was lost after the request had been sent, so nobody knows whether it was carried out. Read before
 * repeating it.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class OutcomeUnknown extends Schema.TaggedError<OutcomeUnknown>()("OutcomeUnknown", cause) {
  readonly isRetryable = false
}

/**
 * The store refused the request, and would refuse it again.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class Rejected extends Schema.TaggedError<Rejected>()("Rejected", cause) {
  readonly isRetryable = false
}

/**
 * Transactions collided (a deadlock or a serialisation failure) and the caller's own transaction has to be repeated.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class Conflict extends Schema.TaggedError<Conflict>()("Conflict", cause) {
  readonly isRetryable = true
}

/**
 * The schema is missing, incomplete, or of a version that this library does not know. `remedy` is the command that
 * mends it.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class SchemaMismatch extends Schema.TaggedError<SchemaMismatch>()("SchemaMismatch", {
  problem: Schema.String,
  remedy: Schema.String
}) {
  readonly isRetryable = false
}

/**
 * The surrounding transaction is not READ COMMITTED, where a wake-up could be lost.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class UnsupportedIsolation extends Schema.TaggedError<UnsupportedIsolation>()("UnsupportedIsolation", {
  isolation: Schema.String
}) {
  readonly isRetryable = false
}

/**
 * The store's clock is not the server's but stands at `now`, because the setting `absurd.fake_now`, which is for tests, is
 * set. Leases would never end and nothing would become due.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class ClockTampered extends Schema.TaggedError<ClockTampered>()("ClockTampered", {
  now: Schema.String
}) {
  readonly isRetryable = false
}

/**
 * What can be the matter with the infrastructure.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export const DriverReason = Schema.Union([
  Unavailable,
  ReadOnly,
  OutcomeUnknown,
  Rejected,
  Conflict,
  SchemaMismatch,
  UnsupportedIsolation,
  ClockTampered
])

/**
 * The store did not do what `operation` asked for, and the reason lies in the infrastructure. Never the fault of a
 * task: it costs no attempt.
 *
 * @since 0.1.0
 * @category infrastructure
 */
export class DriverError extends Schema.TaggedError<DriverError>()("DriverError", {
  operation: Schema.String,
  reason: DriverReason
}) {
  /** Whether the same request may succeed later without anybody doing anything. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }

  override get message(): string {
    switch (this.reason._tag) {
      case "ReadOnly":
        return `${this.operation}: the store takes no writes (${
          describe(this.reason.cause)
        }). Connect to the primary, and ` +
          "reset default_transaction_read_only for the server, the database and the role"
      case "SchemaMismatch":
        return `${this.operation}: ${this.reason.problem}. ${this.reason.remedy}`
      case "UnsupportedIsolation":
        return `${this.operation}: the surrounding transaction is ${this.reason.isolation}; use READ COMMITTED`
      case "ClockTampered":
        return `${this.operation}: the setting absurd.fake_now makes the store's clock stand at ${this.reason.now}. ` +
          "Reset it for the session, the role and the database (ALTER ROLE ... RESET absurd.fake_now)"
      default:
        return `${this.operation}: ${this.reason._tag} (${describe(this.reason.cause)})`
    }
  }
}

// --- internal

const formatIssue = SchemaIssue.makeFormatterDefault()

const describe = (value: unknown): string => value instanceof Error ? value.message : String(value)
