/** A worker whose listening connection dies without a word: nothing passes any more, and nobody is told. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
import { Absurd, Task, Worker } from "effect-absurd"
import * as Proxy from "../faults/crash/Proxy.ts"
import * as TestPostgres from "../support/Postgres.ts"

const queue = "listening"
const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })

describe("a worker", () => {
  it.live("listens again within fifteen seconds, and hears of work as before", () =>
    Effect.gen(function*() {
      const database = yield* TestPostgres.database
      const proxy = yield* Proxy.make(database.location)
      const admin = yield* TestPostgres.session(database)
      const listeners = Effect.map(
        Effect.promise(() =>
          admin.query<{ pid: number }>(
            "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen %'"
          )
        ),
        ({ rows }) => rows.map(({ pid }) => pid)
      )
      const client = PgClient.layer({
        host: "127.0.0.1",
        port: proxy.port,
        username: database.location.username,
        database: database.name
      })
      yield* Effect.gen(function*() {
        yield* Absurd.createQueue(queue)
        // Nobody polls before the test is over.
        yield* Worker.make({ queue, pollInterval: "1 hour", shutdownGrace: "1 second" })
        for (let n = 0; n < 20; n++) yield* Effect.flatMap(Quick.spawn({}), (task) => task.await)
        const [first] = yield* listeners
        assert.isDefined(first)
        assert.strictEqual(proxy.swallow("LISTEN"), 1)
        const silentSince = performance.now()
        const listening = listeners.pipe(
          Effect.repeat({ until: (pids) => pids.some((pid) => pid !== first), schedule: Schedule.spaced("100 millis") })
        )
        yield* Effect.timeout(listening, "30 seconds")
        // Hints may be missed until it listens, a little later than the session was made.
        assert.isBelow(performance.now() - silentSince, 16_000)
        yield* Effect.sleep("1 second")
        for (let n = 0; n < 20; n++) {
          const task = yield* Quick.spawn({})
          assert.strictEqual(yield* Effect.timeout(task.await, "5 seconds"), 1)
        }
        // Closing its pool, the client waits for what is dead for as long as nobody says so.
        proxy.cut()
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.provideMerge(Quick.toLayer(() => Effect.succeed(1)), Absurd.layer).pipe(Layer.provide(client))
        )
      )
    }))
})
