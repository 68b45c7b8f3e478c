/**
 * Reading what is stored, and the operations of those who look after it.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Option } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import * as Driver from "./Driver.ts"
import { type DriverError, InvalidInput, type InvalidState, NotFound } from "./Errors.ts"
import { CheckpointName, EventName, IdempotencyKey, type QueueName, RunId, TaskId } from "./Identifiers.ts"
import * as Input from "./Input.ts"

/**
 * Which queue an operation is about.
 *
 * @since 0.1.0
 * @category models
 */
export interface InQueue {
  /** The client's own by default. */
  readonly queue?: string | undefined
}

type Reads<A> = Effect.Effect<A, InvalidInput | NotFound | DriverError, Absurd>

/**
 * Everything that is stored of a task. `NotFound` when there is no such task.
 *
 * @since 0.1.0
 * @category reading
 */
export const getTaskStatus = (taskId: string, options?: InQueue): Reads<Driver.TaskRow> =>
  withTask(taskId, options, (driver, at) => Effect.flatMap(driver.getTask(at), orNotFound("task", taskId)))

/**
 * Everything that is stored of a run. `NotFound` when there is no such run.
 *
 * @since 0.1.0
 * @category reading
 */
export const getRunStatus = (runId: string, options?: InQueue): Reads<Driver.RunRow> =>
  withRun(runId, options, (driver, at) => Effect.flatMap(driver.getRun(at), orNotFound("run", runId)))

/**
 * The runs of a task, by attempt; none for an unknown task.
 *
 * @since 0.1.0
 * @category reading
 */
export const listRuns = (taskId: string, options?: InQueue): Reads<ReadonlyArray<Driver.RunRow>> =>
  withTask(taskId, options, (driver, at) => driver.listRuns(at))

/**
 * What a sleeping task waits for, by step; none when it waits for no event.
 *
 * @since 0.1.0
 * @category reading
 */
export const listWaits = (taskId: string, options?: InQueue): Reads<ReadonlyArray<Driver.WaitRow>> =>
  withTask(taskId, options, (driver, at) => driver.listWaits(at))

/**
 * The task that has an idempotency key.
 *
 * @since 0.1.0
 * @category reading
 */
export const findTask = Effect.fn("Absurd.findTask")(function*(
  idempotencyKey: string,
  options?: InQueue
): Effect.fn.Return<Option.Option<TaskId>, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const queue = yield* resolveQueue(options?.queue)
  return Option.fromUndefinedOr(yield* driver.findTask({ queue, idempotencyKey: yield* checkKey(idempotencyKey) }))
})

/**
 * One checkpoint of a task; committed ones only, unless `includePending`.
 *
 * @since 0.1.0
 * @category checkpoints
 */
export const getCheckpoint = (
  taskId: string,
  step: string,
  options?: InQueue & { readonly includePending?: boolean | undefined }
): Reads<Option.Option<Driver.Checkpoint>> =>
  withTask(taskId, options, (driver, at) =>
    Effect.flatMap(checkStep(step), (name) =>
      Effect.map(
        driver.getCheckpoints({ ...at, name, includePending: options?.includePending ?? false }),
        (checkpoints) => Option.fromUndefinedOr(checkpoints[0])
      )))

/**
 * The committed checkpoints of a task, in the order they were written.
 *
 * @since 0.1.0
 * @category checkpoints
 */
export const getAllCheckpoints = (taskId: string, options?: InQueue): Reads<ReadonlyArray<Driver.Checkpoint>> =>
  withTask(taskId, options, (driver, at) => driver.getCheckpoints({ ...at, name: null, includePending: false }))

/**
 * The committed checkpoints that a run wrote, in the order they were written. `NotFound` when there is no such run.
 *
 * @since 0.1.0
 * @category checkpoints
 */
export const getCheckpointsForRun = (runId: string, options?: InQueue): Reads<ReadonlyArray<Driver.Checkpoint>> =>
  Effect.flatMap(
    getRunStatus(runId, options),
    (run) =>
      Effect.map(
        getAllCheckpoints(run.taskId, options),
        (checkpoints) => checkpoints.filter((checkpoint) => checkpoint.ownerRunId === run.runId)
      )
  )

/**
 * One committed checkpoint that a run wrote. `NotFound` when there is no such run.
 *
 * @since 0.1.0
 * @category checkpoints
 */
