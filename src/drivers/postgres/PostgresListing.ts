/**
 * Looking through tasks, by the kernel.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"
import type { ListingStore, TaskCount } from "../../core/Driver.ts"
import { undecodable } from "./PostgresRuns.ts"
import * as Rows from "./Rows.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The operations over a client. */
export const make = (sql: SqlClient.SqlClient): ListingStore => ({
  listTasks: ({ before, limit, name, outcome, queue, states }) =>
    SqlFailure.run(
      sql,
      "listTasks",
      queue,
      "read",
      sql`
        SELECT t::text AS row
        FROM absurd_effect.list_tasks(
          ${queue},
          ${name}::text,
          (SELECT array_agg(s) FROM jsonb_array_elements_text(${JSON.stringify(states ?? [])}::jsonb) s),
          ${outcome}::text,
          ${before}::uuid,
          ${limit}::int
        ) t`
    ).pipe(
      Effect.flatMap((found) => Effect.mapError(Rows.tasks(found), undecodable("listTasks"))),
      Effect.map((rows) => rows.map(({ row }) => row))
    ),

  countTasks: (queue) =>
    SqlFailure.run(
      sql,
      "countTasks",
      queue,
      "read",
      sql<TaskCount>`
        SELECT name, state, outcome, tasks::float8 AS tasks FROM absurd_effect.count_tasks(${queue})`
    ).pipe(Effect.map((rows) => rows.map(({ name, outcome, state, tasks }) => ({ name, state, outcome, tasks }))))
})
