/**
 * A database whose schema `absurd` belongs to another installation, with the kernel added: our wire door, installed first
 * with a kernel of its own under another name, so that nothing says that it is ours and none of it depends on what we add.
 */
import { Effect, Layer } from "effect"
import { Installation } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "./Postgres.ts"

/** Every function of the schema `absurd` and every column of its tables. */
export const definitions = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    sql<{ readonly name: string; readonly definition: string }>`
    SELECT p.oid::regprocedure::text AS name, pg_get_functiondef(p.oid) AS definition
    FROM pg_proc p WHERE p.pronamespace = to_regnamespace('absurd')
    UNION ALL
    SELECT a.attrelid::regclass::text || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = to_regnamespace('absurd') AND a.attnum > 0
    ORDER BY 1, 2`
)

/** Makes the database in context one that somebody else has installed Absurd 0.4.0 into. */
export const prepare = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  // What its functions rest on is nothing that we know.
  yield* sql.unsafe(Installation.script.replaceAll("absurd_effect", "absurd_theirs")).unprepared
  // Nor does it know that tasks wait for tasks.
  yield* sql.unsafe(
    "CREATE OR REPLACE FUNCTION absurd_theirs.wake_awaiting(p_queue text, p_tasks uuid[]) RETURNS void LANGUAGE sql AS 'SELECT'"
  ).unprepared
  yield* sql.unsafe(
    "CREATE OR REPLACE FUNCTION absurd.get_schema_version() RETURNS text LANGUAGE sql AS $$ SELECT '0.4.0'::text $$"
  ).unprepared
})

/** A client of such a database, with the kernel installed. */
export const layer = (options?: TestPostgres.Options) =>
  Layer.effectDiscard(Effect.andThen(Effect.orDie(prepare), Installation.install)).pipe(
    Layer.provideMerge(TestPostgres.layerEmpty(options))
  )
