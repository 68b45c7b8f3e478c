import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Session from "./Session.ts"

const tables = (sql: Session.Connection, queue: string) =>
  sql.column(
    "select tablename::text from pg_tables where schemaname = 'absurd' and tablename like $1 order by 1",
    `%_${queue}`
  )

Session.everywhere("queues", (it) => {
  it.effect("a queue that was dropped and made again is not paused", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const paused = sql.value("select paused from absurd_effect.queue_load('resting')")
      for (let time = 0; time < 2; time++) {
        yield* sql.rows("select absurd.create_queue('resting')")
        assert.strictEqual(yield* sql.value("select absurd_effect.set_paused('resting', true)"), true)
        assert.strictEqual(yield* paused, true)
        yield* sql.rows("select absurd.drop_queue('resting')")
        yield* sql.rows("select absurd.create_queue('resting')")
        assert.strictEqual(yield* paused, false)
        yield* sql.rows("select absurd.spawn_task('resting', 'work', '1')")
        assert.lengthOf(yield* sql.rows("select * from absurd.claim_task('resting', 'worker')"), 1)
      }
      yield* sql.rows("select absurd.drop_queue('resting')")
      assert.strictEqual(yield* sql.value("select count(*)::int from absurd_effect.paused_queues"), 0)
    }))

  it.effect("an unpartitioned queue has five tables with their columns, defaults and keys", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue($1)", "plain")
      assert.deepStrictEqual(yield* tables(sql, "plain"), ["c_plain", "e_plain", "r_plain", "t_plain", "w_plain"])
      const columns = yield* sql.rows(`
        select left(table_name, 1) as letter,
          string_agg(column_name || ' ' || udt_name || case is_nullable when 'NO' then '!' else '' end, ', ' order by ordinal_position) as columns
        from information_schema.columns where table_schema = 'absurd' and table_name like '__plain' group by 1 order by 1
      `)
      assert.deepStrictEqual(columns, [
        {
          letter: "c",
          columns:
            "task_id uuid!, checkpoint_name text!, state jsonb, status text!, owner_run_id uuid, updated_at timestamptz!"
        },
        { letter: "e", columns: "event_name text!, payload jsonb, emitted_at timestamptz!" },
        {
          letter: "r",
          columns: "run_id uuid!, task_id uuid!, attempt int4!, state text!, claimed_by text, " +
            "claim_expires_at timestamptz, available_at timestamptz!, wake_event text, event_payload jsonb, " +
            "started_at timestamptz, completed_at timestamptz, failed_at timestamptz, result jsonb, " +
            "failure_reason jsonb, created_at timestamptz!"
        },
        {
          letter: "t",
          columns: "task_id uuid!, task_name text!, params jsonb!, headers jsonb, retry_strategy jsonb, " +
            "max_attempts int4, cancellation jsonb, enqueue_at timestamptz!, first_started_at timestamptz, state text!, " +
            "attempts int4!, last_attempt_run uuid, completed_payload jsonb, cancelled_at timestamptz, " +
            "idempotency_key text"
        },
        {
          letter: "w",
          columns: "task_id uuid!, run_id uuid!, step_name text!, event_name text!, timeout_at timestamptz, " +
            "created_at timestamptz!"
        }
      ])
      const keys = yield* sql.column(`
        select conrelid::regclass::text || ' ' || pg_get_constraintdef(oid) from pg_constraint
        where connamespace = 'absurd'::regnamespace and conrelid::regclass::text like 'absurd.__plain' and contype in ('p', 'u')
        order by 1
      `)
      assert.deepStrictEqual(keys, [
        "absurd.c_plain PRIMARY KEY (task_id, checkpoint_name)",
        "absurd.e_plain PRIMARY KEY (event_name)",
        "absurd.r_plain PRIMARY KEY (run_id)",
        "absurd.t_plain PRIMARY KEY (task_id)",
        "absurd.w_plain PRIMARY KEY (run_id, step_name)"
      ])
      const insert = "insert into absurd.t_plain (task_id, task_name, params, state, idempotency_key) values "
      yield* sql.rows(`${insert} (gen_random_uuid(), 't', 'null', 'pending', 'k')`)
      const takenKey = yield* sql.refusal(`${insert} (gen_random_uuid(), 't', 'null', 'pending', 'k')`)
      assert.strictEqual(takenKey.code, "23505")
      const unknownState = yield* sql.refusal(
        "insert into absurd.t_plain (task_id, task_name, params, state) values (gen_random_uuid(), 't', 'null', 'lost')"
      )
      assert.strictEqual(unknownState.code, "23514")
    }))

  it.effect("the named indexes serve the lookups they are for", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('indexed')")
      yield* sql.rows("begin")
      yield* sql.rows("set local enable_seqscan = off")
      const plan = (query: string) => Effect.map(sql.column(`explain ${query}`), (lines) => lines.join("\n"))
      assert.include(
        yield* plan(
          "select run_id from absurd.r_indexed where state = 'running' and claim_expires_at is not null and claim_expires_at <= now()"
        ),
        "r_indexed_cei"
      )
      assert.include(
        yield* plan(
          "select run_id from absurd.r_indexed where state in ('pending', 'sleeping') and available_at <= now() order by available_at, run_id limit 1"
        ),
        "r_indexed_sai"
      )
      assert.include(
        yield* plan("delete from absurd.w_indexed where task_id = '018bcfe5-6800-7000-8000-000000000000'"),
        "w_indexed_ti"
      )
      assert.include(yield* plan("select from absurd.w_indexed where event_name = 'x'"), "w_indexed_eni")
      assert.include(
        yield* plan("select event_name from absurd.e_indexed where emitted_at < now() order by emitted_at limit 5"),
        "e_indexed_eai"
      )
      yield* sql.rows("rollback")
    }))

  it.effect("a partitioned queue has a table of keys, and its key is a plain column", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('weekly', ' Partitioned ')")
      const kinds = yield* sql.rows(`
        select relname::text as name, relkind::text as kind, pg_get_partkeydef(oid) as key from pg_class
        where relnamespace = 'absurd'::regnamespace and relname like '__weekly' order by 1
      `)
      assert.deepStrictEqual(kinds, [
        { name: "c_weekly", kind: "p", key: "RANGE (task_id)" },
        { name: "e_weekly", kind: "r", key: null },
        { name: "i_weekly", kind: "r", key: null },
        { name: "r_weekly", kind: "p", key: "RANGE (run_id)" },
        { name: "t_weekly", kind: "p", key: "RANGE (task_id)" },
        { name: "w_weekly", kind: "p", key: "RANGE (run_id)" }
      ])
    }))

  it.effect("names may be anything of at most 57 bytes", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      for (const name of [" ", "Upper", "a.b", "it's", "say \"hi\"", "naïve-☂", "x".repeat(57), "select; drop"]) {
        for (const mode of ["unpartitioned", "partitioned"]) {
          yield* sql.rows("select absurd.create_queue($1, $2)", name, mode)
          assert.deepStrictEqual(
            yield* sql.column("select queue_name from absurd.list_queues() where queue_name = $1", name),
            [name]
          )
          yield* sql.rows("select absurd.drop_queue($1)", name)
        }
      }
      const left = yield* sql.column(
        "select relname::text from pg_class where relnamespace = 'absurd'::regnamespace and relname like '%xxxx%'"
      )
      assert.deepStrictEqual(left, [])
      for (const missing of [null, ""]) {
        assert.deepStrictEqual(yield* sql.refusal("select absurd.create_queue($1)", missing), {
          code: "P0001",
          message: "Queue name must be provided"
        })
      }
      for (const long of ["x".repeat(58), "☂".repeat(20)]) {
        const refused = yield* sql.refusal("select absurd.create_queue($1)", long)
        assert.strictEqual(refused.code, "P0001")
        assert.include(refused.message, "is too long (max 57 bytes).")
      }
    }))

  it.effect("creating again changes nothing, and another mode is refused", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('again')")
      yield* sql.rows("select absurd.set_queue_policy('again', '{\"cleanup_limit\": 7}')")
      yield* sql.rows("insert into absurd.e_again (event_name, payload) values ('kept', '1')")
      yield* sql.rows("select absurd.create_queue('again')")
      yield* sql.rows("select absurd.create_queue('again', 'UNPARTITIONED')")
      assert.strictEqual(yield* sql.value("select count(*)::integer from absurd.e_again"), 1)
      assert.strictEqual(yield* sql.value("select cleanup_limit from absurd.get_queue_policy('again')"), 7)
      const other = yield* sql.refusal("select absurd.create_queue('again', 'partitioned')")
      assert.deepStrictEqual(other, {
        code: "P0001",
        message: "Queue \"again\" already exists with storage mode \"unpartitioned\""
      })
      yield* sql.rows("select absurd.create_queue('weekly-again', 'partitioned')")
      const one = yield* sql.refusal("select absurd.create_queue('weekly-again')")
      assert.include(one.message, "already exists with storage mode \"partitioned\"")
      for (const mode of [null, "sharded"]) {
        const unknown = yield* sql.refusal("select absurd.create_queue('again', $1)", mode)
        assert.strictEqual(unknown.code, "P0001")
        assert.include(unknown.message, "Unsupported queue storage mode")
      }
    }))

  it.effect("creating again takes no lock that would stop a queue in use", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const busy = yield* Session.another
      yield* sql.rows("select absurd.create_queue('busy')")
      yield* busy.rows("begin")
      yield* busy.rows("insert into absurd.e_busy (event_name, payload) values ('open', '1')")
      yield* sql.rows("begin")
      yield* sql.rows("set local lock_timeout = '1ms'")
      yield* sql.rows("select absurd.create_queue('busy')")
      yield* sql.rows("commit")
      yield* busy.rows("rollback")
    }))

  it.effect("a queue that is only registered gets its tables", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("insert into absurd.queues (queue_name) values ('legacy')")
      yield* sql.rows("select absurd.create_queue('legacy')")
      assert.lengthOf(yield* tables(sql, "legacy"), 5)
    }))

  it.effect("many who create one queue at once all succeed", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const others = yield* Effect.all(Array.from({ length: 8 }, () => Session.another), { concurrency: 8 })
      yield* Effect.forEach(others, (other) => other.rows("select absurd.create_queue('popular', 'partitioned')"), {
        concurrency: 8
      })
      assert.strictEqual(
        yield* sql.value("select count(*)::integer from absurd.queues where queue_name = 'popular'"),
        1
      )
    }))

  it.effect("a queue is refused whose names another one bears or will bear", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('foo', 'partitioned')")
      yield* sql.rows("select absurd.create_queue('bar')")
      const before = yield* sql.column("select relname::text from pg_class where relnamespace = 'absurd'::regnamespace")
      for (const name of ["foo_d", "foo_101", "bar_sai", "bar_ti", "bar_pkey", "bar_cdi", "bar_fai", "bar_eai"]) {
        for (const mode of ["unpartitioned", "partitioned"]) {
          const refused = yield* sql.refusal("select absurd.create_queue($1, $2)", name, mode)
          assert.strictEqual(refused.code, "P0001", name)
          assert.include(refused.message, `Queue "${name}" cannot be created`)
        }
      }
      assert.deepStrictEqual(
        yield* sql.column("select relname::text from pg_class where relnamespace = 'absurd'::regnamespace"),
        before
      )
      for (const [first, second] of [["baz_d", "baz"], ["qux_646", "qux"], ["fox_sai", "fox"]] as const) {
        yield* sql.rows("select absurd.create_queue($1)", first)
        const refused = yield* sql.refusal("select absurd.create_queue($1, 'partitioned')", second)
        assert.strictEqual(refused.code, "P0001", second)
      }
      // A default partition that is away for now may come back.
      yield* sql.rows("select absurd.set_queue_policy('foo', '{\"default_partition\": \"disabled\"}')")
      assert.strictEqual((yield* sql.refusal("select absurd.create_queue('foo_d')")).code, "P0001")
      // Without partitions nothing collides.
      yield* sql.rows("select absurd.create_queue('bar_d')")
      yield* sql.rows("select absurd.create_queue('bar_646')")
    }))

  it.effect("dropping removes all of a queue, and of no other", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("select absurd.create_queue('gone', 'partitioned')")
      yield* sql.rows("create table absurd.t_gone_101 (like absurd.t_gone)")
      // A row alone, as of a queue that was made on top of another's partitions.
      yield* sql.rows("insert into absurd.queues (queue_name) values ('gone_d')")
      yield* sql.rows("select absurd.drop_queue('gone_d')")
      assert.strictEqual(yield* sql.value("select to_regclass('absurd.t_gone_d') is not null"), true)
      yield* sql.rows("select absurd.drop_queue('gone')")
      const left = yield* sql.column(
        "select relname::text from pg_class where relnamespace = 'absurd'::regnamespace and relname like '%\\_gone%'"
      )
      assert.deepStrictEqual(left, [])
      yield* sql.rows("select absurd.drop_queue('gone')")
      yield* sql.rows("select absurd.drop_queue(null)")
    }))

  it.effect("a queue with a name that is too long today can be dropped", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      const name = "l".repeat(58)
      yield* sql.rows("insert into absurd.queues (queue_name) values ($1)", name)
      for (const letter of ["t", "r", "c", "e", "w"]) yield* sql.rows(`create table absurd.${letter}_${name} ()`)
      yield* sql.rows("select absurd.drop_queue($1)", name)
      assert.deepStrictEqual(yield* tables(sql, name), [])
      assert.strictEqual(yield* sql.value("select count(*)::integer from absurd.queues where queue_name = $1", name), 0)
    }))

  it.effect("the list is one column, in order", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      for (const name of ["list-b", "list-B", "list-a"]) yield* sql.rows("select absurd.create_queue($1)", name)
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.list_queues() where queue_name like 'list-%'"), [
        { queue_name: "list-B" },
        { queue_name: "list-a" },
        { queue_name: "list-b" }
      ])
    }))

  it.effect("a queue made in a transaction is gone when that rolls back", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("begin")
      yield* sql.rows("select absurd.create_queue('undone')")
      yield* sql.rows("rollback")
      assert.deepStrictEqual(yield* tables(sql, "undone"), [])
      assert.deepStrictEqual(
        yield* sql.column("select queue_name from absurd.list_queues() where queue_name = 'undone'"),
        []
      )
    }))
})