export const getRunCheckpoint = (
  runId: string,
  step: string,
  options?: InQueue
): Reads<Option.Option<Driver.Checkpoint>> =>
  Effect.flatMap(checkStep(step), (name) =>
    Effect.map(
      getCheckpointsForRun(runId, options),
      (checkpoints) => Option.fromUndefinedOr(checkpoints.find((checkpoint) => checkpoint.name === name))
    ))

/**
 * The payload of an event by its full name, when it has been emitted.
 *
 * @since 0.1.0
 * @category reading
 */
export const readEvent = Effect.fn("Absurd.readEvent")(function*(
  event: string,
  options?: InQueue
): Effect.fn.Return<Option.Option<Driver.StoredEvent>, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const queue = yield* resolveQueue(options?.queue)
  return Option.fromUndefinedOr(yield* driver.readEvent({ queue, event: yield* checkEvent(event) }))
})

/**
 * Cancels the task of a run that is pending or sleeping: true when this call did, false when the run is running or has
 * ended. To cancel a task whatever it is doing, use `cancelTask`.
 *
 * @since 0.1.0
 * @category operating
 */
export const cancelRun = (runId: string, options?: InQueue): Reads<boolean> =>
  withRun(runId, options, (driver, at) => Effect.map(driver.cancelRun(at), (answer) => answer.cancelled))

/**
 * Gives a failed task another attempt: in place, keeping its checkpoints, or as a new task that starts from the beginning.
 * `InvalidState` when it has not failed, `InvalidInput` when `maxAttempts` leaves no attempt.
 *
 * @since 0.1.0
 * @category operating
 */
export const retryTask = Effect.fn("Absurd.retryTask")(function*(
  taskId: string,
  options: InQueue & {
    /** The new limit; by default the old one or the attempts so far, whichever is greater, and one more. */
    readonly maxAttempts?: number | undefined
    /** False by default. */
    readonly spawnNew?: boolean | undefined
  } = {}
): Effect.fn.Return<Driver.Spawned, InvalidInput | InvalidState | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const { maxAttempts } = options
  return yield* driver.retryTask({
    queue: yield* resolveQueue(options.queue),
    taskId: yield* checkTaskId(taskId),
    maxAttempts: maxAttempts === undefined
      ? null
      : yield* Input.integer("maxAttempts", maxAttempts, { minimum: 1, maximum: 1_000_000 }),
    spawnNew: options.spawnNew ?? false
  })
})

/**
 * Deletes ended tasks, with all that belongs to them, that ended more than `ttl` ago; returns how many. Their idempotency
 * keys are free then.
 *
 * @since 0.1.0
 * @category operating
 */
export const cleanupTasks = (options: Cleanup): Reads<number> =>
  Effect.flatMap(checkCleanup(options), ([driver, request]) => driver.cleanupTasks(request))

/**
 * Deletes events that were emitted more than `ttl` ago; returns how many. Their names are free then.
 *
 * @since 0.1.0
 * @category operating
 */
export const cleanupEvents = (options: Cleanup): Reads<number> =>
  Effect.flatMap(checkCleanup(options), ([driver, request]) => driver.cleanupEvents(request))

/**
 * What is to be deleted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cleanup extends InQueue {
  readonly ttl: Duration.Input
  /** How many at most; 1000 by default. */
  readonly limit?: number | undefined
}

/**
 * The policy of a queue.
 *
 * @since 0.1.0
 * @category operating
 */
export const getQueuePolicy = (queue: string): Reads<Driver.QueuePolicy> =>
  Effect.flatMap(Absurd, ({ driver }) => Effect.flatMap(resolveQueue(queue), driver.getQueuePolicy))

/**
 * Changes parts of the policy of a queue. `InvalidState` for what the queue's storage mode does not allow, `InvalidInput` for
 * a duration above ten years, a `cleanupLimit` that is no whole number from 1 to 1,000,000, or partitions over nine years and
 * more, from `partitionLookback` ago to `partitionLookahead` from now.
 *
 * @since 0.1.0
 * @category operating
 */
export const setQueuePolicy = (
  queue: string,
  policy: Driver.QueuePolicyUpdate
): Effect.Effect<void, InvalidInput | InvalidState | NotFound | DriverError, Absurd> =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const name = yield* resolveQueue(queue)
    const update = yield* checkPolicy(policy)
    if (update.partitionLookahead !== undefined || update.partitionLookback !== undefined) {
      const { partitionLookahead, partitionLookback } = yield* driver.getQueuePolicy(name)
      yield* checkSpan(update.partitionLookahead ?? partitionLookahead, update.partitionLookback ?? partitionLookback)
    }
    yield* driver.setQueuePolicy(name, update)
  })

