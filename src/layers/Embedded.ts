/**
 * PostgreSQL inside the process, kept in a folder or in memory: nothing to install, start or connect to. It is the same
 * SQL as on a server, so a program moves to one by replacing this layer.
 *
 * It needs the packages `@electric-sql/pglite` and `@effect/sql-pg`.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg"
import { Config, Duration, Effect, Layer, Option, Schedule, Schema, type Scope } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, SqlError } from "effect/sql"
import { mkdir } from "node:fs/promises"
import { join, resolve } from "node:path"
import * as EmbeddedImage from "./EmbeddedImage.ts"
import * as EmbeddedLock from "./EmbeddedLock.ts"
import * as EmbeddedMaintenance from "./EmbeddedMaintenance.ts"
import * as EmbeddedSession from "./EmbeddedSession.ts"

/**
 * The process that has a directory.
 *
 * - `host`: the name of its machine.
 * - `started`: tells the process from a later one with the same id; null where the system does not say.
 * - `since`: when it took the directory, ISO text in UTC.
 *
 * @since 0.1.0
 * @category models
 */
export const Holder = EmbeddedLock.Holder
/** @since 0.1.0 @category models */
export type Holder = typeof Holder.Type

const cause = { cause: Schema.Defect() }

/**
 * The package `name` is not installed; install it.
 *
 * @since 0.1.0
 * @category errors
 */
export class PackageMissing
  extends Schema.TaggedError<PackageMissing>()("PackageMissing", { name: Schema.String, ...cause })
{}

/**
 * Another process has the directory, or this process has it open already. `holder` is undefined when the lock `file`
 * cannot be read. A holder on another machine counts as running; once you know that it is gone, delete `file`.
 *
 * @since 0.1.0
 * @category errors
 */
export class DirectoryLocked extends Schema.TaggedError<DirectoryLocked>()("DirectoryLocked", {
  holder: Schema.UndefinedOr(Holder),
  file: Schema.String
}) {}

/**
 * The directory cannot be made, read or written.
 *
 * @since 0.1.0
 * @category errors
 */
export class DirectoryUnusable extends Schema.TaggedError<DirectoryUnusable>()("DirectoryUnusable", cause) {}

/**
 * The engine did not start, for example on data that another major version wrote.
 *
 * @since 0.1.0
 * @category errors
 */
export class StartFailed extends Schema.TaggedError<StartFailed>()("StartFailed", cause) {}

/**
 * The embedded store could not be opened. Nothing was changed. `directory` is absolute, or undefined for a store in
 * memory.
 *
 * @since 0.1.0
 * @category errors
 */
export class EmbeddedError extends Schema.TaggedError<EmbeddedError>()("EmbeddedError", {
  directory: Schema.UndefinedOr(Schema.String),
  reason: Schema.Union([PackageMissing, DirectoryLocked, DirectoryUnusable, StartFailed])
}) {
  override get message(): string {
    return `The embedded store${this.directory === undefined ? "" : ` in ${this.directory}`} ${describe(this.reason)}`
  }
}

/**
 * Where the embedded store keeps its data, and how often it looks after its tables.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Where the data is kept; made when it does not exist. Relative to the working directory. By default the data is kept
   * in memory and is lost when the layer is released.
   */
  readonly directory?: string | undefined
  /**
   * How often the tables are looked through for those that need a VACUUM or ANALYZE, as autovacuum does on a server.
   * By default every minute.
   */
  readonly maintenanceInterval?: Duration.Input | undefined
}

