/** Starting executions, waiting for them, and telling them things from outside. */
import { Deferred, Effect, Option, Predicate, Schema } from "effect"
import { Workflow, type WorkflowEngine } from "effect/workflow"
import * as Driver from "../../core/Driver.ts"
import type { DriverError, IdempotencyConflict, NotFound } from "../../core/Errors.ts"
import { EventName, IdempotencyKey, isTerminal, TaskId, TaskName } from "../../core/Identifiers.ts"
import * as RetryStrategy from "../../core/RetryStrategy.ts"
import * as Telemetry from "../../core/Telemetry.ts"
import * as Encoding from "./Encoding.ts"
import { ask, askTogether, type Environment } from "./Environment.ts"
import * as Execution from "./Execution.ts"
import * as Names from "./Names.ts"
import * as Suspension from "./Suspension.ts"

type Instance = WorkflowEngine.WorkflowInstance["Service"]

interface ExecuteOptions {
  readonly executionId: string
  readonly payload: object
  readonly discard: boolean
  readonly parent?: Instance | undefined
}

type Result = Workflow.Result<unknown, unknown>

export const execute = (
  environment: Environment,
  workflow: Workflow.Any,
  options: ExecuteOptions
): Effect.Effect<Result | void> =>
  Effect.flatMap(currentOf(options.parent), (parent) => {
    if (parent !== undefined) return executeChild(environment, parent, workflow, options)
    return Effect.flatMap(askTogether(environment, start(environment, workflow, options)), (spawned) =>
      options.discard ? Effect.void : nextResult(environment, workflow, spawned))
  })

export const awaitComplete = (environment: Environment, executionId: string): Effect.Effect<void> =>
  Effect.flatMap(find(environment, executionId), (taskId) =>
    taskId === undefined
      ? Effect.never
      : Effect.asVoid(observe(environment, taskId, ({ state }) => isTerminal(state))))

/** None while the execution is due or running, and for an execution that does not exist. */
export const poll = (
  environment: Environment,
  workflow: Workflow.Any,
  executionId: string
): Effect.Effect<Option.Option<Result>> =>
  Effect.gen(function*() {
    const taskId = yield* find(environment, executionId)
    const result = taskId === undefined ? undefined : yield* resultOf(environment, taskId)
    if (result === undefined) return Option.none()
    if (isTerminal(result.state)) return Option.some(yield* Encoding.decodeResult(workflow, result))
    return result.state === "sleeping" ? yield* Suspension.look(environment, result.taskId) : Option.none()
  })

/** Nothing happens to an execution that does not exist or has ended. */
export const interrupt = (
  environment: Environment,
  executionId: string,
  options: { readonly unsafe: boolean }
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { absurd: { driver }, live, settings: { queue }, wake } = environment
    const taskId = yield* find(environment, executionId)
    const result = taskId === undefined ? undefined : yield* resultOf(environment, taskId)
    if (taskId === undefined || result === undefined || isTerminal(result.state)) return
    const emit = (event: EventName) => ask(environment, "emit", driver.emit({ queue, event, payload: null }))
    if (options.unsafe) yield* emit(Names.killEvent(taskId))
    yield* emit(Names.interruptEvent(taskId))
    wake.openUnsafe()
    const execution = live.get(executionId)
    if (execution === undefined) return
    if (options.unsafe) Execution.kill(execution)
    else execution.interrupted = true
  })

/** Nothing happens to an execution that is not suspended. */
export const resume = (environment: Environment, executionId: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { absurd: { driver }, settings: { queue }, wake } = environment
    const taskId = yield* find(environment, executionId)
    if (taskId === undefined) return
    const waits = yield* ask(environment, "listWaits", driver.listWaits({ queue, taskId }))
    for (const { event, step } of waits) {
      if (!step.startsWith(Names.resumePrefix)) continue
      yield* ask(environment, "emit", driver.emit({ queue, event: EventName.make(event), payload: null }))
    }
    wake.openUnsafe()
  })

// --- internal

/** The execution that an instance belongs to, unless its context has crossed the border of another one. */
const currentOf = (instance: Instance | undefined): Effect.Effect<Execution.Execution | undefined> =>
  Effect.map(
    Execution.Current,
    (current) => instance !== undefined && current?.executionId === instance.executionId ? current : undefined
  )

const start = (
  environment: Environment,
  workflow: Workflow.Any,
  { executionId, parent, payload }: ExecuteOptions
): Effect.Effect<{ readonly taskId: TaskId; readonly created: boolean }, DriverError | NotFound> =>
  Effect.gen(function*() {
    const { absurd, settings: { maxAttempts, queue } } = environment
    const params = yield* Encoding.encodePayload(workflow, payload)
    const item: Driver.SpawnItem = {
      name: TaskName.make(workflow._tag),
      params,
      headers: {
        [Names.executionHeader]: executionId,
        ...(parent === undefined ? {} : { [Names.parentHeader]: parent.executionId })
      },
      retryStrategy: crashStrategy,
      maxAttempts,
      cancellation: null,
      idempotencyKey: IdempotencyKey.make(executionId),
      delay: null
    }
    const send = Telemetry.spawning(
      queue,
      [item],
      (_, inject) => Effect.map(absurd.coalesced.spawn(queue, inject(item)), (spawned) => [spawned])
    )
    const spawned = yield* send.pipe(
      Effect.map(([first]) => first!),
      // The first payload of an execution stays.
      Effect.catchTag("IdempotencyConflict", (error: IdempotencyConflict) =>
        error.differs === "params"
          ? Effect.succeed({ taskId: error.taskId, created: false })
          : Effect.die(error))
    )
    if (spawned.created) environment.wake.openUnsafe()
    return spawned
  })

