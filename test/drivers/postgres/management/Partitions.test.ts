import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Session from "./Session.ts"

const monday = "2026-01-05T00:00:00Z"

const at = (sql: Session.Connection, time: string) => sql.rows("select set_config('absurd.fake_now', $1, false)", time)

const partitions = (sql: Session.Connection, parent: string) =>
  sql.column(
    `select inhrelid::regclass::text from pg_inherits
     where inhparent = $1::regclass order by 1`,
    `absurd.${parent}`
  )

const spawned = (sql: Session.Connection, queue: string, time: string) =>
  sql.value(
    `insert into absurd.t_${queue} (task_id, task_name, params, state)
     values (absurd.uuidv7_floor($1), 't', 'null', 'pending') returning tableoid::regclass::text`,
    time
  )

Session.everywhere("weekly partitions", (it) => {
  it.effect("a new queue has the weeks of its window and the default partition", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* at(sql, monday)
      yield* sql.rows("select absurd.create_queue('fresh', 'partitioned')")
      for (const letter of ["t", "r", "c", "w"]) {
        assert.deepStrictEqual(
          yield* partitions(sql, `${letter}_fresh`),
          ["601", "602", "603", "604", "605", "606", "d"].map((tag) => `absurd.${letter}_fresh_${tag}`)
        )
      }
      assert.strictEqual(
        yield* sql.value("select pg_get_expr(relpartbound, oid) from pg_class where relname = 't_fresh_602'"),
        yield* sql.value(`
          select format('FOR VALUES FROM (%L) TO (%L)', absurd.uuidv7_floor('2026-01-05T00:00:00Z'), absurd.uuidv7_floor('2026-01-12T00:00:00Z'))
        `)
      )
      assert.strictEqual(yield* spawned(sql, "fresh", "2026-01-11T23:59:59.999Z"), "absurd.t_fresh_602")
      assert.strictEqual(yield* spawned(sql, "fresh", "2026-01-12T00:00:00Z"), "absurd.t_fresh_603")
      assert.strictEqual(yield* spawned(sql, "fresh", "2027-01-12T00:00:00Z"), "absurd.t_fresh_d")
    }))

  it.effect("the window follows the clock and the policy, and nothing is done twice", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* at(sql, monday)
      yield* sql.rows("select absurd.create_queue('moving', 'partitioned')")
      yield* sql.rows("select absurd.set_queue_policy('moving', $1)", {
        partition_lookahead: "0 days",
        partition_lookback: "14 days"
      })
      yield* at(sql, "2026-02-11T12:00:00Z")
      const before = yield* partitions(sql, "w_moving")
      yield* sql.rows("select absurd.ensure_partitions('moving')")
      const after = yield* partitions(sql, "w_moving")
      assert.deepStrictEqual(after.filter((name) => !before.includes(name)), ["absurd.w_moving_607"])
      yield* sql.rows("select absurd.ensure_partitions('moving')")
      yield* sql.rows("select absurd.ensure_partitions()")
      assert.deepStrictEqual(yield* partitions(sql, "w_moving"), after)
    }))

  it.effect("an unknown queue is refused, an unpartitioned one left alone", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      assert.deepStrictEqual(yield* sql.refusal("select absurd.ensure_partitions('nowhere')"), {
        code: "P0001",
        message: "Queue \"nowhere\" does not exist"
      })
      yield* sql.rows("select absurd.create_queue('flat')")
      yield* sql.rows("select absurd.ensure_partitions('flat')")
      assert.deepStrictEqual(yield* partitions(sql, "t_flat"), [])
    }))

  it.effect("rows in the default partition move into their week", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* at(sql, monday)
      yield* sql.rows("select absurd.create_queue('moved', 'partitioned')")
      assert.strictEqual(yield* spawned(sql, "moved", "2026-03-03T03:03:03Z"), "absurd.t_moved_d")
      assert.strictEqual(yield* spawned(sql, "moved", "2026-09-03T03:03:03Z"), "absurd.t_moved_d")
      yield* at(sql, "2026-02-20T00:00:00Z")
      yield* sql.rows("select absurd.ensure_partitions('moved')")
      assert.deepStrictEqual(
        yield* sql.column("select tableoid::regclass::text from absurd.t_moved order by task_id"),
        ["absurd.t_moved_610", "absurd.t_moved_d"]
      )
      assert.deepStrictEqual(
        yield* sql.column(
          "select indexrelid::regclass::text from pg_index where indrelid = 'absurd.t_moved_610'::regclass and indisprimary"
        ),
        ["absurd.t_moved_610_pkey"]
      )
    }))

  it.effect("a queue that fails keeps no other from getting its partitions", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* at(sql, monday)
      yield* sql.rows("insert into absurd.queues (queue_name, storage_mode) values ('a-broken', 'partitioned')")
      yield* sql.rows("select absurd.create_queue('healthy', 'partitioned')")
      yield* at(sql, "2026-02-10T00:00:00Z")
      yield* sql.rows("select absurd.ensure_partitions()")
      assert.include(yield* partitions(sql, "t_healthy"), "absurd.t_healthy_611")
      assert.include((yield* sql.warnings).join("\n"), "The partitions of queue \"a-broken\" could not be provided")
      assert.strictEqual((yield* sql.refusal("select absurd.ensure_partitions('a-broken')")).code, "42P01")
      yield* sql.rows("delete from absurd.queues where queue_name = 'a-broken'")
    }))

  it.effect("a queue that somebody is changing keeps no other waiting", () =>
    Effect.gen(function*() {
      const [sql, other] = yield* Effect.all([Session.another, Session.another])
      yield* at(sql, monday)
      yield* sql.rows("select absurd.create_queue('held', 'partitioned')")
      yield* sql.rows("select absurd.create_queue('waiting', 'partitioned')")
      yield* other.rows("begin")
      yield* other.rows("select absurd.set_queue_policy('held', '{\"cleanup_limit\": 3}')")
      yield* at(sql, "2026-02-10T00:00:00Z")
      yield* sql.rows("select absurd.ensure_partitions()")
      yield* other.rows("rollback")
      assert.include(yield* partitions(sql, "t_waiting"), "absurd.t_waiting_611")
      assert.notInclude(yield* partitions(sql, "t_held"), "absurd.t_held_611")
    }))

  it.effect("the table of the same week ten years ago is not taken for this one", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* at(sql, monday)
      yield* sql.rows("select absurd.create_queue('decade', 'partitioned')")
      yield* at(sql, "2036-01-04T00:00:00Z")
      const refused = yield* sql.refusal("select absurd.ensure_partitions('decade')")
      assert.strictEqual(refused.code, "P0001")
      assert.include(refused.message, "absurd.t_decade_601 exists, but is not the partition of the week of")
      yield* at(sql, monday)
      yield* sql.rows("alter table absurd.t_decade detach partition absurd.t_decade_602")
      assert.include(
        (yield* sql.refusal("select absurd.ensure_partitions('decade')")).message,
        "absurd.t_decade_602 exists, but is not the partition"
      )
    }))

  it.effect("without default partition, ids outside every week are refused", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* at(sql, monday)
      const disable = "select absurd.set_queue_policy('nodef', '{\"default_partition\": \"disabled\"}')"
      yield* sql.rows("select absurd.create_queue('nodef', 'partitioned')")
      yield* sql.rows(
        "insert into absurd.c_nodef (task_id, checkpoint_name) values (absurd.uuidv7_floor('2027-01-01Z'), 'x')"
      )
      assert.deepStrictEqual(yield* sql.refusal(disable), {
        code: "P0001",
        message: "Cannot disable default_partition for queue \"nodef\": absurd.c_nodef_d is not empty"
      })
      assert.include(yield* partitions(sql, "t_nodef"), "absurd.t_nodef_d")
      assert.strictEqual(yield* sql.value("select default_partition from absurd.get_queue_policy('nodef')"), "enabled")
      yield* sql.rows("delete from absurd.c_nodef")
      yield* sql.rows(disable)
      yield* sql.rows(disable)
      yield* sql.rows("select absurd.ensure_partitions('nodef')")
      for (const letter of ["t", "r", "c", "w"]) {
        assert.notInclude(yield* partitions(sql, `${letter}_nodef`), `absurd.${letter}_nodef_d`)
      }
      const refused = yield* sql.refusal(
        "insert into absurd.c_nodef (task_id, checkpoint_name) values (absurd.uuidv7_floor('2027-01-01Z'), 'x')"
      )
      assert.strictEqual(refused.code, "23514")
      yield* sql.rows("select absurd.set_queue_policy('nodef', '{\"default_partition\": \"enabled\"}')")
      assert.strictEqual(yield* spawned(sql, "nodef", "2027-01-12T00:00:00Z"), "absurd.t_nodef_d")
    }))
})
