/**
 * What autovacuum does on a server: an embedded engine has no processes of its own, so rows that were deleted or replaced
 * would never make room, and the planner would never learn the sizes of tables.
 */
import { Effect, Schema } from "effect"
import { SqlClient, SqlSchema } from "effect/sql"

/**
 * Vacuums and analyses the tables that have changed enough since they were last, by the thresholds that autovacuum has.
 * Each of them is one statement, so that other statements have their turn in between.
 */
export const run = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const overdue = SqlSchema.findAll({ Request: Schema.Void, Result: Table, execute: () => overdueTables(sql) })
  // The counters reach the view when a statement ends, at most once a second unless told to.
  yield* sql`SELECT pg_stat_force_next_flush()`.raw
  const tables = yield* overdue(undefined)
  yield* Effect.forEach(
    tables,
    ({ name, vacuum }) => sql.unsafe(vacuum ? `VACUUM (ANALYZE) ${name}` : `ANALYZE ${name}`).unprepared,
    { discard: true }
  )
  return tables
})

// --- internal

const Table = Schema.Struct({ name: Schema.String, vacuum: Schema.Boolean })

const overdueTables = (sql: SqlClient.SqlClient) =>
  sql`
    WITH setting AS (
      SELECT
        current_setting('autovacuum_vacuum_threshold')::float8 AS dead,
        current_setting('autovacuum_vacuum_scale_factor')::float8 AS dead_scale,
        current_setting('autovacuum_vacuum_insert_threshold')::float8 AS inserted,
        current_setting('autovacuum_vacuum_insert_scale_factor')::float8 AS inserted_scale,
        current_setting('autovacuum_analyze_threshold')::float8 AS changed,
        current_setting('autovacuum_analyze_scale_factor')::float8 AS changed_scale,
        current_setting('autovacuum_freeze_max_age')::int8 AS age
    ), counted AS (
      SELECT
        format('%I.%I', stat.schemaname, stat.relname) AS name,
        stat.n_dead_tup > dead + dead_scale * size.rows
          OR stat.n_ins_since_vacuum > inserted + inserted_scale * size.rows
          OR age(class.relfrozenxid) > setting.age AS vacuum,
        stat.n_mod_since_analyze > changed + changed_scale * size.rows AS grown
      FROM pg_stat_all_tables stat
      JOIN pg_class class ON class.oid = stat.relid AND class.relkind IN ('r', 'm') AND class.relpersistence <> 't'
      CROSS JOIN LATERAL (SELECT greatest(class.reltuples, 0)::float8 AS rows) size
      CROSS JOIN setting
      WHERE stat.schemaname <> 'pg_toast'
    )
    SELECT name, vacuum FROM counted WHERE vacuum OR grown ORDER BY name`
