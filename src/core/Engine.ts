/**
 * Executes one claimed run: find its handler, run it, settle how it ended.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Context, Duration, Effect, Exit, Hash, PubSub, type Schema } from "effect"
import type { Absurd } from "./Absurd.ts"
import * as Compensation from "./Compensation.ts"
import type { Ending } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import type { DriverError, NotFound } from "./Errors.ts"
import { Execution, type Host } from "./Execution.ts"
import * as Failure from "./Failure.ts"
import * as Guardian from "./Guardian.ts"
import type { Handler } from "./Handlers.ts"
import type { QueueName, RunId, TaskId } from "./Identifiers.ts"
import * as Lease from "./Lease.ts"
import * as Setting from "./Setting.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * How an execution ended, as far as the store has acknowledged it.
 *
 * - `Completed`, `Failed` (with the task's state afterwards), `Suspended`: stored.
 * - `Lost`, `Cancelled`: nothing was stored.
 * - `Deferred`: handed back, because this program has no handler for the task or the store refused to work.
 *
 * @since 0.1.0
 * @category models
 */
export type Result =
  | { readonly _tag: "Completed" }
  | { readonly _tag: "Failed"; readonly final: boolean }
  | { readonly _tag: "Suspended" }
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Deferred" }

/**
 * An execution that has ended.
 *
 * @since 0.1.0
 * @category models
 */
export interface Outcome {
  readonly queue: QueueName
  /** The name of the task. */
  readonly task: string
  readonly taskId: TaskId
  readonly runId: RunId
  /** From 1. */
  readonly attempt: number
  readonly result: Result
}

/**
 * What one execution is part of.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly queue: QueueName
  /** When the run was claimed: the monotonic time, in milliseconds, before which the claim was not sent. */
  readonly claimedAt: number
  /** Told about each execution once its handler may run, and about its end. */
  readonly track: (execution: Execution) => () => void
  /** Told once the handler is over, before the store is. */
  readonly vacate: () => void
  /** Told at last how it ended; undefined when nobody knows, for the library has failed. */
  readonly onEnd: (result: Result | undefined) => void
}

/**
 * An execution that may be going on.
 *
 * @since 0.1.0
 * @category models
 */
export interface Running {
  /**
   * Interrupts the handler, if it is not over yet. Its finalizers run, and then the run is handed back: claimable at once, and
   * without having spent an attempt.
   */
  readonly interruptUnsafe: () => void
}

/**
 * Executes the runs of one worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Engine {
  /** Starts to execute a claimed run, at once up to its handler's first wait. */
  readonly start: (claimed: Driver.Claimed, options: Options) => Running
}

/**
 * An engine in the context of a worker.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  absurd: Absurd["Service"],
  context: Context.Context<never>,
  { lease, stallAfter }: { readonly lease: Duration.Duration; readonly stallAfter: Duration.Duration }
): Engine => {
  const { coalesced, driver, outage } = absurd
  const clock = Context.get(context, Clock.Clock)
  const { inTransaction } = driver
  const host: Host = { coalesced, driver, inTransaction, outage, stallAfter, clock, leaseOf: Lease.maker(clock, lease) }
  const worker: Worker = { ...absurd, host, lease }
  const settingOf = Setting.make(context)
  return {
    start: (claimed, options) => {
      const handler = claimed.name === Compensation.guardian
        ? Guardian.handler(absurd, options.queue, claimed.name)
        : absurd.handlers.find(options.queue, claimed.name)
      const onEnd = (exit: Exit.Exit<Result>) => {
        if (Exit.isSuccess(exit)) publish(worker, claimed, options, exit.value)
        options.onEnd(Exit.isSuccess(exit) ? exit.value : undefined)
      }
      return Telemetry.observing(options.queue, claimed, context, onEnd, (context, onEnd) =>
        handler === undefined
          ? deferUnknown(worker, claimed, options, context, onEnd)
          : begin(
            worker,
            handler,
            settingOf(handler),
            new Execution(worker.host, options, claimed, context),
            options,
            onEnd
          ))
    }
  }
}

// --- internal

/** The client of a worker, and what its executions have in common. */
interface Worker extends Pick<Absurd["Service"], "coalesced" | "driver" | "handlers" | "outage" | "outcomes"> {
  readonly host: Host
  readonly lease: Duration.Duration
}

