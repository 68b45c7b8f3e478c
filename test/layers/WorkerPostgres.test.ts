/** A worker on a PostgreSQL server: hints, pauses, heartbeats beside an exhausted pool, and connections that are cut. */
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Schema, Scope } from "effect"
import { Absurd, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "../support/Postgres.ts"

const subject = Absurd.layer.pipe(Layer.provideMerge(TestPostgres.layer({ maxConnections: 6 })))

const start = (options: Worker.Options) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(Worker.make(options), scope)
    return Scope.close(scope, Exit.void)
  })

layer(subject, { excludeTestServices: true })("a worker on PostgreSQL", (it) => {
  it.effect("hears of new work, of ends and of cancellations without polling for them", () =>
    Effect.gen(function*() {
      const queue = "hints"
      yield* Absurd.createQueue(queue)
      const entered = yield* Deferred.make<void>()
      const left = yield* Deferred.make<void>()
      const Quick = Task.make("quick", { queue, params: {}, success: Schema.Int })
      const Long = Task.make("long", { queue, params: {} })
      const live = Layer.mergeAll(
        Quick.toLayer(() => Effect.succeed(1)),
        Long.toLayer(() =>
          Effect.andThen(Deferred.succeed(entered, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Deferred.succeed(left, undefined))
          )
        )
      )
      yield* Effect.gen(function*() {
        // Neither a poll nor a heartbeat would come before the test has timed out.
        const stop = yield* start({ queue, pollInterval: "1 hour", lease: "1 hour", shutdownGrace: "1 second" })
        for (let n = 0; n < 20; n++) {
          const task = yield* Quick.spawn({})
          assert.strictEqual(yield* task.await, 1)
        }
        const long = yield* Long.spawn({})
        yield* Deferred.await(entered)
        yield* long.cancel
        yield* Deferred.await(left)
        assert.isTrue(yield* Worker.pause(queue))
        const paused = yield* Quick.spawn({})
        assert.deepInclude(yield* Worker.load(queue), { paused: true, due: 1, running: 0 })
        assert.isTrue(yield* Worker.resume(queue))
        assert.strictEqual(yield* paused.await, 1)
        yield* stop
      }).pipe(Effect.provide(live))
    }))

  it.effect("keeps its leases while the program has taken the whole pool", () =>
    Effect.gen(function*() {
      const queue = "starved"
      yield* Absurd.createQueue(queue)
      const sql = yield* SqlClient.SqlClient
      const entered = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const Slow = Task.make("slow", { queue, params: {}, success: Schema.Int, retry: RetryStrategy.none })
      const live = Slow.toLayer(() =>
        Step.run("work", Effect.andThen(Deferred.succeed(entered, undefined), Effect.as(Deferred.await(gate), 1)))
      )
      yield* Effect.gen(function*() {
        const task = yield* Slow.spawn({})
        const stop = yield* start({ queue, lease: "1 second" })
        yield* Deferred.await(entered)
        // Four are held until a heartbeat has extended the lease three times; the other two listen and beat.
        yield* Effect.scoped(Effect.gen(function*() {
          const held = yield* Effect.forEach([1, 2, 3, 4], () => sql.reserve)
          const lease = held[0]!.executeUnprepared(
            `select claim_expires_at::text as until, clock_timestamp() < claim_expires_at as holds from absurd.r_starved`,
            [],
            undefined
          )
          const seen = new Set<unknown>()
          while (seen.size < 5) {
            const [row] = yield* lease
            assert.isTrue(row.holds)
            seen.add(row.until)
            yield* Effect.sleep("20 millis")
          }
        }))
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* task.await, 1)
        assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).attempts, 1)
        yield* stop
      }).pipe(Effect.provide(live))
    }))

  it.effect(
    "goes on when all its connections are cut, again and again, and burns no attempt",
    () =>
      Effect.gen(function*() {
        const queue = "cut"
        yield* Absurd.createQueue(queue)
        const database = yield* TestPostgres.TestDatabase
        const admin = yield* TestPostgres.session(database)
        const cut = Effect.promise(() =>
          admin.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
            [database.name]
          )
        )
        const Steps = Task.make("steps", { queue, params: {}, success: Schema.Int })
        const live = Steps.toLayer(Effect.fn(function*() {
          for (let n = 0; n < 5; n++) yield* Step.run("turn", Effect.as(Effect.sleep("10 millis"), n))
          yield* Step.sleep("nap", "10 millis")
          return 5
        }))
        yield* Effect.gen(function*() {
          const tasks = yield* Steps.spawnMany(Array.from({ length: 100 }, () => ({})))
          const stop = yield* start({ queue, concurrency: 10 })
          for (let n = 0; n < 6; n++) {
            yield* Effect.sleep("150 millis")
            yield* cut
          }
          // Waiting outlives a cut as well.
          for (const task of tasks) assert.strictEqual(yield* task.await, 5)
          for (const { taskId } of tasks) {
            assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue })).attempts, 1)
          }
          yield* stop
        }).pipe(Effect.provide(live))
      }),
    60_000
  )
})
