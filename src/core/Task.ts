/**
 * Definitions of tasks: a name, the schemas of what goes in and comes out, and the policies under which it runs.
 *
 * A definition is data. Producers spawn from it without loading the handler; `toLayer` gives it one.
 *
 * @since 0.1.0
 */
import { Cause, Clock, Context, type Duration, Effect, Layer, Metric, Pipeable, Schedule, Schema, Scope } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import type * as CancellationPolicy from "./CancellationPolicy.ts"
import * as Child from "./Child.ts"
import type { CurrentRun } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import * as Eager from "./Eager.ts"
import { type InvalidInput, InvalidUse, type Unhandled } from "./Errors.ts"
import * as Failure from "./Failure.ts"
import { Current as CurrentFamily } from "./Family.ts"
import type { Handler } from "./Handlers.ts"
import { type QueueName, TaskId } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import type * as Limit from "./Limit.ts"
import * as Replacing from "./Replacing.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import * as RetryStrategy from "./RetryStrategy.ts"
import * as Spawning from "./Spawning.ts"
import * as Stored from "./Stored.ts"
import * as TaskHandle from "./TaskHandle.ts"

const TypeId = "~effect-absurd/core/Task"

/**
 * What one spawn may say beside the params. What is absent comes from the definition.
 *
 * @since 0.1.0
 * @category models
 */
export interface SpawnOptions extends Omit<Spawning.SpawnOptions, "retryStrategy"> {
  /**
   * Within another task: cancels the spawned task when that one fails for good or is cancelled, by whomever. When it
   * completes, and while it is suspended or handed back, the spawned task goes on. Not for spawns with an idempotency key.
   * False by default.
   */
  readonly owned?: boolean | undefined
}

/**
 * The handle of a task with what its spawn answered.
 *
 * @since 0.1.0
 * @category models
 */
export interface SpawnedTask<S extends Schema.Constraint, E extends Schema.Constraint>
  extends TaskHandle.TaskHandle<S, E>
{
  /** The task's newest run. */
  readonly runId: Driver.Spawned["runId"]
  /** The number of that run, from 1. */
  readonly attempt: number
  /** False when a task with the idempotency key existed already. */
  readonly created: boolean
}

/**
 * A definition of a task.
 *
 * @since 0.1.0
 * @category models
 */
export interface Task<
  Name extends string,
  P extends Schema.Constraint,
  S extends Schema.Constraint = Schema.Void,
  E extends Schema.Constraint = Schema.Never
> extends Pipeable.Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: Name
  readonly params: P
  readonly success: S
  readonly error: E

  /**
   * Stores the task; it is durable when this returns, and starts when a worker of its queue is free.
   *
   * Within another task it is a step of that task: done once over all its executions. Children of one name that are spawned
   * at the same time need branches of their own (`Step.scoped`), or `spawnMany`.
   */
  readonly spawn: (
    params: P["Type"],
    options?: SpawnOptions
  ) => Effect.Effect<SpawnedTask<S, E>, Spawning.SpawnError, Absurd | P["EncodingServices"]>

  /** Stores many tasks in one round trip: all of them or, when it fails, none. */
  readonly spawnMany: (
    params: Iterable<P["Type"]>,
    options?: Omit<SpawnOptions, "idempotencyKey">
  ) => Effect.Effect<ReadonlyArray<SpawnedTask<S, E>>, Spawning.SpawnError, Absurd | P["EncodingServices"]>

  /**
   * Stores the task or, while the one that has its idempotency key has not been started, gives that one these params and
   * options: see `Absurd.replaceTask`. The key is that of the options, or that of the definition; without one it is
   * `InvalidInput`. It is no step: within another task, put it into one.
   */
  readonly replace: (
    params: P["Type"],
    options?: Omit<SpawnOptions, "owned"> & {
      /** Whether it becomes due by `delay` from now, as by default, or stays due when it was. */
      readonly due?: "renew" | "keep" | undefined
    }
  ) => Effect.Effect<
    SpawnedTask<S, E> & { readonly replaced: boolean },
    Spawning.SpawnError,
    Absurd | P["EncodingServices"]
  >

  /** What a spawn would store, and where; for what spawns the task at some other time. */
  readonly prepare: (
    params: P["Type"],
    options?: SpawnOptions
  ) => Effect.Effect<
    { readonly queue: QueueName; readonly item: Driver.SpawnItem },
    InvalidInput,
    Absurd | P["EncodingServices"]
  >

  /** The handle of a task that was spawned earlier or elsewhere. */
  readonly handle: (taskId: string) => Effect.Effect<TaskHandle.TaskHandle<S, E>, InvalidInput, Absurd>

  /**
   * Gives the task its handler, for the workers of this program. A handler may fail with the task's error, or leave the
   * library's own errors unhandled; any other error does not compile.
   */
  readonly toLayer: <R = never>(
    handler: (params: P["Type"]) => Effect.Effect<S["Type"], E["Type"] | Unhandled, R>
  ) => Layer.Layer<
    never,
    InvalidInput,
    | Absurd
    | Exclude<R, CurrentRun | Scope.Scope>
    | P["DecodingServices"]
    | S["EncodingServices"]
    | E["EncodingServices"]
  >
}

