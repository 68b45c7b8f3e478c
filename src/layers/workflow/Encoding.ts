/**
 * How payloads, exits and results are stored.
 *
 * Effect's engine contract has three conventions for exits, and each of them has its codec here: those of workflows are
 * typed; those of activities hold encoded values, but defects as they were thrown; those of deferreds are encoded
 * altogether.
 */
import { Cause, Effect, Exit, Schema } from "effect"
import { type Activity, Workflow } from "effect/workflow"
import type { TaskResult } from "../../core/Driver.ts"
import { DecodeError, InvalidInput, TaskFailed } from "../../core/Errors.ts"
import * as Stored from "../../core/Stored.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** What a workflow's task is completed with. */
export const Outcome = Schema.Struct({
  /**
   * How the execution ended. The task of a failed execution is completed as well, since it must not be tried again; this
   * tells those who look at the store. `defect` is a defect of a workflow that does not capture defects.
   */
  outcome: Schema.Literals(["succeeded", "failed", "interrupted", "defect"]),
  exit: Schema.Json
})
export type Outcome = typeof Outcome.Type

// --- payloads

/** Dies when the payload does not fit its schema or cannot be stored. */
export const encodePayload = (workflow: Workflow.Any, payload: object): Effect.Effect<Schema.Json> =>
  provided(codecsOf(workflow).encodePayload(payload)).pipe(
    Effect.flatMap((encoded) => Stored.normalize("payload", encoded)),
    Effect.orDie
  )

export const decodePayload = (
  workflow: Workflow.Any,
  stored: Schema.Json
): Effect.Effect<object, DecodeError> =>
  provided(codecsOf(workflow).decodePayload(stored)).pipe(
    Effect.mapError((error) => DecodeError.fromSchema("payload", error)),
    Effect.map((payload) => payload as object)
  )

// --- exits of activities and deferreds

/** A codec for exits whose values are encoded already. What cannot be stored is stored as a defect that says so. */
interface ExitCodec {
  readonly encode: (exit: AnyExit) => Effect.Effect<Schema.Json>
  readonly decode: (stored: Schema.Json) => Effect.Effect<AnyExit>
}

const exitCodec = (defect: Schema.Codec<unknown, unknown>): ExitCodec => {
  const codec = Schema.toCodecJson(Schema.Exit(Schema.Json, Schema.Json, defect))
  const encode = Schema.encodeUnknownEffect(codec)
  const decode = Schema.decodeUnknownEffect(codec)
  const store = (exit: AnyExit) =>
    Effect.flatMap(
      Effect.mapError(encode(toJson(exit)), (error) => InvalidInput.fromSchema("exit", error)),
      (encoded) => Stored.normalize("exit", encoded)
    )
  return {
    encode: (exit) => Effect.catch(store(exit), (error) => Effect.orDie(store(Exit.die(error.message)))),
    decode: (stored) => Effect.orDie(decode(stored))
  }
}

/** Undefined is what a void value is encoded to, and is no JSON. */
const toJson = (exit: AnyExit): AnyExit =>
  Exit.mapBoth(exit, { onSuccess: (value) => value ?? null, onFailure: (error) => error ?? null })

export const activityExit: ExitCodec = exitCodec(Schema.Defect())
export const deferredExit: ExitCodec = exitCodec(Schema.Json)

/** The typed exit of an activity. */
export const decodeActivity = <S extends Schema.Constraint, E extends Schema.Constraint, R>(
  activity: Activity.Activity<S, E, R>,
  exit: AnyExit
): Effect.Effect<Exit.Exit<S["Type"], E["Type"]>, never, S["DecodingServices"] | E["DecodingServices"]> =>
  Effect.orDie(decoderOf(activity)(exit)) as Effect.Effect<
    Exit.Exit<S["Type"], E["Type"]>,
    never,
    S["DecodingServices"] | E["DecodingServices"]
  >

type Decoder = (exit: unknown) => Effect.Effect<unknown, unknown, unknown>

const decoders = new WeakMap<Schema.Constraint, WeakMap<Schema.Constraint, Decoder>>()

/** Made once for the two schemas: activities are mostly made where they are executed, each time, but their schemas are not. */
const decoderOf = <S extends Schema.Constraint, E extends Schema.Constraint, R>(
  { errorSchema, exitSchemaPartial, successSchema }: Activity.Activity<S, E, R>
): Decoder => {
  const ofSuccess = decoders.get(successSchema) ?? new WeakMap<Schema.Constraint, Decoder>()
  decoders.set(successSchema, ofSuccess)
  const known = ofSuccess.get(errorSchema)
  if (known !== undefined) return known
  const made: Decoder = Schema.decodeUnknownEffect(exitSchemaPartial)
  ofSuccess.set(errorSchema, made)
  return made
}

// --- results of executions

