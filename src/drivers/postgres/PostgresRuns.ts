/**
 * Claiming runs and working on claimed ones, by the kernel. Every statement takes its whole batch as one parameter, so
 * its text never changes.
 *
 * @since 0.1.0
 */
import { Duration, Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { CheckpointSet, Driver, Failed, Outcome, Retry, Wait } from "../../core/Driver.ts"
import { DriverError, Rejected } from "../../core/Errors.ts"
import * as Locks from "./Locks.ts"
import * as Rows from "./Rows.ts"
import * as SqlFailure from "./SqlFailure.ts"

type Operations = Pick<
  Driver["Service"],
  "claim" | "claimedWith" | "complete" | "fail" | "setCheckpoints" | "extend" | "release" | "suspend"
>

/** The operations over a client. */
export const make = (sql: SqlClient.SqlClient): Operations => {
  // Applies a set-based function that answers with the refused items only.
  const settle = (
    operation: string,
    queue: string,
    count: number,
    statement: Effect.Effect<ReadonlyArray<Rows.RefusedRow>, SqlError.SqlError>
  ) =>
    count === 0
      ? Effect.succeed<ReadonlyArray<Outcome>>([])
      : Effect.map(
        SqlFailure.run(sql, operation, queue, "write", statement),
        (refused) => Rows.outcomes(count, refused)
      )

  return {
    // The checkpoints are read by a function of its own, after the claim has its locks: a new snapshot.
    claim: ({ except, lease, limit, queue, token }) =>
      Effect.flatMap(SqlFailure.inTransaction(sql), (joined) =>
        SqlFailure.run(
          sql,
          "claim",
          queue,
          "write",
          sql<Rows.ClaimedRow>`
          WITH claimed AS MATERIALIZED (
            SELECT row_number() OVER () AS ord, c.*
            FROM ${Locks.patience(sql, joined ? undefined : claimPatience)} AS lock
            CROSS JOIN LATERAL absurd_effect.claim(
              CASE WHEN lock.patience IS NOT NULL THEN ${queue} END, ${token}, ${
            Duration.toSeconds(lease)
          }::float8, ${limit}::int,
              ${except === undefined || except.length === 0 ? null : except}::text[]
            ) c
          ), known AS MATERIALIZED (
            SELECT * FROM absurd_effect.checkpoints_of(
              ${queue}, (SELECT array_agg(task_id) FROM claimed WHERE resumed)
            )
          )
          ${claimedColumns(sql)} ORDER BY claimed.ord`
        )).pipe(Effect.map((rows) => rows.map(Rows.claimed(token)))),

    claimedWith: ({ queue, token }) =>
      SqlFailure.run(
        sql,
        "claimedWith",
        queue,
        "read",
        sql<Rows.ClaimedRow>`
          WITH claimed AS MATERIALIZED (
            SELECT * FROM absurd_effect.claimed_with(${queue}, ${token})
          ), known AS MATERIALIZED (
            SELECT * FROM absurd_effect.checkpoints_of(${queue}, (SELECT array_agg(task_id) FROM claimed))
          )
          ${claimedColumns(sql)} ORDER BY claimed.run_id`
      ).pipe(Effect.map((rows) => rows.map(Rows.claimed(token)))),

    complete: ({ queue, runs }) => {
      const items = runs.map((run) => ({ ...Rows.heldItem(run), result: run.result }))
      return settle(
        "complete",
        queue,
        runs.length,
        sql<Rows.RefusedRow>`
          SELECT ord::int AS ord, outcome FROM absurd_effect.complete(${queue}, ${JSON.stringify(items)}::jsonb)`
      )
    },

    fail: ({ queue, runs }) => {
      if (runs.length === 0) return Effect.succeed([])
      const items = runs.map((run) => ({ ...Rows.heldItem(run), reason: run.reason, ...retryItem(run.retry) }))
      return SqlFailure.run(
        sql,
        "fail",
        queue,
        "write",
        sql<Failed>`
          SELECT outcome, state FROM absurd_effect.fail(${queue}, ${JSON.stringify(items)}::jsonb) ORDER BY ord`
      ).pipe(Effect.map((rows) => rows.map(({ outcome, state }) => ({ outcome, state }))))
    },

    setCheckpoints: ({ checkpoints, queue }) => {
      if (checkpoints.length === 0) return Effect.succeed([])
      const items = checkpoints.map((item) => ({
        ...Rows.heldItem(item),
        name: item.name,
        state: item.state,
        extend: item.extendBy === null ? null : Duration.toSeconds(item.extendBy)
      }))
      return SqlFailure.run(
        sql,
        "setCheckpoints",
        queue,
        "write",
        sql<Rows.RefusedRow & { readonly existing: string | null }>`
          SELECT ord::int AS ord, outcome, existing::text AS existing
          FROM absurd_effect.set_checkpoints(${queue}, ${JSON.stringify(items)}::jsonb)`
      ).pipe(Effect.map((rows) => {
        const all: Array<CheckpointSet> = items.map(() => ({ outcome: "applied", existing: undefined }))
        for (const { existing, ord, outcome } of rows) {
          all[ord - 1] = { outcome, existing: existing === null ? undefined : Rows.parse(existing) }
        }
        return all
      }))
    },

    extend: ({ queue, runs }) => {
      const items = runs.map((run) => ({ ...Rows.heldItem(run), lease: Duration.toSeconds(run.lease) }))
      return settle(
        "extend",
        queue,
        runs.length,
        sql<Rows.RefusedRow>`
          SELECT ord::int AS ord, outcome FROM absurd_effect.extend(${queue}, ${JSON.stringify(items)}::jsonb)`
      )
    },

    release: ({ queue, runs }) => {
      const items = runs.map((run) => ({ ...Rows.heldItem(run), ...Rows.dueItem(run.until) }))
      return settle(
        "release",
        queue,
        runs.length,
        sql<Rows.RefusedRow>`
          SELECT ord::int AS ord, outcome FROM absurd_effect.release(${queue}, ${JSON.stringify(items)}::jsonb)`
      )
    },

    suspend: ({ queue, runId, token, waits }) =>
      SqlFailure.run(
        sql,
        "suspend",
        queue,
        "write",
        sql`SELECT absurd_effect.suspend(
          ${queue}, ${runId}::uuid, ${token}, ${JSON.stringify(waits.map(waitItem))}::jsonb
        )::text AS row`
      ).pipe(
        Effect.flatMap((rows) => Effect.mapError(Rows.suspensions(rows), undecodable("suspend"))),
        Effect.flatMap((rows) =>
          rows[0] === undefined ? Effect.fail(undecodable("suspend")("no row")) : Effect.succeed(rows[0].row)
        )
      )
  }
}

/** The store answered with something that is not in its contract. */
export const undecodable = (operation: string) => (cause: unknown): DriverError =>
  new DriverError({ operation, reason: new Rejected({ cause }) })

// --- internal

/** Claiming waits for no run, and for a table that is being altered only a moment: there may be other queues. */
const claimPatience = Duration.seconds(1)

// No functions of ours, and no numerics: this is done for every run.
const claimedColumns = (sql: SqlClient.SqlClient) =>
  sql.literal(`
    SELECT claimed.run_id::text AS "runId", claimed.task_id::text AS "taskId", claimed.attempt,
      claimed.task_name AS name, claimed.params::text AS params, claimed.headers::text AS headers,
      claimed.retry_strategy::text AS "retryStrategy", claimed.max_attempts AS "maxAttempts",
      claimed.wake_event AS "wakeEvent", claimed.event_payload::text AS "eventPayload",
      known.checkpoints::text AS checkpoints,
      floor(date_part('epoch', claimed.claimed_at) * 1000) AS "claimedAt",
      date_part('epoch', claimed.claimed_at - claimed.first_started_at) * 1000 AS elapsed,
      date_part('epoch', claimed.claimed_at - claimed.due_at) * 1000 AS waited
    FROM claimed LEFT JOIN known ON known.task_id = claimed.task_id`)

const retryItem = (retry: Retry) => {
  switch (retry._tag) {
    case "Stored":
      return { retry: "stored" }
    case "Never":
      return { retry: "never" }
    case "After":
      return { retry: "after", ...Rows.dueItem(retry.delay) }
    case "At":
      return { retry: "at", ...Rows.dueItem(retry.instant) }
  }
}

const waitItem = (wait: Wait) => {
  switch (wait._tag) {
    case "Timer":
      return { step: wait.step, ...Rows.dueItem(wait.until) }
    case "Event":
      return {
        step: wait.step,
        event: wait.event,
        ...(wait.timeout === null ? {} : { timeout: Duration.toSeconds(wait.timeout) })
      }
    case "Tasks":
      return { step: wait.step, queue: wait.queue, tasks: wait.taskIds, failFast: wait.failFast }
  }
}
