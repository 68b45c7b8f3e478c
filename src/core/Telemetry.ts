/**
 * What can be seen of tasks from outside: spans, metrics and annotations of logs. They carry names, ids and numbers, and
 * never what is stored: no params, headers, results, payloads, or messages of errors.
 *
 * The names, units and attributes are listed in `docs/telemetry.md`, and stay as they are.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Context, Duration, Effect, Exit, Metric, Option, References, Tracer } from "effect"
import type { CurrentRun } from "./CurrentRun.ts"
import { CurrentStep } from "./CurrentStep.ts"
import type * as Driver from "./Driver.ts"
import type { CheckpointName, QueueName } from "./Identifiers.ts"
import * as TraceContext from "./TraceContext.ts"

/**
 * The header that carries the span of a task's spawn, in the format of W3C Trace Context.
 *
 * @since 0.1.0
 * @category headers
 */
export const traceparentHeader = TraceContext.header

// --- metrics

/**
 * Executions that have ended, by `queue`, `task` and `outcome`.
 *
 * @since 0.1.0
 * @category metrics
 */
export const runs = Metric.counter("absurd_runs", { description: "Executions that have ended", incremental: true })

/**
 * How long executions took, in milliseconds, by `queue`, `task` and `outcome`.
 *
 * @since 0.1.0
 * @category metrics
 */
export const runDuration = Metric.timer("absurd_run_duration", { description: "How long executions took" })

/**
 * How long runs were due before they were claimed, in milliseconds, by `queue` and `task`.
 *
 * @since 0.1.0
 * @category metrics
 */
export const claimLatency = Metric.timer("absurd_claim_latency", {
  description: "How long runs were due before they were claimed"
})

/**
 * Executions that were given up because their claim did not hold any more, by `queue` and `task`.
 *
 * @since 0.1.0
 * @category metrics
 */
export const lostLeases = Metric.counter("absurd_lost_leases", {
  description: "Executions whose claim did not hold any more",
  incremental: true
})

/**
 * Steps that were executed, by `queue`, `task` and `outcome` (`success`, `failure`, `interrupted`). What an earlier
 * execution had stored is not counted.
 *
 * @since 0.1.0
 * @category metrics
 */
export const steps = Metric.counter("absurd_steps", { description: "Steps that were executed", incremental: true })

/**
 * How much one request to the store carries, by `operation`: what many fibers sent together, or what one sent as a set. Of a
 * claim it is how many runs it brought; those that bring none are not counted.
 *
 * @since 0.1.0
 * @category metrics
 */
export const batchSize = Metric.histogram("absurd_batch_size", {
  description: "How much one request to the store carries",
  boundaries: Metric.exponentialBoundaries({ start: 1, factor: 2, count: 12 })
})

/**
 * Runs of a queue, by `queue` and `state`: `due`, `later`, `running`. See `Telemetry.layerQueues`.
 *
 * @since 0.1.0
 * @category metrics
 */
export const queueDepth = Metric.gauge("absurd_queue_depth", { description: "Runs of a queue" })

/**
 * For how long the run of a queue that has waited longest is due, in milliseconds, by `queue`; 0 when none is. See
 * `Telemetry.layerQueues`.
 *
 * @since 0.1.0
 * @category metrics
 */
export const oldestDue = Metric.gauge("absurd_oldest_due", {
  description: "For how long the oldest due run has waited",
  attributes: { time_unit: "milliseconds" }
})

/**
 * What the outcome of an execution is called in attributes: its tag in lower case, but `retried` for a failure after which
 * the task is tried again.
 *
 * @since 0.1.0
 * @category combinators
 */
export const outcomeName = (result: { readonly _tag: string; readonly final?: boolean }): string =>
  result._tag === "Failed" && result.final === false ? "retried" : result._tag.toLowerCase()

// --- spans

