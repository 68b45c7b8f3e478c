/**
 * Tasks that a task spawns and waits for.
 *
 * @since 0.1.0
 */
import { Effect, Option, Schema } from "effect"
import { Absurd } from "./Absurd.ts"
import * as Compensation from "./Compensation.ts"
import { CurrentRun } from "./CurrentRun.ts"
import * as Driver from "./Driver.ts"
import * as Eager from "./Eager.ts"
import { type DriverError, type IdempotencyConflict, InvalidUse, NotFound } from "./Errors.ts"
import { CheckpointName, IdempotencyKey, isTerminal, type QueueName, TaskId } from "./Identifiers.ts"
import { once } from "./Replay.ts"
import * as SagaLog from "./SagaLog.ts"
import type { SpawnError } from "./Spawning.ts"

/**
 * Spawns tasks of the queue. Within a task it happens once: later executions find what the first has spawned, with the params
 * that it gave them, even when that stopped half-way. Tasks with an idempotency key of their own are left to that.
 *
 * The children are known by the name of their task, numbered like steps, within the branch (`Step.scoped`) that spawns them;
 * spawning tasks of one name at the same time is `InvalidUse` there.
 *
 * With `owned` they are cancelled when the task fails for good or is cancelled.
 *
 * @since 0.1.0
 * @category combinators
 */
export const spawn = (
  queue: QueueName,
  tasks: ReadonlyArray<Driver.SpawnItem>,
  send: (tasks: ReadonlyArray<Driver.SpawnItem>) => Effect.Effect<ReadonlyArray<Driver.Spawned>, SpawnError>,
  owned: boolean
): Effect.Effect<ReadonlyArray<Driver.Spawned>, SpawnError, Absurd> =>
  Effect.flatMap(Effect.serviceOption(CurrentRun), (current) => {
    const [first] = tasks
    if (owned && tasks.some((task) => task.idempotencyKey !== null)) return notOwned(first!.name)
    if (
      Option.isNone(current) || current.value.transacting || first === undefined ||
      tasks.every((task) => task.idempotencyKey !== null)
    ) {
      return send(tasks)
    }
    const run = current.value
    return run.named(`$spawn:${first.name}`, (step) => {
      const keys = `$child:${run.taskId}:${step}:`
      const spawned = Eager.forEach(tasks, (task, index) => keyed(task, `${keys}${index}`)).pipe(
        Effect.orDie,
        // Before they exist, so that none is forgotten.
        Effect.tap(() => owned ? own(run, step, { queue, keys, count: tasks.length }) : Effect.void),
        Effect.flatMap((tasks) =>
          Effect.catchTag(
            send(tasks),
            "IdempotencyConflict",
            (conflict) => conflict.key.startsWith(keys) ? adopt(queue, tasks, conflict) : Effect.fail(conflict)
          )
        ),
        Effect.tap((spawned) => run.remember(step, encodeSpawned(spawned)))
      )
      return once(run, step, (stored) => recalled(step, stored, tasks.length), spawned)
    })
  })

/**
 * How a task has ended, once it has: in a task by suspending it, so that it holds no worker. What a task has seen of another
 * stays what it sees.
 *
 * @since 0.1.0
 * @category combinators
 */
export const awaitEnd = (
  run: CurrentRun["Service"],
  queue: QueueName,
  taskId: TaskId
): Effect.Effect<Driver.TaskResult, NotFound | DriverError, Absurd> => {
  // SDKs in other languages keep it there, so a task may move between them.
  const checkpoint = CheckpointName.make(`$awaitTaskResult:${taskId}`)
  const known = run.recall(checkpoint)
  if (known !== undefined) return decodeResult(taskId, known)
  return run.named(checkpoint, (step) =>
    Effect.gen(function*() {
      const { coalesced, outage } = yield* Absurd
      while (true) {
        const result = yield* outage.persist(coalesced.result(queue, taskId))
        if (result === undefined) return yield* new NotFound({ kind: "task", id: taskId })
        if (isTerminal(result.state)) {
          return yield* decodeResult(taskId, yield* run.remember(checkpoint, encodeResult(result)))
        }
        yield* run.wait({ _tag: "Tasks", step, queue, taskIds: [taskId], failFast: true })
      }
    }))
}

