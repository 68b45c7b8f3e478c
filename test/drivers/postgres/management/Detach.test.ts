import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Session from "./Session.ts"

const monday = "2026-01-05T00:00:00Z"

const at = (sql: Session.Connection, time: string) => sql.rows("select set_config('absurd.fake_now', $1, false)", time)

/** A partitioned queue of the weeks 601 to 603 that gives up empty weeks after a day. */
const create = Effect.fnUntraced(function*(sql: Session.Connection, queue: string) {
  yield* at(sql, monday)
  yield* sql.rows(
    "insert into absurd.queues (queue_name, storage_mode, partition_lookahead) values ($1, 'partitioned', '7 days')",
    queue
  )
  yield* sql.rows("select absurd.create_queue($1, 'partitioned')", queue)
  yield* sql.rows("select absurd.set_queue_policy($1, $2)", queue, { detach_mode: "empty", detach_min_age: "1 day" })
})

const candidates = (sql: Session.Connection, queue: string) =>
  sql.column("select partition_table from absurd.list_detach_candidates($1)", queue)

Session.everywhere("detaching", (it) => {
  it.effect("empty weeks are offered once their end is older than the policy says", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* create(sql, "ages")
      yield* at(sql, "2026-01-13T00:00:00Z")
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.list_detach_candidates('ages')"), [
        { queue_name: "ages", parent_table: "c_ages", partition_table: "c_ages_601" },
        { queue_name: "ages", parent_table: "r_ages", partition_table: "r_ages_601" },
        { queue_name: "ages", parent_table: "t_ages", partition_table: "t_ages_601" },
        { queue_name: "ages", parent_table: "w_ages", partition_table: "w_ages_601" }
      ])
      yield* at(sql, "2026-01-13T00:00:00.001Z")
      assert.deepStrictEqual(
        yield* candidates(sql, "ages"),
        ["c", "r", "t", "w"].flatMap((letter) => [`${letter}_ages_601`, `${letter}_ages_602`])
      )
      assert.includeMembers(
        [...yield* sql.column("select partition_table from absurd.list_detach_candidates()")],
        ["t_ages_601"]
      )
      yield* sql.rows("select absurd.set_queue_policy('ages', '{\"detach_mode\": \"none\"}')")
      assert.deepStrictEqual(yield* candidates(sql, "ages"), [])
      assert.deepStrictEqual(yield* sql.refusal("select * from absurd.list_detach_candidates('nowhere')"), {
        code: "P0001",
        message: "Queue \"nowhere\" does not exist"
      })
    }))

  it.effect("a week stays whole while one of its tasks or runs may go on", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* create(sql, "alive")
      yield* at(sql, "2026-01-06T00:00:00Z")
      yield* sql.rows("select absurd.spawn_task('alive', 'work', '{}', '{\"max_attempts\": 1}')")
      const weeks = Effect.map(
        candidates(sql, "alive"),
        (names) => names.filter((name) => String(name).endsWith("_602"))
      )
      yield* at(sql, "2026-02-01T00:00:00Z")
      assert.deepStrictEqual(yield* weeks, [])
      yield* sql.rows("select absurd.fail_run('alive', run_id, '{}') from absurd.claim_task('alive', 'w')")
      // A failed task may be revived, and then writes checkpoints into its week.
      assert.deepStrictEqual(yield* weeks, [])
      yield* sql.rows("select absurd.retry_task('alive', task_id) from absurd.t_alive")
      yield* sql.rows("select absurd.complete_run('alive', run_id) from absurd.claim_task('alive', 'w')")
      assert.deepStrictEqual(yield* weeks, ["c_alive_602", "w_alive_602"])
      yield* at(sql, "2026-03-15T00:00:00Z")
      assert.strictEqual(yield* sql.value("select absurd.cleanup_tasks('alive', 0)"), 1)
      assert.deepStrictEqual(yield* weeks, ["c_alive_602", "r_alive_602", "t_alive_602", "w_alive_602"])
    }))

  it.effect("a detached table is dropped, an attached or unknown one is not", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* create(sql, "drop")
      const drop = "select absurd.drop_detached_partition($1)"
      for (const blank of [null, "", "  "]) {
        assert.deepStrictEqual(yield* sql.refusal(drop, blank), {
          code: "P0001",
          message: "partition table must be provided"
        })
      }
      assert.strictEqual(yield* sql.value(drop, "t_drop_999"), false)
      assert.strictEqual(yield* sql.value(drop, "t_drop_601"), false)
      yield* sql.rows("alter table absurd.t_drop detach partition absurd.t_drop_601")
      assert.strictEqual(yield* sql.value(drop, "t_drop_601"), true)
      assert.strictEqual(yield* sql.value("select to_regclass('absurd.t_drop_601') is null"), true)
      assert.strictEqual(yield* sql.value(drop, "t_drop_601"), false)
    }))

  it.effect("a table that is no partition is never dropped", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('plain_101')")
      for (const name of ["queues", "t_plain_101", "e_plain_101"]) {
        const refused = yield* sql.refusal("select absurd.drop_detached_partition($1)", name)
        assert.strictEqual(refused.code, "P0001")
        assert.include(refused.message, "is not a weekly partition")
        assert.strictEqual(yield* sql.value("select to_regclass('absurd.' || $1) is not null", name), true)
      }
    }))

  it.effect("rows that came between planning and detaching go back to their place", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* create(sql, "late")
      const insert = (name: string) =>
        sql.rows(
          "insert into absurd.c_late (task_id, checkpoint_name) values (absurd.uuidv7_floor('2025-12-30Z'), $1)",
          name
        )
      yield* insert("before")
      yield* sql.rows("alter table absurd.c_late detach partition absurd.c_late_601")
      yield* insert("after")
      assert.strictEqual(yield* sql.value("select absurd.drop_detached_partition('c_late_601')"), false)
      assert.deepStrictEqual(
        yield* sql.rows("select checkpoint_name, tableoid::regclass::text as place from absurd.c_late order by 1"),
        [
          { checkpoint_name: "after", place: "absurd.c_late_601" },
          { checkpoint_name: "before", place: "absurd.c_late_601" }
        ]
      )
    }))
})
