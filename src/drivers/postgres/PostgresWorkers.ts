/**
 * What workers need beside their runs, by the kernel.
 *
 * @since 0.1.0
 */
import { Duration, Effect } from "effect"
import type { SqlClient } from "effect/sql"
import type { Outcome, WorkerStore } from "../../core/Driver.ts"
import * as Heartbeats from "./Heartbeats.ts"
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
    return Effect.map(
      SqlFailure.run(
        sql,
        "extend",
        queue,
        "write",
        sql<Rows.RefusedRow<Outcome | "busy">>`
          SELECT ord::int AS ord, outcome FROM absurd_effect.extend(${queue}, ${JSON.stringify(items)}::jsonb, false)`
      ),
      (refused) => Rows.outcomes<"busy">(items.length, refused)
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
