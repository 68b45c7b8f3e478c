/**
 * The log of a task's compensations: which of them are to be run when the task does not complete, and in which order.
 *
 * An entry is a checkpoint of its own. What it holds beside its place tells how the task came there, so that the handler
 * can be brought there again: which steps had failed in that execution, for a failure that the handler deals with is not
 * stored otherwise, and what time it was.
 *
 * @since 0.1.0
 */
import { Cause, DateTime, Effect, Option, Predicate, Schema } from "effect"
import { Timeout } from "./Errors.ts"
import { CheckpointName, QueueName } from "./Identifiers.ts"
import * as Stored from "./Stored.ts"

/**
 * Tasks that one spawn has made, by their idempotency keys: the prefix, and a number from 0.
 *
 * @since 0.1.0
 * @category models
 */
export const Children = Schema.Struct({ queue: QueueName, keys: Schema.String, count: Schema.Int })
/** @since 0.1.0 */
export type Children = typeof Children.Type

/**
 * What an entry holds.
 *
 * @since 0.1.0
 * @category models
 */
export const Entry = Schema.Struct({
  /** From 1, in the order in which the steps were completed; 0 for a step that had only begun. */
  place: Schema.Int,
  /** The store's clock, as ISO text. */
  at: Schema.String,
  /** The failures that had happened in this execution, by the names of the steps. */
  failures: Schema.Record(Schema.String, Schema.Json),
  /** For spawned tasks: they are cancelled. */
  children: Schema.optionalKey(Children)
})
/** @since 0.1.0 */
export type Entry = typeof Entry.Type

/**
 * An entry with the name of its compensation.
 *
 * @since 0.1.0
 * @category models
 */
export interface Named extends Entry {
  readonly name: CheckpointName
}

/**
 * The log as one execution writes it.
 *
 * @since 0.1.0
 * @category models
 */
export interface SagaLog {
  /** Notes that a step has failed, unless it is a defect or an interruption. */
  readonly failed: (step: CheckpointName, cause: Cause.Cause<unknown>) => void
  readonly hasFailures: () => boolean
  /** An entry for a step that is complete. */
  readonly entry: (at: DateTime.Utc, children?: Children) => Effect.Effect<Schema.Json>
  /** An entry for a step that begins. */
  readonly begin: (at: DateTime.Utc) => Effect.Effect<Schema.Json>
}

/**
 * Goes on with the log that earlier executions have written.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  checkpoints: ReadonlyArray<{ readonly name: CheckpointName; readonly state: Schema.Json }>
): SagaLog => {
  const failures = new Map<CheckpointName, unknown>()
  let last: number | undefined
  const nextPlace = () => {
    last = (last ?? Math.max(0, ...read(checkpoints).map(({ place }) => place))) + 1
    return last
  }
  const write = (place: number, at: DateTime.Utc, children?: Children): Effect.Effect<Schema.Json> =>
    Effect.map(
      Effect.forEach([...failures], ([step, error]) => Effect.map(describe(error), (known) => [step, known] as const)),
      (known) => ({
        place,
        at: DateTime.formatIso(at),
        failures: Object.fromEntries(known),
        ...(children === undefined ? {} : { children: { ...children } })
      })
    )
  return {
    failed: (step, cause) => {
      const reason = cause.reasons.find(Cause.isFailReason)
      if (reason === undefined) return
      failures.delete(step)
      failures.set(step, reason.error)
      // A loop that fails without end does not fill the memory.
      if (failures.size > maxFailures) failures.delete(failures.keys().next().value!)
    },
    hasFailures: () => failures.size > 0,
    entry: (at, children) => Effect.suspend(() => write(nextPlace(), at, children)),
    begin: (at) => write(0, at)
  }
}

/**
 * What is put before the names of compensations.
 *
 * @since 0.1.0
 * @category models
 */
export const prefix = "$compensation:"

/**
 * The checkpoint that says that the step of a compensation has begun, which is all that is known of it if its end was not
 * stored.
 *
 * @since 0.1.0
 * @category combinators
 */
export const beginOf = (entry: CheckpointName): CheckpointName => CheckpointName.make(`${beginning}${entry}`)

/**
 * The entries among the checkpoints of a task, in their order. Those of steps that had only begun are the first.
 *
 * @since 0.1.0
 * @category destructors
 */
export const read = (
  checkpoints: ReadonlyArray<{ readonly name: string; readonly state: Schema.Json }>
): ReadonlyArray<Named> =>
  checkpoints.flatMap(({ name, state }) => {
    if (!name.includes(prefix)) return []
    const entry = decode(state)
    const own = name.startsWith(beginning) ? name.slice(beginning.length) : name
    return Option.isSome(entry) ? [{ ...entry.value, name: CheckpointName.make(own) }] : []
  }).sort((a, b) => a.place - b.place)

/**
 * An error as {@link Entry} keeps it: the same value when that is JSON, else an `Error` with the same name, tag, message and
 * fields.
 *
 * @since 0.1.0
 * @category destructors
 */
export const revive = (known: Schema.Json): unknown => {
  if (!isObject(known) || !isObject(known["fields"])) return isObject(known) ? known["value"] : known
  const { fields, message, name } = known
  if (fields["_tag"] === "Timeout" && typeof fields["subject"] === "string") {
    return new Timeout({ subject: fields["subject"] })
  }
  return Object.assign(new Error(String(message)), { name: String(name) }, fields)
}

// --- internal

const maxFailures = 100

const beginning = "$begun:"

const decode = Schema.decodeUnknownOption(Entry)

const isObject = (value: unknown): value is { readonly [key: string]: Schema.Json } => Predicate.isObject(value)

const describe = (error: unknown): Effect.Effect<Schema.Json> =>
  Effect.catch(
    Effect.map(Stored.normalize("error", error), (value): Schema.Json => ({ value })),
    () => {
      const own = Predicate.isObject(error) ? Object.entries(error) : []
      const fields = Effect.forEach(own, ([key, value]) =>
        Effect.match(Stored.normalize(key, value), {
          onSuccess: (stored) => value === undefined ? [] : [[key, stored] as const],
          onFailure: () => []
        }))
      const name = error instanceof Error ? error.name : "Error"
      const message = error instanceof Error ? error.message : String(error)
      return Effect.map(fields, (all): Schema.Json => ({
        name: Stored.storableText(name),
        message: Stored.storableText(message),
        fields: Object.fromEntries([
          ...(Predicate.hasProperty(error, "_tag") && typeof error._tag === "string" ? [["_tag", error._tag]] : []),
          ...all.flat()
        ])
      }))
    }
  )