/**
 * Returns once all of the tasks have ended or, with `failFast`, one of them has ended other than completed: one wait per
 * queue, however many tasks there are. Outside of a task it returns at once.
 *
 * @since 0.1.0
 * @category combinators
 */
export const join = (
  tasks: Iterable<{ readonly queue: QueueName; readonly taskId: TaskId }>,
  failFast: boolean
): Effect.Effect<void, NotFound | DriverError, Absurd> =>
  Effect.flatMap(Effect.serviceOption(CurrentRun), (current) => {
    if (Option.isNone(current)) return Effect.void
    const run = current.value
    const open = new Map<QueueName, Array<TaskId>>()
    for (const { queue, taskId } of tasks) {
      if (run.recall(CheckpointName.make(`$awaitTaskResult:${taskId}`)) !== undefined) continue
      const ids = open.get(queue)
      if (ids === undefined) open.set(queue, [taskId])
      else ids.push(taskId)
    }
    const joined = Effect.forEach(open, ([queue, taskIds]) => joinWithin(run, queue, taskIds, failFast), {
      concurrency: "unbounded"
    })
    // One failure is enough, in whichever queue it is.
    return joined.pipe(Effect.catch((error) => error === oneFailed ? Effect.void : Effect.fail(error)))
  })

/**
 * The first of the tasks that is seen to have completed, once and for all executions; undefined when all have ended otherwise.
 * Within a task it is suspended meanwhile.
 *
 * @since 0.1.0
 * @category combinators
 */
export const firstCompleted = (
  run: CurrentRun["Service"],
  tasks: ReadonlyArray<{ readonly queue: QueueName; readonly taskId: TaskId }>
): Effect.Effect<TaskId | undefined, NotFound | DriverError, Absurd> =>
  run.named(`$any:${tasks[0]?.taskId}`, (step) =>
    Effect.gen(function*() {
      const { coalesced, outage } = yield* Absurd
      const stored = run.recall(step)
      if (stored !== undefined) {
        const winner = (yield* Effect.orDie(decodeWinner(stored))).winner ?? undefined
        if (winner === undefined || tasks.some(({ taskId }) => taskId === winner)) return winner
        const problem =
          `in an earlier execution of this task the first was ${winner}, which is not among its tasks now; ` +
          "keep it among them for tasks that have begun"
        return yield* Effect.die(new InvalidUse({ step, problem }))
      }
      while (true) {
        const results = yield* Effect.forEach(
          tasks,
          ({ queue, taskId }) => outage.persist(coalesced.result(queue, taskId)),
          { concurrency: "unbounded" }
        )
        const winner = results.find((result) => result?.state === "completed")?.taskId ?? null
        const open = tasks.filter((_, place) => {
          const result = results[place]
          return result !== undefined && !isTerminal(result.state)
        })
        if (winner !== null || open.length === 0) {
          return (yield* Effect.orDie(decodeWinner(yield* run.remember(step, { winner })))).winner ?? undefined
        }
        yield* Effect.raceAllFirst(open.map(({ queue, taskId }) =>
          run.wait({
            _tag: "Tasks",
            step: CheckpointName.make(`${step}:${taskId}`),
            queue,
            taskIds: [taskId],
            failFast: true
          })
        ))
      }
    }))

// --- internal

const Winner = Schema.Struct({ winner: Schema.NullOr(TaskId) })
const decodeWinner = Schema.decodeUnknownEffect(Winner)

/** Tells the log of compensations about children before they are spawned. */
const own = (run: CurrentRun["Service"], step: CheckpointName, children: SagaLog.Children) =>
  Effect.gen(function*() {
    const entry = CheckpointName.make(`${SagaLog.prefix}${step}`)
    yield* Compensation.ensureGuardian(run)
    if (run.recall(entry) === undefined) yield* run.remember(entry, yield* run.saga.entry(yield* run.now, children))
  })

