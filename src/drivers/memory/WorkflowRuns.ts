/**
 * Workflow runs in memory.
 *
 * @since 0.1.0
 */
import { DateTime, Duration, Result, type Schema } from "effect"
import {
  hasEnded,
  type NewWorkflowRun,
  type WorkflowRun,
  type WorkflowRunFilter,
  type WorkflowRunUpdate
} from "../../core/Driver.ts"
import { InvalidState, NotFound } from "../../core/Errors.ts"
import type { WorkflowRunId } from "../../core/Identifiers.ts"
import * as Json from "./Json.ts"
import { type Journal, Ordered, Table } from "./Table.ts"

/**
 * The workflow runs of a store.
 *
 * @since 0.1.0
 * @category models
 */
export class WorkflowRuns {
  readonly rows: Table<WorkflowRunId, WorkflowRun>
  readonly ended: Ordered<WorkflowRunId, WorkflowRun>

  constructor(journal: Journal) {
    this.rows = new Table(journal)
    this.ended = this.rows.index(new Ordered((run) => run.completedAt?.epochMilliseconds ?? null))
  }
}

/** @since 0.1.0 */
export const create = (runs: WorkflowRuns, now: number, run: NewWorkflowRun): Result.Result<void, InvalidState> => {
  const found = runs.rows.get(run.id)
  const inputs = Json.normalize(run.inputs)
  if (found !== undefined) {
    const same = found.name === run.name && found.version === run.version && Json.equals(found.inputs, inputs)
    return same ? Result.succeed(undefined) : Result.fail(
      new InvalidState({
        operation: "createWorkflowRun",
        id: run.id,
        state: `the id of another run of ${found.name} ${found.version}`,
        expected: "an id that is free"
      })
    )
  }
  const at = instant(now)
  runs.rows.set(run.id, {
    ...run,
    inputs,
    tags: [...run.tags],
    status: "pending",
    result: null,
    error: null,
    taskCount: null,
    createdAt: at,
    updatedAt: at,
    startedAt: null,
    completedAt: null
  })
  return Result.succeed(undefined)
}

/** @since 0.1.0 */
export const update = (
  runs: WorkflowRuns,
  now: number,
  change: WorkflowRunUpdate
): Result.Result<void, NotFound | InvalidState> => {
  const { id, status } = change
  const found = runs.rows.get(id)
  if (found === undefined) return Result.fail(new NotFound({ kind: "workflow run", id }))
  if ((found.status === "completed" || found.status === "cancelled") && found.status !== status) {
    return Result.fail(
      new InvalidState({
        operation: "updateWorkflowRun",
        id,
        state: found.status,
        expected: "a status that is not final"
      })
    )
  }
  const at = instant(now)
  runs.rows.set(id, {
    ...found,
    status,
    result: changed(found.result, change.result),
    error: changed(found.error, change.error),
    taskCount: change.taskCount ?? found.taskCount,
    updatedAt: at,
    startedAt: change.startedAt ?? found.startedAt ?? (status === "running" ? at : null),
    completedAt: hasEnded(status) ? change.completedAt ?? found.completedAt ?? at : null
  })
  return Result.succeed(undefined)
}

/** @since 0.1.0 */
export const get = (runs: WorkflowRuns, id: WorkflowRunId): WorkflowRun | undefined => {
  const found = runs.rows.get(id)
  return found === undefined ? undefined : copied(found)
}

/** @since 0.1.0 */
export const list = (runs: WorkflowRuns, filter: WorkflowRunFilter): ReadonlyArray<WorkflowRun> =>
  runs.rows.values()
    .filter((run) => fits(filter, run))
    .sort((a, b) => before(a, b) ? 1 : -1)
    .slice(0, filter.limit)
    .map(copied)

/** @since 0.1.0 */
export const cleanup = (
  { ended, rows }: WorkflowRuns,
  now: number,
  { limit, ttl }: { readonly ttl: Duration.Duration; readonly limit: number }
): number => {
  const until = now - Duration.toMillis(ttl)
  let count = 0
  while (count < limit) {
    const run = ended.first(until)
    // What ended exactly then did not end before.
    if (run === undefined || run.completedAt === null || run.completedAt.epochMilliseconds >= until) break
    rows.delete(run.id)
    count++
  }
  return count
}

// --- internal

const instant = (now: number): DateTime.Utc => DateTime.makeUnsafe(Math.floor(now))

const changed = (stored: Schema.Json, value: Schema.Json | undefined): Schema.Json =>
  value === undefined ? stored : Json.normalize(value)

type Position = NonNullable<WorkflowRunFilter["after"]>

/** Whether `a` was created before `b`, with the ids in order when they were created together. */
const before = (a: Position, b: Position): boolean => {
  const [first, second] = [a.createdAt.epochMilliseconds, b.createdAt.epochMilliseconds]
  return first === second ? a.id < b.id : first < second
}

const fits = (filter: WorkflowRunFilter, run: WorkflowRun): boolean =>
  (filter.name === null || run.name === filter.name) &&
  (filter.version === null || run.version === filter.version) &&
  (filter.status === null || run.status === filter.status) &&
  (filter.tag === null || run.tags.includes(filter.tag)) &&
  (filter.createdFrom === null || !DateTime.isLessThan(run.createdAt, filter.createdFrom)) &&
  (filter.createdBefore === null || DateTime.isLessThan(run.createdAt, filter.createdBefore)) &&
  (filter.after === null || before(run, filter.after))

const copied = (run: WorkflowRun): WorkflowRun => ({
  ...run,
  inputs: Json.copy(run.inputs),
  result: Json.copy(run.result),
  error: Json.copy(run.error),
  tags: [...run.tags]
})