const publish = ({ outcomes }: Worker, claimed: Driver.Claimed, { queue }: Options, result: Result) =>
  PubSub.publishUnsafe(outcomes, {
    queue,
    task: claimed.name,
    taskId: claimed.taskId,
    runId: claimed.runId,
    attempt: claimed.attempt,
    result
  })

/** What cannot be interrupted, beside all handlers. */
const conclude = (
  context: Context.Context<never>,
  ending: Effect.Effect<Result>,
  onEnd: (exit: Exit.Exit<Result>) => void
): void => {
  Effect.runForkWith(context)(ending, { uninterruptible: true }).addObserver(onEnd)
}

/** A worker of another version may know the task: it is put back, without an attempt, for 15 to 30 seconds. */
const deferUnknown = (
  absurd: Worker,
  claimed: Driver.Claimed,
  options: Options,
  context: Context.Context<never>,
  onEnd: (exit: Exit.Exit<Result>) => void
): Running => {
  const told = absurd.handlers.missed(options.queue, claimed.name) === 1
    ? Effect.logWarning("No handler for this task in this program; putting its runs back")
    : Effect.void
  conclude(
    context,
    Effect.andThen(told, Effect.as(handBack(absurd, claimed, options, unknownDelay(claimed)), deferred)),
    onEnd
  )
  return { interruptUnsafe: () => {} }
}

const unknownDelay = (claimed: Driver.Claimed) =>
  Duration.millis(15_000 + Math.abs(Hash.string(claimed.runId)) % 15_000)

/** What cannot be handed back while its lease holds comes back by itself. */
const handBack = (
  absurd: Worker,
  claimed: Driver.Claimed,
  options: Options,
  until: Duration.Duration
): Effect.Effect<void> =>
  absurd.outage.persist(
    absurd.coalesced.release(options.queue, { runId: claimed.runId, token: claimed.token, until })
  ).pipe(
    Effect.timeoutOption(absurd.lease),
    Effect.catch((error: DriverError | NotFound) => Effect.logWarning("Could not hand the run back", error)),
    Effect.asVoid
  )

type End =
  | { readonly _tag: "Exited"; readonly exit: Exit.Exit<Schema.Json, unknown> }
  | Ending

const deferred: Result = { _tag: "Deferred" }

/**
 * Runs the handler until it exits, or until it is interrupted because the run has ended otherwise or the worker shuts down; once
 * its finalizers have run, the store is told. While the handler runs there is no fiber but its own.
 */
const begin = (
  absurd: Worker,
  handler: Handler,
  setting: Setting.Setting,
  execution: Execution,
  options: Options,
  onEnd: (exit: Exit.Exit<Result>) => void
): Running => {
  const { claimed, context } = execution
  const untrack = options.track(execution)
  let over = false
  let stopped = false
  const fiber = setting.start(execution)
  execution.onEnded = () => {
    if (!stopped) fiber.interruptUnsafe()
  }
  if (execution.ended !== undefined) fiber.interruptUnsafe()
  fiber.addObserver((exit) => {
    over = true
    options.vacate()
    // Nothing of the handler may go on once the run is handed back, and by now nothing does.
    const ending = stopped
      ? Effect.as(handBack(absurd, claimed, options, Duration.zero), deferred)
      // Whatever the handler made of it, a run that has ended in the store has ended.
      : settle(absurd, handler, execution, execution.ended ?? { _tag: "Exited", exit }, options)
    // The work is done, and the store is told so even when the worker shuts down meanwhile.
    conclude(context, execution.closing(ending), (exit) => {
      untrack()
      onEnd(exit)
    })
  })
  return {
    interruptUnsafe: () => {
      if (over || execution.ended !== undefined) return
      stopped = true
      fiber.interruptUnsafe()
    }
  }
}

