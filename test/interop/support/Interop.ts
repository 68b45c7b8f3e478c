/**
 * One database that `absurd-sdk` and this library share, with one virtual time for everything in it.
 *
 * Four clocks move together: the SDK's session and ours (`absurd.fake_now`), Effect's test clock, and `Date`, by which the
 * SDK decides whether a sleep is over. So tests of one file run one after the other.
 */
import type { PgClient } from "@effect/sql-pg"
import { assert, layer as tests, type Vitest } from "@effect/vitest"
import { Absurd as Sdk, type AbsurdOptions, type ClaimedTask } from "absurd-sdk"
import { Context, type Duration, Effect, Layer } from "effect"
import { Absurd, Worker } from "effect-absurd"
import type { SqlClient } from "effect/sql"
import { type ClientBase, Pool, type PoolConfig } from "pg"
import { vi } from "vitest"
import * as ForeignPostgres from "../../support/ForeignPostgres.ts"
import * as TestPostgres from "../../support/Postgres.ts"
import * as TestTime from "../../support/TestTime.ts"

export type Row = Readonly<Record<string, unknown>>

/** A client of the SDK, and what it logged. */
export interface SdkClient {
  readonly sdk: Sdk
  readonly log: ReadonlyArray<string>
  /** Claims and executes, one after the other, until nothing is due. Returns what was claimed. */
  readonly work: () => Promise<ReadonlyArray<ClaimedTask>>
}

export interface Shared {
  /** A queue that no other test uses, made by the SDK unless told otherwise. */
  readonly freshQueue: (options?: { readonly create: boolean }) => Promise<string>
  readonly client: (queue: string, options?: Omit<AbsurdOptions, "db" | "queueName" | "log">) => SdkClient
  /** The SDK's own session. */
  readonly pool: Pool
  /** Rows of a statement in the SDK's session. */
  readonly rows: (text: string, ...values: ReadonlyArray<unknown>) => Promise<ReadonlyArray<Row>>
  /** Moves all clocks. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void>
  /** Like `advance`, for bodies that are promises: moves what `absurd-sdk` and the store look at. */
  readonly pass: (seconds: number) => Promise<void>
}

export class Interop extends Context.Service<Interop, Shared>()("test/interop/Interop") {}

type Database = TestPostgres.TestDatabase | SqlClient.SqlClient | PgClient.PgClient

/** The library's client, the SDK and the time they share. */
const shared: Layer.Layer<Interop | Absurd.Absurd | TestTime.TestTime, never, Database> = Layer.effect(
  Interop,
  Effect.gen(function*() {
    const database = yield* TestPostgres.TestDatabase
    const time = yield* TestTime.TestTime
    const setClock = async (session: Pick<ClientBase, "query">) => {
      await session.query("select set_config('absurd.fake_now', $1, false)", [new Date().toISOString()])
    }
    // The pool replaces its session whenever a statement has failed.
    const pool = yield* makePool({ ...database.pgConfig, max: 1, onConnect: setClock })
    yield* Effect.acquireRelease(
      Effect.sync(() => vi.useFakeTimers({ toFake: ["Date"], now: TestTime.start.epochMilliseconds })),
      () => Effect.sync(() => vi.useRealTimers())
    )
    // Bodies that are promises move `Date` alone; Effect's clocks follow at the next `advance`.
    const catchUp = Effect.gen(function*() {
      const behind = Date.now() - (yield* time.now).epochMilliseconds
      if (behind > 0) yield* time.advance(behind)
    })
    let queues = 0
    return Interop.of({
      pool,
      rows: async (text, ...values) => (await pool.query<Row>(text, [...values])).rows,
      freshQueue: async (options) => {
        const queue = `interop_${++queues}`
        if (options?.create !== false) await pool.query("select absurd.create_queue($1)", [queue])
        return queue
      },
      client: (queue, options) => makeClient(pool, queue, options),
      pass: async (seconds) => {
        vi.setSystemTime(Date.now() + seconds * 1000)
        await setClock(pool)
      },
      advance: (duration) =>
        Effect.gen(function*() {
          yield* catchUp
          yield* time.advance(duration)
          const now = yield* time.now
          vi.setSystemTime(now.epochMilliseconds)
          yield* Effect.promise(() => setClock(pool))
        })
    })
  })
).pipe(
  Layer.provideMerge(Layer.merge(TestTime.layerSql, Layer.orDie(Absurd.layerWith({ workerId: "effect" }))))
)

/** Whose schema the SDK and this library meet on. */
const databases: ReadonlyArray<readonly [where: Where, Layer.Layer<Database>]> = [
  ["on our installation", TestPostgres.layer({ maxConnections: 1 })],
  ["on another installation", Layer.orDie(ForeignPostgres.layer({ maxConnections: 1 }))]
]

export type Where = "on our installation" | "on another installation"

/** Tests on each of the databases. */
export const onDatabases = (name: string, register: (it: Vitest.MethodsNonLive<Database>) => void): void => {
  for (const [where, database] of databases) tests(database, { concurrent: false })(`${name}, ${where}`, register)
}

/** Tests of what the SDK and this library do together, on each of the databases. */
export const suite = (
  name: string,
  register: (it: Vitest.MethodsNonLive<Interop | Absurd.Absurd | TestTime.TestTime | Database>, where: Where) => void
): void => {
  for (const [where, database] of databases) {
    tests(Layer.provideMerge(shared, database), { concurrent: false })(`${name}, ${where}`, (it) => register(it, where))
  }
}

/** A pool of `pg`, closed with its scope. */
export const makePool = (config: PoolConfig) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const pool = new Pool({ ...config, idleTimeoutMillis: 0 })
      pool.on("error", () => {})
      return pool
    }),
    (pool) => Effect.promise(() => pool.end())
  )

/** A client of the SDK that keeps what it logs. */
export const makeClient = (
  pool: Pool,
  queue: string,
  options?: Omit<AbsurdOptions, "db" | "queueName" | "log">
): SdkClient => {
  const log: Array<string> = []
  const write = (...parts: ReadonlyArray<unknown>) => {
    log.push(parts.map(String).join(" "))
  }
  const sdk = new Sdk({
    ...options,
    db: pool,
    queueName: queue,
    log: { log: write, info: write, warn: write, error: write }
  })
  return {
    sdk,
    log,
    work: async () => {
      const worked: Array<ClaimedTask> = []
      for (;;) {
        const claimed = await sdk.claimTasks({ batchSize: 10, claimTimeout: 120, workerId: "sdk" })
        if (claimed.length === 0) return worked
        for (const task of claimed) {
          worked.push({ ...task })
          await sdk.executeTask(task, 120)
        }
      }
    }
  }
}

/** Executes everything of ours that is due, until nothing is. */
export const weWork = (queue: string) =>
  Worker.runOnce({ queue, concurrency: 50 }).pipe(
    Effect.repeat({ until: (results) => results.length === 0 }),
    Effect.asVoid
  )

/** Passes when the promise is rejected with an `Error` whose message matches. */
export const rejects = async (promise: Promise<unknown>, message: RegExp): Promise<void> => {
  const error = await promise.then(() => undefined, (error: unknown) => error)
  assert.instanceOf(error, Error)
  assert.match(error.message, message)
}
