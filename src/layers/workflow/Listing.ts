/** What has become of the executions of a queue. */
import { type DateTime, Effect, Predicate, type Schema } from "effect"
import { Absurd, resolveQueue } from "../../core/Absurd.ts"
import type { TaskRow } from "../../core/Driver.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import { type State, TaskId } from "../../core/Identifiers.ts"
import * as Input from "../../core/Input.ts"
import * as Names from "./Names.ts"

/**
 * What an execution has come to.
 *
 * - `open`: it has not ended.
 * - `succeeded`, `failed`, `interrupted`: its result. A captured defect is a failure.
 * - `defect`: a defect of a workflow that does not capture its defects.
 * - `cancelled`: its task was cancelled.
 * - `crashed`: its processes have died too often.
 *
 * @since 0.1.0
 * @category models
 */
export type Outcome = "open" | "succeeded" | "failed" | "interrupted" | "defect" | "cancelled" | "crashed"

/**
 * Which executions are listed; all by default.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  /** The queue of the executions; the client's own by default. */
  readonly queue?: string | undefined
  /** The name of a workflow. */
  readonly workflow?: string | undefined
  readonly outcome?: Outcome | undefined
  /** Only executions that were started before the one of this task: the last one of the page before. */
  readonly before?: string | undefined
  /** How many at most, from 1 to 10,000; 100 by default. */
  readonly limit?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Listed {
  readonly executionId: string
  readonly workflow: string
  readonly taskId: TaskId
  readonly outcome: Outcome
  readonly startedAt: DateTime.Utc
  /** How often it was claimed after its process had died, and once. */
  readonly attempts: number
  /** The execution that started it, if one did. */
  readonly parent: string | undefined
  /** The encoded exit, once there is one. */
  readonly exit: Schema.Json | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Count {
  readonly workflow: string
  readonly outcome: Outcome
  readonly executions: number
}

type Reads<A> = Effect.Effect<A, InvalidInput | NotFound | DriverError, Absurd>

export const list = Effect.fn("AbsurdWorkflowEngine.list")(function*(
  options: ListOptions
): Effect.fn.Return<ReadonlyArray<Listed>, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const { before, outcome, workflow } = options
  const rows = yield* driver.listTasks({
    queue: yield* resolveQueue(options.queue),
    name: workflow ?? null,
    ...filterOf(outcome),
    before: before === undefined ? null : yield* checkTaskId(before),
    limit: yield* Input.integer("limit", options.limit ?? 100, { minimum: 1, maximum: 10_000 })
  })
  return rows.map(listed)
})

export const count = (options: { readonly queue?: string | undefined }): Reads<ReadonlyArray<Count>> =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const counts = new Map<string, Count>()
    for (const { name, outcome, state, tasks } of yield* driver.countTasks(yield* resolveQueue(options.queue))) {
      const of = outcomeOf(state, outcome)
      const key = JSON.stringify([name, of])
      counts.set(key, { workflow: name, outcome: of, executions: (counts.get(key)?.executions ?? 0) + tasks })
    }
    return [...counts.values()].sort((a, b) => compare(a.workflow, b.workflow) || compare(a.outcome, b.outcome))
  })

// --- internal

const checkTaskId = Input.check("before", TaskId)

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

const filterOf = (
  outcome: Outcome | undefined
): { readonly states: ReadonlyArray<State> | null; readonly outcome: string | null } => {
  switch (outcome) {
    case undefined:
      return { states: null, outcome: null }
    case "open":
      return { states: ["pending", "running", "sleeping"], outcome: null }
    case "cancelled":
      return { states: ["cancelled"], outcome: null }
    case "crashed":
      return { states: ["failed"], outcome: null }
    default:
      return { states: null, outcome }
  }
}

const outcomeOf = (state: State, outcome: unknown): Outcome => {
  switch (state) {
    case "completed":
      return outcome === "failed" || outcome === "interrupted" || outcome === "defect" ? outcome : "succeeded"
    case "cancelled":
      return "cancelled"
    case "failed":
      return "crashed"
    default:
      return "open"
  }
}

const listed = (row: TaskRow): Listed => {
  const { completedPayload: result } = row
  return {
    executionId: header(row, Names.executionHeader) ?? row.idempotencyKey ?? row.taskId,
    workflow: row.name,
    taskId: row.taskId,
    outcome: outcomeOf(row.state, Predicate.hasProperty(result, "outcome") ? result.outcome : null),
    startedAt: row.enqueueAt,
    attempts: row.attempts,
    parent: header(row, Names.parentHeader),
    exit: Predicate.hasProperty(result, "exit") ? result.exit as Schema.Json : undefined
  }
}

const header = ({ headers }: TaskRow, name: string): string | undefined => {
  const value: unknown = Predicate.hasProperty(headers, name) ? headers[name] : undefined
  return typeof value === "string" ? value : undefined
}
