/**
 * A queue with a large backlog and a long past, and the plans of the statements that the store's functions run in it.
 *
 * @internal
 */
import { assert } from "@effect/vitest"
import { Context, Effect, Layer, type Scope } from "effect"
import type pg from "pg"
import type * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { query } = Sessions

export interface Options {
  readonly mode: "unpartitioned" | "partitioned"
  /** How many runs are due; as many sleep, and twice as many have ended. */
  readonly size: number
  /** Whether the server knows what is in the tables. If not, they have never been analysed. */
  readonly analysed: boolean
}

interface Node {
  readonly "Node Type": string
  readonly "Index Name"?: string
  readonly "Relation Name"?: string
  readonly "Actual Rows": number
  readonly "Actual Loops": number
  readonly "Rows Removed by Filter"?: number
  readonly "Rows Removed by Index Recheck"?: number
  readonly Plans?: ReadonlyArray<Node>
}

/** A session on the database of the queue `big`. */
export class Backlog extends Context.Service<Backlog, {
  readonly client: pg.Client
  readonly options: Options
}>()("test/kernel/Backlog") {}

/** The backlog as a layer. */
export const layer = (options: Options): Layer.Layer<Backlog, never, TestPostgres.TestDatabase> =>
  Layer.effect(Backlog, fill(options))

const fill = (options: Options): Effect.Effect<Backlog["Service"], never, Scope.Scope | TestPostgres.TestDatabase> =>
  Effect.gen(function*() {
    const { mode, size } = options
    const client = yield* Sessions.session
    yield* query(client, "select absurd.create_queue('big', $1)", [mode])
    yield* query(
      client,
      `do $$ declare t text; begin
        for t in select oid::regclass from pg_class
          where relnamespace = 'absurd'::regnamespace and relkind = 'r' and relname ~ '^[trcewi]_big' loop
          execute 'alter table ' || t || ' set (autovacuum_enabled = off)';
        end loop;
      end $$`
    )
    // Statements that are planned once were planned while there was nothing, unless the tables are analysed.
    yield* query(client, "begin")
    yield* Sessions.spawn(client, "big")
    yield* Sessions.claim(client, "big", "early")
    yield* query(client, "rollback")
    // The states are spread over the table, as they are in a queue that has lived for a while.
    yield* query(
      client,
      `insert into absurd.t_big (task_id, task_name, params, state, attempts, last_attempt_run, cancellation,
          idempotency_key)
        select absurd.portable_uuidv7(), 'task', 'null', (array['pending', 'completed', 'sleeping', 'completed'])[1 + i % 4],
          1, absurd.portable_uuidv7(), case when i % 4 = 2 then '{"max_delay": 1000000}'::jsonb end,
          case when i % 4 = 3 then 'key ' || i end
        from generate_series(1, ${4 * size}) i`
    )
    if (mode === "partitioned") {
      yield* query(
        client,
        "insert into absurd.i_big select idempotency_key, task_id from absurd.t_big where idempotency_key is not null"
      )
    }
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
    yield* query(
      client,
      `insert into absurd.e_big (event_name, payload) select 'emitted ' || i, '1' from generate_series(1, ${size}) i`
    )
    if (options.analysed) yield* query(client, "analyze")
    yield* query(client, "load 'auto_explain'")
    yield* query(
      client,
      `select set_config('auto_explain.' || name, value, false) from (values
        ('log_min_duration', '0'), ('log_nested_statements', 'on'), ('log_analyze', 'on'), ('log_timing', 'off'),
        ('log_format', 'json'), ('log_level', 'notice')) x (name, value)`
    )
    return Backlog.of({ client, options })
  })

/** The rows that a call returns, and the plans of the statements inside it that touch a table of the queue. */
export const plansOf = Effect.fnUntraced(function*(text: string, values: ReadonlyArray<unknown> = []) {
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
  }).filter((node) => /^([trcewi]_big|limit)/.test(node["Relation Name"] ?? "") || node["Index Name"] !== undefined)
  return { rows, nodes }
})

const flatten = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(flatten)]

const touched = (node: Node): number =>
  (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) + (node["Rows Removed by Index Recheck"] ?? 0)) *
  node["Actual Loops"]

/** Everything came from an index, unless from a partition that is empty, and no scan saw more rows than `limit`. */
export const assertNarrow = (nodes: ReadonlyArray<Node>, limit: number, what = "") => {
  assert.isAbove(nodes.length, 0, what)
  for (const node of nodes) {
    const isEmptyPartition = /^[trcw]_big_/.test(node["Relation Name"] ?? "") && touched(node) === 0
    if (!isEmptyPartition) assert.notStrictEqual(node["Node Type"], "Seq Scan", `${what} ${JSON.stringify(node)}`)
    assert.isAtMost(touched(node), limit, `${what} ${JSON.stringify(node)}`)
  }
}

/** The names of the indexes that were used. */
export const indexes = (nodes: ReadonlyArray<Node>) => new Set(nodes.flatMap((node) => node["Index Name"] ?? []))
