/**
 * Executes one claimed run: find its handler, run it, settle how it ended.
 *
 * @since 0.1.0
 */
import {
  Cause,
  Clock,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  Hash,
  Option,
  PubSub,
  References,
  type Schema,
  Scope,
  Tracer
} from "effect"
import type { Absurd } from "./Absurd.ts"
import * as Compensation from "./Compensation.ts"
import { CurrentRun, type Ending } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import type { DriverError, NotFound } from "./Errors.ts"
import { Execution, type Host } from "./Execution.ts"
import * as Failure from "./Failure.ts"
import * as Family from "./Family.ts"
import * as Guardian from "./Guardian.ts"
import type { Handler } from "./Handlers.ts"
import * as Hooks from "./Hooks.ts"
import type { QueueName, RunId, TaskId } from "./Identifiers.ts"
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
}

/**
 * Executes the runs of one worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Engine {
  /**
   * Executes a claimed run. When it is interrupted, the handler's finalizers run and the run is handed back: claimable at
   * once, and without having spent an attempt.
   */
  readonly execute: (claimed: Driver.Claimed, options: Options) => Effect.Effect<Result>
}

/**
 * An engine in the context of a worker: what its handlers have in common is made once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  absurd: Absurd["Service"],
  context: Context.Context<never>,
  { lease, stallAfter }: Pick<Host, "lease" | "stallAfter">
): Engine => {
  const { coalesced, driver, outage } = absurd
  const clock = Context.get(context, Clock.Clock)
  const worker: Worker = {
    ...absurd,
    host: { coalesced, driver, outage, lease, stallAfter, clock },
    settingOf: makeSettings(context)
  }
  return {
    execute: (claimed, options) =>
      Effect.suspend(() => {
        const handler = claimed.name === Compensation.guardian
          ? Guardian.handler(absurd, options.queue, claimed.name)
          : absurd.handlers.find(options.queue, claimed.name)
        return handler === undefined
          ? deferUnknown(worker, claimed, options)
          : runHandler(worker, handler, claimed, options)
      })
  }
}

// --- internal

/** The client of a worker, and what its executions have in common. */
interface Worker extends Pick<Absurd["Service"], "coalesced" | "driver" | "handlers" | "outage" | "outcomes"> {
  readonly host: Host
  readonly settingOf: (handler: Handler) => Setting
}

/** Where a handler is executed. */
interface Setting {
  readonly context: Context.Context<never>
  /** Annotations of logs of the handler's own services, if there are any. */
  readonly annotations: { readonly [key: string]: unknown } | undefined
  readonly execute: (params: Schema.Json, run: CurrentRun["Service"]) => ReturnType<Handler["execute"]>
}

/** The services of a handler are put into the worker's context once, not for each run. */
const makeSettings = (own: Context.Context<never>): Worker["settingOf"] => {
  const around = Context.get(own, Hooks.Execution)
  const known = new WeakMap<Handler, Setting>()
  const make = (handler: Handler): Setting => {
    // The code of hooks has the services of the worker, not those of the handler.
    if (around !== Hooks.Execution.defaultValue()) {
      return {
        context: Family.watching(own),
        annotations: undefined,
        execute: (params, run) => around(Effect.provideContext(handler.execute(params), handler.context), run)
      }
    }
    const context = Context.merge(own, handler.context)
    const annotations = Context.get(context, References.CurrentLogAnnotations)
    return {
      context: Family.watching(context),
      annotations: annotations === Context.get(own, References.CurrentLogAnnotations) ? undefined : annotations,
      execute: handler.execute
    }
  }
  return (handler) => {
    const setting = known.get(handler) ?? make(handler)
    known.set(handler, setting)
    return setting
  }
}

/** A worker of another version may know the task: it is put back, without an attempt, for 15 to 30 seconds. */
const deferUnknown = (absurd: Worker, claimed: Driver.Claimed, options: Options): Effect.Effect<Result> =>
  Effect.suspend(() =>
    absurd.handlers.missed(options.queue, claimed.name) === 1
      ? Effect.logWarning("No handler for this task in this program; putting its runs back")
      : Effect.void
  ).pipe(
    Effect.andThen(handBack(absurd, claimed, options, unknownDelay(claimed))),
    Effect.as({ _tag: "Deferred" } as const),
    (execution) => observed(absurd, claimed, options, execution),
    Effect.uninterruptible
  )

/** Within the region that cannot be interrupted, so each end is seen. */
const observed = (
  absurd: Worker,
  claimed: Driver.Claimed,
  options: Options,
  execution: Effect.Effect<Result>
): Effect.Effect<Result> =>
  Effect.tap(Telemetry.running(options.queue, claimed, execution), (result) =>
    PubSub.publish(absurd.outcomes, {
      queue: options.queue,
      task: claimed.name,
      taskId: claimed.taskId,
      runId: claimed.runId,
      attempt: claimed.attempt,
      result
    }))

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
    Effect.timeoutOption(absurd.host.lease),
    Effect.catch((error: DriverError | NotFound) => Effect.logWarning("Could not hand the run back", error)),
    Effect.asVoid
  )

const runHandler = (
  absurd: Worker,
  handler: Handler,
  claimed: Driver.Claimed,
  options: Options
): Effect.Effect<Result> =>
  Effect.uninterruptibleMask((restore) =>
    observed(
      absurd,
      claimed,
      options,
      Effect.withFiber((fiber) => {
        const execution = new Execution(absurd.host, options, claimed, fiber.context)
        const untrack = options.track(execution)
        const settled = Effect.flatMap(runToEnd(absurd.settingOf(handler), execution, fiber, restore), (end) => {
          options.vacate()
          // Interrupted from outside: the worker shuts down.
          if (end === undefined) return Effect.as(handBack(absurd, claimed, options, Duration.zero), deferred)
          // The work is done, and the store is told so even when the worker shuts down meanwhile.
          return settle(absurd, handler, execution, end, options)
        })
        return Effect.onExit(settled, () => {
          untrack()
          return execution.close
        })
      })
    )
  )

