/**
 * What the hot functions read of a queue with a large backlog and a long past: as much as they need, and nothing more.
 *
 * @internal
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Backlog from "./Backlog.ts"
import * as Sessions from "./Sessions.ts"

const { assertNarrow, indexes, plansOf } = Backlog
const { query } = Sessions

type Call = readonly [text: string, values: ReadonlyArray<unknown>, limit?: number]

/** Each call in its turn touches at most `limit` rows in any scan. */
const narrow = (calls: ReadonlyArray<Call>, limit: number) =>
  Effect.forEach(calls, ([text, values, own = limit]) =>
    Effect.gen(function*() {
      const { nodes } = yield* plansOf(`select * from ${text}`, values)
      assertNarrow(nodes, own, text)
    }), { discard: true })

/** The ids of some tasks in a state that no other test changes. */
const tasksOf = (client: pg.Client, state: string, count: number) =>
  Effect.map(
    query(
      client,
      `select task_id as task, last_attempt_run as run from absurd.t_big
       where state = $1 and attempts = 1 and idempotency_key is null and headers is null limit $2`,
      [state, count]
    ),
    (rows) => rows.map((row) => ({ task: String(row["task"]), run: String(row["run"]) }))
  )

const json = JSON.stringify

export const suite = (name: string, options: Backlog.Options) =>
  layer(Backlog.layer(options).pipe(Layer.provide(TestPostgres.layer())), {
    concurrent: false,
    timeout: "4 minutes"
  })(name, (it) => {
    const names = (nodes: Parameters<typeof indexes>[0], ...wanted: ReadonlyArray<string>) => {
      // The server names the indexes of partitions.
      if (options.mode === "unpartitioned") { for (const index of wanted) assert.include([...indexes(nodes)], index) }
    }

    it.effect("a claim reads its runs from the due index in order, and nothing else of the backlog", () =>
      Effect.gen(function*() {
        const { nodes, rows } = yield* plansOf("select run_id from absurd_effect.claim('big', 'token', 60, 50)")
        assert.strictEqual(rows.length, 50)
        assertNarrow(nodes, 50)
        names(nodes, "r_big_sai", "r_big_cei", "t_big_cdi")
      }))

    it.effect("overdue tasks come from the index of deadlines, expired leases from that of leases", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
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
        const { client } = yield* Backlog.Backlog
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
        yield* narrow(
          calls.map(([operation, some]): Call => [`absurd_effect.${operation}('big', $1::jsonb)`, [json(some)]]),
          24
        )
        const others = yield* tasksOf(client, "pending", 2)
        const waits = [
          [{ step: "a", event: "of mine" }, { step: "b", delay: 60 }],
          [{ step: "c", queue: "big", tasks: others.map(({ task }) => task), failFast: true }]
        ]
        yield* narrow(
          waits.map((
            wait,
            n
          ): Call => ["absurd_effect.suspend('big', $1, 'mine', $2::jsonb)", [runs[22 + n], json(wait)]]),
          6
        )
      }))

    it.effect("the claims of a token are found among the running runs", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
        const runs = yield* Sessions.claim(client, "big", "found again", 3)
        const { nodes, rows } = yield* plansOf("select run_id from absurd_effect.claimed_with('big', 'found again')")
        assert.sameMembers(rows.map((row) => String(row["run_id"])), [...runs])
        // Those of the tests before as well, and none of the backlog.
        assertNarrow(nodes, 150)
      }))

    it.effect("spawning with keys, new or taken, looks at those keys alone", () =>
      narrow(
        [["new"], ["key 3"], ["key 7", "new 2"]].flatMap((keys): ReadonlyArray<Call> => [
          [
            "absurd_effect.spawn('big', $1::jsonb, $2)",
            [json(keys.map((key) => ({ name: "task", params: null, idempotency_key: key }))), keys.length === 1]
          ],
          ["absurd_effect.find_task('big', $1)", [keys[0]]],
          ["absurd_effect.revise_pending('big', $1, '{\"name\": \"task\"}', true)", [keys[0]]],
          [
            "absurd.spawn_task('big', 'task', null, $1)",
            [json({ idempotency_key: keys.at(-1), max_attempts: 5, headers: {} })]
          ]
        ]),
        4
      ))

    it.effect("an emit finds its waiters by the index of waits", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
        const [wait] = yield* query(
          client,
          "select event_name from absurd.w_big where step_name = 'step' order by run_id desc limit 1"
        )
        const { nodes, rows } = yield* plansOf("select * from absurd_effect.emit('big', $1, 'null')", [
          wait?.["event_name"]
        ])
        assert.deepStrictEqual(rows, [{ emitted: true, woken: 1 }])
        assertNarrow(nodes, 1)
        names(nodes, "w_big_eni")
      }))

    it.effect("reading, cancelling and reviving one task, and finding results, look at that task alone", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
        const [one, two, three] = yield* tasksOf(client, "pending", 3)
        const [ended] = yield* tasksOf(client, "completed", 1)
        const task = one?.task
        yield* narrow([
          ["absurd_effect.read_task('big', $1)", [task]],
          ["absurd_effect.read_runs('big', null, $1)", [task]],
          ["absurd_effect.read_runs('big', $1, null)", [one?.run]],
          ["absurd_effect.read_waits('big', $1)", [task]],
          ["absurd_effect.read_checkpoints('big', $1, null, false)", [task]],
          ["absurd_effect.read_event('big', $1)", ["emitted 5"]],
          ["absurd_effect.checkpoints_of('big', array[$1::uuid])", [task]],
          ["absurd_effect.results('big', array[$1::uuid])", [task]],
          ["absurd_effect.cancel('big', $1)", [task]],
          ["absurd_effect.cancel_run('big', $1)", [two?.run]],
          ["absurd.cancel_task('big', $1)", [three?.task]],
          ["absurd.get_task_result('big', $1)", [task]]
        ], 1)
        yield* query(client, "update absurd.t_big set state = 'failed' where task_id = $1", [ended?.task])
        yield* query(client, "update absurd.r_big set state = 'failed' where run_id = $1", [ended?.run])
        yield* narrow([
          ["absurd_effect.retry('big', $1, null, true)", [ended?.task]],
          ["absurd.retry_task('big', $1, '{\"spawn_new\": true}')", [ended?.task]],
          ["absurd_effect.retry('big', $1, null, false)", [ended?.task]]
        ], 2)
      }))

    it.effect("what programs in other languages call costs as little", () =>
      Effect.gen(function*() {
        const { nodes, rows } = yield* plansOf("select task_id, run_id from absurd.claim_task('big', 'theirs', 60, 6)")
        assertNarrow(nodes, 50)
        const [one, two, three, four, five] = rows.map((row) => [row["task_id"], row["run_id"]])
        assert.isDefined(five)
        yield* narrow([
          ["absurd.spawn_task('big', 'task', null)", []],
          ["absurd.get_task_checkpoint_states('big', $1, $2)", one!],
          ["absurd.set_task_checkpoint_state('big', $1, 'theirs', '1', $2, 60)", one!],
          ["absurd.set_task_checkpoint_state('big', $1, 'theirs', '2', $2, 60)", one!],
          ["absurd.get_task_checkpoint_state('big', $1, 'theirs')", [one![0]]],
          ["absurd.extend_claim('big', $1, 60)", [one![1]]],
          ["absurd.complete_run('big', $1, '1')", [one![1]]],
          ["absurd.fail_run('big', $1, '{}')", [two![1]]],
          ["absurd.schedule_run('big', $1, absurd.current_time())", [three![1]]],
          ["absurd.await_event('big', $1, $2, 'wait', 'theirs')", four!],
          ["absurd.await_event('big', $1, $2, 'wait', 'emitted 9')", five!],
          ["absurd.emit_event('big', 'theirs', '1')", []],
          ["absurd.emit_event('big', 'emitted 7', '1')", []]
        ], 2)
      }))

    it.effect("how much there is to do is counted without what has ended", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
        const [counted] = yield* query(
          client,
          `select least(count(*) filter (where state in ('pending', 'sleeping') and available_at <= now()), 100000)::int as due,
            least(count(*) filter (where state in ('pending', 'sleeping') and available_at > now()), 100000)::int as later,
            count(*) filter (where state = 'running')::int as running
          from absurd.r_big`
        )
        const { nodes, rows } = yield* plansOf(
          "select due::int, later::int, running::int, oldest > 0 as waited from absurd_effect.queue_load('big')"
        )
        assert.deepStrictEqual(rows, [{ ...counted, waited: true }])
        // Half of the runs have ended, and no scan sees them, but for what the tests before have changed since.
        assertNarrow(nodes, Math.max(Number(counted?.["due"]), Number(counted?.["later"])) + 200)
        names(nodes, "r_big_sai", "r_big_cei")
      }))

    it.effect("deleting costs what is deleted", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
        yield* query(client, "set absurd.fake_now = '2100-01-01'")
        for (
          const [text, deleted] of [["absurd.cleanup_tasks('big', 60, 10)", 10], [
            "absurd.cleanup_events('big', 60, 10)",
            10
          ]]
        ) {
          const { nodes, rows } = yield* plansOf(`select ${text} as deleted`)
          assert.deepStrictEqual(rows, [{ deleted }])
          assertNarrow(nodes, 60, String(text))
        }
        yield* query(client, "set absurd.fake_now = '2000-01-01'")
        for (const text of ["absurd.cleanup_tasks('big', 60, 10)", "absurd.cleanup_events('big', 60, 10)"]) {
          const { nodes, rows } = yield* plansOf(`select ${text} as deleted`)
          assert.deepStrictEqual(rows, [{ deleted: 0 }])
          assertNarrow(nodes, 0, text)
        }
        yield* query(client, "set absurd.fake_now = default")
      }))
  })
