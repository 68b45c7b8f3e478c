/**
 * How the end of a step is stored, and what becomes of it in later executions.
 *
 * @since 0.1.0
 */
import { Cause, Effect, Exit, Schema } from "effect"
import { InvalidUse, Timeout } from "./Errors.ts"
import type { CheckpointName } from "./Identifiers.ts"
import * as Stored from "./Stored.ts"

/**
 * The codecs of a step's outcomes. Without one for failures, they are not stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codecs<A, E> extends Readers<A, E> {
  readonly success: Stored.EagerCodec<A>
  readonly failure: Stored.EagerCodec<E> | undefined
}

/**
 * The same, as far as reading needs them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Readers<A, E> {
  readonly success: Stored.Codec<A>
  readonly failure: Stored.Codec<E> | undefined
}

/**
 * How the end of a step is stored, within the limits; undefined for an end that is not stored. An `Exit`, unless a schema has
 * to wait for something.
 *
 * @since 0.1.0
 * @category combinators
 */
export const encode = <A, E>(
  { failure, success }: Codecs<A, E>,
  limits: Stored.Limits,
  exit: Exit.Exit<A, E | Timeout>
): Effect.Effect<Schema.Json | undefined> => {
  if (Exit.isSuccess(exit)) {
    const value = Effect.catchEager(success.encodeWithin(limits, exit.value), Effect.die)
    return failure === undefined ? value : Effect.mapEager(value, (value) => ({ _tag: "Success", value }))
  }
  // What is a defect as well is not an outcome of the step.
  const [reason, ...others] = exit.cause.reasons
  if (failure === undefined || reason === undefined || !Cause.isFailReason(reason) || others.length > 0) {
    return Effect.undefined
  }
  // A time limit that the schema does not describe is no outcome either.
  return reason.error instanceof Timeout
    ? Effect.match(failure.encodeWithin(limits, reason.error as E), {
      onSuccess: storedFailure,
      onFailure: () => undefined
    })
    : Effect.orDie(Effect.map(failure.encodeWithin(limits, reason.error), storedFailure))
}

/**
 * The end of the step `checkpoint` that this execution has stored.
 *
 * @since 0.1.0
 * @category combinators
 */
export const decode = <A, E>(
  { failure, success }: Readers<A, E>,
  checkpoint: CheckpointName,
  stored: Schema.Json
): Effect.Effect<A, E> =>
  failure === undefined
    ? Effect.catchEager(success.decode(stored), Effect.die)
    : Effect.flatMap(
      Effect.catch(decodeExit(stored), () => noOutcome(checkpoint)),
      (exit) =>
        exit._tag === "Success"
          ? Effect.orDie(success.decode(exit.value))
          : Effect.flatMap(Effect.orDie(failure.decode(exit.error)), Effect.fail)
    )

/**
 * The end of the step `checkpoint` that an earlier execution has stored, which may have been one of other code.
 *
 * @since 0.1.0
 * @category combinators
 */
export const recall = <A, E>(
  { failure, success }: Readers<A, E>,
  checkpoint: CheckpointName,
  stored: Schema.Json
): Effect.Effect<A, E> =>
  decode(
    {
      success: Stored.recalled(success, `result of step "${checkpoint}"`),
      failure: failure === undefined ? undefined : Stored.recalled(failure, `error of step "${checkpoint}"`)
    },
    checkpoint,
    stored
  )

// --- internal

const StoredExit = Schema.Union([
  Schema.TaggedStruct("Success", { value: Schema.Json }),
  Schema.TaggedStruct("Failure", { error: Schema.Json })
])
const decodeExit = Schema.decodeUnknownEffect(StoredExit)

const storedFailure = (error: Schema.Json): Schema.Json => ({ _tag: "Failure", error })

const noOutcome = (step: CheckpointName) =>
  Effect.die(
    new InvalidUse({
      step,
      problem:
        "an earlier execution of this task stored it without an error schema, or as something that is no step; " +
        "keep that code for tasks that have begun, or give the new code another name"
    })
  )
