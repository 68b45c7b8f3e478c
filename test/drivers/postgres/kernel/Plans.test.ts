import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { query } = Sessions

const size = 100_000

interface Node {
  readonly "Node Type": string
  readonly "Index Name"?: string
  readonly "Relation Name"?: string
  readonly "Actual Rows": number
  readonly "Actual Loops": number
  readonly "Rows Removed by Filter"?: number
  readonly Plans?: ReadonlyArray<Node>
}

/** A queue that was never analysed: due, finished and sleeping runs, waits, checkpoints, and tasks with policies. */
class Backlog extends Context.Service<Backlog, { readonly client: pg.Client }>()("test/kernel/Backlog") {}

const fill = Effect.gen(function*() {
  const client = yield* Sessions.session
  yield* query(client, "select absurd.create_queue('big')")
  for (const table of ["t", "r", "c", "e", "w"]) {
    yield* query(client, `alter table absurd.${table}_big set (autovacuum_enabled = off)`)
  }
  // The states are spread over the table, as they are in a queue that has lived for a while.
  yield* query(
    client,
    `insert into absurd.t_big (task_id, task_name, params, state, attempts, last_attempt_run, cancellation)
      select absurd.portable_uuidv7(), 'task', 'null', (array['pending', 'completed', 'sleeping', 'completed'])[1 + i % 4], 1, absurd.portable_uuidv7(),
        case when i % 4 = 2 then '{"max_delay": 1000000}'::jsonb end
      from generate_series(1, ${4 * size}) i`
  )
  yield* query(
    client,
    `insert into absurd.r_big (run_id, task_id, attempt, state, available_at, completed_at, wake_event)
      select last_attempt_run, task_id, 1, state,
        case when state = 'sleeping' then 'infinity' else absurd.current_time() end,
        case when state = 'completed' then absurd.current_time() end,
        case when state = 'sleeping' then 'event ' || task_id end
      from absurd.t_big`
  )
  yield* query(
    client,
    `insert into absurd.w_big (task_id, run_id, step_name, event_name)
      select task_id, run_id, 'step', wake_event from absurd.r_big where state = 'sleeping'`
  )
  yield* query(
    client,
    "insert into absurd.c_big (task_id, checkpoint_name, state) select task_id, 'step', '1' from absurd.t_big"
  )
  yield* query(client, "load 'auto_explain'")
  yield* query(
    client,
    `select set_config('auto_explain.' || name, value, false) from (values
      ('log_min_duration', '0'), ('log_nested_statements', 'on'), ('log_analyze', 'on'), ('log_timing', 'off'),
      ('log_format', 'json'), ('log_level', 'notice')) x (name, value)`
  )
  return Backlog.of({ client })
})

/** The plans of the statements inside a call that touch a table of the queue. */
const plansOf = Effect.fnUntraced(function*(text: string, values: ReadonlyArray<unknown> = []) {
  const { client } = yield* Backlog
  const notices: Array<string> = []
  const listener = (notice: { readonly message?: string | undefined }) => {
    notices.push(notice.message ?? "")
  }
  client.on("notice", listener)
  const rows = yield* query(client, text, values).pipe(
    Effect.ensuring(Effect.sync(() => client.off("notice", listener)))
  )
  const nodes = notices.flatMap((notice) => {
    const start = notice.indexOf("{")
    return start < 0 ? [] : flatten(JSON.parse(notice.slice(start)).Plan as Node)
  }).filter((node) => node["Relation Name"]?.endsWith("_big") || node["Index Name"] !== undefined)
  return { rows, nodes }
})

const flatten = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(flatten)]

const touched = (node: Node): number =>
  (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0)) * node["Actual Loops"]

/** Everything came from an index, and no scan saw more rows than `limit`. */
const assertNarrow = (nodes: ReadonlyArray<Node>, limit: number) => {
  assert.isAbove(nodes.length, 0)
  for (const node of nodes) {
    assert.notStrictEqual(node["Node Type"], "Seq Scan", JSON.stringify(node))
    assert.isAtMost(touched(node), limit, JSON.stringify(node))
  }
}

const indexes = (nodes: ReadonlyArray<Node>) => new Set(nodes.flatMap((node) => node["Index Name"] ?? []))