/**
 * Opens an embedded PostgreSQL as the program's `SqlClient` and `PgClient`.
 *
 * - One process at a time has a directory; a second one fails with `DirectoryLocked`. The lock of a process that was
 *   killed is taken over.
 * - What was committed survives the end of the process, however it ends. It may not survive a power cut: the engine
 *   does not wait for the disk.
 * - There is one session. Statements run one after another on the thread of the program; while a transaction is open,
 *   all others wait for it.
 * - `listen` of the `PgClient` occupies no connection, and its `notify` is part of the transaction it is called in. Only
 *   this process can notify.
 * - Releasing the layer rolls an open transaction back and frees the directory.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Options = {}
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, EmbeddedError> => PgClient.layerFrom(make(options))

/**
 * Like `layer`, with options that are read from the configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, EmbeddedError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * Like `layer`, but gives the client itself, which lives as long as the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<PgClient.PgClient, EmbeddedError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function*() {
    const directory = options.directory === undefined ? undefined : resolve(options.directory)
    const pglite = yield* load(directory)
    if (directory !== undefined) yield* occupy(directory)
    const engine = yield* start(pglite, directory)
    const session = EmbeddedSession.make(engine)
    yield* Effect.addFinalizer(() => session.close)
    const client = yield* connect(session).pipe(Effect.mapError((cause) => startFailed(directory, cause)))
    yield* EmbeddedMaintenance.run.pipe(
      Effect.provideService(SqlClient.SqlClient, client),
      // What could not be done now is done next time.
      Effect.ignore({ log: "Debug" }),
      Effect.repeat(Schedule.spaced(options.maintenanceInterval ?? Duration.minutes(1))),
      Effect.annotateLogs("service", "effect-absurd/Embedded"),
      Effect.forkScoped
    )
    return client
  })

// --- internal

type Pglite = typeof import("@electric-sql/pglite")

const packageName = "@electric-sql/pglite"

const load = (directory: string | undefined): Effect.Effect<Pglite, EmbeddedError> =>
  Effect.tryPromise({
    // Loaded only here, so that a program with a server of its own need not install it.
    try: () => import("@electric-sql/pglite"),
    catch: (cause) => new EmbeddedError({ directory, reason: new PackageMissing({ name: packageName, cause }) })
  })

const occupy = (directory: string): Effect.Effect<void, EmbeddedError, Scope.Scope> =>
  Effect.tryPromise({
    try: () => mkdir(directory, { recursive: true }),
    catch: (cause) => new DirectoryUnusable({ cause })
  }).pipe(
    Effect.andThen(EmbeddedLock.acquire(directory)),
    Effect.mapError((error) => {
      switch (error._tag) {
        case "Taken":
          return new DirectoryLocked({ holder: error.holder, file: error.file })
        case "Refused":
          return new DirectoryUnusable({ cause: error.cause })
        default:
          return error
      }
    }),
    Effect.mapError((reason) => new EmbeddedError({ directory, reason }))
  )

const start = ({ PGlite }: Pglite, directory: string | undefined) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => directory === undefined ? EmbeddedImage.start(PGlite) : PGlite.create(join(directory, "data")),
      catch: (cause) => startFailed(directory, cause)
    }),
    // A close that fails changes nothing any more: the data is as after a crash, which is good.
    (engine) => Effect.ignore(Effect.tryPromise(() => engine.close()), { log: "Debug" })
  )

const startFailed = (directory: string | undefined, cause: unknown) =>
  new EmbeddedError({ directory, reason: new StartFailed({ cause }) })

const connect = (
  session: EmbeddedSession.Session
): Effect.Effect<PgClient.PgClient, SqlError.SqlError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function*() {
    const client = yield* PgClient.make({
      stream: session.connect,
      ssl: false,
      host: "embedded",
      username: "postgres",
      database: "postgres",
      applicationName: "effect-absurd",
      // The engine has one session, and its caches are worth keeping.
      maxConnections: 1,
      minConnections: 1
    })
    const transaction = Effect.serviceOption(client.transactionService)
    // The client's own ones take a connection of their own, and there is only one.
    return Object.assign(client, {
      listensWithoutConnection: true,
      listen: (channel: string) =>
        Effect.flatMap(transaction, (current) => session.listen(channel, Option.isSome(current))),
      notify: (channel: string, payload: string) => Effect.asVoid(client`SELECT pg_notify(${channel}, ${payload})`)
    })
  })

const describe = (reason: EmbeddedError["reason"]): string => {
  switch (reason._tag) {
    case "PackageMissing":
      return `needs the package ${reason.name}; install it with: npm install ${reason.name}`
    case "DirectoryLocked":
      return reason.holder === undefined
        ? `has a lock that cannot be read: ${reason.file}. Delete it if no process uses the directory`
        : `is in use by process ${reason.holder.pid} on ${reason.holder.host} since ${reason.holder.since}. Stop it, ` +
          `use another directory, or, if that machine is gone, delete ${reason.file}`
    case "DirectoryUnusable":
      return `cannot use its directory: ${textOf(reason.cause)}`
    case "StartFailed":
      return `did not start: ${textOf(reason.cause)}`
  }
}

const textOf = (value: unknown): string => value instanceof Error ? value.message : String(value)
