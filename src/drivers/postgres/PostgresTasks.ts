/**
 * Spawning, cancelling and reviving tasks, events, and reading what is stored, by the kernel.
 *
 * @since 0.1.0
 */
import { Effect, type Schema } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { Driver, Spawned, TaskResult } from "../../core/Driver.ts"
import { type DriverError, IdempotencyConflict, InvalidInput, InvalidState, NotFound } from "../../core/Errors.ts"
import { isTerminal, type RunId, type State, type TaskId } from "../../core/Identifiers.ts"
import { undecodable } from "./PostgresRuns.ts"
import * as Rows from "./Rows.ts"
import * as SpawnItems from "./SpawnItems.ts"
import * as SqlFailure from "./SqlFailure.ts"

type Actions = Pick<Driver["Service"], "spawn" | "revisePending" | "emit" | "cancelTask" | "cancelRun" | "retryTask">

/** What changes something, over a client. */
export const makeActions = (sql: SqlClient.SqlClient): Actions => ({
  spawn: Effect.fnUntraced(function*({ queue, tasks }) {
    if (tasks.length === 0) return []
    const alike = SpawnItems.alike(tasks)
    if (alike !== undefined) {
      const { params, task } = alike
      const made = yield* SqlFailure.run(
        sql,
        "spawn",
        queue,
        "write",
        sql<Pick<Spawned, "taskId" | "runId">>`
          SELECT task_id::text AS "taskId", run_id::text AS "runId"
          FROM absurd_effect.spawn_alike(${queue}, ${JSON.stringify(task)}::jsonb, ${JSON.stringify(params)}::jsonb)`
      )
      return made.map(({ runId, taskId }): Spawned => ({ taskId, runId, attempt: 1, created: true }))
    }
    const rows = yield* SqlFailure.run(
      sql,
      "spawn",
      queue,
      "write",
      sql<Rows.SpawnedRow>`
        SELECT task_id::text AS "taskId", run_id::text AS "runId", attempt, created, conflict::text AS conflict
        FROM absurd_effect.spawn(${queue}, ${JSON.stringify(tasks.map(SpawnItems.encode))}::jsonb, true) ORDER BY ord`
    )
    const conflict = rows[0]?.conflict ?? null
    if (conflict !== null) {
      const [found] = yield* Effect.mapError(Rows.conflicts([{ row: conflict }]), undecodable("spawn"))
      if (found === undefined) return yield* undecodable("spawn")("no row")
      return yield* new IdempotencyConflict({
        key: found.row.key,
        taskId: found.row.task,
        differs: found.row.differs
      })
    }
    return rows.map(({ attempt, created, runId, taskId }): Spawned => ({ taskId, runId, attempt, created }))
  }),

  revisePending: ({ keepDue, key, queue, task }) =>
    SqlFailure.run(
      sql,
      "revisePending",
      queue,
      "write",
      sql<{ readonly taskId: TaskId; readonly runId: RunId }>`
        SELECT task_id::text AS "taskId", run_id::text AS "runId"
        FROM absurd_effect.revise_pending(${queue}, ${key}, ${
        JSON.stringify(SpawnItems.encode(task))
      }::jsonb, ${keepDue})`
    ).pipe(
      Effect.map(([row]) => row === undefined ? undefined : { ...row, attempt: 1, created: false })
    ),

  emit: ({ event, payload, queue }) =>
    SqlFailure.run(
      sql,
      "emit",
      queue,
      "write",
      sql<{ readonly emitted: boolean; readonly woken: number }>`
        SELECT emitted, woken FROM absurd_effect.emit(${queue}, ${event}, ${JSON.stringify(payload)}::jsonb)`
    ).pipe(Effect.flatMap(([row]) =>
      row === undefined
        ? Effect.fail(undecodable("emit")("no row"))
        : Effect.succeed({ emitted: row.emitted, woken: row.woken })
    )),

  cancelTask: ({ queue, taskId }) =>
    SqlFailure.run(
      sql,
      "cancelTask",
      queue,
      "write",
      sql<StateRow>`SELECT absurd_effect.cancel(${queue}, ${taskId}::uuid) AS state`
    ).pipe(
      Effect.flatMap((rows) => stateOf(rows, "task", taskId)),
      Effect.map((state) => ({ state, cancelled: !isTerminal(state) }))
    ),

  cancelRun: ({ queue, runId }) =>
    SqlFailure.run(
      sql,
      "cancelRun",
      queue,
      "write",
      sql<StateRow>`SELECT absurd_effect.cancel_run(${queue}, ${runId}::uuid) AS state`
    ).pipe(
      Effect.flatMap((rows) => stateOf(rows, "run", runId)),
      Effect.map((state) => ({ state, cancelled: state === "pending" || state === "sleeping" }))
    ),

  retryTask: Effect.fnUntraced(function*({ maxAttempts, queue, spawnNew, taskId }) {
    const [row] = yield* SqlFailure.run(
      sql,
      "retryTask",
      queue,
      "write",
      sql<RetryRow>`
        SELECT outcome, task_id::text AS "taskId", run_id::text AS "runId", attempt, created, state, allowed, attempts
        FROM absurd_effect.retry(${queue}, ${taskId}::uuid, ${maxAttempts}::int, ${spawnNew}::boolean)`
    )
    return row === undefined ? yield* undecodable("retryTask")("no row") : yield* retried(row)
  })
})

type Reads = Pick<
  Driver["Service"],
  | "results"
  | "getTask"
  | "getRun"
  | "findTask"
  | "listRuns"
  | "listWaits"
  | "getCheckpoints"
  | "readEvent"
  | "readEvents"
