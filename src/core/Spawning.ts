/**
 * Spawning tasks by name, with params that are JSON already: for tools, and for tasks whose definition is elsewhere.
 *
 * @since 0.1.0
 */
import { DateTime, type Duration, Effect, Predicate, Schema } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import * as CancellationPolicy from "./CancellationPolicy.ts"
import type * as Driver from "./Driver.ts"
import { Headers, limitHeader } from "./Driver.ts"
import * as Eager from "./Eager.ts"
import type { DriverError, IdempotencyConflict, InvalidInput, NotFound } from "./Errors.ts"
import * as Hooks from "./Hooks.ts"
import { IdempotencyKey, type QueueName, TaskName, WorkflowRunId } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Limit from "./Limit.ts"
import * as RetryStrategy from "./RetryStrategy.ts"
import * as Stored from "./Stored.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * The header that carries the id of the workflow run a task belongs to.
 *
 * @since 0.1.0
 * @category models
 */
export const workflowRunHeader = "workflowRunId"

/**
 * Why nothing was spawned.
 *
 * @since 0.1.0
 * @category models
 */
export type SpawnError = InvalidInput | NotFound | IdempotencyConflict | DriverError

/**
 * What a spawn may say beside name and params.
 *
 * @since 0.1.0
 * @category models
 */
export interface SpawnOptions {
  /** At most one task of the queue has this key; spawning again returns it. None by default. */
  readonly idempotencyKey?: string | undefined
  /** Starts the task so long after now, or at that time. At once by default. */
  readonly delay?: Duration.Input | DateTime.DateTime | undefined
  /** Travels with the task to its handler; JSON. */
  readonly headers?: { readonly [key: string]: Schema.Json } | undefined
  /** How often the task is tried at most, from 1 to 1,000,000; 5 by default. */
  readonly maxAttempts?: number | undefined
  /** Exponential from one second to an hour by default. */
  readonly retryStrategy?: RetryStrategy.RetryStrategy | undefined
  /** Limits after which the store cancels the task; none by default. */
  readonly cancellation?: CancellationPolicy.Options | undefined
  /** The workflow run that the task belongs to; travels in the headers. */
  readonly workflowRunId?: string | undefined
  /** A limit on how many such tasks run or start; none by default. Travels in the headers. */
  readonly limit?: Limit.TaskLimit | undefined
}

/**
 * What a spawn answers.
 *
 * @since 0.1.0
 * @category models
 */
export interface Spawned extends Driver.Spawned {
  /** As it is stored with the task, else the id of the task's first run. */
  readonly workflowRunId: string
}

/**
 * Spawns a task.
 *
 * @since 0.1.0
 * @category operations
 */
export const spawnTask = Effect.fnUntraced(function*(
  name: string,
  params: Schema.Json,
  options: SpawnOptions & { readonly queue?: string | undefined } = {}
): Effect.fn.Return<Spawned, SpawnError, Absurd> {
  const { coalesced } = yield* Absurd
  const queue: QueueName = yield* resolveQueue(options.queue)
  const limits = yield* Stored.Limits
  const item = yield* prepare(limits, name, yield* Stored.normalizeWithin(limits, "params", params), options)
  const [spawned] = yield* sendToWorkflow(
    queue,
    [item],
    ([task]) => Effect.map(coalesced.spawn(queue, task!), (one) => [one])
  )
  return spawned!
})

/**
 * Spawns many tasks in one round trip: all or, when it fails, none.
 *
 * @since 0.1.0
 * @category operations
 */
export const spawnTasks = Effect.fnUntraced(function*(
  tasks: Iterable<SpawnOptions & { readonly name: string; readonly params: Schema.Json }>,
  options: { readonly queue?: string | undefined } = {}
): Effect.fn.Return<ReadonlyArray<Spawned>, SpawnError, Absurd> {
  const { driver } = yield* Absurd
  const queue = yield* resolveQueue(options.queue)
  const limits = yield* Stored.Limits
  const items = yield* Eager.forEach(
    tasks,
    (task) =>
      Effect.flatMapEager(
        Stored.normalizeWithin(limits, "params", task.params),
        (params) => prepare(limits, task.name, params, task)
      )
  )
  if (items.length === 0) return []
  return yield* sendToWorkflow(queue, items, (tasks) => driver.spawn({ queue, tasks }))
})

/**
 * Spawns a task that is retried with growing delays: three attempts, 30 seconds doubling, unless `options` say otherwise.
 *
 * @since 0.1.0
 * @category operations
 */
export const spawnRetryTask = (
  name: string,
  params: Schema.Json,
  options: Omit<SpawnOptions, "retryStrategy"> & {
    readonly queue?: string | undefined
    /** `exponential` by default. */
    readonly kind?: "fixed" | "exponential" | undefined
    /** The first delay; 30 seconds by default. */
    readonly base?: Duration.Input | undefined
    /** 2 by default; of no meaning for `fixed`. */
    readonly factor?: number | undefined
    /** The longest delay; none by default, and of no meaning for `fixed`. */
    readonly max?: Duration.Input | undefined
  } = {}
): Effect.Effect<Spawned, SpawnError, Absurd> =>
  Effect.flatMap(checkKind(options.kind ?? "exponential"), (kind) =>
    spawnTask(name, params, {
      ...options,
      maxAttempts: options.maxAttempts ?? 3,
      retryStrategy: kind === "fixed"
        ? RetryStrategy.fixed(options.base ?? "30 seconds")
        : RetryStrategy.exponential({ base: options.base, factor: options.factor, max: options.max })
    }))

/**
 * Spawns a task that the store cancels when it has waited or worked for too long.
 *
 * @since 0.1.0
 * @category operations
 */
