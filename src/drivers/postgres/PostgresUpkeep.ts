/**
 * Looking after the store, by the functions of the schema `absurd` and the kernel.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { Cleaned, CronJob, Driver, Partition, UpkeepStore } from "../../core/Driver.ts"
import { type DriverError, InvalidState, NotFound } from "../../core/Errors.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The operations over a client, given its transactions. */
export const make = (
  sql: SqlClient.SqlClient,
  withTransaction: Driver["Service"]["withTransaction"]
): UpkeepStore => ({
  ensurePartitions: (queue) =>
    Effect.asVoid(about("ensurePartitions", queue, sql`SELECT absurd_effect.ensure_partitions(${queue}::text)`)),

  listDetachCandidates: (queue) =>
    about(
      "listDetachCandidates",
      queue,
      sql<Partition>`
        SELECT queue_name AS queue, parent_table AS parent, partition_table AS partition
        FROM absurd.list_detach_candidates(${queue}::text)`
    ),

  detachPartition: ({ parent, partition, queue }) =>
    SqlFailure.runGlobal(
      sql,
      "detachPartition",
      "write",
      sql<{ readonly detached: boolean }>`
        SELECT absurd_effect.detach_partition(${queue}, ${parent}, ${partition}) AS detached`
    ).pipe(Effect.map((rows) => rows[0]?.detached ?? false)),

  cleanupAll: (queue) =>
    about(
      "cleanupAll",
      queue,
      sql<Cleaned>`
        SELECT queue_name AS queue, tasks_deleted AS tasks, events_deleted AS events
        FROM absurd.cleanup_all_queues(${queue}::text)`
    ),

  enableCron: (queue, { cleanup, detach, partitions }) =>
    withCron(
      "enableCron",
      queue,
      sql<CronJob>`
        SELECT job_name AS name, job_id::float8 AS id
        FROM absurd.enable_cron(${queue}::text, ${partitions}, ${cleanup}, ${detach})`
    ),

  disableCron: (queue) =>
    withCron(
      "disableCron",
      null,
      sql<CronJob>`SELECT job_name AS name, job_id::float8 AS id FROM absurd.disable_cron(${queue}::text)`
    ),

  // The lock belongs to the transaction, so that it is given back whatever becomes of the connection.
  exclusively: (self) =>
    withTransaction(
      Effect.flatMap(
        SqlFailure.runGlobal(
          sql,
          "exclusively",
          "read",
          sql<{ readonly taken: boolean }>`SELECT absurd_effect.try_upkeep() AS taken`
        ),
        (rows) => rows[0]?.taken === true ? Effect.asSome(self) : Effect.succeedNone
      )
    )
})

// --- internal

type Rows<A> = Effect.Effect<ReadonlyArray<A>, SqlError.SqlError>

const raised = (error: SqlError.SqlError): string | undefined =>
  SqlFailure.codeOf(error) === "P0001" ? SqlFailure.messageOf(error) : undefined

/** A statement about one queue, or about all. */
const about = <A>(
  operation: string,
  queue: string | null,
  statement: Rows<A>
): Effect.Effect<ReadonlyArray<A>, DriverError | NotFound> =>
  Effect.mapError(
    statement,
    (error) =>
      queue !== null && raised(error)?.includes("does not exist") === true
        ? new NotFound({ kind: "queue", id: queue })
        : SqlFailure.toDriverError(operation, "write", error)
  )

/** A statement that needs pg_cron. */
const withCron = <A>(
  operation: string,
  queue: string | null,
  statement: Rows<A>
): Effect.Effect<ReadonlyArray<A>, DriverError | NotFound | InvalidState> =>
  Effect.mapError(
    statement,
    (error) => {
      const message = raised(error) ?? ""
      if (message.includes("pg_cron is not available")) {
        return new InvalidState({ operation, id: "pg_cron", state: "not available", expected: "installed here" })
      }
      return queue !== null && message.includes("does not exist")
        ? new NotFound({ kind: "queue", id: queue })
        : SqlFailure.toDriverError(operation, "write", error)
    }
  )
