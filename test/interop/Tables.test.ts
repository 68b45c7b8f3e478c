/** What programs and tools in other languages do to the tables themselves. */
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Session from "../drivers/postgres/management/Session.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as Interop from "./support/Interop.ts"

let queues = 0

const another = Effect.flatMap(TestPostgres.TestDatabase, (database) => Session.connect(database.pgConfig))

const setup = Effect.gen(function*() {
  const connection = yield* another
  const queue = `tables_${++queues}`
  yield* connection.rows("select absurd.create_queue($1)", queue)
  const spawn = Effect.fnUntraced(function*(options = {}) {
    const [row] = yield* connection.rows(
      "select * from absurd.spawn_task($1, 'task', '{}', $2)",
      queue,
      JSON.stringify(options)
    )
    return row as { readonly task_id: string; readonly run_id: string; readonly created: boolean }
  })
  const claim = connection.rows("select * from absurd.claim_task($1, 'w', 60, 100)", queue)
  return { ...connection, queue, spawn, claim }
})

/** In another session, and known to wait for a lock before this goes on. */
const waiting = Effect.fnUntraced(function*(text: string, ...values: ReadonlyArray<unknown>) {
  const [observer, session] = yield* Effect.all([another, another])
  const fiber = yield* Effect.forkScoped(session.rows(text, ...values))
  yield* Session.blocked(observer, session.pid)
  return fiber
})

/** column: type, then `?` when it may be null and `=` when it has a default. */
const shape = {
  t: "task_id uuid, task_name text, params jsonb, headers jsonb?, retry_strategy jsonb?, max_attempts integer?, " +
    "cancellation jsonb?, enqueue_at timestamptz=, first_started_at timestamptz?, state text, attempts integer=, " +
    "last_attempt_run uuid?, completed_payload jsonb?, cancelled_at timestamptz?, idempotency_key text?",
  r: "run_id uuid, task_id uuid, attempt integer, state text, claimed_by text?, claim_expires_at timestamptz?, " +
    "available_at timestamptz, wake_event text?, event_payload jsonb?, started_at timestamptz?, " +
    "completed_at timestamptz?, failed_at timestamptz?, result jsonb?, failure_reason jsonb?, created_at timestamptz=",
  c: "task_id uuid, checkpoint_name text, state jsonb?, status text=, owner_run_id uuid?, updated_at timestamptz=",
  e: "event_name text, payload jsonb?, emitted_at timestamptz=",
  w: "task_id uuid, run_id uuid, step_name text, event_name text, timeout_at timestamptz?, created_at timestamptz="
}

