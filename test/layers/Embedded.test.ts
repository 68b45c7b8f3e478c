import { PgClient, PgProtocol } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import {
  Config,
  ConfigProvider,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Queue,
  Result,
  Scope,
  Stream
} from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { hostname, tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import type { Duplex } from "node:stream"
import * as Embedded from "../../src/layers/Embedded.ts"
import * as EmbeddedLock from "../../src/layers/EmbeddedLock.ts"
import * as EmbeddedMaintenance from "../../src/layers/EmbeddedMaintenance.ts"
import * as EmbeddedSession from "../../src/layers/EmbeddedSession.ts"

const starting = { timeout: 60_000 }

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "effect-absurd-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

const withStore = <A, E, R>(directory: string, use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(SqlClient.SqlClient, use).pipe(Effect.provide(Embedded.layer({ directory }), { local: true }))

const opened = (directory: string) => Effect.flip(withStore(directory, () => Effect.void))

const reasonOf = (error: unknown): Embedded.EmbeddedError["reason"] => {
  assert.instanceOf(error, Embedded.EmbeddedError)
  return error.reason
}

interface Writer {
  readonly process: ChildProcess
  /** What it prints, line by line. */
  readonly lines: AsyncIterator<string>
  readonly kill: Effect.Effect<void>
}

/** Another process that has the store open. */
const startWriter = (directory: string): Effect.Effect<Writer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [join(import.meta.dirname, "embedded/Writer.ts"), directory], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      const ended = once(child, "exit")
      return {
        process: child,
        lines: createInterface(child.stdout)[Symbol.asyncIterator](),
        kill: Effect.promise(async () => {
          child.kill("SIGKILL")
          await ended
        })
      }
    }),
    (writer) => writer.kill
  )

const nextLine = (writer: Writer) => Effect.promise(async () => String((await writer.lines.next()).value))

describe("stores in memory, one after another and at once", () => {
  const settings = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const before = yield* sql`SELECT to_regclass('marked') AS marked`
    yield* sql`CREATE TABLE marked (n int)`
    yield* sql`ALTER DATABASE postgres SET work_mem = '1MB'`
    return {
      before,
      databases: yield* databases,
      settings: yield* sql`SELECT name, setting FROM pg_settings ORDER BY name`
    }
  }).pipe(Effect.provide(Embedded.layer(), { local: true }))

  const databases = Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`SELECT datname, encoding, datcollate, datctype, (SELECT count(*) FROM pg_class) AS classes FROM pg_database ORDER BY 1`
  )

  it.effect("all begin alike, with nothing of another one", () =>
    Effect.gen(function*() {
      const first = yield* settings
      assert.deepStrictEqual(first.before, [{ marked: null }])
      for (let n = 0; n < 3; n++) assert.deepStrictEqual(yield* settings, first)
      const atOnce = yield* Effect.all([settings, settings, settings], { concurrency: "unbounded" })
      assert.deepStrictEqual(atOnce, [first, first, first])
    }), starting)
})

