/** Statements that a session plans once for a queue, whatever happens to the session and to the queue in between. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { query } = Sessions

/** What the store's functions have prepared in a session. */
const prepared = (client: pg.Client) =>
  query(
    client,
    `select count(*)::int as statements, sum(generic_plans)::int as generic, sum(custom_plans)::int as custom
     from pg_prepared_statements where name like 'absurd\\_effect %'`
  ).pipe(Effect.map((rows) => rows[0]))

/** Spawns one and claims it. */
const work = (client: pg.Client, queue: string) =>
  Effect.gen(function*() {
    const { run } = yield* Sessions.spawn(client, queue)
    assert.deepStrictEqual(yield* Sessions.claim(client, queue, "token"), [run])
  })

layer(TestPostgres.layer(), { concurrent: false })("statements of spawns and claims", (it) => {
  it.effect("are planned once, not in every call", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      for (let n = 0; n < 20; n++) yield* work(client, queue)
      assert.deepStrictEqual(yield* prepared(client), { statements: 3, generic: 60, custom: 0 })
    }))

  it.effect("are prepared again where they were discarded, also when the transaction is rolled back", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      yield* work(client, queue)
      for (const discard of ["deallocate all", "discard all", "discard plans"]) {
        yield* query(client, discard)
        yield* query(client, "begin")
        yield* work(client, queue)
        yield* query(client, "rollback")
        yield* work(client, queue)
      }
    }))

  it.effect("are the latest of many queues", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queues = yield* Effect.forEach(Array.from({ length: 40 }), () => Sessions.queue(client))
      for (let round = 0; round < 2; round++) {
        for (const queue of queues) yield* work(client, queue)
        const found = yield* prepared(client)
        assert.strictEqual(found?.["statements"], 64)
      }
    }))

  it.effect("are about the queue that has the name now", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const other = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      for (const mode of ["partitioned", "unpartitioned"]) {
        yield* work(client, queue)
        yield* query(other, "select absurd.drop_queue($1)", [queue])
        const { code } = yield* Sessions.failure(client, "select * from absurd_effect.claim($1, 'token', 60, 1)", [
          queue
        ])
        assert.strictEqual(code, "42P01")
        yield* query(other, "select absurd.create_queue($1, $2)", [queue, mode])
        yield* work(client, queue)
      }
    }))

  it.effect("mean the same instants whatever the style of dates and the time zone", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      // There are two time zones whose name is written so.
      yield* query(client, "set timezone = 'Asia/Kolkata'")
      for (const style of ["SQL, DMY", "SQL, MDY", "German", "Postgres, DMY", "ISO"]) {
        yield* query(client, `set datestyle = '${style}'`)
        const before = yield* query(client, "show datestyle")
        yield* work(client, queue)
        assert.deepStrictEqual(yield* query(client, "show datestyle"), before)
        const rows = yield* query(
          client,
          `select claim_expires_at - started_at = '1 hour' and abs(extract(epoch from now() - started_at)) < 60 as kept
           from absurd.r_${queue} order by created_at desc limit 1`
        )
        assert.deepStrictEqual(rows, [{ kept: true }])
      }
    }))
})

