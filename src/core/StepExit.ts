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
export interface Codecs<A, E> {
  readonly success: Stored.Codec<A>
  readonly failure: Stored.Codec<E> | undefined
}

/**
 * How the end of one step is stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface StepExit<A, E> {
  /** Undefined for an end that is not stored. */
  readonly encode: (exit: Exit.Exit<A, E>) => Effect.Effect<Schema.Json | undefined>
  /** What this execution has stored. */
  readonly decode: (stored: Schema.Json) => Effect.Effect<A, E>
  /** What an earlier execution has stored, which may have been one of other code. */
  readonly recall: (stored: Schema.Json) => Effect.Effect<A, E>
}

/**
 * How the end of the step with this checkpoint is stored.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <A, E>(
  checkpoint: CheckpointName,
  { failure, success }: Codecs<A, E>
): StepExit<A, E | Timeout> => {
  const earlier = (): ExitCodec<A, E | Timeout> => {
    const result = Stored.recalled(success, `result of step "${checkpoint}"`)
    return failure === undefined
      ? onlySuccess(result)
      : either(checkpoint, result, Stored.recalled(failure, `error of step "${checkpoint}"`))
  }
  const own = failure === undefined ? onlySuccess<A, E | Timeout>(success) : either(checkpoint, success, failure)
  return { ...own, recall: (stored) => earlier().decode(stored) }
}

// --- internal

type ExitCodec<A, E> = Omit<StepExit<A, E>, "recall">

const onlySuccess = <A, E>(success: Stored.Codec<A>): ExitCodec<A, E> => ({
  encode: (exit) => Exit.isSuccess(exit) ? Effect.orDie(success.encode(exit.value)) : Effect.undefined,
  decode: (stored) => Effect.orDie(success.decode(stored))
})

const StoredExit = Schema.Union([
  Schema.TaggedStruct("Success", { value: Schema.Json }),
  Schema.TaggedStruct("Failure", { error: Schema.Json })
])
const decodeExit = Schema.decodeUnknownEffect(StoredExit)

const either = <A, E>(
  checkpoint: CheckpointName,
  success: Stored.Codec<A>,
  failure: Stored.Codec<E>
): ExitCodec<A, E | Timeout> => ({
  encode: (exit) => {
    if (Exit.isSuccess(exit)) {
      return Effect.orDie(Effect.map(success.encode(exit.value), (value) => ({ _tag: "Success", value })))
    }
    // What is a defect as well is not an outcome of the step.
    const [reason, ...others] = exit.cause.reasons
    if (reason === undefined || !Cause.isFailReason(reason) || others.length > 0) return Effect.undefined
    // A time limit that the schema does not describe is no outcome either.
    return reason.error instanceof Timeout
      ? Effect.match(failure.encode(reason.error as E), { onSuccess: storedFailure, onFailure: () => undefined })
      : Effect.orDie(Effect.map(failure.encode(reason.error), storedFailure))
  },
  decode: (stored) =>
    Effect.flatMap(
      Effect.catch(decodeExit(stored), () => noOutcome(checkpoint)),
      (exit) =>
        exit._tag === "Success"
          ? Effect.orDie(success.decode(exit.value))
          : Effect.flatMap(Effect.orDie(failure.decode(exit.error)), Effect.fail)
    )
})

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