Interop.onDatabases("the tables of a queue", (it) => {
  it.effect("are five, and six when partitioned; none is left by drop_queue", () =>
    Effect.gen(function*() {
      const { column, queue, rows } = yield* setup
      const tables = column(
        `select tablename from pg_tables where schemaname = 'absurd' and tablename like '%_' || $1 order by 1`,
        queue
      )
      assert.deepStrictEqual(yield* tables, ["c", "e", "r", "t", "w"].map((letter) => `${letter}_${queue}`))
      yield* rows("select absurd.drop_queue($1)", queue)
      assert.deepStrictEqual(yield* tables, [])
      yield* rows("select absurd.create_queue($1, 'partitioned')", queue)
      assert.deepStrictEqual(yield* tables, ["c", "e", "i", "r", "t", "w"].map((letter) => `${letter}_${queue}`))
      yield* rows("select absurd.drop_queue($1)", queue)
      assert.deepStrictEqual(
        yield* column("select relname from pg_class where relname like '%' || $1 || '%'", queue),
        []
      )
    }))

  it.effect("have the columns that others read and write", () =>
    Effect.gen(function*() {
      const { queue, rows } = yield* setup
      for (const [letter, expected] of Object.entries(shape)) {
        const columns = yield* rows(
          `select column_name as name, udt_name as type, is_nullable = 'YES' as nullable,
             column_default is not null as defaulted
           from information_schema.columns where table_schema = 'absurd' and table_name = $1 order by ordinal_position`,
          `${letter}_${queue}`
        )
        const found = columns.map(({ defaulted, name, nullable, type }) =>
          `${name} ${type === "int4" ? "integer" : type}${nullable === true ? "?" : ""}${defaulted === true ? "=" : ""}`
        )
        const wanted = expected.split(", ")
        assert.includeMembers(found, wanted, letter)
        // More columns are fine as long as nobody has to know them.
        assert.deepStrictEqual(found.filter((one) => !wanted.includes(one) && !/[?=]$/.test(one)), [], letter)
      }
    }))

  it.effect("have the indexes that are looked up by name, and a plan uses the one for leases", () =>
    Effect.gen(function*() {
      const { column, queue, rows } = yield* setup
      const indexes = yield* column("select indexname from pg_indexes where schemaname = 'absurd'")
      assert.includeMembers([...indexes], [`r_${queue}_cei`, `w_${queue}_ti`, `e_${queue}_eai`])
      yield* rows("set enable_seqscan = off")
      const plan = yield* column(`
        explain select run_id from absurd.r_${queue}
        where state = 'running' and claim_expires_at is not null and claim_expires_at <= absurd.current_time()`)
      assert.include(plan.join("\n"), `r_${queue}_cei`)
    }))

  it.effect("refuse a state that nobody knows", () =>
    Effect.gen(function*() {
      const { queue, refusal, spawn } = yield* setup
      yield* spawn()
      for (const letter of ["t", "r"]) {
        assert.strictEqual((yield* refusal(`update absurd.${letter}_${queue} set state = 'paused'`)).code, "23514")
      }
    }))

  it.effect("may be truncated together, and the queue is as new", () =>
    Effect.gen(function*() {
      const { claim, queue, rows, spawn } = yield* setup
      const first = yield* spawn({ idempotency_key: "k", cancellation: { max_delay: 60 } })
      yield* claim
      const await_ = (task: string, run: string) =>
        rows("select * from absurd.await_event($1, $2, $3, 's', 'e', 5)", queue, task, run)
      yield* await_(first.task_id, first.run_id)
      yield* rows("select absurd.emit_event($1, 'other', '1')", queue)
      yield* rows(
        `truncate absurd.t_${queue}, absurd.r_${queue}, absurd.c_${queue}, absurd.e_${queue}, absurd.w_${queue}`
      )
      assert.deepStrictEqual(yield* claim, [])
      const second = yield* spawn({ idempotency_key: "k" })
      assert.isTrue(second.created)
      assert.lengthOf(yield* claim, 1)
      assert.deepStrictEqual(yield* await_(second.task_id, second.run_id), [{ should_suspend: true, payload: null }])
      yield* rows("select absurd.emit_event($1, 'e', '2')", queue)
      assert.deepInclude((yield* claim)[0], { run_id: second.run_id, event_payload: 2 })
    }))

  it.effect("take rows that are written by hand", () =>
    Effect.gen(function*() {
      const { claim, column, queue, rows, spawn } = yield* setup
      const { run_id, task_id } = yield* spawn()
      yield* claim
      yield* rows("select absurd.set_task_checkpoint_state($1, $2, 's', '1', $3)", queue, task_id, run_id)
      yield* rows(`update absurd.c_${queue} set status = 'pending'`)
      const read = (pending: boolean) =>
        rows("select state from absurd.get_task_checkpoint_state($1, $2, 's', $3)", queue, task_id, pending)
      assert.deepStrictEqual([yield* read(false), yield* read(true)], [[], [{ state: 1 }]])
      assert.deepStrictEqual(
        yield* rows("select * from absurd.get_task_checkpoint_states($1, $2, $3)", queue, task_id, run_id),
        []
      )
      yield* rows(
        `insert into absurd.w_${queue} (task_id, run_id, step_name, event_name, timeout_at) values ($1, $2, 'a', 'b', null)`,
        task_id,
        run_id
      )
      // A queue of an old installation, whose name would be too long today.
      const long = "l".repeat(58)
      yield* rows("insert into absurd.queues (queue_name) values ($1)", long)
      assert.include(yield* column("select queue_name from absurd.list_queues()"), long)
      for (const letter of Object.keys(shape)) yield* rows(`create table absurd.${letter}_${long} ()`)
      yield* rows("select absurd.drop_queue($1)", long)
      assert.deepStrictEqual(
        yield* column("select tablename from pg_tables where tablename like '%' || $1", long),
        []
      )
    }))

  it.effect("make await_event wait for a locked wait row, and emit_event for await_event", () =>
    Effect.gen(function*() {
      const { claim, queue, rows, spawn } = yield* setup
      const { run_id, task_id } = yield* spawn()
      yield* claim
      yield* rows(
        `insert into absurd.w_${queue} (task_id, run_id, step_name, event_name, timeout_at) values ($1, $2, 's', 'e', null)`,
        task_id,
        run_id
      )
      yield* rows("begin")
      yield* rows(`select from absurd.w_${queue} where run_id = $1 for update`, run_id)
      const awaiting = yield* waiting(
        "select * from absurd.await_event($1, $2, $3, 's', 'e')",
        queue,
        task_id,
        run_id
      )
      const emitting = yield* waiting("select absurd.emit_event($1, 'e', '7')", queue)
      yield* rows("rollback")
      assert.deepStrictEqual(yield* Fiber.join(awaiting), [{ should_suspend: true, payload: null }])
      yield* Fiber.join(emitting)
      assert.deepInclude((yield* claim)[0], { run_id, event_payload: 7, wake_event: null })
    }))

  for (
    const [end, state] of [
      ["select absurd.complete_run($1, $2, '1')", "completed"],
      ["select absurd.fail_run($1, $2, '{}')", "cancelled"]
    ] as const
  ) {
    it.effect(`make cancel_task wait for a locked run, whose holder comes first: ${end}`, () =>
      Effect.gen(function*() {
        const { claim, queue, rows, spawn } = yield* setup
        const { run_id, task_id } = yield* spawn()
        yield* claim
        yield* rows("begin")
        yield* rows(`select from absurd.r_${queue} where run_id = $1 for update`, run_id)
        const cancelling = yield* waiting("select absurd.cancel_task($1, $2)", queue, task_id)
        yield* rows(end, queue, run_id)
        yield* rows("commit")
        yield* Fiber.join(cancelling)
        // A failed run leaves a next attempt, which the cancellation then meets.
        const [result] = yield* rows("select state from absurd.get_task_result($1, $2)", queue, task_id)
        assert.deepStrictEqual(result, { state })
        const [run] = yield* rows(`select state from absurd.r_${queue} where run_id = $1`, run_id)
        assert.deepStrictEqual(run, { state: state === "completed" ? "completed" : "failed" })
      }))
  }

  it.effect("report a queue that does not exist, and none at all, by their codes", () =>
    Effect.gen(function*() {
      const { refusal } = yield* setup
      const id = "01900000-0000-7000-8000-000000000001"
      const calls = [
        "spawn_task($1, 't', '{}')",
        "claim_task($1, 'w')",
        `complete_run($1, '${id}')`,
        `cancel_task($1, '${id}')`,
        "emit_event($1, 'e')",
        `get_task_result($1, '${id}')`,
        `get_task_checkpoint_states($1, '${id}', '${id}')`
      ]
      for (const call of calls) {
        assert.strictEqual((yield* refusal(`select absurd.${call}`, "no such queue")).code, "42P01", call)
        assert.strictEqual((yield* refusal(`select absurd.${call}`, null)).code, "22004", call)
      }
    }))

  it.effect("keep no trace of a deadlock or any other fault in the server's log but what these tests provoke", () =>
    Effect.gen(function*() {
      const database = yield* TestPostgres.TestDatabase
      const errors = yield* database.errors
      assert.deepStrictEqual(
        errors.filter((line) => !/violates check constraint|does not exist|null values cannot/.test(line)),
        []
      )
    }))
})
