/** A worker that executes far more at once than its pool has connections, on a PostgreSQL server. */
import { assert, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Layer, Ref, Schema } from "effect"
import { Absurd, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "../support/Postgres.ts"

const queue = "crowded"
const concurrency = 100

/** Steps before, in and after a transaction that keeps a connection for `millis`. */
const Book = Task.make("book", {
  queue,
  params: { n: Schema.Int, millis: Schema.Int },
  success: Schema.Int,
  retry: RetryStrategy.none
})

const makeBooks = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table public.books (n int not null)`
  const atOnce = yield* Ref.make(0)
  const most = yield* Ref.make(0)
  const crowded = yield* Deferred.make<void>()
  const enter = Effect.gen(function*() {
    const now = yield* Ref.updateAndGet(atOnce, (n) => n + 1)
    yield* Ref.update(most, (n) => Math.max(n, now))
    if (now === concurrency) yield* Deferred.succeed(crowded, undefined)
    // Nobody goes on before all are there.
    yield* Deferred.await(crowded)
  })
  const live = Book.toLayer(Effect.fn(function*({ millis, n }) {
    yield* Step.run("first", Effect.void)
    yield* enter
    const pause = sql`select pg_sleep(${millis / 1000})`
    const written = yield* Step.transaction(
      "book",
      Effect.orDie(Effect.as(Effect.andThen(sql`insert into public.books values (${n})`, pause), n))
    )
    // The program's own transactions take connections as well.
    yield* Step.run("own", Effect.orDie(Effect.as(sql.withTransaction(sql`select 1`), 1)))
    yield* Ref.update(atOnce, (n) => n - 1)
    return written
  }))
  return { live, most: Ref.get(most) }
})

for (const maxConnections of [2, 3]) {
  layer(Absurd.layer.pipe(Layer.provideMerge(TestPostgres.layer({ maxConnections }))), { excludeTestServices: true })(
    `a worker with room for ${concurrency} runs and ${maxConnections} connections`,
    (it) => {
      it.effect("gets all of them done, and loses no lease", () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const database = yield* TestPostgres.TestDatabase
          yield* Absurd.createQueue(queue)
          const { live, most } = yield* makeBooks
          yield* Effect.gen(function*() {
            // One of them keeps a connection for longer than its lease, and so do all together.
            const tasks = yield* Book.spawnMany(
              Array.from({ length: 2 * concurrency }, (_, n) => ({ n, millis: n === 5 ? 4000 : 20 }))
            )
            yield* Worker.make({ queue, concurrency, lease: "3 seconds", pollInterval: "50 millis" })
            const results = yield* Effect.forEach(tasks, ({ taskId }) => Absurd.awaitTaskResult(taskId, { queue }))
            assert.deepStrictEqual(results, tasks.map((_, n) => n))
          }).pipe(Effect.scoped, Effect.provide(live), Effect.timeout(Duration.seconds(60)))
          assert.strictEqual(yield* most, concurrency)
          assert.deepStrictEqual(
            yield* sql`select attempts, state, count(*)::int as count from absurd.t_crowded group by 1, 2`,
            [{ attempts: 1, state: "completed", count: 2 * concurrency }]
          )
          assert.deepStrictEqual(
            yield* sql`select count(*)::int as count, count(distinct n)::int as tasks from public.books`,
            [{ count: 2 * concurrency, tasks: 2 * concurrency }]
          )
          assert.deepStrictEqual(yield* database.errors, [])
        }), 90_000)
    }
  )
}
