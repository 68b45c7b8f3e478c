/**
 * A connection for heartbeats alone, so that leases are kept however busy the program keeps its pool.
 *
 * It is taken out of the pool when a worker starts, where the pool has at least two connections, and replaced when it fails.
 * With a single connection a program that holds it for longer than a lease loses its leases.
 *
 * @since 0.1.0
 */
import { Effect, Exit, Option, Scope, Semaphore } from "effect"
import type { SqlClient, SqlConnection } from "effect/sql"
import type { Driver } from "../../core/Driver.ts"
import { poolSize } from "./Notifications.ts"
import * as SqlFailure from "./SqlFailure.ts"

type Extend = Effect.Success<Driver["Service"]["heartbeats"]>["extend"]

/** Where `extend` runs on a connection of its own, in the scope. */
export const make = (
  client: SqlClient.SqlClient,
  extend: Extend
): Effect.Effect<{ readonly extend: Extend }, never, Scope.Scope> =>
  Effect.gen(function*() {
    if ((poolSize(client) ?? 0) < 2) return { extend }
    let held: Held | undefined
    const scope = yield* Effect.scope

    // Replaced in the background, for giving up a dead connection may take its time.
    const drop = (connection: Held) =>
      Effect.suspend(() => {
        if (held === connection) held = undefined
        return Effect.asVoid(Effect.forkIn(Scope.close(connection.scope, Exit.void), scope))
      })

    // One at a time: each caller would take a connection, and keep it.
    const acquiring = yield* Semaphore.make(1)
    const acquire = Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        if (held !== undefined) return held
        const own = yield* Scope.fork(scope)
        const connection = yield* restore(Scope.provide(client.reserve, own)).pipe(
          Effect.mapError((error) => SqlFailure.toDriverError("extend", "read", error)),
          Effect.onError(() => Scope.close(own, Exit.void))
        )
        return held = { connection, scope: own }
      })
    ).pipe(acquiring.withPermit)

    // The first one is taken while there surely are some; when that fails, the first beat tries again.
    yield* Effect.forkScoped(Effect.ignore(acquire))

    return {
      extend: (request) =>
        Effect.flatMap(acquire, (current) =>
          extend(request).pipe(
            Effect.provideService(client.transactionService, [current.connection, 0]),
            Effect.onExit((exit) =>
              Exit.isFailure(exit) && Option.isNone(Exit.findErrorOption(exit).pipe(Option.filter(isAboutQueue)))
                ? drop(current)
                : Effect.void
            )
          ))
    }
  })

// --- internal

interface Held {
  readonly connection: SqlConnection.Connection
  readonly scope: Scope.Closeable
}

const isAboutQueue = (error: { readonly _tag: string }) => error._tag === "NotFound"
