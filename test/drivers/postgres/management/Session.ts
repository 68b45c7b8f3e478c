/**
 * SQL as the other clients send it: text, untyped parameters, rows by column name.
 */
import { layer, type Vitest } from "@effect/vitest"
import { Context, Effect, Layer, type Scope } from "effect"
import { Client, type ClientConfig, DatabaseError } from "pg"
import { script } from "../../../../src/drivers/postgres/Installation.ts"
import * as Servers from "./Servers.ts"

export type Row = Readonly<Record<string, unknown>>

export interface Refusal {
  readonly code: string | undefined
  readonly message: string
}

export interface Connection {
  /** The rows that a statement returns. A failure is a defect. */
  readonly rows: (text: string, ...values: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<Row>>
  /** The only column of the only row. */
  readonly value: (text: string, ...values: ReadonlyArray<unknown>) => Effect.Effect<unknown>
  /** The only column of all rows. */
  readonly column: (text: string, ...values: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<unknown>>
  /** The error that a statement must raise. */
  readonly refusal: (text: string, ...values: ReadonlyArray<unknown>) => Effect.Effect<Refusal>
  /** The warnings so far. */
  readonly warnings: Effect.Effect<ReadonlyArray<string>>
  readonly pid: number
}

export const connect = (
  config: ClientConfig
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function*() {
    const warnings: Array<string> = []
    const client = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const client = new Client(config)
        client.on("error", () => {})
        client.on("notice", (notice) => {
          if (notice.severity === "WARNING") warnings.push(notice.message ?? "")
        })
        await client.connect()
        return client
      }),
      (client) => Effect.promise(() => client.end())
    )
    const run = (text: string, values: ReadonlyArray<unknown>) =>
      Effect.promise(() => values.length === 0 ? client.query<Row>(text) : client.query<Row>(text, [...values]))
    const rows: Connection["rows"] = (text, ...values) => Effect.map(run(text, values), (result) => result.rows)
    const column: Connection["column"] = (text, ...values) =>
      Effect.map(rows(text, ...values), (found) => found.map((row) => Object.values(row)[0]))
    return {
      rows,
      column,
      value: (text, ...values) => Effect.map(column(text, ...values), (found) => found[0]),
      refusal: (text, ...values) =>
        Effect.promise(() =>
          client.query(text, [...values]).then(
            () => Promise.reject(new Error(`Nothing was raised by: ${text}`)),
            (error: unknown) => error instanceof DatabaseError ? error : Promise.reject(error)
          )
        ).pipe(Effect.map(({ code, message }) => ({ code, message }))),
      warnings: Effect.sync(() => [...warnings]),
      pid: Number((yield* Effect.promise(() => client.query("select pg_backend_pid() as pid"))).rows[0]?.pid)
    }
  })

/** A database with the schema in it. */
export class Database extends Context.Service<Database, ClientConfig>()("test/management/Database") {}

/** A connection to the database of the test file, for one test. */
export const another: Effect.Effect<Connection, never, Scope.Scope | Database> = Effect.flatMap(Database, connect)

/** Whether the session of `pid` comes to wait for a lock. */
export const blocked = (observer: Connection, pid: number): Effect.Effect<void> =>
  observer.value("select cardinality(pg_blocking_pids($1)) > 0", pid).pipe(
    Effect.repeat({ until: (waits) => waits === true }),
    Effect.asVoid
  )

/**
 * Tests on every server, one after the other. The tests of a server share a database, and have connections of their own.
 */
export const everywhere = (
  subject: string,
  tests: (it: Vitest.MethodsNonLive<Database | Servers.Place>) => void
): void => {
  for (const [name, place] of Servers.all) {
    layer(Layer.provideMerge(layerDatabase, place), { concurrent: false })(`${subject}, on ${name}`, tests)
  }
}

/** A database with the schema in it, as long as its scope. */
export const layerDatabase: Layer.Layer<Database, never, Servers.Place> = Layer.effect(
  Database,
  Effect.gen(function*() {
    const location = yield* Servers.Place
    const server = { host: location.socketDirectory, port: location.port, user: location.username }
    const admin = yield* connect({ ...server, database: "postgres" })
    const database = `management_${process.pid}_${++counter}`
    yield* Effect.acquireRelease(
      admin.rows(`create database ${database} template template0`),
      () => admin.rows(`drop database ${database} with (force)`)
    )
    const config = { ...server, database }
    yield* Effect.scoped(Effect.flatMap(connect(config), (sql) => sql.rows(script)))
    return config
  })
)

let counter = 0