layer(Embedded.layer(), { timeout: 60_000, concurrent: false })("the embedded store in memory", (it) => {
  it.effect("answers queries of both services", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const pg = yield* PgClient.PgClient
      assert.deepStrictEqual(yield* sql`SELECT 1 + ${1}::int AS two`, [{ two: 2 }])
      assert.deepStrictEqual(yield* pg`SELECT ${pg.json({ a: [1] })} AS value`, [{ value: { a: [1] } }])
    }))

  it.effect("tells why a statement failed, and goes on", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const error = yield* Effect.flip(sql`DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'AB001'; END $$`)
      assert.propertyVal(error.reason.cause, "code", "AB001")
      assert.deepStrictEqual(yield* sql`SELECT 1 AS one`, [{ one: 1 }])
    }))

  it.effect("takes and gives values larger than any buffer", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const large = "x".repeat(5_000_000)
      const [row] = yield* sql<{ value: string }>`SELECT ${large}::text AS value`
      assert.isTrue(row?.value === large)
    }))

  it.effect("streams rows", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const stream = sql<{ n: number }>`SELECT n FROM generate_series(1, 1000) n`.stream
      assert.strictEqual(yield* Stream.runFold(stream, () => 0, (sum, row) => sum + row.n), 500_500)
      const first = yield* Stream.runCollect(Stream.take(stream, 3))
      assert.deepStrictEqual(Array.from(first, (row) => row.n), [1, 2, 3])
      assert.deepStrictEqual(yield* sql`SELECT 1 AS one`, [{ one: 1 }])
    }))

  it.effect("keeps transactions apart from the statements of 64 other fibers", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE mixed (fiber int, part text)`
      const undone = (fiber: number) =>
        sql`INSERT INTO mixed VALUES (${fiber}, 'undone')`.pipe(
          Effect.andThen(Effect.yieldNow),
          Effect.andThen(sql`INSERT INTO mixed VALUES (${fiber}, 'undone')`),
          Effect.andThen(Effect.fail("undo")),
          sql.withTransaction,
          Effect.exit
        )
      const plain = (fiber: number) => sql`INSERT INTO mixed VALUES (${fiber}, 'plain')`
      const done = (fiber: number) =>
        sql.withTransaction(
          Effect.all([sql`INSERT INTO mixed VALUES (${fiber}, 'done')`, Effect.ignore(undone(fiber))])
        )
      yield* Effect.forEach(
        Array.from({ length: 64 }, (_, fiber) => fiber),
        (fiber): Effect.Effect<unknown, unknown> =>
          fiber % 8 === 0 ? undone(fiber) : fiber % 8 === 1 ? done(fiber) : plain(fiber),
        { concurrency: "unbounded", discard: true }
      )
      assert.deepStrictEqual(
        yield* sql`SELECT part, count(*)::int AS count FROM mixed GROUP BY part ORDER BY part`,
        [{ part: "done", count: 8 }, { part: "plain", count: 48 }]
      )
    }))

  it.effect("rolls an interrupted transaction back", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE interrupted (n int)`
      const inside = yield* Latch.make()
      const fiber = yield* sql`INSERT INTO interrupted VALUES (1)`.pipe(
        Effect.andThen(inside.open),
        Effect.andThen(Effect.never),
        sql.withTransaction,
        Effect.forkChild
      )
      yield* inside.await
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* sql`SELECT * FROM interrupted`, [])
    }))

  it.effect("survives the interruption of a statement", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const fiber = yield* Effect.forkChild(sql`SELECT pg_sleep(0.01)`, { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* sql`SELECT 1 AS one`, [{ one: 1 }])
    }))

  it.effect("hands out notifications, those of committed transactions only", () =>
    Effect.gen(function*() {
      const pg = yield* PgClient.PgClient
      const first = yield* pg.listen("a \"quoted\" channel")
      const second = yield* pg.listen("a \"quoted\" channel")
      yield* Effect.exit(pg.withTransaction(Effect.andThen(
        pg.notify("a \"quoted\" channel", "undone"),
        Effect.fail("undo")
      )))
      yield* pg.withTransaction(pg.notify("a \"quoted\" channel", "täglich"))
      yield* pg.notify("another channel", "unheard")
      for (const queue of [first, second]) {
        const { channel, payload } = yield* Queue.take(queue)
        assert.deepStrictEqual({ channel, payload }, { channel: "a \"quoted\" channel", payload: "täglich" })
        assert.strictEqual(yield* Queue.size(queue), 0)
      }
    }))

  it.effect("listens for as long as a scope lasts, and the transaction it began in does not matter", () =>
    Effect.gen(function*() {
      const pg = yield* PgClient.PgClient
      const channels = pg`SELECT pg_listening_channels() AS channel`
      const undone = yield* Deferred.make<Queue.Dequeue<unknown, unknown>>()
      yield* Effect.scoped(Effect.gen(function*() {
        const scope = yield* Effect.scope
        yield* Effect.exit(pg.withTransaction(
          pg.listen("inside").pipe(
            Scope.provide(scope),
            Effect.flatMap((queue) => Deferred.succeed(undone, queue)),
            Effect.andThen(Effect.fail("undo"))
          )
        ))
        assert.deepStrictEqual(yield* channels, [{ channel: "inside" }])
        yield* pg.notify("inside", "heard")
        const queue = yield* Deferred.await(undone)
        assert.strictEqual(yield* Queue.size(queue), 1)
      }))
      assert.deepStrictEqual(yield* channels, [])
    }))

  it.effect("refuses channel names that PostgreSQL would cut", () =>
    Effect.gen(function*() {
      const pg = yield* PgClient.PgClient
      for (const name of ["", "a\0b", "ü".repeat(32)]) {
        const error = yield* Effect.flip(pg.listen(name))
        assert.strictEqual(error.reason._tag, "UnknownError")
      }
      yield* pg.listen("ü".repeat(31))
    }))

  it.effect("vacuums and analyses what has changed, once", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE "Worn out" AS SELECT n FROM generate_series(1, 1000) n`
      yield* sql`DELETE FROM "Worn out" WHERE n > 500`
      yield* sql`CREATE TABLE grown AS SELECT n FROM generate_series(1, 100) n`
      yield* sql`CREATE TABLE calm AS SELECT n FROM generate_series(1, 10) n`
      const names = Effect.map(EmbeddedMaintenance.run, (tables) =>
        tables.filter(({ name }) => name.startsWith("public.") && /Worn|grown|calm/.test(name)))
      assert.deepStrictEqual(yield* names, [
        { name: "public.\"Worn out\"", vacuum: true },
        { name: "public.grown", vacuum: false }
      ])
      assert.deepStrictEqual(yield* names, [])
      assert.deepStrictEqual(
        yield* sql`SELECT relname, reltuples::int AS rows FROM pg_class WHERE relname IN ('Worn out', 'grown') ORDER BY 1`,
        [{ relname: "Worn out", rows: 500 }, { relname: "grown", rows: 100 }]
      )
    }))

  it.effect("does so every minute by itself", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE worn AS SELECT n FROM generate_series(1, 1000) n`
      yield* sql`DELETE FROM worn`
      yield* TestClock.adjust("1 minute")
      const [row] = yield* Effect.repeat(
        sql<{ vacuumed: boolean }>`SELECT last_vacuum IS NOT NULL AS vacuumed FROM pg_stat_all_tables
          WHERE relname = 'worn'`,
        { until: ([row]) => row?.vacuumed === true }
      )
      assert.deepStrictEqual(row, { vacuumed: true })
    }))
})