// --- internal

type Client = Absurd["Service"]["driver"]

const checkTaskId = Input.check("taskId", TaskId)
const checkRunId = Input.check("runId", RunId)
const checkStep = Input.check("step", CheckpointName)
const checkKey = Input.check("idempotencyKey", IdempotencyKey)
const checkEvent = Input.check("event", EventName)

const withTask = <A, E>(
  taskId: string,
  options: InQueue | undefined,
  use: (driver: Client, at: { readonly queue: QueueName; readonly taskId: TaskId }) => Effect.Effect<A, E>
): Effect.Effect<A, E | InvalidInput, Absurd> =>
  Effect.flatMap(
    Absurd,
    ({ driver }) =>
      Effect.flatMap(Effect.all([resolveQueue(options?.queue), checkTaskId(taskId)]), ([queue, id]) =>
        use(driver, { queue, taskId: id }))
  )

const withRun = <A, E>(
  runId: string,
  options: InQueue | undefined,
  use: (driver: Client, at: { readonly queue: QueueName; readonly runId: RunId }) => Effect.Effect<A, E>
): Effect.Effect<A, E | InvalidInput, Absurd> =>
  Effect.flatMap(
    Absurd,
    ({ driver }) =>
      Effect.flatMap(Effect.all([resolveQueue(options?.queue), checkRunId(runId)]), ([queue, id]) =>
        use(driver, { queue, runId: id }))
  )

const orNotFound = (kind: "task" | "run", id: string) => <A>(row: A | undefined): Effect.Effect<A, NotFound> =>
  row === undefined ? Effect.fail(new NotFound({ kind, id })) : Effect.succeed(row)

const checkCleanup = Effect.fnUntraced(function*(options: Cleanup) {
  const { driver } = yield* Absurd
  const request: Driver.CleanupRequest = {
    queue: yield* resolveQueue(options.queue),
    ttl: yield* Input.duration("ttl", options.ttl),
    limit: yield* Input.integer("limit", options.limit ?? 1000, { minimum: 1, maximum: 1_000_000 })
  }
  return [driver, request] as const
})

const checkDefaultPartition = Input.check("defaultPartition", Driver.QueuePolicy.fields.defaultPartition)
const checkDetachMode = Input.check("detachMode", Driver.QueuePolicy.fields.detachMode)

/** The update without what it does not name. */
const checkPolicy = Effect.fnUntraced(function*(policy: Driver.QueuePolicyUpdate) {
  const {
    cleanupLimit,
    cleanupTtl,
    defaultPartition,
    detachMinAge,
    detachMode,
    partitionLookahead,
    partitionLookback
  } = policy
  const duration = (field: keyof Driver.QueuePolicyUpdate, value: Duration.Duration | undefined) =>
    value === undefined
      ? Effect.succeed({})
      : Effect.map(Input.duration(field, value), (checked) => ({ [field]: checked }))
  const update: Driver.QueuePolicyUpdate = {
    ...(yield* duration("partitionLookahead", partitionLookahead)),
    ...(yield* duration("partitionLookback", partitionLookback)),
    ...(yield* duration("cleanupTtl", cleanupTtl)),
    ...(yield* duration("detachMinAge", detachMinAge)),
    ...(defaultPartition === undefined ? {} : { defaultPartition: yield* checkDefaultPartition(defaultPartition) }),
    ...(detachMode === undefined ? {} : { detachMode: yield* checkDetachMode(detachMode) }),
    ...(cleanupLimit === undefined
      ? {}
      : { cleanupLimit: yield* Input.integer("cleanupLimit", cleanupLimit, { minimum: 1, maximum: 1_000_000 }) })
  }
  return update
})

// The names of the weekly partitions come again after ten years.
const checkSpan = (lookahead: Duration.Duration, lookback: Duration.Duration): Effect.Effect<void, InvalidInput> =>
  Duration.isLessThan(Duration.sum(lookahead, lookback), Duration.days(9 * 365))
    ? Effect.void
    : Effect.fail(
      new InvalidInput({
        field: "partitionLookahead",
        problem: "must be less than nine years together with partitionLookback"
      })
    )
