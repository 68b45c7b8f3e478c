import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer } from "effect"
import { Absurd, Doctor, Invariants } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as PostgresDriver from "../../src/drivers/postgres/PostgresDriver.ts"
import * as Fixture from "../conformance/Fixture.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const database = TestPostgres.layer({ maxConnections: 2 })
const TestLive = Layer.mergeAll(Absurd.layer, PostgresDriver.layer, TestTime.layerMemory).pipe(
  Layer.provideMerge(database)
)

const { Retries, Waits } = Fixture

/** A queue with a task in every state. */
const busy = Effect.gen(function*() {
  const q = yield* Fixture.make
  yield* q.complete(yield* q.start(), { n: 1 })
  yield* q.fail(yield* q.start(), Retries.never)
  yield* q.fail(yield* q.start({ maxAttempts: 3 }), Retries.after(Fixture.seconds(900)))
  yield* q.fail(yield* q.start({ maxAttempts: null }), Retries.after(Fixture.seconds(900)))
  const cancelled = yield* q.start()
  yield* q.driver.cancelTask({ queue: q.queue, taskId: cancelled.taskId })
  const limited = { headers: { $limit: { name: "one at a time", key: "k", concurrency: 1, rate: null } } }
  yield* q.start(limited)
  yield* q.spawn(limited)
  const waiting = yield* q.start()
  yield* q.checkpoint(waiting, "step", 1)
  yield* q.suspend(waiting, [Waits.event("w", "never")])
  yield* q.suspend(yield* q.start(), [Waits.event("w", "later", Fixture.seconds(900))])
  yield* q.emit("emitted", 1)
  yield* q.start()
  yield* q.spawn({ idempotencyKey: Fixture.key("k") })
  return q
})

const t = (queue: string) => `absurd."t_${queue}"`
const r = (queue: string) => `absurd."r_${queue}"`
const c = (queue: string) => `absurd."c_${queue}"`
const e = (queue: string) => `absurd."e_${queue}"`
const w = (queue: string) => `absurd."w_${queue}"`

const harm: { readonly [id: string]: (queue: string) => string } = {
  S1: (q) => `update ${r(q)} set attempt = 7 where state = 'completed'`,
  S2: (q) => `update ${r(q)} set state = 'pending' where state = 'failed'`,
  S4: (q) => `update ${t(q)} set state = 'pending' where state = 'completed'`,
  S5: (q) => `update ${t(q)} set cancelled_at = null where state = 'cancelled'`,
  S7: (q) => `update ${t(q)} set attempts = 9 where state = 'completed'`,
  S8: (q) =>
    `update ${t(q)} t set last_attempt_run = (select run_id from ${
      r(q)
    } r where state = 'failed' and r.task_id = t.task_id)
    where max_attempts = 3`,
  S10: (q) => `update ${t(q)} set completed_payload = '2' where state = 'completed'`,
  S11: (q) => `update ${r(q)} set failure_reason = null where state = 'failed'`,
  S13: (q) => `update ${r(q)} set claimed_by = 'w' where state = 'sleeping' and wake_event is not null`,
  S17: (q) => `update ${r(q)} set claim_expires_at = null where state = 'running'`,
  S26: (q) => `update ${c(q)} set owner_run_id = (select run_id from ${r(q)} where state = 'completed')`,
  S28: (q) => `delete from ${w(q)}`,
  S29: (q) => `update ${r(q)} set state = 'pending' where run_id in (select run_id from ${w(q)})`,
  S31: (q) => `update ${w(q)} set event_name = 'emitted' where timeout_at is not null`,
  S33: (q) =>
    `insert into ${c(q)} (task_id, checkpoint_name, state) select task_id, '$timeout:step', 'true' from ${c(q)}
    where checkpoint_name = 'step'`,
  S34: (q) => `update ${r(q)} set available_at = available_at + interval '1 ms' where wake_event = 'later'`,
  S37: (q) =>
    `do $harm$ declare v record;\nbegin
      for v in select conname from pg_constraint where conrelid = '${t(q)}'::regclass and contype = 'u' loop
        execute format('alter table ${t(q)} drop constraint %I', v.conname);\nend loop;
      for v in select indexrelid::regclass::text as name from pg_index
        where indrelid = '${t(q)}'::regclass and indisunique and not indisprimary loop
        execute 'drop index ' || v.name;\nend loop;\nend $harm$; update ${t(q)} set idempotency_key = 'k'`,
  S49: (q) => `delete from ${e(q)} where event_name = 'never'`,
  S50: (q) => `delete from ${t(q)} where state = 'completed'`,
  S55: (q) =>
    `do $harm$ begin\nexecute format('alter index %s rename to %I', (
      select indexrelid::regclass from pg_index where indrelid = '${t(q)}'::regclass and indisprimary), 't_${q}x');
      \nend $harm$; insert into absurd.queues (queue_name) values ('${q}x')`,
  S58: (q) => `delete from absurd_effect.limited_runs where state = 'waiting' and queue_name = '${q}'`
}

