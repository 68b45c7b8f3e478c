/**
 * Schedules, by the kernel.
 *
 * @since 0.1.0
 */
import { Effect, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { DriverError, Rejected } from "../../core/Errors.ts"
import { type ScheduleStore, StoredSchedule } from "../../core/ScheduleStore.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The operations over a client. */
export const make = (sql: SqlClient.SqlClient): ScheduleStore => {
  const { runGlobal } = SqlFailure
  return {
    putSchedule: ({ declared, definition, name }) =>
      runGlobal(
        sql,
        "putSchedule",
        "write",
        sql<Flag>`SELECT absurd_effect.put_schedule(${name}, ${JSON.stringify(definition)}::jsonb, ${declared}) AS flag`
      ).pipe(Effect.map(isTrue)),

    pauseSchedule: ({ name, paused }) =>
      runGlobal(
        sql,
        "pauseSchedule",
        "write",
        sql<Flag>`SELECT absurd_effect.pause_schedule(${name}, ${paused}) AS flag`
      ).pipe(Effect.map(isTrue)),

    deleteSchedule: (name) =>
      runGlobal(sql, "deleteSchedule", "write", sql<Flag>`SELECT absurd_effect.delete_schedule(${name}) AS flag`).pipe(
        Effect.map(isTrue)
      ),

    listSchedules: runGlobal(
      sql,
      "listSchedules",
      "read",
      sql`SELECT s::text AS row FROM absurd_effect.list_schedules() s`
    ).pipe(
      Effect.flatMap((found) => Effect.mapError(decodeRows(found), undecodable("listSchedules"))),
      Effect.map((rows) => rows.map(({ row }) => row))
    ),

    dueSchedules: runGlobal(
      sql,
      "dueSchedules",
      "read",
      sql`SELECT absurd_effect.due_schedules()::text AS row`
    ).pipe(
      Effect.flatMap((found) => Effect.mapError(decodeDue(found), undecodable("dueSchedules"))),
      Effect.map(([{ row }]) => row)
    ),

    advanceSchedule: ({ after, lastTask, name, next, revision }) =>
      runGlobal(
        sql,
        "advanceSchedule",
        "write",
        sql<Flag>`
          SELECT absurd_effect.advance_schedule(
            ${name}, ${revision}::bigint, ${after.epochMilliseconds}::float8, ${next.epochMilliseconds}::float8,
            ${lastTask}::uuid
          ) AS flag`
      ).pipe(Effect.map(isTrue))
  }
}

// --- internal

interface Flag {
  readonly flag: boolean
}

const isTrue = (rows: ReadonlyArray<Flag>): boolean => rows[0]?.flag === true

const instant = Schema.DateTimeUtcFromMillis

const Row = StoredSchedule.mapFields((fields) => ({ ...fields, after: instant, next: Schema.NullOr(instant) }))

const decodeRows = Schema.decodeUnknownEffect(Schema.Array(Schema.Struct({ row: Schema.fromJsonString(Row) })))

const Due = Schema.Struct({ now: instant, due: Schema.Array(Row), later: Schema.NullOr(instant) })

const decodeDue = Schema.decodeUnknownEffect(
  Schema.Tuple([Schema.Struct({ row: Schema.fromJsonString(Due) })])
)

const undecodable = (operation: string) => (cause: unknown) =>
  new DriverError({ operation, reason: new Rejected({ cause }) })
