/**
 * Reading what is stored.
 *
 * @since 0.1.0
 */
import type { Checkpoint, QueueLoad, RunRow, TaskResult, TaskRow, WaitRow } from "../../core/Driver.ts"
import type { CheckpointName, RunId, TaskId } from "../../core/Identifiers.ts"
import type * as Invariants from "../../core/Invariants.ts"
import * as Instants from "./Instants.ts"
import * as Json from "./Json.ts"
import * as Limits from "./Limits.ts"
import * as Rows from "./Rows.ts"
import type { Call } from "./Tables.ts"

/** @since 0.1.0 */
export const load = ({ now, tables }: Call, paused: boolean): QueueLoad => {
  const due = tables.due.select(now, Infinity, () => true)
  const oldest = due[0]?.availableAt ?? null
  let later = 0
  for (const run of tables.runs.values()) {
    if ((run.state === "pending" || run.state === "sleeping") && (run.availableAt === null || run.availableAt > now)) {
      later++
    }
  }
  return {
    paused,
    due: due.length,
    later,
    running: tables.leases.size,
    oldest: oldest === null ? null : Instants.between(oldest, now)
  }
}

/**
 * The first instant after now at which a run becomes due, a lease ends or a policy cancels a task; null for never. In whole
 * milliseconds: what becomes due within one is due at its end.
 *
 * @since 0.1.0
 */
export const nextDue = ({ now, tables }: Call): number | null => {
  const next = Math.min(
    beforeParked(tables.due.firstAfter(now)),
    tables.leases.firstAfter(now) ?? Infinity,
    tables.deadlines.firstAfter(now) ?? Infinity
  )
  return next === Infinity ? null : Math.ceil(next)
}

// A parked run becomes due by what happens to others.
const beforeParked = (at: number | undefined): number => at === undefined || at >= Limits.parked ? Infinity : at

/** @since 0.1.0 */
export const results = (
  { tables }: Call,
  { taskIds }: { readonly taskIds: ReadonlyArray<TaskId> }
): ReadonlyArray<TaskResult> => {
  const found: Array<TaskResult> = []
  for (const taskId of new Set(taskIds)) {
    const task = tables.tasks.get(taskId)
    if (task === undefined) continue
    const reason = task.state === "failed" ? tables.runs.get(task.lastAttemptRun)?.failureReason : undefined
    found.push({
      taskId,
      state: task.state,
      result: task.state === "completed" ? Json.copy(task.completedPayload ?? null) : null,
      failure: Json.copy(reason ?? null)
    })
  }
  return found
}

/** @since 0.1.0 */
export const getTask = ({ tables }: Call, { taskId }: { readonly taskId: TaskId }): TaskRow | undefined => {
  const task = tables.tasks.get(taskId)
  return task === undefined ? undefined : Rows.task(task)
}

/** @since 0.1.0 */
export const getRun = ({ tables }: Call, { runId }: { readonly runId: RunId }): RunRow | undefined => {
  const run = tables.runs.get(runId)
  return run === undefined ? undefined : Rows.run(run)
}

/** @since 0.1.0 */
export const listRuns = ({ tables }: Call, { taskId }: { readonly taskId: TaskId }): ReadonlyArray<RunRow> =>
  tables.runsOf(taskId).map(Rows.run)

/** @since 0.1.0 */
export const listWaits = ({ tables }: Call, { taskId }: { readonly taskId: TaskId }): ReadonlyArray<WaitRow> =>
  tables.waitsOf(taskId).map(Rows.wait)

/** @since 0.1.0 */
export const getCheckpoints = (
  { tables }: Call,
  { name, taskId }: { readonly taskId: TaskId; readonly name: CheckpointName | null }
): ReadonlyArray<Checkpoint> => {
  if (name === null) return tables.checkpointsOf(taskId).map(Rows.checkpoint)
  const found = tables.checkpoint(taskId, name)
  return found === undefined ? [] : [Rows.checkpoint(found)]
}

/**
 * Everything in a queue: tasks and runs by id, checkpoints in the order of writing, events by instant and name, waits by task and
 * step, limits by name.
 *
 * @since 0.1.0
 */
export type Dump = Invariants.Dump

/** @since 0.1.0 */
export const dump = (call: Call): Dump => {
  const { tables } = call
  const tasks = [...tables.tasks.values()].sort((a, b) => (a.taskId < b.taskId ? -1 : 1))
  return {
    tasks: tasks.map(Rows.task),
    runs: [...tables.runs.values()].sort((a, b) => (a.runId < b.runId ? -1 : 1)).map(Rows.run),
    checkpoints: [...tables.checkpoints.values()].sort((a, b) => a.ordinal - b.ordinal).map(Rows.checkpoint),
    events: [...tables.events.values()].sort((a, b) => a.emittedAt - b.emittedAt || (a.name < b.name ? -1 : 1))
      .map(Rows.event),
    waits: tasks.flatMap((task) => tables.waitsOf(task.taskId)).map(Rows.wait),
    ...Limits.dump(call)
  }
}
