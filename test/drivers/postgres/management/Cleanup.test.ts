import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Session from "./Session.ts"

const at = (sql: Session.Connection, time: string) => sql.rows("select set_config('absurd.fake_now', $1, false)", time)

const start = "2026-01-05T00:00:00Z"

const spawn = (sql: Session.Connection, queue: string, options: unknown = {}) =>
  Effect.map(
    sql.rows("select task_id::text, run_id::text from absurd.spawn_task($1, 'work', '{}', $2)", queue, options),
    (rows) => ({ task: String(rows[0]?.task_id), run: String(rows[0]?.run_id) })
  )

const claim = (sql: Session.Connection, queue: string) =>
  Effect.map(
    sql.rows("select run_id::text, task_id::text from absurd.claim_task($1, 'w', 3600, 1)", queue),
    (rows) => ({ task: String(rows[0]?.task_id), run: String(rows[0]?.run_id) })
  )

/** Spawns and claims a task and ends it at `time`. */
const ended = Effect.fnUntraced(function*(
  sql: Session.Connection,
  queue: string,
  how: "completed" | "failed" | "cancelled",
  time: string,
  options: object = {}
) {
  yield* at(sql, start)
  const { task } = yield* spawn(sql, queue, { max_attempts: 1, ...options })
  const { run } = yield* claim(sql, queue)
  yield* sql.rows("select absurd.set_task_checkpoint_state($1, $2, 'step', '1', $3)", queue, task, run)
  yield* at(sql, time)
  if (how === "completed") yield* sql.rows("select absurd.complete_run($1, $2, '1')", queue, run)
  if (how === "failed") yield* sql.rows("select absurd.fail_run($1, $2, '{}')", queue, run)
  if (how === "cancelled") yield* sql.rows("select absurd.cancel_task($1, $2)", queue, task)
  return task
})

const left = (sql: Session.Connection, queue: string) =>
  sql.column(`select task_id::text from absurd.t_${queue} order by task_id`)

const modes = ["unpartitioned", "partitioned"] as const