layer(Layer.effect(Backlog, fill).pipe(Layer.provide(TestPostgres.layer())), {
  concurrent: false,
  timeout: "2 minutes"
})(
  "with 100,000 due, 200,000 finished and 100,000 sleeping runs",
  (it) => {
    it.effect("a claim reads its runs from the due index in order, and nothing else of the backlog", () =>
      Effect.gen(function*() {
        const { nodes, rows } = yield* plansOf("select run_id from absurd_effect.claim('big', 'token', 60, 50)")
        assert.strictEqual(rows.length, 50)
        assertNarrow(nodes, 50)
        for (const index of ["r_big_sai", "r_big_cei", "t_big_cdi"]) assert.include([...indexes(nodes)], index)
      }))

    it.effect("overdue tasks come from the index of deadlines, expired leases from that of leases", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog
        yield* query(
          client,
          `update absurd.t_big set enqueue_at = now() - interval '1 year' where task_id in (
            select task_id from absurd.t_big where cancellation is not null limit 7)`
        )
        yield* query(client, "select run_id from absurd_effect.claim('big', 'short', 0.000001, 5)")
        const { nodes } = yield* plansOf("select run_id from absurd_effect.claim('big', 'next', 60, 10)")
        assertNarrow(nodes, 50)
        const counts = yield* query(
          client,
          "select state, count(*)::int as n from absurd.r_big where state in ('cancelled', 'failed') group by 1 order by 1"
        )
        assert.deepStrictEqual(counts, [{ state: "cancelled", n: 7 }, { state: "failed", n: 5 }])
      }))

    it.effect("what a worker does with its runs costs what it touches", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog
        const runs = yield* Sessions.claim(client, "big", "mine", 24)
        const items = runs.map((run, n) => ({
          run,
          token: "mine",
          name: "new",
          state: n,
          extend: 7200,
          lease: 9000,
          result: n,
          reason: n,
          retry: "after",
          delay: 60
        }))
        const calls: ReadonlyArray<readonly [string, ReadonlyArray<Sessions.Row>]> = [
          ["set_checkpoints", items],
          ["extend", items],
          ["complete", items.slice(0, 8)],
          ["fail", items.slice(8, 16)],
          ["release", items.slice(16, 20)]
        ]
        for (const [operation, some] of calls) {
          const { nodes } = yield* plansOf(`select * from absurd_effect.${operation}('big', $1::jsonb)`, [
            JSON.stringify(some)
          ])
          assertNarrow(nodes, 24)
        }
        const { nodes } = yield* plansOf("select absurd_effect.suspend('big', $1, 'mine', $2::jsonb)", [
          runs[22],
          JSON.stringify([{ step: "a", event: "of mine" }, { step: "b", delay: 60 }])
        ])
        assertNarrow(nodes, 2)
      }))

    it.effect("an emit finds its waiters by the index of waits", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog
        const [wait] = yield* query(client, "select event_name from absurd.w_big order by run_id desc limit 1")
        const { nodes, rows } = yield* plansOf("select * from absurd_effect.emit('big', $1, 'null')", [
          wait?.["event_name"]
        ])
        assert.deepStrictEqual(rows, [{ emitted: true, woken: 1 }])
        assertNarrow(nodes, 1)
        assert.include([...indexes(nodes)], "w_big_eni")
      }))

    it.effect("reading and cancelling one task, and finding results, look at that task alone", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog
        const [row] = yield* query(
          client,
          "select task_id from absurd.t_big where state = 'pending' and attempts = 1 limit 1"
        )
        const task = row?.["task_id"]
        const calls = [
          "absurd_effect.read_runs('big', null, $1)",
          "absurd_effect.read_waits('big', $1)",
          "absurd_effect.read_checkpoints('big', $1, null, false)",
          "absurd_effect.checkpoints_of('big', array[$1::uuid])",
          "absurd_effect.results('big', array[$1::uuid])",
          "absurd_effect.cancel('big', $1)"
        ]
        for (const call of calls) assertNarrow((yield* plansOf(`select * from ${call}`, [task])).nodes, 1)
      }))
  }
)
