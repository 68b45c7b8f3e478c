/**
 * The store under test when it is PostgreSQL, embedded or on a server, so that the tests of `AbsurdTest` run on it as they are.
 *
 * @since 0.1.0
 */
import { Effect, Layer, type Schema } from "effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { DriverError, NotFound, Rejected } from "../core/Errors.ts"
import type { Dump } from "../core/Invariants.ts"
import * as FakeNow from "../drivers/postgres/FakeNow.ts"
import * as Rows from "../drivers/postgres/Rows.ts"
import { layerStart, TestStore } from "./testkit/TestStore.ts"

/**
 * The store of a client, set to `AbsurdTest.start`. Its clock is a setting of the session, so the client must have exactly
 * one connection, and a database of its own: `PgClient.layer({ maxConnections: 1, ... })`, or `Embedded.layer()`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<TestStore, never, SqlClient> = Layer.effect(
  TestStore,
  Effect.map(SqlClient, (client) => {
    const sql = client.withoutTransforms()
    return TestStore.of({
      setTime: (instant) => Effect.orDie(FakeNow.set(sql, instant)),
      dump: (queue) => dump(sql, queue)
    })
  })
).pipe((store) => Layer.provideMerge(layerStart, store))

// --- internal

const table = (prefix: string, queue: string): string => `absurd."${prefix}_${queue.replaceAll("\"", "\"\"")}"`

const millis = (column: string): string => `absurd_effect.millis(${column})`

const object = (columns: { readonly [name: string]: string }): string =>
  `jsonb_build_object(${
    Object.entries(columns).map(([name, column]) => `'${name}', ${column}`).join(", ")
  })::text as row`

const taskColumns = object({
  taskId: "task_id",
  name: "task_name",
  params: "params",
  headers: "headers",
  retryStrategy: "retry_strategy",
  maxAttempts: "max_attempts",
  cancellation: "cancellation",
  enqueueAt: millis("enqueue_at"),
  firstStartedAt: millis("first_started_at"),
  state: "state",
  attempts: "attempts",
  lastAttemptRun: "last_attempt_run",
  completedPayload: "completed_payload",
  cancelledAt: millis("cancelled_at"),
  idempotencyKey: "idempotency_key"
})

const runColumns = object({
  runId: "run_id",
  taskId: "task_id",
  attempt: "attempt",
  state: "state",
  claimedBy: "claimed_by",
  claimExpiresAt: millis("claim_expires_at"),
  availableAt: millis("available_at"),
  wakeEvent: "wake_event",
  eventPayload: "event_payload",
  startedAt: millis("started_at"),
  completedAt: millis("completed_at"),
  failedAt: millis("failed_at"),
  result: "result",
  failureReason: "failure_reason",
  createdAt: millis("created_at")
})

const checkpointColumns = object({
  taskId: "task_id",
  name: "checkpoint_name",
  state: "state",
  status: "status",
  ownerRunId: "owner_run_id",
  updatedAt: millis("updated_at")
})

const eventColumns = object({ name: "event_name", payload: "payload", emittedAt: millis("emitted_at") })

const waitColumns = object({
  taskId: "task_id",
  runId: "run_id",
  step: "step_name",
  event: "event_name",
  timeoutAt: millis("timeout_at"),
  createdAt: millis("created_at")
})

type Kind = keyof Dump

/** One statement, so that the dump is of one moment. */
const statement = (queue: string): string => {
  const read = (kind: Kind, columns: string, prefix: string, rest: string) =>
    `(select '${kind}' as kind, ${columns} from ${table(prefix, queue)} ${rest})`
  return [
    read("tasks", taskColumns, "t", "order by task_id"),
    read("runs", runColumns, "r", "order by run_id"),
    read("checkpoints", checkpointColumns, "c", "order by updated_at, ctid"),
    read("events", eventColumns, "e", "where payload is not null order by emitted_at"),
    read("waits", waitColumns, "w", "order by task_id, step_name")
  ].join(" union all ")
}

const dump = Effect.fnUntraced(function*(
  sql: SqlClient,
  queue: string
): Effect.fn.Return<Dump, NotFound | DriverError> {
  const found = yield* sql.unsafe<{ readonly kind: Kind; readonly row: string }>(statement(queue)).pipe(
    Effect.mapError((error) => failureOf(queue, error))
  )
  const rows = Map.groupBy(found, ({ kind }) => kind)
  const read = <A>(
    kind: Kind,
    decode: (rows: ReadonlyArray<object>) => Effect.Effect<ReadonlyArray<{ readonly row: A }>, Schema.SchemaError>
  ) => Effect.map(decode(rows.get(kind) ?? []), (decoded) => decoded.map(({ row }) => row))
  return yield* Effect.all({
    tasks: read("tasks", Rows.tasks),
    runs: read("runs", Rows.runs),
    checkpoints: read("checkpoints", Rows.checkpoints),
    events: read("events", Rows.events),
    waits: read("waits", Rows.waits)
  }).pipe(Effect.mapError((error) => failureOf(queue, error)))
})

const failureOf = (queue: string, error: SqlError | Schema.SchemaError): NotFound | DriverError => {
  const code: unknown =
    error._tag === "SqlError" && typeof error.reason.cause === "object" && error.reason.cause !== null
      ? Reflect.get(error.reason.cause, "code")
      : undefined
  return code === "42P01"
    ? new NotFound({ kind: "queue", id: queue })
    : new DriverError({ operation: "dump", reason: new Rejected({ cause: error }) })
}