type End =
  | { readonly _tag: "Exited"; readonly exit: Exit.Exit<Schema.Json, unknown> }
  | Ending

const deferred: Result = { _tag: "Deferred" }

/**
 * Runs the handler until it exits or the run ends otherwise, or, then without an answer, until it is interrupted from outside;
 * its finalizers have run when this returns. To be called where it cannot be interrupted, with what restores that.
 */
const runToEnd = (
  setting: Setting,
  execution: Execution,
  parent: Fiber.Fiber<unknown, unknown>,
  restore: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<End | undefined> => {
  const fiber = Effect.runForkWith(setting.context)(handling(setting, execution, parent))
  const exit = fiber.pollUnsafe()
  // Many handlers do not wait for anything.
  if (exit !== undefined) return Effect.succeed(execution.ended ?? { _tag: "Exited", exit })
  const over = Effect.callback<void>((resume) => {
    const wake = () => resume(Effect.void)
    execution.onEnded = wake
    if (execution.ended !== undefined) wake()
    fiber.addObserver(wake)
  })
  return Effect.flatMap(Effect.exit(restore(over)), (waited) => {
    const exit = fiber.pollUnsafe()
    // Also when the worker shuts down: nothing of the handler may go on once the run is handed back.
    const stopped = exit === undefined ? Fiber.interrupt(fiber) : Effect.void
    return Effect.map(stopped, (): End | undefined => {
      if (Exit.isFailure(waited)) return undefined
      // Whatever the handler made of it, a run that has ended in the store has ended.
      return execution.ended ?? { _tag: "Exited", exit: exit ?? fiber.pollUnsafe()! }
    })
  })
}

/** The handler with all that is the run's own: its identity, its scope, its place in logs and traces. */
const handling = (
  { annotations, execute }: Setting,
  execution: Execution,
  parent: Fiber.Fiber<unknown, unknown>
): Effect.Effect<Schema.Json, unknown> =>
  Effect.withFiber((fiber) => {
    const { claimed, family, service } = execution
    const scope = Scope.makeUnsafe()
    family.root = fiber
    const logged = parent.getRef(References.CurrentLogAnnotations)
    const span = Context.getOption(parent.context, Tracer.ParentSpan)
    const handled = Effect.updateContext(
      // Suspended, because the program's code may throw here already.
      Effect.suspend(() => execute(claimed.params, service)),
      (context: Context.Context<never>) => {
        const own = context.pipe(
          Context.add(CurrentRun, service),
          Context.add(Scope.Scope, scope),
          Context.add(Family.Current, family),
          Context.add(
            References.CurrentLogAnnotations,
            annotations === undefined ? logged : { ...annotations, ...logged }
          )
        )
        return Option.isSome(span) ? Context.add(own, Tracer.ParentSpan, span.value) : own
      }
    )
    return Effect.onExit(handled, (exit) => Scope.close(scope, exit))
  })

const settle = (
  absurd: Worker,
  handler: Handler,
  execution: Execution,
  end: End,
  options: Options
): Effect.Effect<Result> => {
  switch (end._tag) {
    case "Exited":
      return Exit.match(end.exit, {
        onSuccess: (result) => complete(absurd, execution, result, options),
        onFailure: (cause) => fail(absurd, handler, execution, cause, options)
      })
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
const tell = <A extends { readonly outcome: Driver.Outcome }>(
  absurd: Worker,
  execution: Execution,
  options: Options,
  request: Effect.Effect<A, DriverError | NotFound>,
  onStored: (answer: A) => Result
): Effect.Effect<Result> => {
  const { queue } = options
  const { claimed } = execution
  const { runId, taskId, token } = claimed
  const readBack = () =>
    Effect.gen(function*() {
      const run = yield* absurd.outage.persist(absurd.driver.getRun({ queue, runId }))
      if (run?.claimedBy !== token) return { _tag: "Lost" } as const
      if (run.state === "completed") return { _tag: "Completed" } as const
      if (run.state !== "failed") return { _tag: "Lost" } as const
      const task = yield* absurd.outage.persist(absurd.driver.getTask({ queue, taskId }))
      return { _tag: "Failed", final: task?.state === "failed" } as const
    })
  execution.settling = true
  return absurd.outage.persist(request).pipe(
    Effect.flatMap((answer): Effect.Effect<Result, DriverError | NotFound> => {
      switch (answer.outcome) {
        case "applied":
          return Effect.succeed(onStored(answer))
        case "cancelled":
          return Effect.succeed({ _tag: "Cancelled" })
        default:
          return readBack()
      }
    }),
    Effect.catch((error) => refused(absurd, claimed, options, error))
  )
}

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
  const request = Effect.map(
    absurd.coalesced.complete(options.queue, { runId, token, result }),
    (outcome) => ({ outcome })
  )
  return tell(absurd, execution, options, request, () => ({ _tag: "Completed" }))
}

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
    const request = absurd.coalesced.fail(options.queue, { runId, token, reason: Failure.toJson(failure), retry })
    return tell(absurd, execution, options, request, ({ state }) => ({ _tag: "Failed", final: state === "failed" }))
  })
}