>

/** What only reads, over a client. */
export const makeReads = (sql: SqlClient.SqlClient): Reads => {
  const rows = <A>(
    operation: string,
    queue: string,
    statement: Effect.Effect<ReadonlyArray<object>, SqlError.SqlError>,
    decode: (rows: ReadonlyArray<object>) => Effect.Effect<ReadonlyArray<{ readonly row: A }>, Schema.SchemaError>
  ): Effect.Effect<ReadonlyArray<A>, DriverError | NotFound> =>
    SqlFailure.run(sql, operation, queue, "read", statement).pipe(
      Effect.flatMap((found) => Effect.mapError(decode(found), undecodable(operation))),
      Effect.map((decoded) => decoded.map(({ row }) => row))
    )
  const first = <A>(all: ReadonlyArray<A>): A | undefined => all[0]

  return {
    results: ({ queue, taskIds }) =>
      SqlFailure.run(
        sql,
        "results",
        queue,
        "read",
        sql<ResultRow>`
          SELECT task_id::text AS "taskId", state, result::text AS result, failure_reason::text AS failure
          FROM absurd_effect.results(${queue}, ARRAY(
            SELECT id::uuid FROM jsonb_array_elements_text(${JSON.stringify(taskIds)}::jsonb) id
          ))`
      ).pipe(Effect.map((found) => found.map(resultOf))),

    getTask: ({ queue, taskId }) =>
      Effect.map(
        rows(
          "getTask",
          queue,
          sql`SELECT t::text AS row FROM absurd_effect.read_task(${queue}, ${taskId}::uuid) t`,
          Rows.tasks
        ),
        first
      ),

    getRun: ({ queue, runId }) =>
      Effect.map(
        rows(
          "getRun",
          queue,
          sql`SELECT r::text AS row FROM absurd_effect.read_runs(${queue}, ${runId}::uuid, NULL) r`,
          Rows.runs
        ),
        first
      ),

    findTask: ({ idempotencyKey, queue }) =>
      SqlFailure.run(
        sql,
        "findTask",
        queue,
        "read",
        sql<{ readonly taskId: TaskId }>`
          SELECT t::text AS "taskId" FROM absurd_effect.find_task(${queue}, ${idempotencyKey}) t`
      ).pipe(Effect.map((found) => found[0]?.taskId)),

    listRuns: ({ queue, taskId }) =>
      rows(
        "listRuns",
        queue,
        sql`SELECT r::text AS row FROM absurd_effect.read_runs(${queue}, NULL, ${taskId}::uuid) r`,
        Rows.runs
      ),

    listWaits: ({ queue, taskId }) =>
      rows(
        "listWaits",
        queue,
        sql`SELECT w::text AS row FROM absurd_effect.read_waits(${queue}, ${taskId}::uuid) w`,
        Rows.waits
      ),

    getCheckpoints: ({ includePending, name, queue, taskId }) =>
      rows(
        "getCheckpoints",
        queue,
        sql`
          SELECT c::text AS row
          FROM absurd_effect.read_checkpoints(${queue}, ${taskId}::uuid, ${name}::text, ${includePending}::boolean) c`,
        Rows.checkpoints
      ),

    readEvent: ({ event, queue }) =>
      Effect.map(
        rows(
          "readEvent",
          queue,
          sql`SELECT e::text AS row FROM absurd_effect.read_event(${queue}, ${event}) e`,
          Rows.events
        ),
        first
      ),

    readEvents: ({ events, queue }) =>
      rows(
        "readEvents",
        queue,
        sql`
          SELECT e::text AS row FROM absurd_effect.read_events(${queue}, ARRAY(
            SELECT jsonb_array_elements_text(${JSON.stringify(events)}::jsonb)
          )) e`,
        Rows.events
      )
  }
}

// --- internal

interface StateRow {
  readonly state: State | null
}

interface ResultRow {
  readonly taskId: TaskId
  readonly state: State
  readonly result: string | null
  readonly failure: string | null
}

interface RetryRow {
  readonly outcome: "applied" | "notFound" | "notFailed" | "tooFew"
  readonly taskId: TaskId
  readonly runId: RunId
  readonly attempt: number
  readonly created: boolean
  readonly state: State
  readonly allowed: number
  readonly attempts: number
}

const stateOf = (
  rows: ReadonlyArray<StateRow>,
  kind: "task" | "run",
  id: string
): Effect.Effect<State, NotFound> => {
  const state = rows[0]?.state ?? null
  return state === null ? Effect.fail(new NotFound({ kind, id })) : Effect.succeed(state)
}

const resultOf = (row: ResultRow): TaskResult => ({
  taskId: row.taskId,
  state: row.state,
  result: row.result === null ? null : Rows.parse(row.result),
  failure: row.failure === null ? null : Rows.parse(row.failure)
})

const retried = (row: RetryRow): Effect.Effect<Spawned, NotFound | InvalidState | InvalidInput> => {
  switch (row.outcome) {
    case "applied":
      return Effect.succeed({ taskId: row.taskId, runId: row.runId, attempt: row.attempt, created: row.created })
    case "notFound":
      return Effect.fail(new NotFound({ kind: "task", id: row.taskId }))
    case "notFailed":
      return Effect.fail(
        new InvalidState({ operation: "retryTask", id: row.taskId, state: row.state, expected: "failed" })
      )
    case "tooFew":
      return Effect.fail(
        new InvalidInput({
          field: "maxAttempts",
          problem: `${row.allowed} must be greater than the ${row.attempts} attempts already made`
        })
      )
  }
}