export const spawnCancellableTask = (
  name: string,
  params: Schema.Json,
  options: Omit<SpawnOptions, "cancellation"> & CancellationPolicy.Options & {
    readonly queue?: string | undefined
  } = {}
): Effect.Effect<Spawned, SpawnError, Absurd> =>
  spawnTask(name, params, {
    ...options,
    cancellation: { maxDelay: options.maxDelay, maxDuration: options.maxDuration }
  })

/**
 * Checks everything that a spawn would store, but for the params, which have been checked within the same limits: those must be
 * in normal form already. It is an `Exit` unless there are limits of tasks or policies of cancellation to be checked.
 *
 * @since 0.1.0
 * @category combinators
 */
export const prepare = Effect.fnUntracedEager(function*(
  limits: Stored.Limits,
  name: string,
  params: Schema.Json,
  options: SpawnOptions
): Effect.fn.Return<Driver.SpawnItem, InvalidInput> {
  const { cancellation, delay, idempotencyKey } = options
  return {
    name: yield* checkTaskName(name),
    params,
    headers: yield* prepareHeaders(limits, options),
    retryStrategy: yield* RetryStrategy.validate(options.retryStrategy ?? RetryStrategy.standard),
    maxAttempts: yield* Input.integer("maxAttempts", options.maxAttempts ?? 5, { minimum: 1, maximum: 1_000_000 }),
    cancellation: cancellation === undefined ? null : yield* CancellationPolicy.make(cancellation),
    idempotencyKey: idempotencyKey === undefined ? null : yield* checkKey(idempotencyKey),
    delay: delay === undefined
      ? null
      : DateTime.isDateTime(delay)
      ? yield* Input.instant("delay", delay)
      : yield* Input.duration("delay", delay)
  }
})

/**
 * Sends tasks to the store, through the program's hooks, and with the trace that they belong to.
 *
 * @since 0.1.0
 * @category combinators
 */
export const send = (
  queue: QueueName,
  tasks: ReadonlyArray<Driver.SpawnItem>,
  request: (tasks: ReadonlyArray<Driver.SpawnItem>) => Effect.Effect<ReadonlyArray<Driver.Spawned>, SpawnError>
): Effect.Effect<ReadonlyArray<Driver.Spawned>, SpawnError> =>
  Telemetry.spawning(
    queue,
    tasks,
    (tasks, inject) =>
      Effect.flatMap(Hooks.Spawn, (around) => around({ queue, tasks }, (tasks) => request(tasks.map(inject))))
  )

// --- internal

const checkTaskName = Input.check("task", TaskName)
const checkKey = Input.check("idempotencyKey", IdempotencyKey)
const checkHeaders = Input.check("headers", Headers)

const checkKind = Input.check("kind", Schema.Literals(["fixed", "exponential"]))
const checkWorkflowRun = Input.check("workflowRunId", WorkflowRunId)

const prepareHeaders = (
  limits: Stored.Limits,
  options: SpawnOptions
): Effect.Effect<Driver.SpawnItem["headers"], InvalidInput> =>
  options.headers === undefined && options.workflowRunId === undefined && options.limit === undefined
    ? Effect.succeed(null)
    : prepareSome(limits, options)

const prepareSome = Effect.fnUntracedEager(
  function*(limits: Stored.Limits, { headers, limit, workflowRunId }: SpawnOptions) {
    const stored = yield* checkHeaders(
      yield* Stored.normalizeWithin(limits, "headers", headers === undefined ? {} : headers)
    )
    const asked = workflowRunId === undefined ? stored[workflowRunHeader] : workflowRunId
    const limited = limit === undefined ? stored[limitHeader] : yield* Limit.stored(limit)
    if (asked === undefined && limited === undefined) return stored
    const all = {
      ...stored,
      ...(asked === undefined ? {} : { [workflowRunHeader]: yield* checkWorkflowRun(asked) }),
      ...(limited === undefined ? {} : { [limitHeader]: yield* Limit.check(limited) })
    }
    return yield* checkHeaders(yield* Stored.normalizeWithin(limits, "headers", all))
  }
)

/** Sends tasks, and tells of each the workflow run that is stored with it. */
const sendToWorkflow = (
  queue: QueueName,
  items: ReadonlyArray<Driver.SpawnItem>,
  request: (tasks: ReadonlyArray<Driver.SpawnItem>) => Effect.Effect<ReadonlyArray<Driver.Spawned>, SpawnError>
): Effect.Effect<ReadonlyArray<Spawned>, SpawnError, Absurd> =>
  Effect.suspend(() => {
    // Hooks may have other headers than those that were asked for.
    let sent = items
    const spawned = send(queue, items, (tasks) => {
      sent = tasks
      return request(tasks)
    })
    return Effect.flatMap(
      spawned,
      Effect.forEach((one, index) =>
        Effect.map(
          one.created ? Effect.succeed(inHeaders(sent[index]?.headers) ?? one.runId) : workflowRunOf(queue, one),
          (workflowRunId): Spawned => ({ ...one, workflowRunId })
        )
      )
    )
  })

const inHeaders = (headers: unknown): string | undefined => {
  const id = Predicate.isObject(headers) ? headers[workflowRunHeader] : undefined
  return Predicate.isString(id) ? id : undefined
}

/** Of a task that there was already. */
const workflowRunOf = Effect.fnUntraced(function*(queue: QueueName, { attempt, runId, taskId }: Driver.Spawned) {
  const { driver } = yield* Absurd
  const stored = inHeaders((yield* driver.getTask({ queue, taskId }))?.headers)
  if (stored !== undefined || attempt === 1) return stored ?? runId
  const [first] = yield* driver.listRuns({ queue, taskId })
  return first?.runId ?? runId
})