/**
 * Runs an effect in a span that ends without what the effect returns or fails with: of an error it gets the tag or name.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withSpan = <A, E, R>(
  name: string,
  options: Tracer.SpanOptionsNoTrace,
  evaluate: (span: Tracer.Span) => Effect.Effect<A, E, R>,
  outline: (exit: Exit.Exit<A, E>) => Exit.Exit<unknown, unknown> = outlineOf
): Effect.Effect<A, E, R> =>
  Effect.useSpan(
    name,
    options,
    (span) =>
      (Effect.provideService(evaluate(span), Tracer.ParentSpan, span) as Effect.Effect<A, E, R>).pipe(
        Effect.onExit((exit) => Effect.map(Clock.currentTimeNanos, (now) => span.end(now, outline(exit))))
      )
  )

/**
 * Sends tasks to the store in the span `absurd.spawn`. Within a trace, each of them gets the span into its headers, unless
 * it has a `traceparent` already.
 *
 * @since 0.1.0
 * @category combinators
 */
export const spawning = <E, R>(
  queue: QueueName,
  tasks: ReadonlyArray<Driver.SpawnItem>,
  send: (
    tasks: ReadonlyArray<Driver.SpawnItem>,
    inject: (task: Driver.SpawnItem) => Driver.SpawnItem
  ) => Effect.Effect<ReadonlyArray<Driver.Spawned>, E, R>
): Effect.Effect<ReadonlyArray<Driver.Spawned>, E, R> =>
  Effect.flatMap(isTraced, (traced) =>
    withSpan("absurd.spawn", {
      kind: "producer",
      attributes: { "absurd.queue": queue, "absurd.task": tasks[0]?.name, "absurd.tasks": tasks.length }
    }, (span) =>
      Effect.tap(
        send(tasks, traced ? (task) => TraceContext.inject(task, span) : (task) => task),
        ([first, ...others]) =>
          Effect.sync(() => {
            if (first === undefined || others.length > 0) return
            span.attribute("absurd.task_id", first.taskId)
            span.attribute("absurd.run_id", first.runId)
            span.attribute("absurd.created", first.created)
          })
      )))

/**
 * Executes a claimed run in the span `absurd.run`: within the trace of its `traceparent`, else in a trace of its own. Logs
 * tell what they belong to, and metrics what came of it.
 *
 * @since 0.1.0
 * @category combinators
 */