/**
 * How a task is defined.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<
  P extends Schema.Struct.Fields | Schema.Constraint,
  S extends Schema.Constraint,
  E extends Schema.Constraint
> {
  /** The schema of the params, or the fields of a struct. */
  readonly params: P
  /** The schema of the result; `Schema.Void` by default. */
  readonly success?: S | undefined
  /** The schema of the typed errors that reach whoever waits for the task; none by default. */
  readonly error?: E | undefined
  /** The queue; the client's own by default. */
  readonly queue?: string | undefined
  /** Exponential from one second to an hour by default. A `Schedule` is evaluated by the worker. */
  readonly retry?: RetryPolicy.RetryPolicy<NoInfer<E["Type"]>> | undefined
  /** Errors for which there is no other attempt. None by default. */
  readonly isFinal?: ((error: NoInfer<E["Type"]>) => boolean) | undefined
  /**
   * When the next attempt starts for this error, counted from the failure; at most ten years. Undefined leaves it to
   * `retry`. It does not make more attempts than there are: see `maxAttempts`. None by default.
   */
  readonly retryAfter?: ((error: NoInfer<E["Type"]>) => Duration.Input | undefined) | undefined
  /** How often the task is tried at most, from 1 to 1,000,000; 5 by default, 20 with a `Schedule`. */
  readonly maxAttempts?: number | undefined
  /** Limits after which the store cancels the task; none by default. */
  readonly cancellation?: CancellationPolicy.Options | undefined
  /** Derives the idempotency key of each spawn from its params. */
  readonly idempotencyKey?: ((params: ParamsSchema<P>["Type"]) => string) | undefined
  /** A limit on how many such tasks run or start, and what it counts apart; none by default. */
  readonly limit?: Limit.OfParams<ParamsSchema<P>["Type"]> | undefined
}

/**
 * The schema that a `params` option stands for.
 *
 * @since 0.1.0
 * @category models
 */
export type ParamsSchema<P> = P extends Schema.Constraint ? P
  : P extends Schema.Struct.Fields ? Schema.Struct<P>
  : never

