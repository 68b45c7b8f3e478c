/**
 * A reference to a spawned task that knows its types.
 *
 * @since 0.1.0
 */
import { Data, type Duration, Effect, type Exit, Option, type Schema } from "effect"
import * as Absurd from "./Absurd.ts"
import * as Child from "./Child.ts"
import { CurrentRun } from "./CurrentRun.ts"
import {
  Cancelled,
  DecodeError,
  type DriverError,
  type InvalidInput,
  type NotFound,
  TaskFailed,
  type Timeout
} from "./Errors.ts"
import * as Failure from "./Failure.ts"
import type { QueueName, TaskId } from "./Identifiers.ts"
import * as Race from "./Race.ts"
import type * as Stored from "./Stored.ts"

/**
 * Why waiting for a task ends without its result, beside the task's own typed error.
 *
 * @since 0.1.0
 * @category models
 */
export type AwaitError = TaskFailed | Cancelled | NotFound | DecodeError | DriverError

/**
 * A reference to a task.
 *
 * @since 0.1.0
 * @category models
 */
export interface TaskHandle<S extends Schema.Constraint, E extends Schema.Constraint> {
  readonly taskId: TaskId
  readonly queue: QueueName
  /**
   * Waits until the task has ended: succeeds with its result, fails with its own typed error when that is what its last
   * attempt failed with, with `TaskFailed` when it failed otherwise, and with `Cancelled` when it was cancelled.
   *
   * Within another task the waiting task is suspended and holds no worker, and what it has seen once stays what it sees. It
   * is woken in the commit in which the task ends when both are in one queue, and within 30 seconds otherwise.
   */
  readonly await: Effect.Effect<
    S["Type"],
    E["Type"] | AwaitError,
    Absurd.Absurd | S["DecodingServices"] | E["DecodingServices"]
  >
  /** Like `await`, but fails with `Timeout` when the task has not ended after so long. The task itself goes on. */
  readonly awaitFor: (timeout: Duration.Input) => Effect.Effect<
    S["Type"],
    E["Type"] | AwaitError | Timeout | InvalidInput,
    Absurd.Absurd | S["DecodingServices"] | E["DecodingServices"]
  >
  /** Cancels the task unless it has ended; returns whether this call did. */
  readonly cancel: Effect.Effect<boolean, NotFound | DriverError, Absurd.Absurd>
}

/**
 * The codecs of a task's outcomes.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codecs<S extends Schema.Constraint, E extends Schema.Constraint> {
  readonly success: Stored.Codec<S["Type"], S["DecodingServices"], S["EncodingServices"]>
  readonly error: Stored.Codec<E["Type"], E["DecodingServices"], E["EncodingServices"]>
}

/**
 * The handle of the task `taskId` in `queue`. Nothing is asked of the store.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <S extends Schema.Constraint, E extends Schema.Constraint>(
  codecs: Codecs<S, E>,
  queue: QueueName,
  taskId: TaskId
): TaskHandle<S, E> => {
  const outcome = (
    timeout: Duration.Input | undefined
  ): Effect.Effect<Schema.Json, AwaitError | Timeout | InvalidInput, Absurd.Absurd> =>
    Effect.flatMap(
      Effect.serviceOption(CurrentRun),
      (run): Effect.Effect<Schema.Json, AwaitError | Timeout | InvalidInput, Absurd.Absurd> =>
        Option.isNone(run)
          ? Absurd.awaitTaskResult(taskId, { queue, timeout })
          : awaitWithin(run.value, queue, taskId, timeout)
    )
  const awaitFor = (timeout: Duration.Input | undefined) =>
    outcome(timeout).pipe(
      Effect.flatMap(codecs.success.decode),
      Effect.catchTag("TaskFailed", (failed) => decodeFailure(codecs, failed))
    )
  // Many handles are made by one spawn, and of most of them little is asked.
  return {
    taskId,
    queue,
    await: Effect.suspend(() => awaitFor(undefined).pipe(Effect.catchTag(["Timeout", "InvalidInput"], Effect.die))),
    awaitFor,
    cancel: Effect.suspend(() => Absurd.cancelTask(taskId, { queue }).pipe(Effect.catchTag("InvalidInput", Effect.die)))
  }
}

/**
 * What {@link all}, {@link allSettled} and {@link any} need of a handle.
 *
 * @since 0.1.0
 * @category models
 */
