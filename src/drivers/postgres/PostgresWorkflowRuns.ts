/**
 * Workflow runs, by the kernel.
 *
 * @since 0.1.0
 */
import { type DateTime, Duration, Effect, Schema } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { WorkflowRun, type WorkflowRunFilter, type WorkflowRunStore } from "../../core/Driver.ts"
import { DriverError, InvalidState, NotFound, Rejected } from "../../core/Errors.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The operations over a client. */
export const make = (sql: SqlClient.SqlClient): WorkflowRunStore => {
  const rows = (operation: string, statement: Effect.Effect<ReadonlyArray<object>, SqlError.SqlError>) =>
    SqlFailure.runGlobal(sql, operation, "read", statement).pipe(
      Effect.flatMap((found) => Effect.mapError(decode(found), undecodable(operation))),
      Effect.map((decoded) => decoded.map(({ row }) => row))
    )

  return {
    createWorkflowRun: Effect.fnUntraced(function*(run) {
      const [answer] = yield* SqlFailure.runGlobal(
        sql,
        "createWorkflowRun",
        "write",
        sql<{ readonly taken: string | null }>`
          SELECT absurd_effect.create_workflow_run(${JSON.stringify(run)}::jsonb) AS taken`
      )
      const taken = answer?.taken ?? null
      if (taken !== null) {
        return yield* new InvalidState({
          operation: "createWorkflowRun",
          id: run.id,
          state: `the id of another run of ${taken}`,
          expected: "an id that is free"
        })
      }
    }),

    updateWorkflowRun: Effect.fnUntraced(function*({ completedAt, id, startedAt, ...change }) {
      const item = JSON.stringify({
        ...change,
        startedAt: startedAt?.epochMilliseconds,
        completedAt: completedAt?.epochMilliseconds
      })
      const [answer] = yield* SqlFailure.runGlobal(
        sql,
        "updateWorkflowRun",
        "write",
        sql<{ readonly outcome: string | null }>`
          SELECT absurd_effect.update_workflow_run(${id}, ${item}::jsonb) AS outcome`
      )
      const outcome = answer?.outcome ?? null
      if (outcome === null) return yield* new NotFound({ kind: "workflow run", id })
      if (outcome !== "applied") {
        return yield* new InvalidState({
          operation: "updateWorkflowRun",
          id,
          state: outcome,
          expected: "a status that is not final"
        })
      }
    }),

    getWorkflowRun: (id) =>
      Effect.map(
        rows("getWorkflowRun", sql`SELECT w::text AS row FROM absurd_effect.read_workflow_run(${id}) w`),
        (found) => found[0]
      ),

    listWorkflowRuns: (filter) =>
      rows(
        "listWorkflowRuns",
        sql`
          SELECT w::text AS row
          FROM absurd_effect.list_workflow_runs(${JSON.stringify(filterItem(filter))}::jsonb, ${filter.limit}::int) w`
      ),

    cleanupWorkflowRuns: ({ limit, ttl }) =>
      SqlFailure.runGlobal(
        sql,
        "cleanupWorkflowRuns",
        "write",
        sql<{ readonly count: number }>`
          SELECT absurd_effect.cleanup_workflow_runs(${Duration.toSeconds(ttl)}::float8, ${limit}::int) AS count`
      ).pipe(Effect.map((found) => found[0]?.count ?? 0))
  }
}

// --- internal

const instant = Schema.DateTimeUtcFromMillis

const decode = Schema.decodeUnknownEffect(Schema.Array(Schema.Struct({
  row: Schema.fromJsonString(WorkflowRun.mapFields((fields) => ({
    ...fields,
    createdAt: instant,
    updatedAt: instant,
    startedAt: Schema.NullOr(instant),
    completedAt: Schema.NullOr(instant)
  })))
})))

const undecodable = (operation: string) => (cause: unknown) =>
  new DriverError({ operation, reason: new Rejected({ cause }) })

const millis = (at: DateTime.Utc | null): number | null => at === null ? null : at.epochMilliseconds

const filterItem = (filter: WorkflowRunFilter) => ({
  name: filter.name,
  version: filter.version,
  status: filter.status,
  tag: filter.tag,
  from: millis(filter.createdFrom),
  before: millis(filter.createdBefore),
  afterAt: millis(filter.after?.createdAt ?? null),
  afterId: filter.after?.id ?? null
})
