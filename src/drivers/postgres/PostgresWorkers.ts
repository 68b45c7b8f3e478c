/**
 * What workers need beside their runs, by the kernel.
 *
 * @since 0.1.0
 */
import { Duration, Effect } from "effect"
import type { SqlClient } from "effect/sql"
import type { Outcome, WorkerStore } from "../../core/Driver.ts"
import * as Heartbeats from "./Heartbeats.ts"
import * as Locks from "./Locks.ts"
import * as Probe from "./Probe.ts"
import * as Rows from "./Rows.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The operations over a client. */
export const make = (
  client: SqlClient.SqlClient,
  sql: SqlClient.SqlClient
): WorkerStore => ({
  heartbeats: Heartbeats.make(client, ({ queue, runs }) => {
    const items = runs.map((run) => ({ ...Rows.heldItem(run), lease: Duration.toSeconds(run.lease) }))
    // The beats of all queues share a connection. What waits for long there costs the leases of others.
    const shortest = Math.min(...runs.map((run) => Duration.toMillis(run.lease)))
    const patience = Duration.millis(Math.min(500, shortest / 24))
    const statement = sql<Rows.RefusedRow<Outcome | "busy">>`
      SELECT e.ord::int AS ord, e.outcome
      FROM ${Locks.patience(sql, patience)} AS lock
      CROSS JOIN LATERAL absurd_effect.extend(
        CASE WHEN lock.patience IS NOT NULL THEN ${queue} END, ${JSON.stringify(items)}::jsonb, false
      ) AS e`
    return SqlFailure.run(
      sql,
      "extend",
      queue,
      "write",
      Effect.map(statement, (refused) => Rows.outcomes<"busy">(items.length, refused)).pipe(
        Effect.catchIf(
          (error) => SqlFailure.codeOf(error) === "55P03",
          () => Effect.succeed(items.map((): Outcome | "busy" => "busy"))
        )
      )
    )
  }),

  probe: Probe.make(client, sql),

  setPaused: ({ paused, queue }) =>
    SqlFailure.run(
      sql,
      "setPaused",
      queue,
      "write",
      sql<{ readonly changed: boolean }>`SELECT absurd_effect.set_paused(${queue}, ${paused}) AS changed`
    ).pipe(Effect.map((rows) => rows[0]?.changed === true)),

  queueLoad: (queue) =>
    SqlFailure.run(
      sql,
      "queueLoad",
      queue,
      "read",
      sql<LoadRow>`
        SELECT paused, due::int AS due, later::int AS later, running::int AS running, oldest
        FROM absurd_effect.queue_load(${queue})`
    ).pipe(Effect.map((rows) => {
      const { oldest, ...counts } = rows[0] ?? empty
      return { ...counts, oldest: oldest === null ? null : Duration.seconds(oldest) }
    }))
})

// --- internal

interface LoadRow {
  readonly paused: boolean
  readonly due: number
  readonly later: number
  readonly running: number
  readonly oldest: number | null
}

const empty: LoadRow = { paused: false, due: 0, later: 0, running: 0, oldest: null }
