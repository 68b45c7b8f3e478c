/**
 * Executing the handler of a task that has ended, to the end of what is stored of it, to find its compensations again.
 *
 * @since 0.1.0
 */
import { Context, DateTime, Deferred, Duration, Effect, Fiber, Metric } from "effect"
import type { Absurd } from "./Absurd.ts"
import * as CurrentRun from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import { type DriverError, InvalidState, type NotFound } from "./Errors.ts"
import * as Family from "./Family.ts"
import type { Handler } from "./Handlers.ts"
import { CheckpointName, EventName, type QueueName, RunId, type TaskId } from "./Identifiers.ts"
import * as NameScope from "./NameScope.ts"
import { Replay } from "./Replay.ts"
import * as SagaLog from "./SagaLog.ts"
import * as StepNames from "./StepNames.ts"
import * as Waiting from "./Waiting.ts"

/**
 * What is stored of a task that has ended.
 *
 * @since 0.1.0
 * @category models
 */
export interface History {
  readonly queue: QueueName
  readonly task: Driver.TaskRow
  readonly checkpoints: ReadonlyArray<Driver.Checkpoint>
  /** When it was claimed for the last time: timers that were due later were not over. */
  readonly lastClaim: DateTime.Utc
}

/**
 * Compensations by their names in the log, in the order in which they were met.
 *
 * @since 0.1.0
 * @category models
 */
export type Compensations = ReadonlyMap<CheckpointName, Effect.Effect<unknown, unknown, CurrentRun.CurrentRun>>

/**
 * Reads the history of a task; undefined when there is no such task.
 *
 * @since 0.1.0
 * @category constructors
 */
export const read = (
  { driver, outage }: Absurd["Service"],
  queue: QueueName,
  taskId: TaskId
): Effect.Effect<History | undefined, DriverError | NotFound> =>
  outage.persist(Effect.gen(function*() {
    const task = yield* driver.getTask({ queue, taskId })
    if (task === undefined) return undefined
    const checkpoints = yield* driver.getCheckpoints({ queue, taskId, name: null, includePending: false })
    const runs = yield* driver.listRuns({ queue, taskId })
    const claims = runs.flatMap(({ startedAt }) => startedAt === null ? [] : [startedAt.epochMilliseconds])
    return { queue, task, checkpoints, lastClaim: DateTime.makeUnsafe(Math.max(0, ...claims)) }
  }))

/**
 * Finds the compensations. The handler is executed as the stored steps say, and if some that the log names are not met, once
 * more for each way in which the task came to them.
 *
 * @since 0.1.0
 * @category combinators
 */
export const compensations = (
  absurd: Absurd["Service"],
  history: History,
  log: ReadonlyArray<SagaLog.Named>
): Effect.Effect<Compensations, InvalidState> =>
  Effect.gen(function*() {
    const { queue, task } = history
    const handler = absurd.handlers.find(queue, task.name)
    if (handler === undefined) {
      return yield* new InvalidState({
        operation: "compensate",
        id: task.taskId,
        state: "unknown to this program",
        expected: `a program with the handler of "${task.name}"`
      })
    }
    const found = new Map<CheckpointName, Effect.Effect<unknown, unknown, CurrentRun.CurrentRun>>()
    // What was still awake when it last wrote something had passed the timers that were due by then.
    const present = log.reduce(
      (latest, { at }) => {
        const written = DateTime.makeUnsafe(at)
        return DateTime.isGreaterThan(written, latest) ? written : latest
      },
      history.lastClaim
    )
    const follow = (failures: SagaLog.Entry["failures"]) =>
      Effect.scoped(execute(handler, history, present, failures, (name, compensate) => {
        if (!found.has(name)) found.set(name, compensate)
      }))
    yield* follow({})
    for (const { children, failures, name } of log) {
      if (children === undefined && !found.has(name) && Object.keys(failures).length > 0) yield* follow(failures)
    }
    return found
  })

// --- internal

const historyEnds = CheckpointName.make("$end")
const neverEmitted = EventName.make("$never")

type Register = (name: CheckpointName, compensate: Effect.Effect<unknown, unknown, CurrentRun.CurrentRun>) => void

