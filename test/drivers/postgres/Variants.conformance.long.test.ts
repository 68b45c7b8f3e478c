/**
 * The driver with partitioned queues, and on the other versions of PostgreSQL that this machine has; `npm run test:matrix`
 * fetches those that it has not.
 */
import { PgClient } from "@effect/sql-pg"
import { afterAll } from "@effect/vitest"
import { Clock, Effect, Layer, ManagedRuntime } from "effect"
import * as PostgresDriver from "../../../src/drivers/postgres/PostgresDriver.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Suites from "../../conformance/Suites.ts"
import * as TestPostgres from "../../support/Postgres.ts"
import * as TestTime from "../../support/TestTime.ts"
import * as Servers from "./management/Servers.ts"
import * as Session from "./management/Session.ts"

Suites.all(
  "the PostgreSQL driver with partitioned queues",
  Layer.mergeAll(PostgresDriver.layer, TestTime.layerSql, Layer.succeed(Fixture.Storage, "partitioned")).pipe(
    Layer.provide(TestPostgres.layer({ maxConnections: 1 }))
  )
)

/** A client of a database of its own on the server. */
const client = Layer.unwrap(
  Effect.gen(function*() {
    const { socketPath } = yield* Servers.Place
    const { database = "", user = "" } = yield* Session.Database
    return PgClient.layer({ path: socketPath, username: user, database, maxConnections: 1, minConnections: 1 })
  })
).pipe(
  Layer.orDie,
  Layer.provide(Layer.succeed(Clock.Clock, Clock.Clock.defaultValue())),
  Layer.provide(Session.layerDatabase)
)

for (const [version, bin] of Servers.installed) {
  // All suites share the server, and have databases of their own.
  const server = ManagedRuntime.make(Servers.layerInstalled(bin))
  afterAll(() => server.dispose())

  const subject = Layer.merge(PostgresDriver.layer, TestTime.layerSql).pipe(
    Layer.provide(client),
    Layer.provide(Layer.effectContext(server.contextEffect))
  )
  Suites.all(`the PostgreSQL driver on PostgreSQL ${version}`, subject)
  Suites.all(
    `the PostgreSQL driver on PostgreSQL ${version} with partitioned queues`,
    Layer.merge(subject, Layer.succeed(Fixture.Storage, "partitioned"))
  )
}