export interface Awaitable<A, E, R> {
  readonly taskId: TaskId
  readonly queue: QueueName
  readonly await: Effect.Effect<A, E, R>
}

/**
 * The results of all tasks, in their order. The first failure fails it; the other tasks go on.
 *
 * Within a task it is one wait, however many tasks there are: prefer it to waiting for each of many with `Effect.all`, which
 * has the task look at all of them again whenever one ends.
 *
 * @since 0.1.0
 * @category combinators
 */
export const all = <A, E, R>(
  handles: ReadonlyArray<Awaitable<A, E, R>>
): Effect.Effect<ReadonlyArray<A>, E | NotFound | DriverError, R | Absurd.Absurd> =>
  Effect.andThen(
    Child.join(handles, true),
    Effect.forEach(handles, (handle) => handle.await, { concurrency: "unbounded" })
  )

/**
 * How each of the tasks has ended, in their order, once all have. Within a task it is one wait, as {@link all} is.
 *
 * @since 0.1.0
 * @category combinators
 */
export const allSettled = <A, E, R>(
  handles: ReadonlyArray<Awaitable<A, E, R>>
): Effect.Effect<ReadonlyArray<Exit.Exit<A, E>>, NotFound | DriverError, R | Absurd.Absurd> =>
  Effect.andThen(
    Child.join(handles, false),
    Effect.forEach(handles, (handle) => Effect.exit(handle.await), { concurrency: "unbounded" })
  )

/**
 * None of several tasks has completed. `errors` says why, in their order.
 *
 * @since 0.1.0
 * @category models
 */
export class NoneCompleted<E> extends Data.TaggedError("NoneCompleted")<{ readonly errors: ReadonlyArray<E> }> {
  override get message(): string {
    return `None of the ${this.errors.length} tasks has completed`
  }
}

/**
 * The result of the first task that completes, whatever the others do: they go on. Fails with `NoneCompleted` when all have
 * ended otherwise.
 *
 * Within a task it is decided once: later executions are given the result of the same task. The waiting task is suspended,
 * and looks again whenever one of them ends.
 *
 * @since 0.1.0
 * @category combinators
 */
export const any = <A, E, R>(
  handles: ReadonlyArray<Awaitable<A, E, R>>
): Effect.Effect<A, E | NoneCompleted<E> | NotFound | DriverError, R | Absurd.Absurd> =>
  Effect.flatMap(Effect.serviceOption(CurrentRun), (run) => {
    const firstOf = (all: ReadonlyArray<Awaitable<A, E, R>>) =>
      Effect.flip(Effect.forEach(all, (handle) => Effect.flip(handle.await), { concurrency: "unbounded" })).pipe(
        Effect.mapError((errors) => new NoneCompleted<E>({ errors }))
      )
    if (Option.isNone(run)) return firstOf(handles)
    return Effect.flatMap(
      Child.firstCompleted(run.value, handles),
      (winner): Effect.Effect<A, E | NoneCompleted<E>, R> =>
        handles.find(({ taskId }) => taskId === winner)?.await ?? firstOf(handles)
    )
  })

// --- internal

const awaitWithin = (
  run: CurrentRun["Service"],
  queue: QueueName,
  taskId: TaskId,
  timeout: Duration.Input | undefined
): Effect.Effect<Schema.Json, AwaitError | Timeout, Absurd.Absurd> => {
  const ended = Effect.flatMap(
    Child.awaitEnd(run, queue, taskId),
    ({ failure, result, state }): Effect.Effect<Schema.Json, TaskFailed | Cancelled> =>
      state === "completed"
        ? Effect.succeed(result)
        : Effect.fail(state === "cancelled" ? new Cancelled({ taskId }) : new TaskFailed({ taskId, failure }))
  )
  return timeout === undefined
    ? ended
    : Effect.provideService(Race.timeout(ended, `task ${taskId}`, timeout), CurrentRun, run)
}

const decodeFailure = <S extends Schema.Constraint, E extends Schema.Constraint>(
  codecs: Codecs<S, E>,
  failed: TaskFailed
): Effect.Effect<never, E["Type"] | TaskFailed | DecodeError, E["DecodingServices"]> => {
  const typed = Failure.typedError(failed.failure)
  return typed === undefined ? Effect.fail(failed) : Effect.flatMap(codecs.error.decode(typed), Effect.fail)
}