describe("the embedded store in a directory", () => {
  it.effect("keeps its rows when it is closed", () =>
    Effect.gen(function*() {
      const directory = join(yield* temporaryDirectory, "made/on the way")
      yield* withStore(directory, (sql) =>
        Effect.gen(function*() {
          yield* sql`CREATE TABLE kept (n int)`
          yield* sql`INSERT INTO kept VALUES (1)`
          assert.strictEqual(reasonOf(yield* opened(directory))._tag, "DirectoryLocked")
        }))
      const rows = yield* withStore(directory, (sql) => sql`SELECT n FROM kept`)
      assert.deepStrictEqual(rows, [{ n: 1 }])
    }), starting)

  it.effect("refuses a second process, and loses nothing when the first is killed", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const writer = yield* startWriter(directory)
      assert.strictEqual(yield* nextLine(writer), "open")

      const error = yield* opened(directory)
      const reason = reasonOf(error)
      assert(reason._tag === "DirectoryLocked")
      assert.strictEqual(reason.holder?.pid, writer.process.pid)
      assert.include(String(error), directory)
      assert.include(String(error), `process ${writer.process.pid} on ${hostname()}`)

      let committed = 0
      while (committed < 200) committed = Number(yield* nextLine(writer))
      yield* writer.kill
      for (let line = yield* nextLine(writer); line !== "undefined"; line = yield* nextLine(writer)) {
        committed = Number(line)
      }
      const pairs = yield* withStore(directory, (sql) =>
        sql<{ number: number; halves: number }>`
          SELECT number, count(*)::int AS halves FROM pairs GROUP BY number ORDER BY number`)
      assert.isTrue(pairs.every(({ halves }) => halves === 2))
      // The last commit may have been cut off from its announcement.
      assert.oneOf(pairs.length, [committed, committed + 1])
    }), starting)

  it.effect("says what is wrong with a directory", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const file = join(directory, "file")
      yield* Effect.promise(() => writeFile(file, ""))
      const unusable = yield* opened(join(file, "below"))
      assert.strictEqual(reasonOf(unusable)._tag, "DirectoryUnusable")
      assert.include(String(unusable), join(file, "below"))

      const old = join(directory, "old")
      yield* Effect.promise(() => mkdir(join(old, "data"), { recursive: true }))
      yield* Effect.promise(() => writeFile(join(old, "data/PG_VERSION"), "9.6\n"))
      assert.strictEqual(reasonOf(yield* opened(old))._tag, "StartFailed")
      // A failed start does not keep the directory.
      assert.strictEqual(reasonOf(yield* opened(old))._tag, "StartFailed")
    }), starting)
})

