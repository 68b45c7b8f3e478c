/**
 * Sessions of a test database that a test steps through by hand, and the kernel's functions as they are called there.
 */
import { Effect } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"

export type Row = Readonly<Record<string, unknown>>

/** A session of its own on the database in context. */
export const session = Effect.flatMap(TestPostgres.TestDatabase, TestPostgres.session)

/** Runs a statement. */
export const query = (
  client: pg.Client,
  text: string,
  values: ReadonlyArray<unknown> = []
): Effect.Effect<ReadonlyArray<Row>> =>
  Effect.promise(() => client.query(text, [...values])).pipe(Effect.map((result) => result.rows as ReadonlyArray<Row>))

/** The SQLSTATE and message with which a statement fails. */
export const failure = (
  client: pg.Client,
  text: string,
  values: ReadonlyArray<unknown> = []
): Effect.Effect<{ readonly code: string; readonly message: string }> =>
  Effect.promise(() =>
    client.query(text, [...values]).then(
      () => ({ code: "00000", message: "succeeded" }),
      (error: pg.DatabaseError) => ({ code: error.code ?? "", message: error.message })
    )
  )

/** Waits until `client` waits for a lock that somebody else has. `observer` must be another session. */
export const untilBlocked = (observer: pg.Client, client: pg.Client): Effect.Effect<void> =>
  query(observer, "select cardinality(pg_blocking_pids($1)) > 0 as blocked", [Reflect.get(client, "processID")]).pipe(
    Effect.repeat({ until: (rows) => rows[0]?.["blocked"] === true }),
    Effect.asVoid
  )

let queues = 0

/** A fresh queue. */
export const queue = (client: pg.Client): Effect.Effect<string> =>
  Effect.suspend(() => {
    const name = `kernel_${++queues}`
    return Effect.as(query(client, "select absurd.create_queue($1)", [name]), name)
  })

/** Spawns one task and returns its ids. */
export const spawn = (client: pg.Client, name: string, task: Row = {}) =>
  query(client, "select task_id, run_id, created from absurd_effect.spawn($1, $2::jsonb, true)", [
    name,
    JSON.stringify([{ name: "task", params: null, ...task }])
  ]).pipe(Effect.map((rows) => ({ task: String(rows[0]?.["task_id"]), run: String(rows[0]?.["run_id"]) })))

/** Claims up to `limit` runs for an hour and returns their ids. */
export const claim = (client: pg.Client, name: string, token: string, limit = 10) =>
  query(client, "select run_id from absurd_effect.claim($1, $2, 3600, $3)", [name, token, limit]).pipe(
    Effect.map((rows) => rows.map((row) => String(row["run_id"])))
  )

/** Calls a batch function of the kernel. */
export const batch = (client: pg.Client, operation: string, name: string, items: ReadonlyArray<Row>) =>
  query(client, `select * from absurd_effect.${operation}($1, $2::jsonb) order by ord`, [name, JSON.stringify(items)])

/** Suspends a run. */
export const suspend = (client: pg.Client, name: string, run: string, token: string, waits: ReadonlyArray<Row>) =>
  query(client, "select absurd_effect.suspend($1, $2, $3, $4::jsonb) as answer", [
    name,
    run,
    token,
    JSON.stringify(waits)
  ]).pipe(Effect.map((rows) => rows[0]?.["answer"] as Row))

/** Emits an event. */
export const emit = (client: pg.Client, name: string, event: string, payload: unknown) =>
  query(client, "select emitted, woken from absurd_effect.emit($1, $2, $3::jsonb)", [
    name,
    event,
    JSON.stringify(payload)
  ]).pipe(Effect.map((rows) => rows[0]))

/** Everything that is stored in a queue. */
export const contents = (client: pg.Client, name: string) =>
  Effect.forEach(
    ["t", "r", "c", "e", "w"],
    (table) => query(client, `select to_jsonb(x) as row from absurd."${table}_${name}" x order by to_jsonb(x)::text`)
  )

/** The state of a run and what it is due. */
export const run = (client: pg.Client, name: string, id: string) =>
  query(client, `select * from absurd."r_${name}" where run_id = $1`, [id]).pipe(Effect.map((rows) => rows[0] ?? {}))
