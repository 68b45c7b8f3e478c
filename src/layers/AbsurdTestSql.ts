/**
 * The store under test when it is PostgreSQL, embedded or on a server, so that the tests of `AbsurdTest` run on it as they are.
 *
 * @since 0.1.0
 */
import { Clock, DateTime, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Client from "../core/Absurd.ts"
import { DriverError, type InvalidInput, type InvalidState, NotFound, Rejected } from "../core/Errors.ts"
import type { Dump } from "../core/Invariants.ts"
import * as FakeNow from "../drivers/postgres/FakeNow.ts"
import * as Installation from "../drivers/postgres/Installation.ts"
import * as PostgresDriver from "../drivers/postgres/PostgresDriver.ts"
import * as Rows from "../drivers/postgres/Rows.ts"
import * as TestStore from "./testkit/TestStore.ts"

/**
 * The store of a client, set to `AbsurdTest.start`. Its clock is a setting of the session, so the client must have exactly
 * one connection, and a database of its own: `PgClient.layer({ maxConnections: 1, ... })`, or `Embedded.layer()`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<TestStore.TestStore, never, SqlClient> = Layer.effectContext(
  Effect.flatMap(SqlClient, (client) => {
    const sql = client.withoutTransforms()
    // There is one connection, so what it is asked last it answers last.
    const roundTrip = Effect.ignore(sql`select 1`)
    return TestStore.make({
      setTime: (instant) => Effect.orDie(FakeNow.set(sql, instant)),
      dump: (queue) => dump(sql, queue),
      nextDue: (queue) => nextDue(sql, queue),
      settle: Effect.repeat(roundTrip, { times: 4 })
    })
  })
).pipe((store) => Layer.provideMerge(TestStore.layerStart, store))

/**
 * What {@link layerWith} may be told beside the options of the client.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Client.Options {
  /** The queues that the test needs beside the default one. */
  readonly queues?: ReadonlyArray<string> | undefined
}

/**
 * The counterpart of `AbsurdTest.layer`: a client on PostgreSQL with the schema installed, with its default queue, at
 * `AbsurdTest.start`. For the client see {@link layer}, and {@link layerOn}.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (
  options: Options = {}
): Layer.Layer<Client.Absurd | TestStore.TestStore, InvalidInput | InvalidState | DriverError, SqlClient> => {
  const queues = Layer.effectDiscard(Effect.gen(function*() {
    const { defaultQueue } = yield* Client.Absurd
    yield* Effect.forEach([defaultQueue, ...(options.queues ?? [])], (queue) => Client.createQueue(queue))
  }))
  return queues.pipe(
    // What it does in the background, such as looking after its hints, would be done once a minute of years.
    Layer.provideMerge(Client.layerDriver(options).pipe(Layer.provide(PostgresDriver.layer), Layer.provide(realClock))),
    Layer.provideMerge(layer),
    Layer.provideMerge(Installation.layer)
  )
}

/**
 * {@link layerWith} over this client, which lives on the real clock: its pool would close idle connections, and the embedded
 * store would look after its tables, whenever a test moves the time.
 *
 * ```ts
 * import { PgClient } from "@effect/sql-pg"
 * import { Config } from "effect"
 * import * as AbsurdTestSql from "effect-absurd/AbsurdTestSql"
 * import * as Embedded from "effect-absurd/Embedded"
 *
 * const OnEmbedded = AbsurdTestSql.layerOn(Embedded.layer())
 *
 * const OnPostgres = AbsurdTestSql.layerOn(
 *   PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL"), maxConnections: Config.succeed(1) })
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerOn = <A, E, R>(
  client: Layer.Layer<A | SqlClient, E, R>,
  options: Options = {}
): Layer.Layer<
  A | SqlClient | Client.Absurd | TestStore.TestStore,
  E | InvalidInput | InvalidState | DriverError,
  R
> =>
  layerWith(options).pipe(
    Layer.provideMerge(Layer.provide(client, realClock))
  )

// --- internal

const realClock = Layer.succeed(Clock.Clock, Clock.Clock.defaultValue())

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

const limitColumns = object({ name: "name", figures: "figures", override: "override", stale: "stale" })

const limitedRunColumns = object({
  runId: "run_id",
  name: "name",
  key: "key",
  state: "state",
  due: millis("due")
})

const limitKeyColumns = object({ name: "name", key: "key", arrival: millis("arrival") })

type Kind = keyof Dump

/** One statement, so that the dump is of one moment. */
const statement = (queue: string): string => {
  const from = (kind: Kind, columns: string, source: string, rest: string) =>
    `(select '${kind}' as kind, ${columns} from ${source} ${rest})`
  const read = (kind: Kind, columns: string, prefix: string, rest: string) =>
    from(kind, columns, table(prefix, queue), rest)
  const ofQueue = `where queue_name = '${queue.replaceAll("'", "''")}'`
  return [
    read("tasks", taskColumns, "t", "order by task_id"),
    read("runs", runColumns, "r", "order by run_id"),
    read("checkpoints", checkpointColumns, "c", "order by updated_at, ctid"),
    read("events", eventColumns, "e", "where payload is not null order by emitted_at"),
    read("waits", waitColumns, "w", "order by task_id, step_name"),
    from("limits", limitColumns, "absurd_effect.limits", `${ofQueue} order by name`),
    from("limitedRuns", limitedRunColumns, "absurd_effect.limited_runs", `${ofQueue} order by run_id`),
    from("limitKeys", limitKeyColumns, "absurd_effect.limit_keys", `${ofQueue} and arrival > absurd.current_time()`)
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
    waits: read("waits", Rows.waits),
    limits: read("limits", Rows.limits),
    limitedRuns: read("limitedRuns", Rows.limitedRuns),
    limitKeys: read("limitKeys", Rows.limitKeys)
  }).pipe(Effect.mapError((error) => failureOf(queue, error)))
})

/** Each of these has an index that knows the answer. */
const nextDue = Effect.fnUntraced(function*(
  sql: SqlClient,
  queue: string
): Effect.fn.Return<DateTime.Utc | null, NotFound | DriverError> {
  const deadline = "absurd_effect.cancel_deadline(cancellation, enqueue_at, first_started_at)"
  const present = "absurd.current_time()"
  const rows = yield* sql.unsafe(`
    select ceil(extract(epoch from min(at)) * 1000)::text as next from (
      select min(available_at) as at from ${table("r", queue)}
        where state in ('pending', 'sleeping') and available_at > ${present}
          and available_at < absurd_effect.parked_until()
      union all
      select min(claim_expires_at) from ${table("r", queue)} where state = 'running' and claim_expires_at > ${present}
      union all
      select min(${deadline}) from ${table("t", queue)}
        where state in ('pending', 'sleeping', 'running') and ${deadline} > ${present}
    ) as instants`).pipe(
    Effect.flatMap(decodeNext),
    Effect.mapError((error) => failureOf(queue, error))
  )
  const next = rows[0]?.next ?? null
  return next === null ? null : DateTime.makeUnsafe(next)
})

const decodeNext = Schema.decodeUnknownEffect(
  Schema.Array(Schema.Struct({ next: Schema.NullOr(Schema.NumberFromString) }))
)

const failureOf = (queue: string, error: SqlError | Schema.SchemaError): NotFound | DriverError => {
  const code: unknown =
    error._tag === "SqlError" && typeof error.reason.cause === "object" && error.reason.cause !== null
      ? Reflect.get(error.reason.cause, "code")
      : undefined
  return code === "42P01"
    ? new NotFound({ kind: "queue", id: queue })
    : new DriverError({ operation: "dump", reason: new Rejected({ cause: error }) })
}