describe("the configuration of the embedded store", () => {
  it.effect("names the directory", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const configured = Embedded.layerConfig({ directory: Config.String("STORE") }).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ STORE: directory })))
      )
      yield* Effect.provide(SqlClient.SqlClient.use((sql) => sql`CREATE TABLE here (n int)`), configured)
      assert.deepStrictEqual(yield* withStore(directory, (sql) => sql`SELECT n FROM here`), [])
    }), starting)
})

describe("the lock of a directory", () => {
  const ended = Effect.promise(async () => {
    const child = spawn(process.execPath, ["--version"], { stdio: "ignore" })
    await once(child, "exit")
    return Number(child.pid)
  })
  const left = (directory: string, name: string, content: object | string) =>
    Effect.promise(() =>
      writeFile(join(directory, name), typeof content === "string" ? content : JSON.stringify(content))
    )
  const holder = { host: hostname(), started: null, since: "2026-01-01T00:00:00.000Z", released: false }
  const acquired = (directory: string) => Effect.exit(Effect.scoped(EmbeddedLock.acquire(directory)))
  const files = (directory: string) => Effect.promise(() => readdir(directory))

  it.effect("goes to exactly one of many who find it stale", () =>
    Effect.gen(function*() {
      const pid = yield* ended
      for (let round = 0; round < 10; round++) {
        const directory = yield* temporaryDirectory
        yield* left(directory, "lock.7", { ...holder, pid })
        const scope = yield* Scope.make()
        const exits = yield* Effect.forEach(
          Array.from({ length: 20 }),
          () => Effect.exit(Scope.provide(EmbeddedLock.acquire(directory), scope)),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(exits.filter(Exit.isSuccess).length, 1)
        assert.deepStrictEqual(yield* files(directory), ["lock.8"])
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(Exit.isSuccess(yield* acquired(directory)))
      }
    }))

  it.effect("is not that of another process with the same id", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* left(directory, "lock.1", { ...holder, pid: process.pid, started: "another boot:1" })
      assert.isTrue(Exit.isSuccess(yield* acquired(directory)))
    }))

  it.effect("is kept for a process that cannot be looked up", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* left(directory, "lock.1", { ...holder, pid: yield* ended, host: `not-${hostname()}` })
      assert.propertyVal(yield* Effect.flip(Effect.scoped(EmbeddedLock.acquire(directory))), "_tag", "Taken")
      yield* left(directory, "lock.2", "not a lock")
      const taken = yield* Effect.flip(Effect.scoped(EmbeddedLock.acquire(directory)))
      assert(taken._tag === "Taken")
      assert.deepStrictEqual({ holder: taken.holder, file: taken.file }, {
        holder: undefined,
        file: join(directory, "lock.2")
      })
    }))
})

