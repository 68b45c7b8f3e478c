/**
 * The store on PostgreSQL, over any `SqlClient`.
 *
 * Requests run on the client's own pool, or in the transaction that the calling fiber has open on that client, so that
 * they commit or roll back with the program's own writes. The schema has to be there; see `Installation`.
 *
 * @since 0.1.0
 */
import { Effect, Layer, Stream } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { Driver, type Signal } from "../../core/Driver.ts"
import type { DriverError } from "../../core/Errors.ts"
import * as FakeNow from "./FakeNow.ts"
import * as Installation from "./Installation.ts"
import * as Locks from "./Locks.ts"
import * as Notifications from "./Notifications.ts"
import * as PostgresLimits from "./PostgresLimits.ts"
import * as PostgresListing from "./PostgresListing.ts"
import * as PostgresQueues from "./PostgresQueues.ts"
import * as PostgresRuns from "./PostgresRuns.ts"
import * as PostgresSchedules from "./PostgresSchedules.ts"
import * as PostgresTasks from "./PostgresTasks.ts"
import * as PostgresUpkeep from "./PostgresUpkeep.ts"
import * as PostgresWorkers from "./PostgresWorkers.ts"
import * as PostgresWorkflowRuns from "./PostgresWorkflowRuns.ts"
import * as SqlFailure from "./SqlFailure.ts"

/** How the driver works with its database. @since 0.1.0 */
export interface Options {
  /**
   * Whether to listen for hints of the database; true by default. It takes a client that can (`PgClient` of
   * `@effect/sql-pg`) with at least four connections, one of which it occupies. Switch it off behind a pooler that gives each
   * transaction another session; polling works without.
   *
   * This is about listening. That the database sends hints is switched off by its setting `absurd_effect.notify`, for
   * example with `ALTER DATABASE ... SET absurd_effect.notify = 'off'`.
   */
  readonly notifications?: boolean | undefined
  /** Hints about work and ends from elsewhere, instead of those. */
  readonly signals?: Stream.Stream<Signal, DriverError> | undefined
  /**
   * Whether to start although the setting `absurd.fake_now` makes the store's clock stand still; false by default. For
   * tests that set it themselves; `AbsurdTestSql` does not need it.
   */
  readonly allowFakeNow?: boolean | undefined
}

/**
 * The driver over the `SqlClient` in context.
 *
 * Emitting, waiting and spawning with an idempotency key need READ COMMITTED, and fail with `UnsupportedIsolation` in any
 * other transaction, and on a connection whose default is another one.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options?: Options): Effect.Effect<Driver["Service"], never, SqlClient.SqlClient> =>
  Effect.map(SqlClient.SqlClient, (client) => {
    const sql = client.withoutTransforms()
    Locks.limitQueues(sql, Notifications.poolSize(client))
    return Driver.of({
      ...PostgresQueues.make(sql),
      ...PostgresRuns.make(sql),
      ...PostgresWorkers.make(client, sql),
      ...PostgresTasks.makeActions(sql),
      ...PostgresTasks.makeReads(sql),
      ...PostgresListing.make(sql),
      ...PostgresLimits.make(sql),
      ...PostgresWorkflowRuns.make(sql),
      ...PostgresSchedules.make(sql),
      ...PostgresUpkeep.make(sql, withTransaction(sql)),
      withTransaction: withTransaction(sql),
      inTransaction: SqlFailure.inTransaction(sql),
      signals: options?.signals ?? (options?.notifications === false ? Stream.never : Notifications.signals(client))
    })
  })

/**
 * {@link make} as a layer. It refuses to start, with `SchemaMismatch` and the remedy, on a database whose schema is missing
 * or of a version that this library does not know, and with `ClockTampered` where `absurd.fake_now` is set.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Driver, DriverError, SqlClient.SqlClient> = Layer.suspend(() => layerWith({}))

/**
 * {@link layer} with options.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<Driver, DriverError, SqlClient.SqlClient> =>
  Layer.effect(
    Driver,
    Installation.check.pipe(
      Effect.andThen(options.allowFakeNow === true ? Effect.void : SqlClient.SqlClient.use(FakeNow.refuse)),
      Effect.andThen(make(options))
    )
  )

// --- internal

// Pinned, because the server's or the role's default may be another isolation. The statement is for this transaction
// alone: inside it the caller's own setting holds again, for transactions of other clients.
const withTransaction =
  (sql: SqlClient.SqlClient) => <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | DriverError, R> =>
    Effect.flatMap(SqlClient.BeginTransaction, (begin) =>
      Effect.mapError(self, (error) => ({ error })).pipe(
        Effect.provideService(SqlClient.BeginTransaction, begin),
        sql.withTransaction,
        Effect.provideService(SqlClient.BeginTransaction, begin ?? "BEGIN ISOLATION LEVEL READ COMMITTED"),
        Effect.mapError((failure) =>
          SqlError.isSqlError(failure) ? SqlFailure.toDriverError("transaction", "write", failure) : failure.error
        )
      ))