/**
 * Defines a task.
 *
 * ```ts
 * import { Schedule, Schema } from "effect"
 * import { Task } from "effect-absurd"
 *
 * const Welcome = Task.make("welcome", {
 *   params: { email: Schema.String },
 *   retry: Schedule.exponential("1 second"),
 *   idempotencyKey: ({ email }) => email
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <
  const Name extends string,
  const P extends Schema.Struct.Fields | Schema.Constraint,
  S extends Schema.Constraint = Schema.Void,
  E extends Schema.Constraint = Schema.Never
>(
  name: Name,
  options: Options<P, S, E>
): Task<Name, ParamsSchema<P>, S, E> => {
  type Params = ParamsSchema<P>
  const params = (Schema.isSchema(options.params)
    ? options.params
    : Schema.Struct(options.params as Schema.Struct.Fields)) as unknown as Params
  const success = (options.success ?? Schema.Void) as S
  const error = (options.error ?? Schema.Never) as E
  const codecs = {
    params: Stored.eagerCodec<Params>(`params of task "${name}"`, params),
    success: Stored.codec<S>(`result of task "${name}"`, success),
    error: Stored.codec<E>(`error of task "${name}"`, error)
  }
  const policy = options.retry ?? RetryStrategy.standard
  const defaults = options as Defaults<Params["Type"]>
  const prepare = prepareSpawn(name, codecs.params, defaults, policy)
  const prepareMany = prepareSpawns(codecs.params, defaults, prepare)
  const toSpawned = (queue: QueueName, spawned: Driver.Spawned): SpawnedTask<S, E> => ({
    ...TaskHandle.make<S, E>(codecs, queue, spawned.taskId),
    runId: spawned.runId,
    attempt: spawned.attempt,
    created: spawned.created
  })

  return {
    ...Pipeable.Prototype,
    [TypeId]: TypeId,
    name,
    params,
    success,
    error,
    spawn: Effect.fnUntraced(function*(value: Params["Type"], spawnOptions?: SpawnOptions) {
      const { coalesced } = yield* Absurd
      const queue = yield* resolveQueue(options.queue)
      const item = yield* prepare(yield* Stored.Limits, value, spawnOptions)
      const [spawned] = yield* Child.spawn(
        queue,
        [item],
        (tasks) => Spawning.send(queue, tasks, ([task]) => Effect.map(coalesced.spawn(queue, task!), (one) => [one])),
        spawnOptions?.owned === true
      )
      return toSpawned(queue, spawned!)
    }),
    spawnMany: Effect.fnUntraced(function*(values: Iterable<Params["Type"]>, spawnOptions?: SpawnOptions) {
      const { driver } = yield* Absurd
      const queue = yield* resolveQueue(options.queue)
      const limits = yield* Stored.Limits
      const tasks = yield* prepareMany(limits, values, spawnOptions)
      if (tasks.length === 0) return []
      const spawned = yield* Child.spawn(
        queue,
        tasks,
        (items) => Spawning.send(queue, items, (tasks) => driver.spawn({ queue, tasks })),
        spawnOptions?.owned === true
      )
      return spawned.map((one) => toSpawned(queue, one))
    }),
    replace: Effect.fnUntraced(function*(value, replaceOptions) {
      const queue = yield* resolveQueue(options.queue)
      const item = yield* prepare(yield* Stored.Limits, value, replaceOptions)
      const replaced = yield* Replacing.replace(queue, item, replaceOptions?.due)
      return { ...toSpawned(queue, replaced), replaced: replaced.replaced }
    }),
    prepare: (value, spawnOptions) =>
      Effect.all({
        queue: resolveQueue(options.queue),
        item: Stored.Limits.use((limits) => prepare(limits, value, spawnOptions))
      }),
    handle: (taskId) =>
      Effect.all([resolveQueue(options.queue), checkTaskId(taskId)]).pipe(
        Effect.map(([queue, id]) => TaskHandle.make<S, E>(codecs, queue, id))
      ),
    toLayer: <R>(handler: (params: Params["Type"]) => Effect.Effect<S["Type"], E["Type"] | Unhandled, R>) =>
      Layer.effectDiscard(Effect.gen(function*() {
        const { handlers } = yield* Absurd
        const queue = yield* resolveQueue(options.queue)
        // Not the layer's own scope: a handler's finalizers belong to its run. And it is the run that watches over its
        // fibers and timers.
        const context = Context.omit(Scope.Scope, Clock.Clock, Metric.FiberRuntimeMetrics, CurrentFamily)(
          yield* Effect.context<
            | Exclude<R, CurrentRun | Scope.Scope>
            | Params["DecodingServices"]
            | S["EncodingServices"]
            | E["EncodingServices"]
          >()
        )
        const remove = handlers.register({
          task: name,
          queue,
          context: context as Context.Context<never>,
          execute: (stored) =>
            Effect.flatMap(
              Effect.flatMapEager(codecs.params.decode(stored), handler),
              codecs.success.encode
            ) as Effect.Effect<Schema.Json, unknown, CurrentRun | Scope.Scope>,
          onFailure: (failed) =>
            settleFailure(failed, codecs.error, policy as RetryPolicy.RetryPolicy<E["Type"]>, options).pipe(
              Effect.provideContext(context)
            ) as ReturnType<Handler["onFailure"]>
        })
        yield* Effect.addFinalizer(() => Effect.sync(remove))
      }))
  }
}

// --- internal

const checkTaskId = Input.check("taskId", TaskId)

type Defaults<A> = Pick<SpawnOptions, "maxAttempts" | "cancellation"> & {
  readonly idempotencyKey?: ((params: A) => string) | undefined
  readonly limit?: Limit.OfParams<A> | undefined
}

/** What a spawn stores: its own options over those of the definition. At once, as far as that is possible. */
const prepareSpawn = <A, RD, RE>(
  name: string,
  codec: Stored.EagerCodec<A, RD, RE>,
  defaults: Defaults<A>,
  policy: RetryPolicy.RetryPolicy<never>
) =>
(limits: Stored.Limits, value: A, options: SpawnOptions = {}): Effect.Effect<Driver.SpawnItem, InvalidInput, RE> =>
  Effect.flatMapEager(codec.encodeWithin(limits, value), (params) =>
    Spawning.prepare(limits, name, params, {
      ...options,
      retryStrategy: RetryPolicy.stored(policy),
      idempotencyKey: options.idempotencyKey ?? defaults.idempotencyKey?.(value),
      cancellation: options.cancellation ?? defaults.cancellation,
      limit: options.limit ?? limitOf(defaults.limit, value),
      maxAttempts: options.maxAttempts ?? defaults.maxAttempts ?? (Schedule.isSchedule(policy) ? 20 : 5)
    }))