describe("the session of an embedded engine", () => {
  const session = Effect.gen(function*() {
    const { PGlite } = yield* Effect.promise(() => import("@electric-sql/pglite"))
    const engine = yield* Effect.acquireRelease(
      Effect.promise(() => PGlite.create("memory://")),
      (engine) => Effect.promise(() => engine.close())
    )
    return EmbeddedSession.make(engine)
  })
  /** What a stream receives, by the types of its messages. */
  const collected = (stream: Duplex) => {
    const types = new Set<number>()
    stream.on("data", (answer: Buffer) => {
      for (let at = 0; at < answer.length; at += 1 + answer.readInt32BE(at + 1)) types.add(answer[at] ?? 0)
    })
    return {
      until: (type: number) =>
        Effect.promise(async () => {
          while (!types.has(type)) await once(stream, "data")
        })
    }
  }
  const connect = (session: EmbeddedSession.Session) =>
    PgClient.makeClient({ stream: session.connect, username: "postgres", database: "postgres" }).pipe(
      Effect.provide(Reactivity.layer)
    )

  it.effect(
    "is as good as new for the stream that takes it over, and keeps its subscriptions",
    () =>
      Effect.gen(function*() {
        const shared = yield* session
        const before = yield* connect(shared)
        const heard = yield* shared.listen("news", false)
        yield* before`CREATE TABLE t (n int)`
        yield* before`SET statement_timeout = 1234`
        const inside = yield* Latch.make()
        const cutOff = yield* before`INSERT INTO t VALUES (1)`.pipe(
          Effect.andThen(inside.open),
          Effect.andThen(Effect.never),
          before.withTransaction,
          Effect.forkChild
        )
        yield* inside.await
        const after = yield* connect(shared)
        assert.deepStrictEqual(yield* after`SELECT n FROM t`, [])
        assert.deepStrictEqual(yield* after`SHOW statement_timeout`, [{ statement_timeout: "0" }])
        yield* after.notify("news", "still here")
        assert.strictEqual((yield* Queue.take(heard)).payload, "still here")
        yield* Fiber.interrupt(cutOff)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(before`SELECT 1`)))
        assert.deepStrictEqual(yield* after`SELECT 1 AS one`, [{ one: 1 }])
      }),
    starting
  )

  it.effect(
    "takes messages in pieces, and takes over from a stream that stops in the middle of a statement",
    () =>
      Effect.gen(function*() {
        const shared = yield* session
        const raw = shared.connect()
        const heard = collected(raw)
        for (const byte of PgProtocol.encodeStartupMessage({ user: "postgres", database: "postgres" })) {
          raw.write(Uint8Array.of(byte))
        }
        yield* heard.until(0x5a)
        const parse = PgProtocol.encodeParse({ name: "", query: "wrong", parameterTypes: [] })
        raw.write(Result.getOrThrow(parse))
        // No Sync follows, so the engine is skipping what comes.
        yield* heard.until(0x45)
        const client = yield* connect(shared)
        assert.deepStrictEqual(yield* client`SELECT 1 AS one`, [{ one: 1 }])
        assert.isTrue(raw.destroyed)
      }),
    starting
  )

  it.effect("answers a request for TLS with no, and one to cancel by closing", () =>
    Effect.gen(function*() {
      const shared = yield* session
      const plain = shared.connect()
      plain.write(PgProtocol.encodeSslRequest())
      assert.deepStrictEqual(yield* Effect.promise(() => once(plain, "data")), [Buffer.from("N")])
      plain.destroy()
      const client = yield* connect(shared)
      const canceller = shared.connect()
      const closed = once(canceller, "close")
      canceller.write(PgProtocol.encodeCancelRequest({ pid: 42, secret: 0 }))
      yield* Effect.promise(() => closed)
      assert.deepStrictEqual(yield* client`SELECT 1 AS one`, [{ one: 1 }])
    }), starting)

  it.effect("fails its statements and its subscriptions once it is closed", () =>
    Effect.gen(function*() {
      const shared = yield* session
      const client = yield* connect(shared)
      const heard = yield* shared.listen("news", false)
      yield* shared.close
      assert.strictEqual((yield* Effect.flip(Queue.take(heard))).reason._tag, "ConnectionError")
      assert.strictEqual((yield* Effect.flip(client`SELECT 1`)).reason._tag, "ConnectionError")
      assert.strictEqual((yield* Effect.flip(shared.listen("news", false))).reason._tag, "ConnectionError")
    }), starting)
})
