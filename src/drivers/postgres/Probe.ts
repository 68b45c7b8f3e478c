/**
 * Whether the database takes requests again, and no connection to one that does not.
 *
 * After a failover connections may lead to what is a standby now, or keep the setting `default_transaction_read_only` that
 * held when they were made: they answer reads and refuse every write, for as long as they are used. So a session that turns
 * out to be read-only is ended, and the client makes a new connection, to where the name of its host leads by then.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Exit, Option, Scope } from "effect"
import type { SqlClient, SqlConnection } from "effect/sql"
import { DriverError, ReadOnly } from "../../core/Errors.ts"
import * as Lease from "../../core/Lease.ts"
import { isReadOnly } from "../../core/Outage.ts"
import { poolSize } from "./Notifications.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** The probe of the driver. See `WorkerStore`. */
export const make =
  (client: SqlClient.SqlClient, sql: SqlClient.SqlClient) => (after: DriverError): Effect.Effect<void, DriverError> =>
    isReadOnly(after)
      ? Effect.scoped(lookThrough(client, sql))
      : Effect.flatMap(session(sql), ({ standby, writable }) => writable ? Effect.void : refuse(standby))

// --- internal

interface Session {
  readonly writable: boolean
  readonly standby: boolean
  /** For how many milliseconds there has been this session; null when the server does not say. */
  readonly age: number | null
}

/** How long it is waited for another connection when at least one takes writes. */
const patience = Duration.seconds(1)

const session = (sql: SqlClient.SqlClient): Effect.Effect<Session, DriverError> =>
  Effect.map(
    SqlFailure.runGlobal(
      sql,
      "probe",
      "read",
      sql<Session>`
        SELECT pg_is_in_recovery() AS standby,
          NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable,
          (SELECT extract(epoch FROM clock_timestamp() - backend_start) * 1000 FROM pg_stat_activity
            WHERE pid = pg_backend_pid())::float8 AS age`
    ),
    (rows) => rows[0]!
  )

const refuse = (standby: boolean) =>
  Effect.fail(
    new DriverError({
      operation: "probe",
      reason: new ReadOnly({
        cause: new Error(standby ? "the server is a standby" : "default_transaction_read_only is on")
      })
    })
  )

/**
 * Looks at one idle connection of the pool after the other, keeping what takes writes until all have been seen, and ends the
 * others, up to the first that was made just now: the rest would be like it.
 */
const lookThrough = (
  client: SqlClient.SqlClient,
  sql: SqlClient.SqlClient
): Effect.Effect<void, DriverError, Scope.Scope> =>
  Effect.gen(function*() {
    const startedAt = yield* Lease.monotonicMillis
    const scope = yield* Effect.scope
    const most = poolSize(client) ?? 1
    let writable = 0
    for (let seen = 1;; seen++) {
      const own = yield* Scope.fork(scope)
      const taken = yield* Scope.provide(client.reserve, own).pipe(
        Effect.mapError((error) => SqlFailure.toDriverError("probe", "read", error)),
        (reserve) => writable === 0 ? Effect.asSome(reserve) : Effect.timeoutOption(reserve, patience)
      )
      if (Option.isNone(taken)) return
      const on = client.transactionService.of([taken.value, 0])
      const found = yield* Effect.provideService(session(sql), client.transactionService, on)
      const isNew = found.age === null || found.age <= (yield* Lease.monotonicMillis) - startedAt + 1
      if (found.writable) writable++
      else {
        yield* end(taken.value)
        yield* Scope.close(own, Exit.void)
      }
      if (isNew || seen >= (writable > 0 ? most : 2 * most)) {
        return writable > 0 ? undefined : yield* refuse(found.standby)
      }
    }
  })

/** The second statement cannot be answered, so afterwards the client knows that the session is gone. */
const end = (connection: SqlConnection.Connection): Effect.Effect<void> =>
  Effect.forEach(
    ["SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1"],
    (statement) => Effect.ignore(connection.executeUnprepared(statement, [], undefined)),
    { discard: true }
  )
