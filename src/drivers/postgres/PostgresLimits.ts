/**
 * Limits, by the kernel.
 *
 * @since 0.1.0
 */
import { Effect, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { LimitFigures, type LimitStore } from "../../core/Driver.ts"
import { undecodable } from "./PostgresRuns.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The operations over a client. */
export const make = (sql: SqlClient.SqlClient): LimitStore => ({
  listLimits: (queue) =>
    SqlFailure.run(
      sql,
      "listLimits",
      queue,
      "read",
      sql`SELECT l::text AS row FROM absurd_effect.list_limits(${queue}) l`
    ).pipe(
      Effect.flatMap((found) => Effect.mapError(limits(found), undecodable("listLimits"))),
      Effect.map((rows) => rows.map(({ row }) => row))
    ),

  listLimitKeys: ({ limit, name, queue }) =>
    SqlFailure.run(
      sql,
      "listLimitKeys",
      queue,
      "read",
      sql`SELECT k::text AS row FROM absurd_effect.list_limit_keys(${queue}, ${name}, ${limit}::int) k`
    ).pipe(
      Effect.flatMap((found) => Effect.mapError(keys(found), undecodable("listLimitKeys"))),
      Effect.map((rows) => rows.map(({ row }) => row))
    ),

  overrideLimit: ({ figures, name, queue }) =>
    SqlFailure.run(
      sql,
      "overrideLimit",
      queue,
      "write",
      sql<{ readonly found: boolean }>`
        SELECT absurd_effect.override_limit(
          ${queue}, ${name}, ${figures === null ? null : JSON.stringify(figures)}::jsonb
        ) AS found`
    ).pipe(Effect.map((rows) => rows[0]?.found === true))
})

// --- internal

const rowsOf = <S extends Schema.ConstraintDecoder<unknown>>(schema: S) =>
  Schema.decodeUnknownEffect(Schema.Array(Schema.Struct({ row: Schema.fromJsonString(schema) })))

const limits = rowsOf(Schema.Struct({
  name: Schema.String,
  figures: LimitFigures,
  override: Schema.NullOr(LimitFigures),
  admitted: Schema.Int,
  waiting: Schema.Int
}))

const keys = rowsOf(Schema.Struct({ key: Schema.String, admitted: Schema.Int, waiting: Schema.Int }))
