/**
 * All of it through a pooler that gives each transaction another session: no statement is prepared in one and executed in
 * another, no setting or lock outlives its transaction, and nobody listens.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Exit, Fiber, Layer, Schema, Scope } from "effect"
import { Absurd, Cron, Event, Installation, Maintenance, Step, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as PostgresDriver from "../../src/drivers/postgres/PostgresDriver.ts"
import * as Suites from "../conformance/Suites.ts"
import * as Pgbouncer from "../support/Pgbouncer.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

class Pooler extends Context.Service<Pooler, Pgbouncer.Pgbouncer>()("test/layers/Pooler") {}

const pooler = (sessions: number) =>
  Layer.effect(
    Pooler,
    Effect.suspend(() => Pgbouncer.start(TestPostgres.serverLocation(), { sessions }))
  )

/** A client of a database of its own, through the pooler. */
const client = (maxConnections: number) =>
  Layer.unwrap(Effect.gen(function*() {
    const { host, port } = yield* Pooler
    const database = yield* TestPostgres.TestDatabase
    return PgClient.layer({
      host,
      port,
      username: database.location.username,
      database: database.name,
      maxConnections,
      prepare: false
    })
  })).pipe(Layer.orDie, Layer.provide(Layer.succeed(Clock.Clock, Clock.Clock.defaultValue())))

const database = (make: typeof TestPostgres.database) => Layer.effect(TestPostgres.TestDatabase, make)

const queue = "pooled"
const start = (options: Worker.Options) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(Worker.make(options), scope)
    return Scope.close(scope, Exit.void)
  })

// Fewer sessions than connections, so that each connection meets several.
layer(
  Absurd.layerWith({ notifications: false }).pipe(
    Layer.provideMerge(Installation.layer),
    Layer.provideMerge(client(10)),
    Layer.provideMerge(Layer.merge(pooler(4), database(TestPostgres.emptyDatabase)))
  ),
  { excludeTestServices: true, timeout: 60_000 }
)("behind a pooler", (it) => {
  it.effect(
    "tasks are spawned, claimed and finished with their steps, sleeps, events and transactions, each in one attempt",
    () =>
      Effect.gen(function*() {
        yield* Absurd.createQueue(queue)
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table paid (id int primary key)`
        const Go = Event.make("go", { queue, payload: Schema.Int })
        const Story = Task.make("story", { queue, params: { n: Schema.Int }, success: Schema.Int })
        const Leaf = Task.make("leaf", { queue, params: { n: Schema.Int }, success: Schema.Int })
        const live = Layer.mergeAll(
          Leaf.toLayer(({ n }) => Step.run("leaf", Effect.succeed(n))),
          Story.toLayer(Effect.fn(function*({ n }) {
            yield* Step.run("first", Effect.succeed(n))
            yield* Step.transaction("pay", sql`insert into paid values (${n})`.pipe(Effect.orDie, Effect.asVoid))
            yield* Step.sleep("nap", "10 millis")
            const payload = yield* Go.wait(String(n))
            const leaf = yield* Leaf.spawn({ n })
            return payload + (yield* leaf.await)
          }))
        )
        yield* Effect.gen(function*() {
          const stops = yield* Effect.forEach([1, 2], () => start({ queue, concurrency: 20 }))
          const tasks = yield* Story.spawnMany(Array.from({ length: 100 }, (_, n) => ({ n })))
          for (let n = 0; n < 100; n++) yield* Go.emit(String(n), 1000)
          for (const [n, task] of tasks.entries()) {
            assert.strictEqual(yield* task.await, 1000 + n)
            assert.strictEqual((yield* Absurd.listRuns(task.taskId, { queue })).length, 1)
          }
          const [paid] = yield* sql<{ readonly n: number }>`select count(*)::int as n from paid`
          assert.strictEqual(paid?.n, 100)
          yield* Effect.all(stops)
        }).pipe(Effect.provide(live))
      }),
    60_000
  )

  it.effect("leases are renewed on the connection that is for that", () =>
    Effect.gen(function*() {
      const queue = "beats"
      yield* Absurd.createQueue(queue)
      const sql = yield* SqlClient.SqlClient
      const gate = yield* Deferred.make<void>()
      const Slow = Task.make("slow", { queue, params: {}, success: Schema.Int })
      const live = Slow.toLayer(() => Step.run("wait", Effect.as(Deferred.await(gate), 1)))
      yield* Effect.gen(function*() {
        const stop = yield* start({ queue, lease: "1 second" })
        const task = yield* Slow.spawn({})
        const seen = new Set<unknown>()
        while (seen.size < 8) {
          const [row] = yield* sql<{ readonly until: string | null; readonly limit: string }>`
            select claim_expires_at::text as until, current_setting('lock_timeout') as limit
            from absurd.r_beats where task_id = ${task.taskId}`
          // What is set for one statement stays with it.
          assert.strictEqual(row?.limit ?? "0", "0")
          if (row?.until != null) seen.add(row.until)
          yield* Effect.sleep("50 millis")
        }
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* task.await, 1)
        assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
        yield* stop
      }).pipe(Effect.provide(live))
    }), 60_000)

  it.effect("one process at a time does the upkeep, and each tick is spawned once", () =>
    Effect.gen(function*() {
      const queue = "upkeep"
      yield* Absurd.createQueue(queue)
      const sql = yield* SqlClient.SqlClient
      const { driver } = yield* Absurd.Absurd
      const inside = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const leader = yield* Effect.forkChild(
        driver.exclusively(Effect.andThen(Deferred.succeed(inside, undefined), Deferred.await(gate)))
      )
      yield* Deferred.await(inside)
      for (let n = 0; n < 20; n++) assert.isTrue((yield* driver.exclusively(Effect.void))._tag === "None")
      yield* Deferred.succeed(gate, undefined)
      assert.isTrue((yield* Fiber.join(leader))._tag === "Some")
      yield* Effect.all([Maintenance.runOnce(), Maintenance.runOnce()], { concurrency: 2 })
      const Tick = Task.make("tick", { queue, params: {} })
      yield* Cron.declare(Cron.make("each minute", "* * * * *", Tick, {}, { missed: "all" }))
      yield* sql`update absurd_effect.schedules set after = date_trunc('minute', now()) - interval '1 hour'`
      const passes = yield* Effect.all(Array.from({ length: 8 }, () => Cron.runDue), { concurrency: "unbounded" })
      const stored = (yield* Absurd.claimTask({ queue, qty: 1000 })).map((run) => run.taskId)
      assert.isAtLeast(stored.length, 60)
      assert.deepStrictEqual(passes.flat().toSorted(), stored.toSorted())
    }), 60_000)
})

// A single session keeps the time of the test, whoever asks for it.
Suites.all(
  "the PostgreSQL driver behind a pooler",
  Layer.merge(PostgresDriver.layerWith({ notifications: false }), TestTime.layerSql).pipe(
    Layer.provide(client(1)),
    Layer.provide(Layer.merge(pooler(1), database(TestPostgres.database)))
  )
)
