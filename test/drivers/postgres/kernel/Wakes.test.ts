/**
 * What waking costs: as much as there is to wake, and not its square.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { query } = Sessions

/** How many entries of the indexes of the waits of a queue the transaction has read, dead ones too. */
const read = (client: pg.Client, name: string) =>
  query(
    client,
    `select sum(pg_stat_get_xact_tuples_returned(indexrelid))::int as entries
     from pg_index where indrelid = format('absurd.%I', 'w_' || $1)::regclass`,
    [name]
  ).pipe(Effect.map((rows) => Number(rows[0]?.["entries"])))

/** Spawns and claims `count` tasks. */
const running = Effect.fnUntraced(function*(client: pg.Client, name: string, token: string, count: number) {
  const tasks = JSON.stringify(Array.from({ length: count }, () => ({ name: "task", params: null })))
  yield* query(client, "select from absurd_effect.spawn($1, $2::jsonb, false)", [name, tasks])
  return yield* query(
    client,
    "select task_id as task, run_id as run from absurd_effect.claim($1, $2, 3600, $3) order by task_id",
    [name, token, count]
  ).pipe(Effect.map((rows) => rows.map((row) => ({ task: String(row["task"]), run: String(row["run"]) }))))
})

const state = (client: pg.Client, name: string, id: string) =>
  Sessions.run(client, name, id).pipe(Effect.map((row) => row["state"]))

layer(TestPostgres.layer(), { concurrent: false })("waking", (it) => {
  for (const count of [1000, 2000]) {
    it.effect(`a parent that awaits ${count} children reads each of its waits a few times`, () =>
      Effect.gen(function*() {
        const client = yield* Sessions.session
        const name = yield* Sessions.queue(client)
        const [parent] = yield* running(client, name, "parent", 1)
        const children = yield* running(client, name, "child", count)
        const tasks = children.map(({ task }) => task)
        yield* Sessions.suspend(client, name, parent!.run, "parent", [
          { step: "all", queue: name, tasks, failFast: true }
        ])
        // In one transaction nothing is ever cleaned away, as while somebody else holds an old snapshot.
        yield* query(client, "begin")
        for (let from = 0; from < count; from += 20) {
          assert.strictEqual(yield* state(client, name, parent!.run), "sleeping")
          const items = children.slice(from, from + 20).map(({ run }) => ({ run, token: "child", result: 1 }))
          assert.deepStrictEqual(yield* Sessions.batch(client, "complete", name, items), [])
        }
        const entries = yield* read(client, name)
        yield* query(client, "commit")
        assert.strictEqual(yield* state(client, name, parent!.run), "pending")
        assert.isAtLeast(entries, count)
        assert.isAtMost(entries, 10 * count)
      }))

    it.effect(`an event with ${count} waiters reads each of its waits a few times`, () =>
      Effect.gen(function*() {
        const client = yield* Sessions.session
        const name = yield* Sessions.queue(client)
        const waiters = yield* running(client, name, "waiter", count)
        yield* query(
          client,
          `select count(absurd_effect.suspend($1, run::uuid, 'waiter', '[{"step": "a", "event": "e"}]'))
           from unnest($2::text[]) run`,
          [name, waiters.map(({ run }) => run)]
        )
        yield* query(client, "begin")
        assert.deepStrictEqual(yield* Sessions.emit(client, name, "e", 1), { emitted: true, woken: count })
        const entries = yield* read(client, name)
        yield* query(client, "commit")
        assert.isAtLeast(entries, count)
        assert.isAtMost(entries, 10 * count)
      }))
  }
})
