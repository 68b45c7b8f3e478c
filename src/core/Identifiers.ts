/**
 * The names and ids of the glossary, as branded schemas.
 *
 * A branded value has been checked: whatever reaches a driver is one of these, so a driver never
 * meets an empty name, a NUL byte or a name that is too long for an index.
 *
 * @since 0.1.0
 */
import { Schema } from "effect"

const encoder = new TextEncoder()

/** The number of bytes `text` takes in UTF-8, which is what PostgreSQL's limits count. */
export const byteLength = (text: string): number => encoder.encode(text).length

const maxBytes = (limit: number) =>
  Schema.makeFilter<string>((text) =>
    // No UTF-16 code unit takes more than three bytes.
    text.length * 3 <= limit || byteLength(text) <= limit ? undefined : `must be at most ${limit} bytes long`
  )

const notBlank = Schema.makeFilter<string>((text) => text.trim() === "" ? "must not be empty or blank" : undefined)

// A lone surrogate would silently become U+FFFD in PostgreSQL's text, so two names could become one.
const storable = Schema.makeFilter<string>((text) =>
  text.includes("\u0000") || !text.isWellFormed() ? "must not contain a NUL character or a lone surrogate" : undefined
)

const name = (limit: number) => Schema.String.check(notBlank, storable, maxBytes(limit))

/**
 * The name of an existing queue, of at most 57 bytes.
 *
 * @since 0.1.0
 * @category queue
 */
export const QueueName = name(57).pipe(Schema.brand("effect-absurd/QueueName"))
/** @since 0.1.0 */
export type QueueName = typeof QueueName.Type

/**
 * The name of a queue that is about to be created.
 *
 * Stricter than {@link QueueName}: a letter or underscore first, then letters, digits, `_` or `-`, and no
 * ending that the tables, indexes or partitions of another queue could bear (`_d`, `_pkey`, `_sai`, `_ti`,
 * `_cei`, `_eni`, `_eai`, `_cdi`, `_fai`, `_iki`, or an underscore and three digits).
 *
 * @since 0.1.0
 * @category queue
 */
export const NewQueueName = QueueName.check(
  Schema.isPattern(/^[A-Za-z_][A-Za-z0-9_-]*$/, {
    message: "must start with a letter or underscore and continue with letters, digits, '_' or '-'"
  }),
  Schema.makeFilter<string>((text) =>
    /_(d|pkey|sai|ti|cei|eni|eai|cdi|fai|iki|[0-9]{3})$/.test(text)
      ? "must not end like a partition or an index of another queue (_d, _pkey, _ti, _123, ...)"
      : undefined
  )
)

/**
 * The name of a task: not blank, at most 256 bytes.
 *
 * @since 0.1.0
 * @category task
 */
export const TaskName = name(256).pipe(Schema.brand("effect-absurd/TaskName"))
/** @since 0.1.0 */
export type TaskName = typeof TaskName.Type

/**
 * The stored name of a checkpoint, of at most 700 bytes. Programs name steps by {@link StepName}; the library
 * adds numbers (`charge#2`) and uses names of its own, which start with `$`.
 *
 * @since 0.1.0
 * @category step
 */
export const CheckpointName = name(700).pipe(Schema.brand("effect-absurd/CheckpointName"))
/** @since 0.1.0 */
export type CheckpointName = typeof CheckpointName.Type

/**
 * The name a program gives to a step, sleep or wait: not blank, at most 512 bytes, neither starting with `$`
 * (the library's own names) nor ending with `#` and a number (repeated names are numbered by the library).
 *
 * @since 0.1.0
 * @category step
 */
export const StepName = name(512).check(
  Schema.makeFilter<string>((text) => text.startsWith("$") ? "must not start with '$', which is reserved" : undefined),
  Schema.makeFilter<string>((text) =>
    /#[0-9]+$/.test(text) ? "must not end with '#' and a number, which repeated steps get" : undefined
  )
).pipe(Schema.brand("effect-absurd/StepName"))
/** @since 0.1.0 */
export type StepName = typeof StepName.Type

/**
 * The name of an event: not blank, at most 512 bytes.
 *
 * @since 0.1.0
 * @category event
 */
export const EventName = name(512).pipe(Schema.brand("effect-absurd/EventName"))
/** @since 0.1.0 */
export type EventName = typeof EventName.Type

/**
 * The name of a mailbox: not blank, at most 200 bytes.
 *
 * @since 0.1.0
 * @category event
 */
export const MailboxName = name(200).pipe(Schema.brand("effect-absurd/MailboxName"))
/** @since 0.1.0 */
export type MailboxName = typeof MailboxName.Type

/**
 * A key under which at most one task exists in a queue: not blank, at most 512 bytes.
 *
 * @since 0.1.0
 * @category task
 */