/** An exit that does not fit the workflow's schemas, or cannot be stored, is stored as a defect that says so. */
export const encodeOutcome = (
  workflow: Workflow.Any,
  exit: AnyExit,
  options: { readonly captured: boolean }
): Effect.Effect<Outcome> => {
  const encode = codecsOf(workflow).encodeResult
  const store = (exit: AnyExit) =>
    Effect.flatMap(
      Effect.mapError(provided(encode(exit)), (error) => InvalidInput.fromSchema("result", error)),
      (encoded) =>
        Effect.map(
          Stored.normalize("result", encoded),
          (normal): Outcome => ({ outcome: outcomeOf(exit, options.captured), exit: normal })
        )
    )
  return Effect.catch(store(exit), (error) => Effect.orDie(store(Exit.die(error.message))))
}

/** The result of a task that has ended. */
export const decodeResult = (
  workflow: Workflow.Any,
  result: Pick<TaskResult, "taskId" | "state" | "result" | "failure">
): Effect.Effect<Workflow.Complete<unknown, unknown>> => {
  switch (result.state) {
    case "completed":
      return decodeOutcome(workflow, result.result)
    case "cancelled":
      return Effect.succeed(new Workflow.Complete({ exit: Exit.interrupt() }))
    default:
      return Effect.succeed(
        new Workflow.Complete({ exit: Exit.die(new TaskFailed({ taskId: result.taskId, failure: result.failure })) })
      )
  }
}

/** Dies with the defect of a workflow that does not capture its defects. */
export const decodeOutcome = (
  workflow: Workflow.Any,
  stored: Schema.Json
): Effect.Effect<Workflow.Complete<unknown, unknown>> =>
  Effect.gen(function*() {
    const { exit, outcome } = yield* decodeStored(stored)
    const decoded: AnyExit = yield* provided(codecsOf(workflow).decodeResult(exit))
    if (outcome === "defect" && Exit.isFailure(decoded)) {
      return yield* Effect.die(Cause.squash(decoded.cause))
    }
    return new Workflow.Complete({ exit: decoded })
  }).pipe(Effect.orDie)

// --- failures of suspended executions

const Failure = Schema.toCodecJson(Schema.Struct({
  cause: Schema.NullOr(Schema.Cause(Schema.Never, Schema.Defect())),
  failed: Schema.Boolean
}))

/** What is stored of a suspension. */
export const encodeSuspended = (suspended: Workflow.Suspended): Effect.Effect<Schema.Json> =>
  Schema.encodeUnknownEffect(Failure)({ cause: suspended.cause ?? null, failed: suspended.failed ?? false }).pipe(
    Effect.flatMap((encoded) => Stored.normalize("cause", encoded)),
    Effect.catch(() => Effect.succeed({ cause: null, failed: suspended.failed ?? false })),
    Effect.map((encoded): Schema.Json => encoded)
  )

export const decodeSuspended = (stored: Schema.Json): Effect.Effect<Workflow.Suspended> =>
  Effect.map(Effect.orDie(Schema.decodeUnknownEffect(Failure)(stored)), ({ cause, failed }) =>
    new Workflow.Suspended({
      ...(cause === null ? {} : { cause }),
      ...(failed ? { failed } : {})
    }))

// --- internal

const decodeStored = Schema.decodeUnknownEffect(Outcome)

const makeCodecs = ({ errorSchema, payloadSchema, successSchema }: Workflow.AnyWithProps) => {
  const payload = Schema.toCodecJson(payloadSchema)
  const result = Schema.toCodecJson(Schema.Exit(successSchema, errorSchema, Schema.Defect()))
  return {
    encodePayload: Schema.encodeUnknownEffect(payload),
    decodePayload: Schema.decodeUnknownEffect(payload),
    encodeResult: Schema.encodeUnknownEffect(result),
    decodeResult: Schema.decodeUnknownEffect(result)
  }
}

const codecs = new WeakMap<Workflow.Any, ReturnType<typeof makeCodecs>>()

/** Made once per definition: a schema that is made anew is compiled anew. */
const codecsOf = (workflow: Workflow.Any): ReturnType<typeof makeCodecs> => {
  const known = codecs.get(workflow)
  if (known !== undefined) return known
  const made = makeCodecs(workflow as Workflow.AnyWithProps)
  codecs.set(workflow, made)
  return made
}

const outcomeOf = (exit: AnyExit, captured: boolean): Outcome["outcome"] => {
  if (Exit.isSuccess(exit)) return "succeeded"
  if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
  return captured || !Cause.hasDies(exit.cause) ? "failed" : "defect"
}

/**
 * The services that a workflow's schemas need are in the context of every caller: the types of the engine ask for them,
 * only its encoded contract does not repeat them.
 */
const provided = <A, E>(effect: Effect.Effect<A, E, unknown>): Effect.Effect<A, E> => effect as Effect.Effect<A, E>
