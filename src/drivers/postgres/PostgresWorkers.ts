/**
 * What workers need beside their runs, by the kernel.
 *
 * @since 0.1.0
 */
import { Duration, Effect } from "effect"
import type { SqlClient } from "effect/sql"
import type { Driver, WorkerStore } from "../../core/Driver.ts"
import * as Heartbeats from "./Heartbeats.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The operations over a client. */
export const make = (
  client: SqlClient.SqlClient,
  sql: SqlClient.SqlClient,
  extend: Driver["Service"]["extend"]
): WorkerStore => ({
  heartbeats: Heartbeats.make(client, extend),

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
