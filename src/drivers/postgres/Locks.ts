/**
 * What a table that somebody has locked must not do: keep all connections of a pool waiting, and with them other queues.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Semaphore } from "effect"
import type { SqlClient, Statement } from "effect/sql"

/**
 * A row whose only column `patience` is not null, to be joined laterally in front of a function: from there on the statement
 * waits for no lock longer than that, and fails with `lock_not_available`. Undefined is as long as the session waits.
 *
 * The setting ends with the transaction, so it is for statements that are one.
 *
 * @since 0.1.0
 */
export const patience = (
  sql: SqlClient.SqlClient,
  limit: Duration.Duration | undefined
): Statement.Fragment => {
  const millis = limit === undefined ? null : `${Math.max(1, Math.round(Duration.toMillis(limit)))}`
  return sql`(
    SELECT CASE WHEN ${millis}::text IS NULL THEN '' ELSE set_config('lock_timeout', ${millis}, true) END AS patience OFFSET 0
  )`
}

/**
 * Sees to it that the requests about one queue leave some connections of the pool to the others, whatever they wait for. A
 * pool of less than six has none to spare.
 *
 * @since 0.1.0
 */
export const limitQueues = (sql: SqlClient.SqlClient, poolSize: number | undefined): void => {
  const permits = perQueue(poolSize ?? 0)
  if (permits !== undefined) limits.set(sql, { permits, queues: new Map() })
}

/**
 * Runs a statement about a queue, when one more may run. A client that was not given to {@link limitQueues} has no limits.
 *
 * @since 0.1.0
 */
export const within = <A, E, R>(
  sql: SqlClient.SqlClient,
  queue: string,
  statement: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const limit = limits.get(sql)
    if (limit === undefined) return statement
    let line = limit.queues.get(queue)
    if (line === undefined) limit.queues.set(queue, line = { semaphore: Semaphore.makeUnsafe(limit.permits), users: 0 })
    const entered = line
    entered.users++
    return Effect.ensuring(
      entered.semaphore.withPermit(statement),
      Effect.sync(() => {
        if (--entered.users === 0) limit.queues.delete(queue)
      })
    )
  })

// --- internal

interface Limit {
  readonly permits: number
  readonly queues: Map<string, { readonly semaphore: Semaphore.Semaphore; users: number }>
}

const limits = new WeakMap<SqlClient.SqlClient, Limit>()

/** Of a pool of ten, listening and heartbeats have one each, and one queue may keep six of the others busy. */
const perQueue = (poolSize: number): number | undefined => {
  const spare = poolSize - 2
  return spare < 4 ? undefined : spare - Math.floor(spare / 4)
}
