/**
 * Claiming and driving runs by hand, for programs that orchestrate themselves. A worker does all of this.
 *
 * Every operation on a run carries the claim it was made under. When that claim no longer holds it changes nothing and
 * fails with `LeaseLost`; when the task was cancelled, with `Cancelled`. So a second completion is `LeaseLost`, never a
 * silent overwrite.
 *
 * @since 0.1.0
 */
import { Clock, DateTime, Duration, Effect, Predicate, Schema } from "effect"
import { SecureRandom } from "effect/crypto"
import { Absurd, resolveQueue } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import { Cancelled, type DriverError, type InvalidInput, LeaseLost, NotFound, Sleep, Timeout } from "./Errors.ts"
import { CheckpointName, ClaimToken, EventName, QueueName, RunId, StepName, WorkerId } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Stored from "./Stored.ts"

/**
 * A run under a claim, as far as the operations on it need to know it.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClaimedRun {
  readonly queue: QueueName
  readonly runId: RunId
  readonly token: ClaimToken
}

/**
 * A claimed run with everything that is needed to work on it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Claim extends Driver.Claimed {
  readonly queue: QueueName
}

/**
 * Why an operation on a claimed run changed nothing.
 *
 * @since 0.1.0
 * @category models
 */
export type ClaimError = LeaseLost | Cancelled | NotFound | DriverError

/**
 * Claims runs that are due, oldest first.
 *
 * @since 0.1.0
 * @category claiming
 */
export const claimTask = Effect.fn("Absurd.claimTask")(function*(options: {
  /** The client's own by default. */
  readonly queue?: string | undefined
  /** The client's own by default. */
  readonly workerId?: string | undefined
  /** How long the runs stay claimed without a sign of life, from 1 second to 24 hours; 30 seconds by default. */
  readonly claimTimeout?: Duration.Input | undefined
  /** How many runs at most, from 1 to 1,000; 1 by default. */
  readonly qty?: number | undefined
} = {}): Effect.fn.Return<ReadonlyArray<Claim>, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver, workerId } = yield* Absurd
  const queue = yield* resolveQueue(options.queue)
  const worker = options.workerId === undefined ? workerId : yield* checkWorkerId(options.workerId)
  const runs = yield* driver.claim({
    queue,
    token: ClaimToken.make(`${worker}:${SecureRandom.uuidV7Unsafe()}`),
    lease: yield* checkLease("claimTimeout", options.claimTimeout ?? "30 seconds"),
    limit: yield* Input.integer("qty", options.qty ?? 1, { minimum: 1, maximum: 1000 })
  })
  return runs.map((run) => ({ ...run, queue }))
})

/**
 * Completes a run, and with it the task.
 *
 * @since 0.1.0
 * @category claiming
 */
export const completeTask = Effect.fn("Absurd.completeTask")(function*(
  run: ClaimedRun,
  result?: Schema.Json
): Effect.fn.Return<void, InvalidInput | ClaimError, Absurd> {
  const { coalesced } = yield* Absurd
  const claim = yield* checkRun(run)
  const stored = yield* Stored.normalize("result", result ?? null)
  yield* expectApplied(claim, coalesced.complete(claim.queue, { ...held(claim), result: stored }))
})

/**
 * Fails a run. The task is tried again as its stored retry strategy says, or at `retryAt`, while it has attempts left. A
 * reason that is a text becomes `{ name, message, timestamp }`.
 *
 * @since 0.1.0
 * @category claiming
 */
export const failTask = Effect.fn("Absurd.failTask")(function*(
  run: ClaimedRun,
  reason: Schema.Json,
  options: { readonly retryAt?: DateTime.DateTime | undefined } = {}
): Effect.fn.Return<void, InvalidInput | ClaimError, Absurd> {
  const { coalesced } = yield* Absurd
  const claim = yield* checkRun(run)
  const timestamp = DateTime.formatIso(DateTime.makeUnsafe(yield* Clock.currentTimeMillis))
  const described = Predicate.isString(reason)
    ? { name: "Error", message: Stored.storableText(reason), timestamp }
    : reason
  const failed = coalesced.fail(claim.queue, {
    ...held(claim),
    reason: yield* Stored.normalize("reason", described),
    retry: options.retryAt === undefined
      ? { _tag: "Stored" }
      : { _tag: "At", instant: yield* Input.instant("retryAt", options.retryAt) }
  })
  yield* expectApplied(claim, Effect.map(failed, (_) => _.outcome))
})