export const IdempotencyKey = name(512).pipe(Schema.brand("effect-absurd/IdempotencyKey"))
/** @since 0.1.0 */
export type IdempotencyKey = typeof IdempotencyKey.Type

/**
 * The name a worker goes by in the store: not blank, at most 128 bytes.
 *
 * @since 0.1.0
 * @category worker
 */
export const WorkerId = name(128).pipe(Schema.brand("effect-absurd/WorkerId"))
/** @since 0.1.0 */
export type WorkerId = typeof WorkerId.Type

/**
 * The fencing token of one claim. Fresh for every claim; a write under a claim commits only while its run is
 * running and still carries this token.
 *
 * @since 0.1.0
 * @category worker
 */
export const ClaimToken = name(256).pipe(Schema.brand("effect-absurd/ClaimToken"))
/** @since 0.1.0 */
export type ClaimToken = typeof ClaimToken.Type

const uuid = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, {
    message: "must be a UUID in lower-case hexadecimal form"
  })
)

/**
 * The id of a task, a UUIDv7 in lower case.
 *
 * @since 0.1.0
 * @category task
 */
export const TaskId = uuid.pipe(Schema.brand("effect-absurd/TaskId"))
/** @since 0.1.0 */
export type TaskId = typeof TaskId.Type

/**
 * The id of a run (one attempt at a task), a UUIDv7 in lower case.
 *
 * @since 0.1.0
 * @category run
 */
export const RunId = uuid.pipe(Schema.brand("effect-absurd/RunId"))
/** @since 0.1.0 */
export type RunId = typeof RunId.Type

/**
 * The id of a workflow run: not blank, at most 256 bytes.
 *
 * @since 0.1.0
 * @category workflow run
 */
export const WorkflowRunId = name(256).pipe(Schema.brand("effect-absurd/WorkflowRunId"))
/** @since 0.1.0 */
export type WorkflowRunId = typeof WorkflowRunId.Type

/**
 * The name of a limit: not blank, at most 128 bytes.
 *
 * @since 0.1.0
 * @category limit
 */
export const LimitName = name(128).pipe(Schema.brand("effect-absurd/LimitName"))
/** @since 0.1.0 */
export type LimitName = typeof LimitName.Type

/**
 * What a limit counts apart, for example a tenant: at most 256 bytes. Empty for a limit without keys.
 *
 * @since 0.1.0
 * @category limit
 */
export const LimitKey = Schema.String.check(storable, maxBytes(256)).pipe(Schema.brand("effect-absurd/LimitKey"))
/** @since 0.1.0 */
export type LimitKey = typeof LimitKey.Type

const noDoubleUnderscore = Schema.makeFilter<string>((text) =>
  text.includes("__") ? "must not contain two underscores in a row" : undefined
)

/**
 * The name of a workflow: a lower-case letter, then lower-case letters, digits or single underscores; at most 256 bytes.
 *
 * @since 0.1.0
 * @category workflow run
 */
export const WorkflowName = name(256).check(
  Schema.isPattern(/^[a-z][a-z0-9_]*$/, {
    message: "must start with a lower-case letter and continue with lower-case letters, digits or '_'"
  }),
  noDoubleUnderscore
).pipe(Schema.brand("effect-absurd/WorkflowName"))
/** @since 0.1.0 */
export type WorkflowName = typeof WorkflowName.Type

/**
 * The version of a workflow: letters, digits, `.`, `-` or single underscores; at most 256 bytes.
 *
 * @since 0.1.0
 * @category workflow run
 */
export const WorkflowVersion = name(256).check(
  Schema.isPattern(/^[a-zA-Z0-9._-]+$/, { message: "must consist of letters, digits, '.', '_' or '-'" }),
  noDoubleUnderscore
).pipe(Schema.brand("effect-absurd/WorkflowVersion"))
/** @since 0.1.0 */
export type WorkflowVersion = typeof WorkflowVersion.Type

/**
 * A tag of a workflow run: not blank, at most 256 bytes.
 *
 * @since 0.1.0
 * @category workflow run
 */
export const Tag = name(256).pipe(Schema.brand("effect-absurd/Tag"))
/** @since 0.1.0 */
export type Tag = typeof Tag.Type

/**
 * The states of tasks and runs.
 *
 * @since 0.1.0
 * @category run
 */
export const State = Schema.Literals(["pending", "running", "sleeping", "completed", "failed", "cancelled"])
/** @since 0.1.0 */
export type State = typeof State.Type

/**
 * Whether a state is one that is never left by itself.
 *
 * @since 0.1.0
 * @category run
 */
export const isTerminal = (state: State): boolean =>
  state === "completed" || state === "failed" || state === "cancelled"
