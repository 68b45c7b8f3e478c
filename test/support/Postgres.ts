/**
 * Fresh databases on the PostgreSQL server of the test run.
 *
 * `import * as TestPostgres from "../support/Postgres.ts"`: `TestPostgres.layer()` is a database of its own with the
 * schema installed, gone when its scope ends.
 */
import { PgClient } from "@effect/sql-pg"
import { Clock, Context, Data, Duration, Effect, Layer, type Scope } from "effect"
import type { SqlClient } from "effect/sql"
import * as Fs from "node:fs/promises"
import { Client } from "pg"
import { inject } from "vitest"
import * as Server from "./Server.ts"

export interface Options {
  /** How many connections the pool has, all opened at once; 10 by default. */
  readonly maxConnections?: number | undefined
  /** Session settings of every connection, for example `{ "absurd.fake_now": "2026-01-05T00:00:00Z" }`. */
  readonly startupParameters?: Readonly<Record<string, string>> | undefined
  /** Further settings of the client. */
  readonly client?: Partial<PgClient.PgPoolConfig> | undefined
}

/** A database that exists as long as its scope. */
export class TestDatabase extends Context.Service<TestDatabase, {
  readonly name: string
  readonly location: Server.Location
  /** For other processes, over TCP. */
  readonly url: string
  /** What `new pg.Client(...)` and `new pg.Pool(...)` take. */
  readonly pgConfig: {
    readonly host: string
    readonly port: number
    readonly user: string
    readonly database: string
  }
  /** What the server logged about this database as ERROR, FATAL or PANIC so far. */
  readonly errors: Effect.Effect<ReadonlyArray<string>>
}>()("test/support/TestDatabase") {}

/** A fresh database with the schema installed. */
export const database: Effect.Effect<TestDatabase["Service"], never, Scope.Scope> = Effect.suspend(() =>
  makeDatabase(templateName, ensureTemplate)
)

/** A fresh database with nothing in it. */
export const emptyDatabase: Effect.Effect<TestDatabase["Service"], never, Scope.Scope> = Effect.suspend(() =>
  makeDatabase("template0", Effect.void)
)

/** A client of the database in context. */
export const layerClient = (
  options?: Options
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, never, TestDatabase> =>
  Layer.unwrap(Effect.map(TestDatabase, (database) => PgClient.layer(clientConfig(database, options)))).pipe(
    Layer.orDie,
    // A pool on a test clock would close its idle connections whenever a test moves the time.
    Layer.provide(Layer.succeed(Clock.Clock, Clock.Clock.defaultValue()))
  )

/** A fresh database with the schema installed, and a client of it. */
export const layer = (
  options?: Options
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient | TestDatabase> =>
  Layer.provideMerge(layerClient(options), Layer.effect(TestDatabase, database))

/** A fresh database with nothing in it, and a client of it. */
export const layerEmpty = (
  options?: Options
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient | TestDatabase> =>
  Layer.provideMerge(layerClient(options), Layer.effect(TestDatabase, emptyDatabase))

/** The settings of an `@effect/sql-pg` client of `database`. */
export const clientConfig = (database: TestDatabase["Service"], options?: Options): PgClient.PgPoolConfig => ({
  path: database.location.socketPath,
  username: database.location.username,
  database: database.name,
  maxConnections: options?.maxConnections ?? 10,
  minConnections: options?.maxConnections ?? 0,
  idleTimeout: Duration.infinity,
  ...(options?.startupParameters === undefined ? {} : { startupParameters: options.startupParameters }),
  ...options?.client
})

/** A `pg` client of its own session, closed when the scope ends. */
export const session = (database: TestDatabase["Service"]): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client(database.pgConfig)
      // A server that goes away while the client idles must not end the process.
      client.on("error", () => {})
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end())
  )

/** Where the server of the test run is. */
export const serverLocation = (): Server.Location => inject("postgres")

// --- internal

const templateName = "absurd_template"

let counter = 0

class TemplateFailed extends Data.TaggedError("TemplateFailed")<{ readonly cause: unknown }> {
  override readonly message = "The schema could not be installed into the template database"
}

const admin = <A>(use: (client: Client) => Promise<A>): Effect.Effect<A> =>
  Effect.promise(async () => {
    const location = inject("postgres")
    const client = new Client({
      host: location.socketDirectory,
      port: location.port,
      user: location.username,
      database: "postgres"
    })
    await client.connect()
    try {
      return await use(client)
    } finally {
      await client.end()
    }
  })

const makeDatabase = Effect.fnUntraced(function*(template: string, prepare: Effect.Effect<void>) {
  yield* prepare
  const name = `test_${process.pid}_${++counter}`
  yield* Effect.acquireRelease(
    admin(async (client) => {
      // Copying files is the quicker one of two strategies; PostgreSQL 14 knows no other and has no word for it.
      const found = await client.query("select current_setting('server_version_num')::int >= 150000 as choice")
      const strategy = template === templateName && found.rows[0]?.choice === true ? "strategy file_copy" : ""
      await client.query(`create database ${name} template ${template} ${strategy}`)
    }),
    () => admin((client) => client.query(`drop database if exists ${name} with (force)`))
  )
  return describe(name)
})

const describe = (name: string): TestDatabase["Service"] => {
  const location = inject("postgres")
  return {
    name,
    location,
    url: Server.url(location, name),
    pgConfig: { host: location.socketDirectory, port: location.port, user: location.username, database: name },
    errors: Effect.promise(async () => {
      const log = await Fs.readFile(location.logPath, "utf8")
      return log.split("\n").filter((line) => line.startsWith(`[${name}] `) && /\] (ERROR|FATAL|PANIC):/.test(line))
    })
  }
}

// Whoever comes first, of all test processes, installs the schema; it becomes the template only when it is complete.
const installTemplate = Effect.promise(async () => {
  const lock = new Client({ ...describe("postgres").pgConfig })
  await lock.connect()
  try {
    await lock.query("select pg_advisory_lock(4711)")
    const found = await lock.query("select from pg_database where datname = $1", [templateName])
    if (found.rowCount === 1) return
    const draft = `${templateName}_draft`
    await lock.query(`drop database if exists ${draft} with (force)`)
    await lock.query(`create database ${draft} template template0`)
    const Installation = await import("../../src/drivers/postgres/Installation.ts")
    await Effect.runPromise(
      Effect.scoped(Layer.build(
        Installation.layer.pipe(
          Layer.provide(PgClient.layer(clientConfig(describe(draft), { maxConnections: 1 })))
        )
      )).pipe(Effect.mapError((cause) => new TemplateFailed({ cause })))
    )
    await lock.query(`alter database ${draft} rename to ${templateName}`)
  } finally {
    await lock.end()
  }
})

let template: Promise<void> | undefined

const ensureTemplate: Effect.Effect<void> = Effect.promise(() => template ??= Effect.runPromise(installTemplate))