/**
 * Renews the lease of a run: it then ends `duration` from now, but never earlier than before.
 *
 * @since 0.1.0
 * @category claiming
 */
export const extendClaim = Effect.fn("Absurd.extendClaim")(function*(
  run: ClaimedRun,
  duration: Duration.Input
): Effect.fn.Return<void, InvalidInput | ClaimError, Absurd> {
  const { coalesced } = yield* Absurd
  const claim = yield* checkRun(run)
  const lease = yield* checkLease("duration", duration)
  yield* expectApplied(claim, coalesced.extend(claim.queue, { ...held(claim), lease }))
})

/**
 * Puts a run to sleep until `instant`, in the years 1970 to 9999. It costs no attempt.
 *
 * @since 0.1.0
 * @category suspending
 */
export const scheduleTask = Effect.fn("Absurd.scheduleTask")(function*(
  run: ClaimedRun,
  instant: DateTime.DateTime
): Effect.fn.Return<void, InvalidInput | ClaimError, Absurd> {
  const { coalesced } = yield* Absurd
  const claim = yield* checkRun(run)
  const until = yield* Input.instant("instant", instant)
  yield* expectApplied(claim, coalesced.release(claim.queue, { ...held(claim), until }))
})

/**
 * Sleeps durably: the first call under a step name fixes the wake time, by the store's clock, and fails with `Sleep` once
 * the run has been put to sleep; a call in a later claim, after that time, returns.
 *
 * @since 0.1.0
 * @category suspending
 */
export const sleep = Effect.fn("Absurd.sleep")(function*(
  run: ClaimedRun,
  duration: Duration.Input,
  options: {
    /** The checkpoint that holds the wake time; `sleep` by default. */
    readonly step?: string | undefined
  } = {}
): Effect.fn.Return<void, InvalidInput | Sleep | ClaimError, Absurd> {
  const until = yield* Input.duration("duration", duration)
  yield* suspend(yield* checkRun(run), { _tag: "Timer", step: yield* checkStep(options.step ?? "sleep"), until })
})

/**
 * Stores a checkpoint of the run's task, and renews the lease when `extendClaimBy` is given. A committed checkpoint is never
 * changed: returns what is stored, which is older when there already was one.
 *
 * @since 0.1.0
 * @category checkpoints
 */
export const setCheckpoint = Effect.fn("Absurd.setCheckpoint")(function*(
  run: ClaimedRun,
  step: string,
  state: Schema.Json,
  options: { readonly extendClaimBy?: Duration.Input | undefined } = {}
): Effect.fn.Return<Schema.Json, InvalidInput | ClaimError, Absurd> {
  const { coalesced } = yield* Absurd
  const claim = yield* checkRun(run)
  const stored = yield* Stored.normalize("state", state)
  const answer = yield* coalesced.setCheckpoint(claim.queue, {
    ...held(claim),
    name: yield* checkStep(step),
    state: stored,
    extendBy: options.extendClaimBy === undefined ? null : yield* checkLease("extendClaimBy", options.extendClaimBy)
  })
  yield* expectApplied(claim, Effect.succeed(answer.outcome))
  return answer.existing === undefined ? stored : answer.existing
})

/**
 * The same as {@link setCheckpoint}: a claim knows its task.
 *
 * @since 0.1.0
 * @category checkpoints
 */
export const saveCheckpointForRun = setCheckpoint

/**
 * The raw wait for an event: registers it and puts the run to sleep, or returns what is known. `payload` is undefined when the
 * wait has timed out, and JSON null when the event was emitted with nothing.
 *
 * @since 0.1.0
 * @category suspending
 */
