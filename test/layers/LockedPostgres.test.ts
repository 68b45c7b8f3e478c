/** What goes on in a queue on a PostgreSQL server while a program's transaction has something of it locked. */
import { assert, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer } from "effect"
import { Absurd, Identifiers, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "../support/Postgres.ts"

const subject = Absurd.layer.pipe(Layer.provideMerge(TestPostgres.layer()))

/** Runs `locking` in a transaction that stays open while `meanwhile` is run. */
const whileOpen = <A, E, R, B, E2, R2>(locking: Effect.Effect<A, E, R>, meanwhile: Effect.Effect<B, E2, R2>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const open = yield* Deferred.make<void>()
    const gate = yield* Deferred.make<void>()
    const transaction = yield* Effect.forkChild(sql.withTransaction(
      locking.pipe(Effect.andThen(Deferred.succeed(open, undefined)), Effect.andThen(Deferred.await(gate)))
    ))
    yield* Deferred.await(open)
    const answer = yield* meanwhile
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.join(transaction)
    return answer
  })

/** Returns when so many sessions of the database wait for locks. */
const blocked = (count: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const waiting = sql<{ readonly count: number }>`
      select count(*)::int as count from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`
    yield* Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), waiting), {
      until: ([row]) => row?.count === count
    })
  })

layer(subject, { excludeTestServices: true })("while a transaction is open", (it) => {
  it.effect("that has an idempotency key, other tasks of the queue are spawned", () =>
    Effect.gen(function*() {
      const queue = "keys"
      yield* Absurd.createQueue(queue)
      const spawn = (idempotencyKey?: string) =>
        Absurd.spawnTask("work", null, { queue, ...(idempotencyKey === undefined ? {} : { idempotencyKey }) })
      const held = yield* whileOpen(
        spawn("k"),
        Effect.gen(function*() {
          const held = yield* Effect.forkChild(spawn("k"), { startImmediately: true })
          yield* blocked(1)
          for (let n = 0; n < 5; n++) assert.isTrue((yield* spawn()).created)
          for (const key of ["a", "b", "c"]) assert.isTrue((yield* spawn(key)).created)
          assert.isUndefined(held.pollUnsafe())
          return held
        })
      )
      assert.isFalse((yield* Fiber.join(held)).created)
    }))

  it.effect("that has a run's row, other runs of the queue go on and end", () =>
    Effect.gen(function*() {
      const queue = "rows"
      yield* Absurd.createQueue(queue)
      const sql = yield* SqlClient.SqlClient
      for (let n = 0; n < 4; n++) yield* Absurd.spawnTask("work", null, { queue })
      const [first, ...others] = yield* Absurd.claimTask({ queue, qty: 4, claimTimeout: "1 hour" })
      const held = yield* whileOpen(
        sql`select from absurd.r_rows where run_id = ${first!.runId} for update`,
        Effect.gen(function*() {
          const held = yield* Effect.forEach(
            [
              Absurd.setCheckpoint(first!, "step", 1),
              Absurd.extendClaim(first!, "2 hours"),
              Absurd.completeTask(first!)
            ],
            (operation) => Effect.forkChild(operation, { startImmediately: true })
          )
          yield* blocked(3)
          for (const run of others) {
            assert.strictEqual(yield* Absurd.setCheckpoint(run, "step", 2), 2)
            yield* Absurd.extendClaim(run, "2 hours")
            yield* Absurd.completeTask(run)
          }
          for (const fiber of held) assert.isUndefined(fiber.pollUnsafe())
          return held
        })
      )
      // Which of the three came first is the server's choice, and a completed run has no lease.
      yield* Effect.forEach(held, Fiber.await)
      assert.strictEqual((yield* Absurd.getTaskStatus(first!.taskId, { queue })).state, "completed")
      for (const { taskId } of others) {
        assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue })).state, "completed")
      }
    }))

  it.effect("that has a run's row, heartbeats of other runs are answered, and that one is busy", () =>
    Effect.gen(function*() {
      const queue = Identifiers.QueueName.make("beats")
      yield* Absurd.createQueue(queue)
      const { driver } = yield* Absurd.Absurd
      const sql = yield* SqlClient.SqlClient
      for (let n = 0; n < 3; n++) yield* Absurd.spawnTask("work", null, { queue })
      const claims = yield* Absurd.claimTask({ queue, qty: 3 })
      const { extend } = yield* driver.heartbeats
      const beat = extend({
        queue,
        runs: claims.map(({ runId, token }) => ({ runId, token, lease: Duration.hours(1) }))
      })
      const meanwhile = yield* whileOpen(
        sql`select from absurd.r_beats where run_id = ${claims[1]!.runId} for update`,
        beat
      )
      assert.deepStrictEqual(meanwhile, ["applied", "busy", "applied"])
      assert.deepStrictEqual(yield* beat, ["applied", "applied", "applied"])
    }))

  it.effect("that has ended tasks of the queue, whoever works on a task that is cancelled hears of it", () =>
    Effect.gen(function*() {
      const queue = "hints"
      yield* Absurd.createQueue(queue)
      const sql = yield* SqlClient.SqlClient
      const entered = yield* Deferred.make<void>()
      const left = yield* Deferred.make<void>()
      const Long = Task.make("long", { queue, params: {} })
      const Quick = Task.make("quick", { queue, params: {} })
      const live = Layer.merge(
        Quick.toLayer(() => Effect.void),
        Long.toLayer(() =>
          Effect.andThen(Deferred.succeed(entered, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Deferred.succeed(left, undefined))
          )
        )
      )
      yield* Effect.gen(function*() {
        // Neither a poll nor a heartbeat would come before the test has timed out.
        yield* Worker.make({ queue, pollInterval: "1 hour", lease: "1 hour", shutdownGrace: "1 second" })
        // Its first polls find work without a hint; of what comes after those it has to hear.
        for (let n = 0; n < 20; n++) yield* Effect.flatMap(Quick.spawn({}), (task) => task.await)
        const long = yield* Long.spawn({})
        yield* Deferred.await(entered)
        yield* whileOpen(
          sql`select absurd_effect.may_hint(${`ended ${queue}`})`,
          Effect.andThen(long.cancel, Deferred.await(left))
        )
      }).pipe(Effect.provide(live))
    }))
})
