/**
 * Hints by LISTEN and NOTIFY, where the client of the program can listen.
 *
 * A listener occupies a connection of the pool, so it is used only where the pool has at least four, and where connections
 * are not shared by statements (`multiplex`): whoever was on the listener's would wait for it. That a connection is still
 * alive is not taken on trust: every five seconds a notification of our own has to come back.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Latch, Predicate, type Queue, Scope, Stream } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { Signal } from "../../core/Driver.ts"
import { DriverError, Unavailable } from "../../core/Errors.ts"
import * as Outage from "../../core/Outage.ts"
import * as SqlFailure from "./SqlFailure.ts"

/**
 * How many connections the pool of a client has at most, when it says so.
 *
 * @since 0.1.0
 */
export const poolSize = (client: SqlClient.SqlClient): number | undefined => {
  if (!Predicate.hasProperty(client, "config") || !Predicate.isObject(client.config)) return undefined
  const size: unknown = Reflect.get(client.config, "maxConnections")
  return typeof size === "number" ? size : 10
}

/**
 * The hints that a client hears, or a stream without any when it cannot listen.
 *
 * @since 0.1.0
 */
export const signals = (client: SqlClient.SqlClient): Stream.Stream<Signal, DriverError> => {
  if (!canListen(client)) return Stream.never
  return Stream.unwrap(Effect.gen(function*() {
    // Giving up a connection that is dead may take for ever, and must not keep anybody from listening on another one.
    const listening = yield* Scope.make()
    yield* Effect.addFinalizer((exit) => Effect.forkDetach(Scope.close(listening, exit)))
    const notifications = yield* Effect.mapError(Scope.provide(client.listen(channel), listening), refail)
    const heard = Latch.makeUnsafe(false)
    const hints = Stream.fromQueue(notifications).pipe(
      Stream.mapError(refail),
      Stream.flatMap(({ payload }) => {
        if (payload.startsWith("p:")) heard.openUnsafe()
        return Stream.fromIterable(parse(payload))
      })
    )
    return Stream.merge(
      Stream.concat(Stream.succeed<Signal>({ _tag: "Gap" }), hints),
      Stream.fromEffect(checkOn(client, heard))
    )
  }))
}

// --- internal

const channel = "absurd_effect"

interface Listening extends SqlClient.SqlClient {
  readonly listen: (
    channel: string
  ) => Effect.Effect<
    Queue.Dequeue<{ readonly payload: string }, SqlError.SqlError>,
    SqlError.SqlError,
    Scope.Scope
  >
}

// The package of the client is not ours to import: a program may use another one.
const canListen = (client: SqlClient.SqlClient): client is Listening =>
  Predicate.hasProperty(client, "listen") && typeof client.listen === "function" &&
  (Predicate.hasProperty(client, "listensWithoutConnection") || ((poolSize(client) ?? 0) >= 4 && !multiplexes(client)))

const multiplexes = (client: SqlClient.SqlClient): boolean =>
  Predicate.hasProperty(client, "config") && Predicate.isObject(client.config) &&
  Reflect.get(client.config, "multiplex") === true

const refail = (error: SqlError.SqlError) => SqlFailure.toDriverError("listen", "read", error)

/** Fails when a notification does not come back. When it cannot even be sent, that says nothing about the listener. */
const checkOn = (sql: SqlClient.SqlClient, heard: Latch.Latch): Effect.Effect<never, DriverError> =>
  Effect.gen(function*() {
    while (true) {
      yield* Effect.sleep(Duration.seconds(5))
      heard.closeUnsafe()
      const sent = yield* Effect.exit(
        Outage.answerWithin(
          Effect.mapError(sql`SELECT pg_notify(${channel}, 'p:')`, refail),
          "listen",
          Duration.seconds(5)
        )
      )
      if (sent._tag === "Failure") continue
      const back = yield* Effect.timeoutOption(heard.await, Duration.seconds(5))
      if (back._tag === "None") {
        const cause = new Error("the listening connection is silent")
        return yield* new DriverError({ operation: "listen", reason: new Unavailable({ cause }) })
      }
    }
  })

const parse = (payload: string): ReadonlyArray<Signal> => {
  const colon = payload.indexOf(":")
  const queue = payload.slice(colon + 1)
  if (payload.startsWith("w:")) return [{ _tag: "Work", queue }]
  if (!payload.startsWith("e") || colon < 0) return []
  return payload.slice(1, colon).split(",").map((taskId) => ({ _tag: "Ended", queue, taskId }))
}