layer(TestPostgres.layer(), { concurrent: false })("statements of checkpoints and completions", (it) => {
  for (const [size, statements] of [[10, 4], [8000, 6]] as const) {
    it.effect(`do what they should in a queue of ${size} runs, and are planned once where there are many`, () =>
      Effect.gen(function*() {
        const client = yield* Sessions.session
        const queue = yield* Sessions.queue(client)
        const tasks = JSON.stringify(Array.from({ length: size }, () => ({ name: "task" })))
        yield* query(client, "select from absurd_effect.spawn($1, $2::jsonb, true)", [queue, tasks])
        const runs = yield* Sessions.claim(client, queue, "mine", 5)
        const [first, second, third, fourth, fifth] = runs
        const held = (run: string | undefined, token = "mine") => ({ run, token })
        const set = (...items: ReadonlyArray<Sessions.Row>) => Sessions.batch(client, "set_checkpoints", queue, items)
        const unknown = held("00000000-0000-7000-8000-000000000000")

        assert.deepStrictEqual(yield* set({ ...held(first), name: "step", state: 0 }), [])
        yield* query(
          client,
          `insert into absurd.c_${queue} (task_id, checkpoint_name, state, status)
           select task_id, 'step', '"begun"', 'pending' from absurd.r_${queue} where run_id = $1`,
          [third]
        )
        const text = `it's a \\ "text", $1 %L`
        assert.deepStrictEqual(
          yield* set(
            { ...held(first), name: "step", state: 1 },
            { ...held(second), name: "step", state: text },
            { ...held(second), name: "step", state: 2 },
            { ...held(third), name: "step", state: 3, extend: 7200 },
            { ...held(third), name: "step", state: 4 },
            { ...held(fourth, "another"), name: "step", state: 5 },
            { ...unknown, name: "step", state: 6 },
            { ...held(fifth), name: text, state: null }
          ),
          [
            { ord: "1", outcome: "applied", existing: 0 },
            { ord: "3", outcome: "applied", existing: text },
            { ord: "5", outcome: "applied", existing: 3 },
            { ord: "6", outcome: "leaseLost", existing: null },
            { ord: "7", outcome: "notFound", existing: null }
          ]
        )
        assert.deepStrictEqual(
          yield* query(
            client,
            `select c.checkpoint_name as name, c.state, c.status, c.owner_run_id as owner,
               extract(epoch from r.claim_expires_at - r.started_at) > 7000 as extended
             from absurd.c_${queue} c join absurd.r_${queue} r on r.task_id = c.task_id order by r.run_id`
          ),
          [
            { name: "step", state: 0, status: "committed", owner: first, extended: false },
            { name: "step", state: text, status: "committed", owner: second, extended: false },
            { name: "step", state: 3, status: "committed", owner: third, extended: true },
            { name: text, state: null, status: "committed", owner: fifth, extended: false }
          ]
        )

        assert.deepStrictEqual(
          yield* Sessions.batch(client, "complete", queue, [
            { ...held(first), result: text },
            { ...held(second, "another"), result: 1 },
            { ...held(second), result: 2 },
            { ...held(second), result: 3 },
            unknown,
            { run: third, result: null }
          ]),
          [
            { ord: "2", outcome: "leaseLost" },
            { ord: "4", outcome: "leaseLost" },
            { ord: "5", outcome: "notFound" }
          ]
        )
        assert.deepStrictEqual(
          yield* query(
            client,
            `select r.run_id as run, r.state, r.result, t.state as task, t.completed_payload as payload
             from absurd.r_${queue} r join absurd.t_${queue} t using (task_id)
             where r.run_id = any ($1) order by r.run_id`,
            [runs]
          ),
          [
            { run: first, state: "completed", result: text, task: "completed", payload: text },
            { run: second, state: "completed", result: 2, task: "completed", payload: 2 },
            { run: third, state: "completed", result: null, task: "completed", payload: null },
            { run: fourth, state: "running", result: null, task: "running", payload: null },
            { run: fifth, state: "running", result: null, task: "running", payload: null }
          ]
        )
        // Of claims two and of waits one; of the spawn of 10; with 8,000 runs of checkpoints, with leases to renew or without, and
        // of completions.
        const found = yield* prepared(client)
        assert.deepStrictEqual([found?.["statements"], found?.["custom"]], [statements, 0])
      }))
  }

  it.effect("are not planned for many items at once, which they would have to be given as text", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      const tasks = JSON.stringify(Array.from({ length: 8000 }, () => ({ name: "task" })))
      yield* query(client, "select from absurd_effect.spawn($1, $2::jsonb, true)", [queue, tasks])
      const [run] = yield* Sessions.claim(client, queue, "mine", 1)
      const before = yield* prepared(client)
      const item = { run, token: "mine", name: "step", state: "x".repeat(40_000) }
      assert.deepStrictEqual(yield* Sessions.batch(client, "set_checkpoints", queue, [item]), [])
      assert.deepStrictEqual(yield* prepared(client), before)
    }))
})
