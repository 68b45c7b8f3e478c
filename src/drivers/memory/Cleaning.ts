/**
 * Deleting what is no longer needed.
 *
 * @since 0.1.0
 */
import { Duration } from "effect"
import type { CleanupRequest } from "../../core/Driver.ts"
import type { Call, Task } from "./Tables.ts"

/** @since 0.1.0 */
export const cleanupTasks = (call: Call, { limit, ttl }: Pick<CleanupRequest, "limit" | "ttl">): number => {
  const { ended } = call.tables
  const before = call.now - wholeSeconds(ttl)
  let count = 0
  while (count < limit) {
    const task = ended.first(before)
    // What ended exactly then did not end before.
    if (task === undefined || task.endedAt === before) break
    deleteTask(call, task)
    count++
  }
  return count
}

/** @since 0.1.0 */
export const cleanupEvents = (call: Call, { limit, ttl }: Pick<CleanupRequest, "limit" | "ttl">): number => {
  const { emitted, events } = call.tables
  const before = call.now - wholeSeconds(ttl)
  let count = 0
  while (count < limit) {
    const event = emitted.first(before)
    if (event === undefined || event.emittedAt === before) break
    events.delete(event.name)
    count++
  }
  return count
}

// --- internal

// The wire contract counts whole seconds. What is rounded up deletes nothing too early.
const wholeSeconds = (ttl: Duration.Duration): number =>
  Math.min(2_147_483_647, Math.ceil(Duration.toSeconds(ttl))) * 1000

const deleteTask = ({ tables }: Call, { taskId }: Task) => {
  tables.deleteWaits(taskId)
  for (const key of tables.checkpointsByTask.get(taskId)) tables.checkpoints.delete(key)
  for (const { runId } of tables.runsOf(taskId)) tables.runs.delete(runId)
  tables.tasks.delete(taskId)
}
