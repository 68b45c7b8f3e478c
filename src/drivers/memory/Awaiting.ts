/**
 * Waiting for tasks: the rows that stand for it, and what wakes who waits.
 *
 * @since 0.1.0
 */
import { CheckpointName, type RunId, type TaskId } from "../../core/Identifiers.ts"
import { type Call, partKey } from "./Tables.ts"

/** The step of the row that stands for one task of a wait. @since 0.1.0 */
export const stepFor = (step: string, taskId: TaskId): CheckpointName => CheckpointName.make(`${step}:${taskId}`)

/** The event of that row. @since 0.1.0 */
export const eventFor = (taskId: TaskId, failFast: boolean): string => `${failFast ? "$task" : "$settled"}:${taskId}`

/** Makes every run pending of which a wait is over now that the task has ended. @since 0.1.0 */
export const wake = (call: Call, taskId: TaskId): void => {
  const { tables } = call
  const failed = tables.tasks.get(taskId)?.state !== "completed"
  const woken = new Set<RunId>()
  for (const failFast of [true, false]) {
    // A copy, for the loop takes entries out.
    for (const key of Array.from(tables.waitsByEvent.get(eventFor(taskId, failFast)))) {
      const wait = tables.waits.get(key)
      if (wait === undefined) continue
      tables.waits.delete(partKey(wait.runId, wait.step))
      const step = wait.step.slice(0, -37)
      if ((failFast && failed) || !isOpen(call, wait.taskId, step)) woken.add(wait.runId)
    }
  }
  for (const runId of woken) {
    const run = tables.runs.get(runId)
    if (run?.state !== "sleeping") continue
    tables.runs.set(runId, {
      ...run,
      state: "pending",
      availableAt: call.now,
      wakeEvent: null,
      eventPayload: undefined
    })
    tables.tasks.set(run.taskId, { ...tables.taskOf(run), state: "pending" })
    tables.deleteWaits(run.taskId)
    call.signalWork()
  }
}

// --- internal

/** Whether another task of the wait has not ended. Looks no further than the first. */
const isOpen = ({ tables }: Call, waiting: TaskId, step: string): boolean => {
  for (const key of tables.waitsByTask.get(waiting)) {
    const other = tables.waits.get(key)
    if (other !== undefined && /^[$](task|settled):/.test(other.event) && other.step.slice(0, -37) === step) return true
  }
  return false
}
