/**
 * Spawning tasks, and finding them by their idempotency keys.
 *
 * @since 0.1.0
 */
import { Result, type Schema } from "effect"
import type { PendingStore, Spawn, Spawned, SpawnItem } from "../../core/Driver.ts"
import { IdempotencyConflict } from "../../core/Errors.ts"
import type { IdempotencyKey, TaskId } from "../../core/Identifiers.ts"
import * as Instants from "./Instants.ts"
import * as Json from "./Json.ts"
import * as Limits from "./Limits.ts"
import { type Call, newRun, type Task } from "./Tables.ts"

/** @since 0.1.0 */
export const spawn = (
  call: Call,
  { tasks }: typeof Spawn.Type
): Result.Result<ReadonlyArray<Spawned>, IdempotencyConflict> => {
  const answers: Array<Spawned> = []
  const drafts: Array<Draft> = []
  for (const item of tasks) {
    const params = Json.normalize(item.params)
    const owner = item.idempotencyKey === null ? undefined : ownerOf(call, item.idempotencyKey)
    if (owner === undefined) {
      const draft = draftOf(call, item, params)
      drafts.push(draft)
      answers.push(insert(call, draft))
      continue
    }
    const differs = owner.name !== item.name ? "name" : Json.equals(owner.params, params) ? undefined : "params"
    if (differs !== undefined) {
      return Result.fail(new IdempotencyConflict({ key: item.idempotencyKey ?? "", taskId: owner.taskId, differs }))
    }
    answers.push({ taskId: owner.taskId, runId: owner.lastAttemptRun, attempt: owner.attempts, created: false })
  }
  Limits.declare(call, drafts)
  return Result.succeed(answers)
}

/** What a task is spawned with. @since 0.1.0 */
export type Draft = Pick<
  Task,
  "name" | "params" | "headers" | "retryStrategy" | "maxAttempts" | "cancellation" | "enqueueAt" | "idempotencyKey"
>

/** Writes a new task with its first run, whose values are in normal form. @since 0.1.0 */
export const insert = (call: Call, draft: Draft): Spawned => {
  const { tables } = call
  const taskId = call.newTaskId()
  const run = newRun(call, taskId, null, draft.enqueueAt)
  tables.tasks.set(taskId, {
    taskId,
    name: draft.name,
    params: draft.params,
    headers: draft.headers,
    retryStrategy: draft.retryStrategy,
    maxAttempts: draft.maxAttempts,
    cancellation: draft.cancellation,
    enqueueAt: draft.enqueueAt,
    firstStartedAt: null,
    state: run.state,
    attempts: 1,
    lastAttemptRun: run.runId,
    completedPayload: undefined,
    cancelledAt: null,
    idempotencyKey: draft.idempotencyKey,
    endedAt: null
  })
  tables.runs.set(run.runId, run)
  if (run.state === "pending") call.signalWork()
  return { taskId, runId: run.runId, attempt: 1, created: true }
}

/** @since 0.1.0 */
export const revisePending = (
  call: Call,
  { keepDue, key, task: item }: Parameters<PendingStore["revisePending"]>[0]
): Spawned | undefined => {
  const { now, tables } = call
  const task = ownerOf(call, key)
  const run = task === undefined ? undefined : tables.runs.get(task.lastAttemptRun)
  if (task === undefined || run === undefined || task.name !== item.name || task.firstStartedAt !== null) {
    return undefined
  }
  if (task.state !== "pending" && task.state !== "sleeping") return undefined
  const draft = draftOf(call, item, Json.normalize(item.params))
  const due = keepDue ? Limits.dueOf(call, run) ?? task.enqueueAt : draft.enqueueAt
  const state = due > now ? "sleeping" : "pending"
  tables.tasks.set(task.taskId, { ...task, ...draft, idempotencyKey: task.idempotencyKey, enqueueAt: due, state })
  tables.runs.set(run.runId, { ...run, availableAt: due, state })
  Limits.declare(call, [draft])
  Limits.leave(call, run.runId)
  if (state === "pending") call.signalWork()
  return { taskId: task.taskId, runId: run.runId, attempt: run.attempt, created: false }
}

/** @since 0.1.0 */
export const findTask = (
  call: Call,
  { idempotencyKey }: { readonly idempotencyKey: IdempotencyKey }
): TaskId | undefined => ownerOf(call, idempotencyKey)?.taskId

// --- internal

const ownerOf = (call: Call, key: string): Task | undefined => {
  for (const taskId of call.tables.tasksByKey.get(key)) return call.tables.tasks.get(taskId)
  return undefined
}

const draftOf = (call: Call, item: SpawnItem, params: Schema.Json): Draft => ({
  name: item.name,
  params,
  headers: item.headers === null ? null : headersOf(item.headers),
  retryStrategy: Json.normalize(item.retryStrategy),
  maxAttempts: item.maxAttempts,
  cancellation: Json.normalize(item.cancellation),
  enqueueAt: item.delay === null ? call.now : Math.max(call.now, Instants.resolve(call.now, item.delay)),
  idempotencyKey: item.idempotencyKey
})

const headersOf = (headers: NonNullable<SpawnItem["headers"]>): Task["headers"] => {
  const normal = Json.normalize(headers)
  return Json.isObject(normal) ? normal : null
}
