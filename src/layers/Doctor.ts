/**
 * Looks for what must not be in the queues of a live database. It only reads, and takes no lock that anything else waits for.
 *
 * It looks for all that `Invariants.check` says of one state, and for what only a database can tell; the ids are the same.
 *
 * @since 0.1.0
 */
import { Duration, Effect } from "effect"
import { SqlClient } from "effect/sql/SqlClient"
import { resolveQueue } from "../core/Absurd.ts"
import type { Absurd } from "../core/Absurd.ts"
import type { DriverError, InvalidInput, NotFound } from "../core/Errors.ts"
import * as Input from "../core/Input.ts"
import type { Id, Violation } from "../core/Invariants.ts"
import * as DoctorSql from "../drivers/postgres/DoctorSql.ts"
import * as SqlFailure from "../drivers/postgres/SqlFailure.ts"

/**
 * The invariants that are looked at.
 *
 * @since 0.1.0
 * @category constants
 */
export const ids: ReadonlyArray<Id> = DoctorSql.ids

/**
 * Where the doctor looks, for how long, and how much it tells.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The queue; the client's own by default. */
  readonly queue?: string | undefined
  /** How long the database may look, from 1 ms to one hour; 10 seconds by default. Large queues need more. */
  readonly timeout?: Duration.Input | undefined
  /** How many violations of each invariant are listed at most, from 1 to 10,000; 20 by default. */
  readonly limit?: number | undefined
}

/**
 * Lists the violations in a queue; none in a sound one. `NotFound` when there is no such queue, `DriverError` with the reason
 * `Unavailable` when the time was not enough.
 *
 * Everything is read in one statement, so it sees one moment. Inside a transaction of the client it sees what that has done,
 * and the rest of that transaction keeps its own time limit.
 *
 * @since 0.1.0
 * @category checking
 */
export const check = Effect.fn("Doctor.check")(function*(
  options: Options = {}
): Effect.fn.Return<ReadonlyArray<Violation>, InvalidInput | NotFound | DriverError, Absurd | SqlClient> {
  const client = yield* SqlClient
  const sql = client.withoutTransforms()
  const queue = yield* resolveQueue(options.queue)
  const timeout = yield* Input.duration("timeout", options.timeout ?? "10 seconds", {
    minimum: "1 millis",
    maximum: "1 hour"
  })
  const limit = yield* Input.integer("limit", options.limit ?? 20, { minimum: 1, maximum: 10_000 })
  const examine = Effect.gen(function*() {
    const [before] = yield* sql<{ readonly limit: string }>`select current_setting('statement_timeout') as limit`
    yield* sql`select set_config('statement_timeout', ${String(Math.ceil(Duration.toMillis(timeout)))}, true)`
    const found = yield* sql.unsafe<Violation>(DoctorSql.statement(queue, limit))
    yield* sql`select set_config('statement_timeout', ${before?.limit ?? "0"}, true)`
    return found.map(({ id, problem, subject }): Violation => ({ id, subject, problem }))
  })
  return yield* SqlFailure.run(sql, "doctor", queue, "read", sql.withTransaction(examine))
})