/** The same for many. What the options say of all of them is looked at once, with the first. */
const prepareSpawns = <A, RD, RE>(
  codec: Stored.EagerCodec<A, RD, RE>,
  defaults: Defaults<A>,
  prepare: ReturnType<typeof prepareSpawn<A, RD, RE>>
) =>
(limits: Stored.Limits, values: Iterable<A>, options: SpawnOptions = {}) => {
  const ofParams = options.idempotencyKey === undefined && defaults.idempotencyKey !== undefined ||
    options.limit === undefined && defaults.limit?.key !== undefined
  let first: Driver.SpawnItem | undefined
  return Eager.forEach(values, (value) => {
    if (ofParams) return prepare(limits, value, options)
    if (first === undefined) return Effect.mapEager(prepare(limits, value, options), (item) => first = item)
    const known = first
    return Effect.mapEager(codec.encodeWithin(limits, value), (params) => ({ ...known, params }))
  })
}

const limitOf = <A>(limit: Limit.OfParams<A> | undefined, params: A): Limit.TaskLimit | undefined =>
  limit === undefined ? undefined : { with: limit.with, key: limit.key?.(params) }

const settleFailure = Effect.fnUntraced(function*<E, RD, RE>(
  failed: { readonly cause: Cause.Cause<unknown>; readonly attempt: number; readonly elapsed: Duration.Duration },
  codec: Stored.Codec<E, RD, RE>,
  policy: RetryPolicy.RetryPolicy<E>,
  { isFinal, retryAfter }: {
    readonly isFinal?: ((error: E) => boolean) | undefined
    readonly retryAfter?: ((error: E) => Duration.Input | undefined) | undefined
  }
) {
  const failure = yield* Failure.fromCause(failed.cause as Cause.Cause<E>, codec)
  const error = failure.error === undefined
    ? undefined
    : failed.cause.reasons.find(Cause.isFailReason)?.error as E | undefined
  const misused = failed.cause.reasons.some((reason) =>
    Cause.isDieReason(reason) && reason.defect instanceof InvalidUse
  )
  const final = misused ||
    (error !== undefined && (yield* orElse("isFinal", () => isFinal?.(error), undefined)) === true)
  if (final) return { failure, retry: { _tag: "Never" } as const }
  const asked = error === undefined ? undefined : yield* orElse("retryAfter", () => retryAfter?.(error), undefined)
  if (asked !== undefined) return { failure, retry: { _tag: "After", delay: RetryPolicy.limit(asked) } as const }
  const decided = RetryPolicy.decide(policy, { attempt: failed.attempt, elapsed: failed.elapsed, error })
  const retry = yield* Effect.catchCause(decided, (cause) => insteadOf("retry", cause, { _tag: "Stored" } as const))
  return { failure, retry }
})

/** The program's own code must not cost the failure that it was asked about. */
const orElse = <A>(option: string, ask: () => A, otherwise: A): Effect.Effect<A> =>
  Effect.catchCause(Effect.sync(ask), (cause) => insteadOf(option, cause, otherwise))

const insteadOf = <A>(option: string, cause: Cause.Cause<unknown>, otherwise: A): Effect.Effect<A> =>
  Effect.as(Effect.logError(`The option "${option}" of the task died; going on without it`, cause), otherwise)