/** Further ways to break what has been broken once above. */
const more: ReadonlyArray<readonly [id: string, what: string, statement: (queue: string) => string]> = [
  ["S4", "a completed run without an end", (q) => `update ${r(q)} set completed_at = null where state = 'completed'`],
  [
    "S4",
    "a task that was never started, whose run was",
    (q) => `update ${t(q)} set first_started_at = null where state = 'running'`
  ],
  ["S17", "a running run without a start", (q) => `update ${r(q)} set started_at = null where state = 'running'`],
  ["S29", "a run that names another event", (q) => `update ${r(q)} set wake_event = 'x' where wake_event = 'never'`],
  ["S31", "a wait without a deadline", (q) => `update ${w(q)} set event_name = 'emitted' where timeout_at is null`],
  [
    "S34",
    "a deadline that is not fixed",
    (q) =>
      `update ${r(q)} set wake_event = null where wake_event = 'later'; delete from ${c(q)}
      where checkpoint_name = '$deadline:w'`
  ],
  [
    "S58",
    "a slot of a run that does not run",
    (q) => `update absurd_effect.limited_runs set state = 'running' where state = 'waiting' and queue_name = '${q}'`
  ],
  [
    "S58",
    "a parked run that is due",
    (q) => `update ${r(q)} set available_at = now() where available_at > '9999-01-01'`
  ]
]

layer(TestLive, { concurrent: false })("Doctor", (it) => {
  it.effect("finds nothing in a sound queue", () =>
    Effect.gen(function*() {
      const { queue } = yield* busy
      assert.deepStrictEqual(yield* Doctor.check({ queue }), [])
    }))

  it("has a test for everything that it looks for", () => {
    assert.deepStrictEqual(Object.keys(harm), [...Doctor.ids])
    assert.deepStrictEqual(Object.keys(harm), [...Invariants.idsOf("doctor")])
  })

  const all = [...Object.entries(harm).map(([id, statement]) => [id, `what breaks ${id}`, statement] as const), ...more]
  for (const [id, what, statement] of all) {
    it.effect(`finds ${what}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { queue } = yield* busy
        for (const part of statement(queue).split("; ")) yield* sql.unsafe(part)
        const found = yield* Doctor.check({ queue })
        assert.include(found.map((violation) => violation.id), id)
        assert.isAtMost((yield* Doctor.check({ queue, limit: 1 })).filter((violation) => violation.id === id).length, 1)
      }))
  }

  it.effect("refuses what it cannot look at", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Effect.flip(Doctor.check({ queue: "no_such_queue" })))._tag, "NotFound")
      assert.strictEqual((yield* Effect.flip(Doctor.check({ timeout: 0 })))._tag, "InvalidInput")
      assert.strictEqual((yield* Effect.flip(Doctor.check({ limit: 0 })))._tag, "InvalidInput")
    }))

  it.effect("gives up when its time is over, and leaves the session as it was", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { queue } = yield* busy
      const locked = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(sql.withTransaction(
        sql.unsafe(`lock table ${t(queue)} in access exclusive mode`).pipe(
          Effect.andThen(Deferred.succeed(locked, undefined)),
          Effect.andThen(Effect.never)
        )
      ))
      yield* Deferred.await(locked)
      const error = yield* Effect.flip(Doctor.check({ queue, timeout: "100 millis" }))
      assert.strictEqual(error._tag === "DriverError" ? error.reason._tag : error._tag, "Unavailable")
      yield* Fiber.interrupt(holder)
      const inside = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
        yield* sql`set local statement_timeout = 4321`
        assert.deepStrictEqual(yield* Doctor.check({ queue }), [])
        return yield* sql`show statement_timeout`
      })))
      assert.deepStrictEqual(inside, Exit.succeed([{ statement_timeout: "4321ms" }]))
    }))
})
