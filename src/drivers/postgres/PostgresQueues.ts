/**
 * Queues, their policies and their cleaning, by the functions of the schema `absurd`.
 *
 * @since 0.1.0
 */
import { Duration, Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { Driver, QueuePolicy, QueuePolicyUpdate } from "../../core/Driver.ts"
import { type DriverError, InvalidInput, InvalidState, NotFound } from "../../core/Errors.ts"
import * as SqlFailure from "./SqlFailure.ts"

type Operations = Pick<
  Driver["Service"],
  "createQueue" | "dropQueue" | "listQueues" | "getQueuePolicy" | "setQueuePolicy" | "cleanupTasks" | "cleanupEvents"
>

/** The operations over a client. */
export const make = (sql: SqlClient.SqlClient): Operations => {
  const policyOf = (operation: string, queue: string) =>
    SqlFailure.runGlobal(
      sql,
      operation,
      "read",
      sql<PolicyRow>`
        SELECT storage_mode AS "storageMode", default_partition AS "defaultPartition",
          (extract(epoch FROM partition_lookahead) * 1000)::float8 AS "partitionLookahead",
          (extract(epoch FROM partition_lookback) * 1000)::float8 AS "partitionLookback",
          (extract(epoch FROM cleanup_ttl) * 1000)::float8 AS "cleanupTtl", cleanup_limit AS "cleanupLimit",
          detach_mode AS "detachMode", (extract(epoch FROM detach_min_age) * 1000)::float8 AS "detachMinAge"
        FROM absurd.get_queue_policy(${queue})`
    ).pipe(Effect.map((rows) => rows[0]))

  const existing = (operation: string, queue: string) =>
    Effect.flatMap(
      policyOf(operation, queue),
      (row) => row === undefined ? Effect.fail(new NotFound({ kind: "queue", id: queue })) : Effect.succeed(row)
    )

  return {
    createQueue: Effect.fnUntraced(function*({ queue, storage }) {
      const found = yield* policyOf("createQueue", queue)
      if (found !== undefined && found.storageMode !== storage) {
        return yield* new InvalidState({
          operation: "createQueue",
          id: queue,
          state: found.storageMode,
          expected: storage
        })
      }
      yield* SqlFailure.runGlobal(sql, "createQueue", "write", sql`SELECT absurd.create_queue(${queue}, ${storage})`)
    }),

    dropQueue: (queue) =>
      Effect.asVoid(SqlFailure.runGlobal(
        sql,
        "dropQueue",
        "write",
        sql`SELECT absurd.drop_queue(${queue}), absurd_effect.forget_queue(${queue})`
      )),

    listQueues: SqlFailure.runGlobal(
      sql,
      "listQueues",
      "read",
      sql<{ readonly name: string }>`SELECT queue_name AS name FROM absurd.list_queues()`
    ).pipe(Effect.map((rows) => rows.map((row) => row.name).sort())),

    getQueuePolicy: (queue) => Effect.map(existing("getQueuePolicy", queue), toPolicy),

    setQueuePolicy: Effect.fnUntraced(function*(queue, update) {
      const found = yield* existing("setQueuePolicy", queue)
      yield* checkUpdate(queue, found.storageMode, update)
      yield* sql`SELECT absurd.set_queue_policy(${queue}, ${JSON.stringify(wirePolicy(update))}::jsonb)`.pipe(
        Effect.mapError((error) => policyError(queue, error))
      )
    }),

    cleanupTasks: ({ limit, queue, ttl }) =>
      SqlFailure.run(
        sql,
        "cleanupTasks",
        queue,
        "write",
        sql<CountRow>`SELECT absurd.cleanup_tasks(${queue}, ${wholeSeconds(ttl)}::int, ${limit}::int) AS count`
      ).pipe(Effect.map(countOf)),

    cleanupEvents: ({ limit, queue, ttl }) =>
      SqlFailure.run(
        sql,
        "cleanupEvents",
        queue,
        "write",
        sql<CountRow>`SELECT absurd.cleanup_events(${queue}, ${wholeSeconds(ttl)}::int, ${limit}::int) AS count`
      ).pipe(Effect.map(countOf))
  }
}

// --- internal

interface CountRow {
  readonly count: number
}

interface PolicyRow {
  readonly storageMode: QueuePolicy["storageMode"]
  readonly defaultPartition: QueuePolicy["defaultPartition"]
  readonly partitionLookahead: number
  readonly partitionLookback: number
  readonly cleanupTtl: number
  readonly cleanupLimit: number
  readonly detachMode: QueuePolicy["detachMode"]
  readonly detachMinAge: number
}

const countOf = (rows: ReadonlyArray<CountRow>): number => rows[0]?.count ?? 0

const toPolicy = (row: PolicyRow): QueuePolicy => ({
  ...row,
  partitionLookahead: Duration.millis(row.partitionLookahead),
  partitionLookback: Duration.millis(row.partitionLookback),
  cleanupTtl: Duration.millis(row.cleanupTtl),
  detachMinAge: Duration.millis(row.detachMinAge)
})

// Rounded up, so that nothing is removed too early; the store counts in 32 bits.
const wholeSeconds = (duration: Duration.Duration): number =>
  Math.min(2_147_483_647, Math.ceil(Duration.toSeconds(duration)))

const interval = (duration: Duration.Duration | undefined): string | undefined =>
  duration === undefined ? undefined : `${Duration.toSeconds(duration)} seconds`

// JSON.stringify leaves out what is undefined.
const wirePolicy = (update: QueuePolicyUpdate) => ({
  default_partition: update.defaultPartition,
  partition_lookahead: interval(update.partitionLookahead),
  partition_lookback: interval(update.partitionLookback),
  cleanup_ttl: interval(update.cleanupTtl),
  cleanup_limit: update.cleanupLimit,
  detach_mode: update.detachMode,
  detach_min_age: interval(update.detachMinAge)
})

const checkUpdate = Effect.fnUntraced(function*(
  queue: string,
  storage: QueuePolicy["storageMode"],
  update: QueuePolicyUpdate
) {
  if (update.cleanupLimit !== undefined && update.cleanupLimit < 1) {
    return yield* new InvalidInput({ field: "cleanupLimit", problem: "must be at least 1" })
  }
  if (update.defaultPartition !== undefined && storage !== "partitioned") {
    return yield* new InvalidState({
      operation: "setQueuePolicy",
      id: queue,
      state: storage,
      expected: "partitioned, to have a default partition"
    })
  }
})

const policyError = (queue: string, error: SqlError.SqlError): DriverError | InvalidInput | InvalidState => {
  const message = SqlFailure.messageOf(error)
  if (SqlFailure.codeOf(error) !== "P0001") return SqlFailure.toDriverError("setQueuePolicy", "write", error)
  return message.includes("default_partition")
    ? new InvalidState({
      operation: "setQueuePolicy",
      id: queue,
      state: "using its default partition",
      expected: "an empty default partition"
    })
    : new InvalidInput({ field: "policy", problem: message })
}