Session.everywhere("cleanup", (it) => {
  for (const mode of modes) {
    it.effect(`ended tasks go with all that is theirs (${mode})`, () =>
      Effect.gen(function*() {
        const sql = yield* Session.another
        yield* at(sql, start)
        const queue = `ended_${mode}`
        yield* sql.rows("select absurd.create_queue($1, $2)", queue, mode)
        for (const how of ["completed", "failed", "cancelled"] as const) {
          yield* ended(sql, queue, how, "2026-01-05T00:01:00Z", { idempotency_key: how })
        }
        const young = yield* ended(sql, queue, "completed", "2026-01-05T01:00:00Z")
        yield* at(sql, start)
        const alive = yield* spawn(sql, queue, { idempotency_key: "alive" })
        // Strictly older than: not at the instant itself.
        yield* at(sql, "2026-01-05T00:01:10Z")
        assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks($1, $2)", queue, 10), 0)
        yield* at(sql, "2026-01-05T00:01:10.001Z")
        assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks($1, $2)", queue, 10), 3)
        assert.sameMembers([...yield* left(sql, queue)], [young, alive.task])
        for (const letter of ["r", "c", "w"]) {
          assert.strictEqual(
            yield* sql.value(`select count(*)::integer from absurd.${letter}_${queue} where not task_id = any ($1)`, [
              young,
              alive.task
            ]),
            0
          )
        }
        const again = yield* sql.rows(
          "select created from absurd.spawn_task($1, 'work', '{}', '{\"idempotency_key\": \"failed\"}')",
          queue
        )
        assert.deepStrictEqual(again, [{ created: true }])
        const kept = yield* sql.rows(
          "select created from absurd.spawn_task($1, 'work', '{}', '{\"idempotency_key\": \"alive\"}')",
          queue
        )
        assert.deepStrictEqual(kept, [{ created: false }])
      }))
  }

  it.effect("the oldest ends go first, as many as the limit says", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('oldest')")
      const c = yield* ended(sql, "oldest", "completed", "2026-01-05T00:03:00Z")
      const a = yield* ended(sql, "oldest", "cancelled", "2026-01-05T00:01:00Z")
      const b = yield* ended(sql, "oldest", "failed", "2026-01-05T00:02:00Z")
      yield* at(sql, "2026-01-06T00:00:00Z")
      const clean = "select absurd.cleanup_tasks('oldest', 0, $1)"
      assert.strictEqual(yield* sql.value(clean, 0), 0)
      assert.sameMembers([...yield* left(sql, "oldest")], [a, b, c])
      assert.strictEqual(yield* sql.value(clean, 1), 1)
      assert.sameMembers([...yield* left(sql, "oldest")], [b, c])
      assert.strictEqual(yield* sql.value(clean, 1), 1)
      assert.sameMembers([...yield* left(sql, "oldest")], [c])
      assert.strictEqual(yield* sql.value(clean, null), 1)
      assert.strictEqual(yield* sql.value(clean, null), 0)
    }))

  it.effect("a TTL is a non-negative number of seconds", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('ttl')")
      for (const name of ["cleanup_tasks", "cleanup_events"]) {
        for (const ttl of [null, -1]) {
          assert.deepStrictEqual(yield* sql.refusal(`select absurd.${name}('ttl', $1)`, ttl), {
            code: "P0001",
            message: "TTL must be a non-negative number of seconds"
          })
        }
        assert.strictEqual(yield* sql.value(`select absurd.${name}('ttl', 2147483647)`), 0)
        assert.strictEqual((yield* sql.refusal(`select absurd.${name}('nowhere', 1)`)).code, "42P01")
      }
    }))

  it.effect("the end of the last attempt counts, not that of earlier ones", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('attempts')")
      yield* at(sql, start)
      const { task } = yield* spawn(sql, "attempts", { max_attempts: 2 })
      const first = yield* claim(sql, "attempts")
      yield* sql.rows("select absurd.fail_run('attempts', $1, '{}')", first.run)
      yield* at(sql, "2026-01-05T01:00:00Z")
      const second = yield* claim(sql, "attempts")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('attempts', 60)"), 0)
      yield* sql.rows("select absurd.complete_run('attempts', $1)", second.run)
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('attempts', 60)"), 0)
      assert.deepStrictEqual(yield* left(sql, "attempts"), [task])
      yield* at(sql, "2026-01-05T01:01:01Z")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('attempts', 60)"), 1)
      assert.strictEqual(yield* sql.value("select count(*)::integer from absurd.r_attempts"), 0)
    }))

  it.effect("a task that is being revived stays, and its cleaning waits for nobody", () =>
    Effect.gen(function*() {
      const [sql, other] = yield* Effect.all([Session.another, Session.another])
      yield* sql.rows("select absurd.create_queue('revived')")
      const task = yield* ended(sql, "revived", "failed", "2026-01-05T00:01:00Z")
      const second = yield* ended(sql, "revived", "failed", "2026-01-05T00:02:00Z")
      yield* at(sql, "2026-02-01T00:00:00Z")
      yield* at(other, "2026-02-01T00:00:00Z")
      yield* other.rows("begin")
      yield* other.rows("select absurd.retry_task('revived', $1)", task)
      yield* sql.rows("set lock_timeout = '1ms'")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('revived', 0)"), 1)
      yield* other.rows("commit")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('revived', 0)"), 0)
      assert.deepStrictEqual(yield* left(sql, "revived"), [task])
      assert.notStrictEqual(task, second)
      assert.strictEqual((yield* claim(sql, "revived")).task, task)
    }))

  it.effect("whoever wants to revive a task that is being deleted finds it gone", () =>
    Effect.gen(function*() {
      const [sql, other] = yield* Effect.all([Session.another, Session.another])
      yield* sql.rows("select absurd.create_queue('deleted')")
      const task = yield* ended(sql, "deleted", "failed", "2026-01-05T00:01:00Z")
      yield* at(sql, "2026-02-01T00:00:00Z")
      yield* sql.rows("begin")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('deleted', 0)"), 1)
      const retry = yield* Effect.forkChild(other.refusal("select absurd.retry_task('deleted', $1)", task))
      const observer = yield* Session.another
      yield* Session.blocked(observer, other.pid)
      yield* sql.rows("commit")
      assert.deepStrictEqual(yield* Fiber.join(retry), {
        code: "P0001",
        message: `Task "${task}" not found in queue "deleted"`
      })
      assert.strictEqual(yield* sql.value("select count(*)::integer from absurd.r_deleted"), 0)
    }))

  it.effect("a task with a locked run is left for later", () =>
    Effect.gen(function*() {
      const [sql, other] = yield* Effect.all([Session.another, Session.another])
      yield* sql.rows("select absurd.create_queue('locked')")
      yield* ended(sql, "locked", "completed", "2026-01-05T00:01:00Z")
      yield* at(sql, "2026-02-01T00:00:00Z")
      yield* other.rows("begin")
      yield* other.rows("select from absurd.r_locked for update")
      yield* sql.rows("set lock_timeout = '1ms'")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('locked', 0)"), 0)
      yield* other.rows("rollback")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('locked', 0)"), 1)
    }))

  it.effect("costs what it deletes, however much is kept", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const buffers = Effect.fnUntraced(function*(queue: string, kept: number) {
        yield* sql.rows("select absurd.create_queue($1)", queue)
        yield* sql.rows(`
          with task as (
            insert into absurd.t_${queue} (task_id, task_name, params, state, attempts, last_attempt_run, enqueue_at)
            select absurd.portable_uuidv7(), 't', 'null', 'completed', 1, absurd.portable_uuidv7(), '2026-01-05Z'
            from generate_series(1, ${kept}) returning task_id, last_attempt_run
          )
          insert into absurd.r_${queue} (run_id, task_id, attempt, state, available_at, completed_at)
          select last_attempt_run, task_id, 1, 'completed', '2026-01-05Z', '2026-01-05Z' from task
        `)
        yield* sql.rows(`
          insert into absurd.e_${queue} (event_name, payload, emitted_at)
          select 'e' || n, '1', '2026-01-05Z' from generate_series(1, ${kept}) as n
        `)
        for (let n = 0; n < 6; n++) yield* ended(sql, queue, "failed", "2026-01-05T00:00:00Z")
        yield* at(sql, "2026-02-01T00:00:00Z")
        yield* sql.rows(`update absurd.r_${queue} set failed_at = '2025-01-01Z' where state = 'failed'`)
        const measure = Effect.fnUntraced(function*(call: string) {
          // The first call fills the caches of the session.
          yield* sql.rows(`select ${call}`)
          const plan = yield* sql.value(`explain (analyze, buffers, format json) select ${call}`)
          const text = JSON.stringify(plan)
          return Number(/"Shared Hit Blocks":(\d+)/.exec(text)?.[1]) +
            Number(/"Shared Read Blocks":(\d+)/.exec(text)?.[1])
        })
        const tasks = yield* measure(`absurd.cleanup_tasks('${queue}', 2419200, 3)`)
        yield* sql.rows(
          `update absurd.e_${queue} set emitted_at = '2025-01-01Z' where event_name in ('e1', 'e2', 'e3', 'e4', 'e5', 'e6')`
        )
        const events = yield* measure(`absurd.cleanup_events('${queue}', 2419200, 3)`)
        assert.strictEqual(yield* sql.value(`select count(*)::integer from absurd.t_${queue}`), kept)
        assert.strictEqual(yield* sql.value(`select count(*)::integer from absurd.e_${queue}`), kept - 6)
        return { tasks, events }
      })
      const small = yield* buffers("small", 100)
      const large = yield* buffers("large", 100_000)
      assert.isBelow(large.tasks, small.tasks * 1.5 + 40)
      assert.isBelow(large.events, small.events * 1.5 + 40)
    }))

  it.effect("events go by the time they were emitted, the oldest first", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('events')")
      for (const [name, time] of [["b", "00:02"], ["a", "00:01"], ["c", "00:03"]]) {
        yield* at(sql, `2026-01-05T${time}:00Z`)
        yield* sql.rows("select absurd.emit_event('events', $1, '1')", name)
      }
      const names = sql.column("select event_name from absurd.e_events order by 1")
      yield* at(sql, "2026-01-05T00:02:00Z")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_events('events', 60)"), 0)
      yield* at(sql, "2026-01-05T01:00:00Z")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_events('events', 60, 1)"), 1)
      assert.deepStrictEqual(yield* names, ["b", "c"])
      assert.strictEqual(yield* sql.value("select absurd.cleanup_events('events', 60, null)"), 2)
      assert.strictEqual(yield* sql.value("select absurd.cleanup_events('events', 60)"), 0)
    }))

  it.effect("what somebody waits for stays, what nobody waits for goes uncounted", () =>
    Effect.gen(function*() {
      const [sql, other] = yield* Effect.all([Session.another, Session.another])
      yield* sql.rows("select absurd.create_queue('markers')")
      yield* at(sql, start)
      yield* spawn(sql, "markers")
      const { run, task } = yield* claim(sql, "markers")
      yield* sql.rows("select * from absurd.await_event('markers', $1, $2, 'step', 'awaited')", task, run)
      yield* sql.rows(`
        insert into absurd.e_markers (event_name, payload, emitted_at)
        select name, null, 'epoch' from unnest(array['stale', 'held', 'awaited']) as name on conflict do nothing
      `)
      yield* other.rows("begin")
      yield* other.rows("select from absurd.e_markers where event_name = 'held' for share")
      yield* at(sql, "2026-03-01T00:00:00Z")
      yield* sql.rows("set lock_timeout = '1ms'")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_events('markers', 0)"), 0)
      assert.deepStrictEqual(yield* sql.column("select event_name from absurd.e_markers order by 1"), [
        "awaited",
        "held"
      ])
      yield* other.rows("rollback")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_events('markers', 0)"), 0)
      assert.deepStrictEqual(
        yield* sql.rows("select event_name, payload from absurd.e_markers"),
        [{ event_name: "awaited", payload: null }]
      )
      yield* sql.rows("select absurd.emit_event('markers', 'awaited', '42')")
      assert.strictEqual((yield* claim(sql, "markers")).run, run)
      yield* at(sql, "2026-03-01T00:00:01Z")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_events('markers', 0)"), 1)
    }))

  it.effect("markers that are waited for are looked at in turn", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('turn')")
      yield* at(sql, start)
      for (const name of ["a", "b"]) {
        yield* spawn(sql, "turn")
        const { run, task } = yield* claim(sql, "turn")
        yield* sql.rows("select * from absurd.await_event('turn', $1, $2, 'step', $3)", task, run, name)
      }
      yield* sql.rows("insert into absurd.e_turn (event_name, emitted_at) values ('stale', '1970-01-02Z')")
      for (const expected of [3, 3, 2]) {
        yield* sql.rows("select absurd.cleanup_events('turn', 60, 1)")
        assert.strictEqual(yield* sql.value("select count(*)::integer from absurd.e_turn"), expected)
      }
    }))

  it.effect("every queue gets one batch by its policy, and one that fails stops no other", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("delete from absurd.queues")
      for (const queue of ["two", "one", "ages"]) {
        yield* sql.rows("select absurd.create_queue($1)", queue)
        yield* ended(sql, queue, "completed", "2026-01-05T00:01:00Z")
        yield* ended(sql, queue, "completed", "2026-01-05T00:02:00Z")
        yield* sql.rows("select absurd.emit_event($1, 'e')", queue)
      }
      yield* sql.rows(
        "select absurd.set_queue_policy('one', '{\"cleanup_limit\": 1, \"cleanup_ttl\": \"60.9 seconds\"}')"
      )
      yield* sql.rows("select absurd.set_queue_policy('ages', '{\"cleanup_ttl\": \"100000 years\"}')")
      yield* sql.rows("insert into absurd.queues (queue_name) values ('broken')")
      yield* at(sql, "2026-01-05T00:03:01Z")
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.cleanup_all_queues()"), [
        { queue_name: "ages", tasks_deleted: 0, events_deleted: 0 },
        { queue_name: "broken", tasks_deleted: 0, events_deleted: 0 },
        { queue_name: "one", tasks_deleted: 1, events_deleted: 1 },
        { queue_name: "two", tasks_deleted: 0, events_deleted: 0 }
      ])
      assert.include((yield* sql.warnings).join("\n"), "Queue \"broken\" could not be cleaned")
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.cleanup_all_queues('one')"), [
        { queue_name: "one", tasks_deleted: 1, events_deleted: 0 }
      ])
      assert.strictEqual((yield* sql.refusal("select * from absurd.cleanup_all_queues('broken')")).code, "42P01")
      assert.deepStrictEqual(yield* sql.refusal("select * from absurd.cleanup_all_queues('nowhere')"), {
        code: "P0001",
        message: "Queue \"nowhere\" does not exist"
      })
    }))
})