export const running = <A extends Ended, E, R>(
  queue: QueueName,
  claimed: Driver.Claimed,
  execution: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber(({ context }) => {
    const count = counting(queue, claimed, context)
    const counted = Effect.map(
      isTracedRun(claimed, context) ? traced(queue, claimed, execution) : execution,
      (result) => {
        count(result)
        return result
      }
    )
    return Effect.annotateLogs(counted, annotationsOf(claimed))
  })

/**
 * The same for an execution that needs no fiber of its own: begins it in the context that it is given, which has its place in
 * logs and traces.
 *
 * @since 0.1.0
 * @category combinators
 */
export const observing = <A extends Ended, B>(
  queue: QueueName,
  claimed: Driver.Claimed,
  outer: Context.Context<never>,
  onEnd: (exit: Exit.Exit<A>) => void,
  begin: (context: Context.Context<never>, onEnd: (exit: Exit.Exit<A>) => void) => B
): B => {
  const count = counting(queue, claimed, outer)
  const around = Context.get(outer, References.CurrentLogAnnotations)
  const own = annotationsOf(claimed)
  const annotations = around === noAnnotations ? own : { ...around, ...own }
  const context = Context.add(outer, References.CurrentLogAnnotations, annotations)
  const counted = (exit: Exit.Exit<A>) => {
    if (Exit.isSuccess(exit)) count(exit.value)
    onEnd(exit)
  }
  if (!isTracedRun(claimed, context)) return begin(context, counted)
  let begun: { readonly value: B } | undefined
  const execution = Effect.contextWith((context: Context.Context<never>) =>
    Effect.callback<A>((resume) => {
      begun = { value: begin(context, resume) }
    })
  )
  const fiber = Effect.runForkWith(context)(traced(queue, claimed, execution), { uninterruptible: true })
  if (begun === undefined) {
    // A tracer that fails costs the trace, and not the run.
    return begin(context, counted)
  }
  fiber.addObserver(counted)
  return begun.value
}

/**
 * Runs a step in the span `absurd.step`, and counts it, unless it is `replayed`: what an earlier execution has stored. The
 * logs of its code tell its checkpoint, and the code may know it as the `current` step.
 *
 * @since 0.1.0
 * @category combinators
 */
export const stepping = <A, E, R>(
  run: CurrentRun["Service"],
  step: CheckpointName,
  replayed: boolean,
  effect: Effect.Effect<A, E, R>,
  current?: (typeof CurrentStep)["Service"]
): Effect.Effect<A, E, R> =>
  Effect.withFiber(({ context }) => {
    const annotated = Effect.updateContext(effect, (outer: Context.Context<R>) => {
      const inner = Context.add(outer, References.CurrentLogAnnotations, {
        ...Context.get(outer, References.CurrentLogAnnotations),
        step
      })
      return (current === undefined ? inner : Context.add(inner, CurrentStep, current)) as Context.Context<R>
    })
    const traced = isTracedIn(context)
      ? withSpan("absurd.step", {
        attributes: { ...identityOf(run), "absurd.step": step, "absurd.replayed": replayed }
      }, () => annotated)
      : annotated
    return replayed ? traced : Effect.onExitPrimitive(traced, (exit) => {
      const outcome = Exit.isSuccess(exit) ? "success" : Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failure"
      seriesOf(run.queue, run.task).stepped(outcome).updateUnsafe(1, context)
      return undefined
    })
  })

/**
 * Waits in a span: `absurd.sleep` for a timer, `absurd.wait` for events and tasks. A wait that the run is suspended for ends
 * interrupted; the execution that goes on has one of its own, with `absurd.replayed`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const waiting = <A, E, R>(
  run: CurrentRun["Service"],
  wait: Driver.Wait,
  evaluate: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  withSpan(wait._tag === "Timer" ? "absurd.sleep" : "absurd.wait", {
    attributes: {
      ...identityOf(run),
      "absurd.step": wait.step,
      "absurd.replayed": run.recall(wait.step) !== undefined,
      ...(wait._tag === "Event" ? { "absurd.event": wait.event } : {})
    }
  }, evaluate)

// --- internal

type Ended = { readonly _tag: string; readonly final?: boolean }

/** Counts an execution that begins, and returns what counts its end. */
const counting = (queue: QueueName, claimed: Driver.Claimed, context: Context.Context<never>) => {
  const series = seriesOf(queue, claimed.name)
  const clock = Context.get(context, Clock.Clock)
  const startedAt = clock.monotonicTimeNanosUnsafe()
  series.waited.updateUnsafe(claimed.waited, context)
  return (result: Ended): void => {
    const { duration, runs } = series.ended(outcomeName(result))
    runs.updateUnsafe(1, context)
    duration.updateUnsafe(Duration.nanos(clock.monotonicTimeNanosUnsafe() - startedAt), context)
    if (result._tag === "Lost") series.lost.updateUnsafe(1, context)
  }
}

const annotationsOf = ({ attempt, name, runId, taskId }: Driver.Claimed) => ({ task: name, taskId, runId, attempt })

const noAnnotations = Context.get(Context.empty(), References.CurrentLogAnnotations)

/** Whether there is a trace to go on with: the caller's span, or a tracer that records the spawn itself. */
const isTracedIn = (context: Context.Context<never>): boolean =>
  !Context.get(context, Tracer.DisablePropagation) &&
  (Option.isSome(Context.getOption(context, Tracer.ParentSpan)) ||
    Context.get(context, Tracer.Tracer) !== Tracer.nativeTracer)

const isTraced = Effect.withFiber(({ context }) => Effect.succeed(isTracedIn(context)))

const isTracedRun = ({ headers }: Driver.Claimed, context: Context.Context<never>): boolean =>
  isTracedIn(context) || headers?.[traceparentHeader] !== undefined

const traced = <A extends Ended, E, R>(
  queue: QueueName,
  claimed: Driver.Claimed,
  execution: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  withSpan(
    "absurd.run",
    {
      ...TraceContext.originOf(claimed),
      kind: "consumer",
      links: [TraceContext.taskLink(claimed)],
      attributes: attributesOf(queue, claimed)
    },
    (span) =>
      Effect.tap(execution, (result) => Effect.sync(() => span.attribute("absurd.outcome", outcomeName(result)))),
    (exit) => Exit.isSuccess(exit) && exit.value._tag === "Failed" ? Exit.fail("Failed") : outlineOf(exit)
  )

const attributesOf = (queue: QueueName, claimed: Driver.Claimed) =>
  identityOf({
    queue,
    task: claimed.name,
    taskId: claimed.taskId,
    runId: claimed.runId,
    attempt: claimed.attempt
  })

const identityOf = (run: Pick<CurrentRun["Service"], "queue" | "task" | "taskId" | "runId" | "attempt">) => ({
  "absurd.queue": run.queue,
  "absurd.task": run.task,
  "absurd.task_id": run.taskId,
  "absurd.run_id": run.runId,
  "absurd.attempt": run.attempt
})

/** The metrics of one task, with its labels. */
interface Series {
  readonly waited: Metric.Metric<Duration.Duration, unknown>
  readonly lost: Metric.Metric<number, unknown>
  readonly ended: (outcome: string) => {
    readonly runs: Metric.Metric<number, unknown>
    readonly duration: Metric.Metric<Duration.Duration, unknown>
  }
  readonly stepped: (outcome: string) => Metric.Metric<number, unknown>
}

/** Of the few names that outcomes have. */
const memoized = <A>(make: (outcome: string) => A): (outcome: string) => A => {
  const made = new Map<string, A>()
  return (outcome) => {
    const known = made.get(outcome) ?? make(outcome)
    made.set(outcome, known)
    return known
  }
}

// Labelling costs more than counting. Names come from whoever spawns, so no more than these are remembered.
const maxSeries = 1000
const allSeries = new Map<QueueName, Map<string, Series>>()
let known = 0

const seriesOf = (queue: QueueName, task: string): Series => {
  const ofQueue = allSeries.get(queue) ?? new Map<string, Series>()
  const before = ofQueue.get(task)
  if (before !== undefined) return before
  const labels = { queue, task }
  const series: Series = {
    waited: Metric.withAttributes(claimLatency, labels),
    lost: Metric.withAttributes(lostLeases, labels),
    ended: memoized((outcome) => ({
      runs: Metric.withAttributes(runs, { ...labels, outcome }),
      duration: Metric.withAttributes(runDuration, { ...labels, outcome })
    })),
    stepped: memoized((outcome) => Metric.withAttributes(steps, { ...labels, outcome }))
  }
  if (known < maxSeries) {
    known++
    allSeries.set(queue, ofQueue.set(task, series))
  }
  return series
}

const outlineOf = (exit: Exit.Exit<unknown, unknown>): Exit.Exit<unknown, unknown> => {
  if (Exit.isSuccess(exit)) return Exit.void
  return Cause.hasInterruptsOnly(exit.cause) ? Exit.interrupt() : Exit.fail(errorType(exit.cause))
}

/** What kind of error it is, but not what it says. */
const errorType = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (typeof error !== "object" || error === null) return "Error"
  const name = "_tag" in error ? error._tag : error instanceof Error ? error.constructor.name : undefined
  return typeof name === "string" && /^[\w./@-]{1,100}$/.test(name) ? name : "Error"
}