const execute = Effect.fnUntraced(function*(
  handler: Handler,
  history: History,
  present: DateTime.Utc,
  failures: SagaLog.Entry["failures"],
  register: Register
) {
  const open = new Set<Fiber.Fiber<unknown, unknown>>()
  const own = yield* Effect.context<never>()

  // Each group is watched by itself, for the others go on when it has come to its end.
  const observe: Observe = (self) =>
    Effect.scoped(Effect.gen(function*() {
      const atEnd = yield* Deferred.make<void>()
      const family = new Family.Family()
      const waiting = yield* Waiting.make({
        family,
        stallAfter: Duration.seconds(30),
        isIdle: () => true,
        suspend: () => Effect.succeed({ outcome: "applied", suspended: true, waits: [] }),
        suspended: () => Deferred.doneUnsafe(atEnd, Effect.void),
        refused: () => Deferred.doneUnsafe(atEnd, Effect.void),
        now: Effect.succeed(present),
        fix: () => Effect.void
      })
      const wait = { _tag: "Event", step: historyEnds, event: neverEmitted, timeout: null } as const
      const end = Effect.andThen(waiting.park(wait, undefined), Effect.never)
      const fiber = yield* self.pipe(
        Effect.provideService(Replay, { end, failures, aside, register }),
        (branch) => family.supervise(branch),
        Effect.forkChild
      )
      yield* Effect.raceFirst(Fiber.await(fiber), Deferred.await(atEnd)).pipe(Effect.ensuring(Fiber.interrupt(fiber)))
    }))

  // Not a child of the handler, which would wait for it.
  const aside = <A, E, R>(branch: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
    Effect.contextWith((context: Context.Context<R>) =>
      Effect.sync(() => {
        const fiber = Effect.runForkWith(own)(
          Effect.provideService(observe(within(branch, context)), Replay, undefined)
        )
        open.add(fiber)
        fiber.addObserver(() => open.delete(fiber))
      })
    )

  yield* Effect.addFinalizer(() => Fiber.interruptAll(open))
  const service = serviceOf(history, present)
  yield* observe(
    Effect.scoped(handler.execute(history.task.params)).pipe(
      Effect.provideContext(handler.context),
      Effect.provideService(CurrentRun.CurrentRun, service),
      // The guardian may be within a branch of its own.
      Effect.provideService(NameScope.NameScope, "")
    )
  )
  while (open.size > 0) yield* Fiber.awaitAll(open)
})

type Observe = (self: Effect.Effect<unknown, unknown>) => Effect.Effect<void>

/** With everything around the branch, but watched where it is now. */
const within = <A, E, R>(self: Effect.Effect<A, E, R>, context: Context.Context<R>): Effect.Effect<A, E> =>
  Effect.withFiber((fiber) =>
    Effect.provideContext(
      self,
      context.pipe(
        Context.add(Replay, fiber.getRef(Replay)),
        Context.add(Metric.FiberRuntimeMetrics, fiber.getRef(Metric.FiberRuntimeMetrics)),
        Context.add(Family.Current, fiber.getRef(Family.Current))
      ) as Context.Context<R>
    )
  )

/** What would be written, or be waited for, is the end. */
const serviceOf = ({ checkpoints, queue, task }: History, present: DateTime.Utc): CurrentRun.CurrentRun["Service"] => {
  const states = new Map(checkpoints.map(({ name, state }) => [name as string, state]))
  const names = StepNames.make(Effect.succeed(false))
  const end = Effect.flatMap(Replay, (replay) => replay?.end ?? Effect.never)
  return {
    taskId: task.taskId,
    runId: RunId.make(task.lastAttemptRun ?? "00000000-0000-7000-8000-000000000000"),
    task: task.name,
    queue,
    attempt: Math.max(1, task.attempts),
    headers: (task.headers ?? {}) as CurrentRun.CurrentRun["Service"]["headers"],
    named: names.named,
    begin: names.begin,
    now: Effect.succeed(present),
    recall: (name) => states.get(name),
    // There is no claim, and so none that could be lost.
    ensureHeld: Effect.void,
    remember: () => end,
    rememberNext: () => {},
    wait: (wait) => {
      const known = CurrentRun.recallWait(wait, states, present)
      return known === undefined ? end : Effect.succeed(known)
    },
    heartbeat: () => Effect.void,
    transact: () => end,
    transacting: false,
    notes: new Map(),
    snooze: () => end,
    saga: SagaLog.make([])
  }
}
