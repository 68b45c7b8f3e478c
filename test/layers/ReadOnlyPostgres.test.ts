/** A worker whose connections lead to a server that takes no writes, as after a failover. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Logger, Schema } from "effect"
import { Absurd, Step, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "../support/Postgres.ts"

const queue = "failover"
const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })

/** What is logged, and a way to wait for a line that begins with a text. */
const makeLog = () => {
  const lines: Array<string> = []
  const waiting = new Map<string, Deferred.Deferred<void>>()
  const logger = Logger.make(({ message }) => {
    const line = String(Array.isArray(message) ? message[0] : message)
    lines.push(line)
    for (const [text, deferred] of waiting) if (line.startsWith(text)) Deferred.doneUnsafe(deferred, Effect.void)
  })
  const line = (text: string) => {
    const deferred = Deferred.makeUnsafe<void>()
    waiting.set(text, deferred)
    return lines.some((line) => line.startsWith(text)) ? Effect.void : Deferred.await(deferred)
  }
  return { lines, line, layer: Logger.layer([logger]) }
}

const subject = Layer.provideMerge(Quick.toLayer(() => Step.run("step", Effect.succeed(1))), Absurd.layer).pipe(
  Layer.provideMerge(TestPostgres.layer({ maxConnections: 6 }))
)

/** The sessions of the database but the asking one, by what they were made as. */
const sessions = (admin: { readonly query: (text: string) => Promise<{ readonly rows: Array<{ pid: number }> }> }) =>
  Effect.map(
    Effect.promise(() =>
      admin.query(
        `select pid from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`
      )
    ),
    ({ rows }) => new Set(rows.map(({ pid }) => pid))
  )

describe("a pool", () => {
  it.live("whose new connections are read-only is replaced once they need not be, and nothing is lost", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      yield* Absurd.createQueue(queue)
      const database = yield* TestPostgres.TestDatabase
      const admin = yield* TestPostgres.session(database)
      const run = (text: string) => Effect.promise(() => admin.query(text))
      yield* Worker.make({ queue })
      yield* Effect.flatMap(Quick.spawn({}), (task) => task.await)
      const tasks = yield* Quick.spawnMany(Array.from({ length: 20 }, () => ({})), { delay: "300 millis" })
      yield* run(`alter database ${database.name} set default_transaction_read_only = on`)
      yield* run(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()`
      )
      yield* log.line("The store takes no writes")
      const readOnly = yield* sessions(admin)
      yield* run("set default_transaction_read_only = off")
      yield* run(`alter database ${database.name} reset default_transaction_read_only`)
      for (const task of tasks) {
        assert.strictEqual(yield* task.await, 1)
        assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
      }
      assert.deepStrictEqual(
        log.lines.filter((line) => !line.startsWith("The store cannot be reached")),
        ["The store takes no writes; trying again until it does", "The store answers again"]
      )
      // The listener alone may go on with the connection it has: it writes nothing.
      const kept = [...yield* sessions(admin)].filter((pid) => readOnly.has(pid))
      assert.isAtMost(kept.length, 1)
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(subject, log.layer)))
  }, 30_000)

  it.live("of which some connections are read-only gives those up without a word", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      yield* Absurd.createQueue(queue)
      const sql = yield* SqlClient.SqlClient
      const admin = yield* TestPostgres.session(yield* TestPostgres.TestDatabase)
      // One connection is for heartbeats and one for listening, and both are kept as long as they work.
      yield* Worker.make({ queue })
      yield* Effect.flatMap(Quick.spawn({}), (task) => task.await)
      yield* Effect.repeat(
        Effect.promise(() =>
          admin.query("select from pg_stat_activity where datname = current_database() and query ilike 'listen %'")
        ),
        { until: ({ rowCount }) => rowCount === 1 }
      )
      const stale = yield* Effect.scoped(Effect.gen(function*() {
        const held = yield* Effect.forEach([1, 2, 3], () => sql.reserve)
        return yield* Effect.forEach(held, (connection) =>
          Effect.gen(function*() {
            yield* connection.executeUnprepared("set default_transaction_read_only = on", [], undefined)
            const [row] = yield* connection.executeUnprepared("select pg_backend_pid() as pid", [], undefined)
            return row.pid as number
          }))
      }))
      const gone = Effect.map(sessions(admin), (now) => stale.every((pid) => !now.has(pid)))
      yield* Effect.repeat(
        Effect.andThen(Effect.flatMap(Quick.spawn({}), (task) => task.await).pipe(Effect.ignore), gone),
        { until: (over) => over }
      )
      assert.strictEqual(yield* Effect.flatMap(Quick.spawn({}), (task) => task.await), 1)
      assert.deepStrictEqual(log.lines, [])
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(subject, log.layer)))
  }, 30_000)
})
