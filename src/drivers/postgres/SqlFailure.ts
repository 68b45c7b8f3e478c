/**
 * What a failure of the SQL client means to the library.
 *
 * @since 0.1.0
 */
import { Context, Effect, Schedule } from "effect"
import { type SqlClient, SqlError } from "effect/sql"
import {
  Conflict,
  DriverError,
  type DriverReason,
  NotFound,
  OutcomeUnknown,
  ReadOnly,
  Rejected,
  SchemaMismatch,
  Unavailable,
  UnsupportedIsolation
} from "../../core/Errors.ts"
import * as Locks from "./Locks.ts"

/** The SQLSTATE of a failure, when the server gave one. */
export const codeOf = (error: SqlError.SqlError): string | undefined => text(error, "code")

/** What the server said, without the parts that quote rows. */
export const messageOf = (error: SqlError.SqlError): string => text(error, "message") ?? error.message

/** Whether a request may have been carried out although its answer was lost. */
export type Access = "read" | "write"

/** The failure of `operation` as an error of the infrastructure. */
export const toDriverError = (operation: string, access: Access, error: SqlError.SqlError): DriverError =>
  new DriverError({ operation, reason: reasonOf(access, error) })

/**
 * Runs a statement for `operation`.
 *
 * Deadlocks and serialisation failures are tried again, at most five times, unless the caller has a transaction open:
 * that one is spoilt, and `Conflict` says so. A missing table of the queue is `NotFound`.
 */
export const run = <A>(
  sql: SqlClient.SqlClient,
  operation: string,
  queue: string,
  access: Access,
  statement: Effect.Effect<A, SqlError.SqlError>
): Effect.Effect<A, DriverError | NotFound> =>
  Effect.mapError(
    // A transaction has its connection already.
    Effect.flatMap(
      inTransaction(sql),
      (joined) => joined ? statement : Locks.within(sql, queue, retried(statement))
    ),
    (error) =>
      codeOf(error) === "42P01" && !messageOf(error).includes("absurd.queues")
        ? new NotFound({ kind: "queue", id: queue })
        : toDriverError(operation, access, error)
  )

/** The same for a statement that is not about the tables of a queue. */
export const runGlobal = <A>(
  sql: SqlClient.SqlClient,
  operation: string,
  access: Access,
  statement: Effect.Effect<A, SqlError.SqlError>
): Effect.Effect<A, DriverError> =>
  Effect.mapError(
    Effect.flatMap(inTransaction(sql), (joined) => joined ? statement : retried(statement)),
    (error) => toDriverError(operation, access, error)
  )

/** Whether the calling fiber is in a transaction of this client. */
export const inTransaction = (sql: SqlClient.SqlClient): Effect.Effect<boolean> =>
  Effect.withFiber(({ context }) => Context.getOrUndefined(context, sql.transactionService) === undefined ? no : yes)

// --- internal

const [yes, no] = [Effect.succeed(true), Effect.succeed(false)]

const collided = (error: SqlError.SqlError): boolean => {
  const code = codeOf(error)
  return code === "40001" || code === "40P01"
}

const again = Schedule.exponential("5 millis", 3).pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))

const retried = <A>(statement: Effect.Effect<A, SqlError.SqlError>): Effect.Effect<A, SqlError.SqlError> =>
  Effect.catchIf(statement, collided, () => Effect.retry(statement, { schedule: again, while: collided }))

const text = (error: SqlError.SqlError, key: "code" | "message"): string | undefined => {
  const cause: unknown = error.reason.cause
  if (typeof cause !== "object" || cause === null || !(key in cause)) return undefined
  const value: unknown = Reflect.get(cause, key)
  return typeof value === "string" ? value : undefined
}

const schemaRemedy = "Provide Installation.layer, which installs and updates the schema"

// A constraint error carries the failing row in its detail, and class 22 quotes the offending value in its message.
// Neither belongs in an error that may be logged.
const causeOf = (error: SqlError.SqlError): Error => {
  const code = codeOf(error)
  if (code === undefined) return new Error(error.reason._tag === "ConnectionError" ? messageOf(error) : error.message)
  const message = code.startsWith("22") ? "a value was refused" : messageOf(error)
  return Object.assign(new Error(`${message} (SQLSTATE ${code})`), { code })
}

const reasonOf = (access: Access, error: SqlError.SqlError): typeof DriverReason.Type => {
  const code = codeOf(error)
  switch (code) {
    case "40001":
    case "40P01":
      return new Conflict({ cause: causeOf(error) })
    case "AE002":
      return new UnsupportedIsolation({ isolation: messageOf(error) })
    case "3F000":
    case "42883":
    case "42P01":
      return new SchemaMismatch({ problem: messageOf(error), remedy: schemaRemedy })
    case "25006":
      return new ReadOnly({ cause: causeOf(error) })
    case "53100":
    case "53200":
    case "53300":
    case "55P03":
    case "57014":
    case "57P01":
    case "57P02":
    case "57P03":
    case "58030":
      return new Unavailable({ cause: causeOf(error) })
  }
  if (error.reason._tag !== "ConnectionError" && code?.startsWith("08") !== true) {
    return new Rejected({ cause: causeOf(error) })
  }
  // Only a connection that had been made can have carried the request.
  return access === "write" && error.reason.operation !== "connect"
    ? new OutcomeUnknown({ cause: causeOf(error) })
    : new Unavailable({ cause: causeOf(error) })
}