/** An attempt of the task ends only with its process or its lease; whoever kills processes shall not do so in a loop. */
const crashStrategy = RetryStrategy.exponential({ base: "1 second", factor: 2, max: "5 minutes" })

/** The result once there is one, or once the execution sleeps. */
const nextResult = (
  environment: Environment,
  workflow: Workflow.Any,
  { created, taskId }: { readonly taskId: TaskId; readonly created: boolean }
): Effect.Effect<Result> =>
  Effect.flatMap(
    observe(environment, taskId, ({ state }) => isTerminal(state) || state === "sleeping", created),
    (result): Effect.Effect<Result> =>
      isTerminal(result.state)
        ? Encoding.decodeResult(workflow, result)
        : Effect.succeed(new Workflow.Suspended({}))
  )

/**
 * Looks at a task, when a run of it ends in this process and at intervals, until it is as wanted. There is nothing to see yet
 * of one that was created just now, and what has ended here is not asked for.
 */
const observe = (
  environment: Environment,
  taskId: TaskId,
  isWanted: (result: Driver.TaskResult) => boolean,
  created = false
): Effect.Effect<Driver.TaskResult> =>
  Effect.suspend(() => {
    const { next, unsubscribe } = environment.observers.subscribe(taskId)
    const found = created ? Deferred.await(next) : Effect.flatMap(resultOf(environment, taskId), (result) => {
      if (result === undefined) return Effect.die(new Error(`The task ${taskId} has been deleted`))
      return isWanted(result) ? Effect.succeed(result) : Deferred.await(next)
    })
    return Effect.flatMap(
      Effect.ensuring(found, Effect.sync(unsubscribe)),
      (result) =>
        result !== undefined && isWanted(result)
          ? Effect.succeed(result)
          : observe(environment, taskId, isWanted)
    )
  })

/**
 * The parent sleeps, without a slot, until the child has ended; the store wakes it in the commit in which the child's task
 * ends, however it does. What the parent has seen of a child it keeps.
 */
const executeChild = (
  environment: Environment,
  parent: Execution.Execution,
  workflow: Workflow.Any,
  options: ExecuteOptions
): Effect.Effect<Result | void> =>
  Effect.gen(function*() {
    const { executionId } = options
    const known = options.discard ? undefined : parent.checkpoints.get(Names.childStep(executionId))
    if (known !== undefined) return yield* decodeChild(workflow, known)
    // A replay for an interrupt only rebuilds compensations.
    if (!options.discard && parent.interrupted && options.parent?.interrupted === false) {
      return new Workflow.Suspended({})
    }
    const { created, taskId } = yield* startChild(environment, parent, workflow, options)
    if (options.discard) return undefined
    const ended = created ? undefined : yield* endOfChild(environment, parent, taskId)
    if (ended !== undefined) {
      return yield* decodeChild(
        workflow,
        yield* Execution.store(environment, parent, Names.childStep(executionId), ended)
      )
    }
    parent.attempt.children.set(executionId, taskId)
    return new Workflow.Suspended({})
  })

/** A child is started once, even if its task is cleaned up before its parent looks at it again. */
const startChild = (
  environment: Environment,
  parent: Execution.Execution,
  workflow: Workflow.Any,
  options: ExecuteOptions
): Effect.Effect<{ readonly taskId: TaskId; readonly created: boolean }> =>
  Effect.gen(function*() {
    const step = Names.startedStep(options.executionId)
    const known = parent.checkpoints.get(step)
    if (isTaskId(known)) return { taskId: known, created: false }
    const { created, taskId } = yield* Execution.send(parent, "spawn", start(environment, workflow, options))
    yield* Execution.store(environment, parent, step, taskId)
    return { taskId, created }
  })

/** How a child's task has ended, as it is to be kept; undefined while it goes on. */
const endOfChild = (
  { absurd: { coalesced }, settings: { queue } }: Environment,
  parent: Execution.Execution,
  taskId: TaskId
): Effect.Effect<Schema.Json | undefined> =>
  Effect.map(Execution.send(parent, "results", coalesced.result(queue, taskId)), (result) => {
    if (result === undefined) {
      const message = "The task was deleted before the parent of this execution had seen its end"
      return { taskId, state: "failed", result: null, failure: { name: "NotFound", message } }
    }
    const { failure, state } = result
    if (!isTerminal(state)) return undefined
    return state === "completed" ? result.result : { taskId, state, result: null, failure }
  })

const isTaskId = Schema.is(TaskId)

const resultOf = (environment: Environment, taskId: TaskId): Effect.Effect<Driver.TaskResult | undefined> =>
  askTogether(environment, environment.absurd.coalesced.result(environment.settings.queue, taskId))

/** Nothing is stored under an id that cannot be stored. */
const find = (environment: Environment, executionId: string): Effect.Effect<TaskId | undefined> => {
  const { absurd: { driver }, settings: { queue } } = environment
  return isKey(executionId)
    ? ask(environment, "findTask", driver.findTask({ queue, idempotencyKey: executionId }))
    : Effect.succeed(undefined)
}

const isKey = Schema.is(IdempotencyKey)

/** What is kept of a child is what its task was completed with, or how it ended otherwise. */
const decodeChild = (workflow: Workflow.Any, stored: Schema.Json): Effect.Effect<Result> =>
  Predicate.hasProperty(stored, "outcome")
    ? Encoding.decodeOutcome(workflow, stored)
    : Effect.flatMap(Effect.orDie(decodeEnded(stored)), (result) => Encoding.decodeResult(workflow, result))

const decodeEnded = Schema.decodeUnknownEffect(Driver.TaskResult)
