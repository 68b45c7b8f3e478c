/**
 * Looking through tasks.
 *
 * @since 0.1.0
 */
import type { Schema } from "effect"
import type { ListTasks, TaskCount, TaskRow } from "../../core/Driver.ts"
import * as Rows from "./Rows.ts"
import type { Call, Task } from "./Tables.ts"

/** @since 0.1.0 */
export const listTasks = ({ tables }: Call, request: ListTasks): ReadonlyArray<TaskRow> => {
  const { before, limit, name, outcome, states } = request
  return [...tables.tasks.values()]
    .filter((task) =>
      (name === null || task.name === name) &&
      (states === null || states.includes(task.state)) &&
      (outcome === null || outcomeOf(task) === outcome) &&
      (before === null || task.taskId < before)
    )
    .sort((a, b) => (a.taskId < b.taskId ? 1 : -1))
    .slice(0, limit)
    .map(Rows.task)
}

/** @since 0.1.0 */
export const countTasks = ({ tables }: Call): ReadonlyArray<TaskCount> => {
  const counts = new Map<string, TaskCount>()
  for (const task of tables.tasks.values()) {
    const { name, state } = task
    const outcome = outcomeOf(task)
    const key = JSON.stringify([name, state, outcome])
    counts.set(key, { name, state, outcome, tasks: (counts.get(key)?.tasks ?? 0) + 1 })
  }
  return [...counts.values()]
}

// --- internal

const outcomeOf = (task: Task): string | null => {
  const result: Schema.Json | undefined = task.completedPayload
  if (task.state !== "completed" || typeof result !== "object" || result === null || Array.isArray(result)) return null
  const { outcome } = result as { readonly outcome?: Schema.Json }
  return typeof outcome === "string" ? outcome : null
}
