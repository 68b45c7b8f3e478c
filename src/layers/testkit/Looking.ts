/**
 * What became of tasks, for assertions.
 *
 * Assertions die with {@link ExpectationFailed}, whose message tells what there is instead, so they work with every test
 * runner.
 *
 * @since 0.1.0
 */
import { Data, type DateTime, Effect, Equal, Exit, type Schema } from "effect"
import { Absurd, resolveQueue } from "../../core/Absurd.ts"
import type { DecodeError, DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import type { QueueName, State, TaskId } from "../../core/Identifiers.ts"
import * as Stored from "../../core/Stored.ts"
import type { Task } from "../../core/Task.ts"
import { TestStore } from "./TestStore.ts"

/**
 * What the test expected is not so.
 *
 * @since 0.1.0
 * @category errors
 */
export class ExpectationFailed extends Data.TaggedError("ExpectationFailed")<{ readonly message: string }> {}

/**
 * What is known of a task.
 *
 * @since 0.1.0
 * @category models
 */
export interface Inspection {
  readonly state: State
  readonly attempts: number
  /** The encoded result of a completed task, else null. */
  readonly result: Schema.Json | null
  /** The stored reason of a failed task, else null. */
  readonly failure: Schema.Json | null
  /** The stored states of steps, sleeps and waits by name, in the order of writing. */
  readonly steps: { readonly [name: string]: Schema.Json }
  /** The full names of the events that it waits for. */
  readonly waitsFor: ReadonlyArray<string>
  /** When a pending or sleeping task goes on by itself; null for never, and when it does neither. */
  readonly dueAt: DateTime.Utc | null
}

/** The handle of a task, as `Task.spawn` and `Task.handle` give it. */
interface Waitable<A, E, R> extends Reference {
  readonly await: Effect.Effect<A, E, R>
}

type Reference = { readonly taskId: TaskId; readonly queue: QueueName }

/**
 * What is known of a task now.
 *
 * @since 0.1.0
 * @category looking
 */
export const inspect = Effect.fnUntraced(function*(
  { queue, taskId }: Reference
): Effect.fn.Return<Inspection, NotFound | DriverError, Absurd | TestStore> {
  const { driver } = yield* Absurd
  const [row] = yield* driver.results({ queue, taskIds: [taskId] })
  if (row === undefined) return yield* expected(`task ${taskId} to exist in the queue "${queue}"`, "there is none")
  const runs = yield* driver.listRuns({ queue, taskId })
  const newest = runs.at(-1)
  const checkpoints = yield* driver.getCheckpoints({ queue, taskId, name: null, includePending: false })
  const waits = yield* driver.listWaits({ queue, taskId })
  const asleep = newest?.state === "pending" || newest?.state === "sleeping"
  return {
    state: row.state,
    attempts: newest?.attempt ?? 0,
    result: row.result,
    failure: row.failure,
    steps: Object.fromEntries(checkpoints.map(({ name, state }) => [name, state])),
    waitsFor: waits.map((wait) => wait.event),
    dueAt: asleep ? newest.availableAt : null
  }
})

/**
 * A task that was spawned from a definition.
 *
 * @since 0.1.0
 * @category models
 */
export interface SpawnedTask<P> extends Reference {
  readonly params: P
  readonly state: State
}

/**
 * The tasks in `queue` (the client's own by default) that were spawned from a definition, oldest first.
 *
 * @since 0.1.0
 * @category looking
 */
export const spawned = Effect.fnUntraced(function*<
  Name extends string,
  P extends Schema.Constraint,
  S extends Schema.Constraint,
  E extends Schema.Constraint
>(
  task: Task<Name, P, S, E>,
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<
  ReadonlyArray<SpawnedTask<P["Type"]>>,
  InvalidInput | NotFound | DriverError | DecodeError,
  Absurd | TestStore | P["DecodingServices"]
> {
  const store = yield* TestStore
  const queue = yield* resolveQueue(options?.queue)
  const codec = Stored.codec<P>(`params of task "${task.name}"`, task.params)
  const { tasks } = yield* store.dump(queue)
  return yield* Effect.forEach(
    tasks.filter((row) => row.name === task.name).toSorted((a, b) => (a.taskId < b.taskId ? -1 : 1)),
    (row) =>
      Effect.map(codec.decode(row.params), (params): SpawnedTask<P["Type"]> => ({
        taskId: row.taskId,
        queue,
        params,
        state: row.state
      }))
  )
})

/**
 * Expects that exactly one task was spawned from a definition with these params (any, when none are given), and returns it.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectSpawned = Effect.fnUntraced(function*<
  Name extends string,
  P extends Schema.Constraint,
  S extends Schema.Constraint,
  E extends Schema.Constraint
>(
  task: Task<Name, P, S, E>,
  params?: P["Type"],
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<
  SpawnedTask<P["Type"]>,
  InvalidInput | NotFound | DriverError | DecodeError,
  Absurd | TestStore | P["DecodingServices"]
> {
  const all = yield* spawned(task, options)
  const [found, ...more] = params === undefined ? all : all.filter((one) => Equal.equals(one.params, params))
  const wanted = params === undefined ? "" : ` with ${show(params)}`
  return found !== undefined && more.length === 0 ? found : yield* expected(
    `exactly one task "${task.name}"${wanted} to be spawned`,
    all.length === 0 ? "there is none" : `there are ${show(all.map((one) => one.params))}`
  )
})

/**
 * Expects that a task has completed (with `result`, when given), and returns its result.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectCompleted = Effect.fnUntraced(function*<A, E, R>(
  task: Waitable<A, E, R>,
  result?: A
): Effect.fn.Return<A, E | NotFound | DriverError, Absurd | TestStore | R> {
  const found = yield* inspect(task)
  if (found.state !== "completed") return yield* expected("the task to be completed", describe(found))
  const value = yield* task.await
  return result === undefined || Equal.equals(value, result)
    ? value
    : yield* expected(`the result ${show(result)}`, `it is ${show(value)}`)
})

/**
 * Expects that a task has failed (with the typed `error`, when given), and returns what waiting for it fails with.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectFailed = Effect.fnUntraced(function*<A, E, R>(
  task: Waitable<A, E, R>,
  error?: E
): Effect.fn.Return<E, A | NotFound | DriverError, Absurd | TestStore | R> {
  const found = yield* inspect(task)
  if (found.state !== "failed") return yield* expected("the task to be failed", describe(found))
  const failure = yield* Effect.flip(task.await)
  return error === undefined || Equal.equals(failure, error)
    ? failure
    : yield* expected(`the error ${show(error)}`, `it is ${show(failure)}`)
})

/**
 * Expects that a task sleeps: for an event (by its full name), until an instant, or for anything when neither is given.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectSuspended = Effect.fnUntraced(function*(
  task: Reference,
  on: { readonly event?: string | undefined; readonly until?: DateTime.Utc | undefined } = {}
): Effect.fn.Return<Inspection, NotFound | DriverError, Absurd | TestStore> {
  const found = yield* inspect(task)
  if (found.state !== "sleeping") return yield* expected("the task to be suspended", describe(found))
  if (on.event !== undefined && !found.waitsFor.includes(on.event)) {
    return yield* expected(`the task to wait for the event "${on.event}"`, describe(found))
  }
  if (on.until !== undefined && !Equal.equals(found.dueAt, on.until)) {
    return yield* expected(`the task to sleep until ${show(on.until)}`, describe(found))
  }
  return found
})

// --- internal

const expected = (what: string, instead: string): Effect.Effect<never> =>
  Effect.die(new ExpectationFailed({ message: `expected ${what}, but ${instead}` }))

/** A state in words. */
export const describe = ({ attempts, dueAt, failure, result, state, steps, waitsFor }: Inspection): string =>
  [
    `it is ${state} in attempt ${attempts}`,
    ...(result === null ? [] : [`with result ${show(result)}`]),
    ...(failure === null ? [] : [`because of ${show(failure)}`]),
    ...(waitsFor.length === 0 ? [] : [`waiting for ${waitsFor.join(", ")}`]),
    ...(dueAt === null ? [] : [`due at ${show(dueAt)}`]),
    `with the steps ${show(Object.keys(steps))}`
  ].join(" ")

/** A value in words. */
export const show = (value: unknown): string => {
  if (Exit.isExit(value)) return String(value)
  return JSON.stringify(value) ?? String(value)
}