/** What an execution that was not told of it has spawned, with whatever params. All of them, for they are stored together. */
const adopt = (
  queue: QueueName,
  tasks: ReadonlyArray<Driver.SpawnItem>,
  conflict: IdempotencyConflict
): Effect.Effect<ReadonlyArray<Driver.Spawned>, IdempotencyConflict | NotFound | DriverError, Absurd> =>
  Effect.forEach(tasks, ({ idempotencyKey }) =>
    Effect.gen(function*() {
      const { driver } = yield* Absurd
      const taskId = idempotencyKey === null ? undefined : yield* driver.findTask({ queue, idempotencyKey })
      const task = taskId === undefined ? undefined : yield* driver.getTask({ queue, taskId })
      if (task === undefined || task.lastAttemptRun === null) return yield* conflict
      return { taskId: task.taskId, runId: task.lastAttemptRun, attempt: task.attempts, created: false }
    }))

const notOwned = (task: string) =>
  Effect.die(
    new InvalidUse({
      step: `$spawn:${task}`,
      problem: "a task with an idempotency key of its own may be another's already, so it cannot be owned; " +
        "leave out the key, or give the spawn a compensation that cancels it"
    })
  )

const oneFailed = "one of the tasks has not completed"

const joinWithin = (
  run: CurrentRun["Service"],
  queue: QueueName,
  taskIds: ReadonlyArray<TaskId>,
  failFast: boolean
): Effect.Effect<void, NotFound | DriverError | typeof oneFailed, Absurd> =>
  run.named(`$join:${queue}`, (step) =>
    Effect.gen(function*() {
      const { driver, outage } = yield* Absurd
      while (true) {
        const results = yield* outage.persist(driver.results({ queue, taskIds }))
        if (failFast && results.some(({ state }) => state === "failed" || state === "cancelled")) {
          return yield* Effect.fail<typeof oneFailed>(oneFailed)
        }
        if (results.every(({ state }) => isTerminal(state))) return
        yield* run.wait({ _tag: "Tasks", step, queue, taskIds, failFast })
      }
    }))

const keyed = (task: Driver.SpawnItem, key: string): Effect.Effect<Driver.SpawnItem, Schema.SchemaError> =>
  task.idempotencyKey !== null
    ? Effect.succeed(task)
    : Effect.mapEager(decodeKey(key), (idempotencyKey) => ({ ...task, idempotencyKey }))

const decodeKey = Schema.decodeUnknownEffect(IdempotencyKey)

const SpawnedList = Schema.Array(Driver.Spawned)
const decodeSpawned = Schema.decodeUnknownEffect(SpawnedList)
const encodeSpawned = (spawned: ReadonlyArray<Driver.Spawned>): Schema.Json =>
  spawned.map(({ attempt, created, runId, taskId }) => ({ attempt, created, runId, taskId }))

const recalled = (step: CheckpointName, stored: Schema.Json, count: number) =>
  Effect.flatMap(
    Effect.orDie(decodeSpawned(stored)),
    (spawned) =>
      spawned.length === count ? Effect.succeed(spawned) : Effect.die(
        new InvalidUse({
          step,
          problem: `an earlier execution of this task spawned ${spawned.length} tasks here, this one wants ${count}; ` +
            `let the number come from the params or from a step`
        })
      )
  )

const StoredResult = Schema.Struct({
  state: Schema.Literals(["completed", "failed", "cancelled"]),
  result: Schema.optionalKey(Schema.NullOr(Schema.Json)),
  failure: Schema.optionalKey(Schema.NullOr(Schema.Json))
})
const decodeStored = Schema.decodeUnknownEffect(StoredResult)

const encodeResult = ({ failure, result, state }: Driver.TaskResult): Schema.Json =>
  state === "completed" ? { state, result } : state === "failed" ? { state, failure } : { state }

const decodeResult = (taskId: TaskId, stored: Schema.Json): Effect.Effect<Driver.TaskResult> =>
  Effect.map(
    Effect.orDie(decodeStored(stored)),
    ({ failure, result, state }) => ({ taskId, state, result: result ?? null, failure: failure ?? null })
  )