export const awaitEvent = Effect.fn("Absurd.awaitEvent")(function*(
  run: ClaimedRun,
  event: string,
  options: {
    /** The checkpoint that receives the payload; `$awaitEvent:` and the event's name by default. */
    readonly step?: string | undefined
    /** Rounded up to whole seconds; no limit by default. */
    readonly timeout?: Duration.Input | undefined
  } = {}
): Effect.fn.Return<
  { readonly shouldSuspend: boolean; readonly payload: Schema.Json | undefined },
  InvalidInput | ClaimError,
  Absurd
> {
  const { driver } = yield* Absurd
  const claim = yield* checkRun(run)
  const name = yield* checkEvent(event)
  const answer = yield* driver.suspend({
    ...held(claim),
    queue: claim.queue,
    waits: [{
      _tag: "Event",
      step: options.step === undefined ? CheckpointName.make(`$awaitEvent:${name}`) : yield* checkStep(options.step),
      event: name,
      timeout: options.timeout === undefined ? null : yield* wholeSeconds(options.timeout)
    }]
  })
  yield* expectApplied(claim, Effect.succeed(answer.outcome))
  const [state] = answer.waits
  return { shouldSuspend: answer.suspended, payload: state?._tag === "Emitted" ? state.payload : undefined }
})

/**
 * Waits for an event: returns its payload when it has been emitted; fails with `Sleep` once the run has been put to sleep
 * for it, and with `Timeout` when the wait has timed out, in this claim and in every later one.
 *
 * @since 0.1.0
 * @category suspending
 */
export const waitForEvent = Effect.fn("Absurd.waitForEvent")(function*(
  run: ClaimedRun,
  event: string,
  options: { readonly step?: string | undefined; readonly timeout?: Duration.Input | undefined } = {}
): Effect.fn.Return<Schema.Json, InvalidInput | Sleep | Timeout | ClaimError, Absurd> {
  const { payload, shouldSuspend } = yield* awaitEvent(run, event, options)
  if (shouldSuspend) return yield* new Sleep({ runId: run.runId })
  return payload === undefined ? yield* new Timeout({ subject: `event "${event}"` }) : payload
})

/**
 * Puts a run to sleep until an event is emitted. When it has been emitted already the run goes on, and false is returned.
 *
 * @since 0.1.0
 * @category suspending
 */
export const setRunSleeping = (
  run: ClaimedRun,
  event: string
): Effect.Effect<boolean, InvalidInput | ClaimError, Absurd> =>
  Effect.map(awaitEvent(run, event), (answer) => answer.shouldSuspend)

// --- internal

const checkWorkerId = Input.check("workerId", WorkerId)
// Other names are the library's own: whoever wrote them could make a wait time out.
const checkStepName = Input.check("step", StepName)
const checkStep = (step: string): Effect.Effect<CheckpointName, InvalidInput> =>
  Effect.map(checkStepName(step), (name) => CheckpointName.make(name))
const checkEvent = Input.check("event", EventName)

const checkLease = (field: string, lease: Duration.Input) =>
  Input.duration(field, lease, { minimum: "1 second", maximum: "24 hours" })

const wholeSeconds = (timeout: Duration.Input) =>
  Effect.map(Input.duration("timeout", timeout), (exact) => Duration.seconds(Math.ceil(Duration.toSeconds(exact))))

const checkRun = Input.check("run", Schema.Struct({ queue: QueueName, runId: RunId, token: ClaimToken }))

const held = ({ runId, token }: ClaimedRun): Driver.Held => ({ runId, token })

const expectApplied = (
  { runId }: ClaimedRun,
  request: Effect.Effect<Driver.Outcome, DriverError | NotFound>
): Effect.Effect<void, ClaimError> =>
  Effect.flatMap(request, (outcome): Effect.Effect<void, ClaimError> => {
    switch (outcome) {
      case "applied":
        return Effect.void
      case "leaseLost":
        return Effect.fail(new LeaseLost({ runId }))
      case "cancelled":
        return Effect.fail(new Cancelled({ runId }))
      case "notFound":
        return Effect.fail(new NotFound({ kind: "run", id: runId }))
    }
  })

const suspend = Effect.fnUntraced(function*(run: ClaimedRun, wait: Driver.Wait) {
  const { driver } = yield* Absurd
  const answer = yield* driver.suspend({ ...held(run), queue: run.queue, waits: [wait] })
  yield* expectApplied(run, Effect.succeed(answer.outcome))
  if (answer.suspended) return yield* new Sleep({ runId: run.runId })
})