const settle = (
  absurd: Worker,
  handler: Handler,
  execution: Execution,
  end: End,
  options: Options
): Effect.Effect<Result> => {
  switch (end._tag) {
    case "Exited":
      return Exit.isSuccess(end.exit)
        ? complete(absurd, execution, end.exit.value, options)
        : fail(absurd, handler, execution, end.exit.cause, options)
    case "Faulted":
      return refused(absurd, execution.claimed, options, end.error)
    default:
      return Effect.succeed(end)
  }
}

/**
 * Tells the store how the run ended, until it answers. When an answer was lost, the repeated request finds that the run is
 * no longer running; then the run itself says whether it was this claim that ended it.
 */
const tell = <A>(
  absurd: Worker,
  execution: Execution,
  options: Options,
  request: () => Effect.Effect<A, DriverError | NotFound>,
  outcomeOf: (answer: A) => Driver.Outcome,
  onStored: (answer: A) => Result
): Effect.Effect<Result> => {
  execution.settling = true
  return absurd.outage.persistWith(request, {
    onFailure: (error) => refused(absurd, execution.claimed, options, error),
    onSuccess: (answer): Effect.Effect<Result> => {
      switch (outcomeOf(answer)) {
        case "applied":
          return Effect.succeed(onStored(answer))
        case "cancelled":
          return Effect.succeed({ _tag: "Cancelled" })
        default:
          return Effect.catch(
            readBack(absurd, execution, options),
            (error) => refused(absurd, execution.claimed, options, error)
          )
      }
    }
  })
}

const readBack = ({ driver, outage }: Worker, { claimed: { runId, taskId, token } }: Execution, { queue }: Options) =>
  Effect.gen(function*() {
    const run = yield* outage.persist(driver.getRun({ queue, runId }))
    if (run?.claimedBy !== token) return { _tag: "Lost" } as const
    if (run.state === "completed") return { _tag: "Completed" } as const
    if (run.state !== "failed") return { _tag: "Lost" } as const
    const task = yield* outage.persist(driver.getTask({ queue, taskId }))
    return { _tag: "Failed", final: task?.state === "failed" } as const
  })

/** The store works, but not for this run: another attempt of the task would meet the same. */
const refused = (absurd: Worker, claimed: Driver.Claimed, options: Options, error: DriverError | NotFound) =>
  Effect.logError("The store refused to work for this run; putting it back", error).pipe(
    Effect.andThen(handBack(absurd, claimed, options, unknownDelay(claimed))),
    Effect.as({ _tag: "Deferred" } as const)
  )

const complete = (
  absurd: Worker,
  execution: Execution,
  result: Schema.Json,
  options: Options
): Effect.Effect<Result> => {
  const { runId, token } = execution.claimed
  const request = () => absurd.coalesced.complete(options.queue, { runId, token, result })
  return tell(absurd, execution, options, request, (outcome) => outcome, () => completed)
}

const completed: Result = { _tag: "Completed" }

const fail = (
  absurd: Worker,
  handler: Handler,
  execution: Execution,
  cause: Cause.Cause<unknown>,
  options: Options
): Effect.Effect<Result> => {
  const { attempt, elapsed, runId, token } = execution.claimed
  const described = Effect.suspend(() => handler.onFailure({ cause, attempt, elapsed })).pipe(
    // The failure of the run is stored whatever becomes of its description.
    Effect.catchCause((defect) =>
      Effect.as(
        Effect.logError(
          "The failure of this run could not be described; storing it by the stored retry strategy",
          defect
        ),
        { failure: Failure.fromUnknown(Cause.squash(cause)), retry: { _tag: "Stored" } as const }
      )
    )
  )
  return Effect.flatMap(described, ({ failure, retry }) => {
    const request = () => absurd.coalesced.fail(options.queue, { runId, token, reason: Failure.toJson(failure), retry })
    return tell(
      absurd,
      execution,
      options,
      request,
      ({ outcome }) => outcome,
      ({ state }) => ({ _tag: "Failed", final: state === "failed" })
    )
  })
}
