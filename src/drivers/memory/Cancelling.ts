/**
 * Cancelling and reviving tasks.
 *
 * @since 0.1.0
 */
import { Result } from "effect"
import type { Spawned } from "../../core/Driver.ts"
import { InvalidInput, InvalidState, NotFound } from "../../core/Errors.ts"
import { isTerminal, type RunId, type State, type TaskId } from "../../core/Identifiers.ts"
import * as Awaiting from "./Awaiting.ts"
import * as Limits from "./Limits.ts"
import * as Spawning from "./Spawning.ts"
import { type Call, newRun, type Task } from "./Tables.ts"

/** What cancelling found, and whether it changed anything. @since 0.1.0 */
export interface Answer {
  readonly cancelled: boolean
  readonly state: State
}

/** @since 0.1.0 */
export const cancelTask = (
  call: Call,
  { taskId }: { readonly taskId: TaskId }
): Result.Result<Answer, NotFound> => {
  const task = call.tables.tasks.get(taskId)
  if (task === undefined) return Result.fail(new NotFound({ kind: "task", id: taskId }))
  const cancelled = !isTerminal(task.state)
  if (cancelled) cancel(call, task)
  return Result.succeed({ cancelled, state: task.state })
}

/** @since 0.1.0 */
export const cancelRun = (
  call: Call,
  { runId }: { readonly runId: RunId }
): Result.Result<Answer, NotFound> => {
  const run = call.tables.runs.get(runId)
  if (run === undefined) return Result.fail(new NotFound({ kind: "run", id: runId }))
  const cancelled = run.state === "pending" || run.state === "sleeping"
  if (cancelled) cancel(call, call.tables.taskOf(run))
  return Result.succeed({ cancelled, state: run.state })
}

/** Cancels tasks that have not ended, each with the one run that has not. @since 0.1.0 */
export const cancel = (call: Call, ...tasks: ReadonlyArray<Task>): void => {
  for (const task of tasks) end(call, task)
  Limits.leave(call, ...tasks.map(({ lastAttemptRun }) => lastAttemptRun))
  // Only then, so that none of them is woken by another.
  for (const { taskId } of tasks) Awaiting.wake(call, taskId)
}

/** @since 0.1.0 */
export const retryTask = (
  call: Call,
  request: { readonly taskId: TaskId; readonly maxAttempts: number | null; readonly spawnNew: boolean }
): Result.Result<Spawned, NotFound | InvalidState | InvalidInput> => {
  const task = call.tables.tasks.get(request.taskId)
  if (task === undefined) return Result.fail(new NotFound({ kind: "task", id: request.taskId }))
  if (task.state !== "failed") {
    return Result.fail(
      new InvalidState({ operation: "retryTask", id: task.taskId, state: task.state, expected: "failed" })
    )
  }
  return request.spawnNew
    ? Result.succeed(Spawning.insert(call, {
      ...task,
      maxAttempts: request.maxAttempts ?? task.maxAttempts,
      enqueueAt: call.now,
      idempotencyKey: null
    }))
    : revive(call, task, request.maxAttempts ?? (task.maxAttempts ?? task.attempts) + 1)
}

// --- internal

const end = (call: Call, task: Task): void => {
  const { now, tables } = call
  const run = tables.runs.get(task.lastAttemptRun)
  if (run !== undefined && !isTerminal(run.state)) {
    tables.runs.set(run.runId, { ...run, state: "cancelled", claimedBy: null, claimExpiresAt: null })
  }
  tables.deleteWaits(task.taskId)
  tables.tasks.set(task.taskId, { ...task, state: "cancelled", cancelledAt: now, endedAt: now })
  call.signalEnd(task.taskId)
}

const revive = (call: Call, task: Task, maxAttempts: number): Result.Result<Spawned, InvalidInput> => {
  if (maxAttempts <= task.attempts) {
    return Result.fail(
      new InvalidInput({
        field: "maxAttempts",
        problem: `${maxAttempts} must be greater than the ${task.attempts} attempts already made`
      })
    )
  }
  const run = newRun(call, task.taskId, { runId: task.lastAttemptRun, attempt: task.attempts }, call.now)
  call.tables.runs.set(run.runId, run)
  call.tables.tasks.set(task.taskId, {
    ...task,
    state: "pending",
    attempts: run.attempt,
    maxAttempts,
    lastAttemptRun: run.runId,
    cancelledAt: null,
    endedAt: null
  })
  call.signalWork()
  return Result.succeed({ taskId: task.taskId, runId: run.runId, attempt: run.attempt, created: false })
}
