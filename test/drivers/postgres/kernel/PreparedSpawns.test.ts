/** Spawns of few tasks, whose statement a session plans once for a queue: they store what others store. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { query } = Sessions

const spawnAlike = (client: pg.Client, queue: string, task: object, params: ReadonlyArray<unknown>) =>
  query(client, "select task_id, run_id from absurd_effect.spawn_alike($1, $2::jsonb, $3::jsonb)", [
    queue,
    JSON.stringify({ name: "task", ...task }),
    JSON.stringify(params)
  ])

/** How often what was prepared in a session has been executed. */
const executed = (client: pg.Client) =>
  query(
    client,
    `select coalesce(sum(generic_plans), 0)::int as generic, coalesce(sum(custom_plans), 0)::int as custom
     from pg_prepared_statements where name like 'absurd\\_effect %'`
  ).pipe(Effect.map((rows) => rows[0]))

const awkward = [
  "it's \\ \"quoted\" \\n $q$ %L %1$I '' E'\\x' -- /* ; */ 😀",
  { "a'b\\": [null, true, 1e300, 123456789012345680000, 0.1, "\u0001\t\n"] },
  [],
  null
]

layer(TestPostgres.layer(), { concurrent: false })("spawns of few tasks", (it) => {
  it.effect("are planned once, and those of much in every call", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      for (let n = 1; n <= 20; n++) yield* spawnAlike(client, queue, {}, Array(n % 3 + 1).fill(n))
      assert.deepStrictEqual(yield* executed(client), { generic: 20, custom: 0 })
      yield* spawnAlike(client, queue, {}, ["x".repeat(10_000)])
      yield* spawnAlike(client, queue, { headers: { x: "x".repeat(10_000) } }, [1])
      assert.deepStrictEqual(yield* executed(client), { generic: 20, custom: 0 })
    }))

  it.effect("store what they are given, in its order", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      for (const conforming of ["on", "off"]) {
        if (conforming === "off" && (yield* Effect.promise(() => lacksOldStrings(client)))) continue
        yield* query(client, `set standard_conforming_strings = ${conforming}`)
        for (const filler of [[], ["x".repeat(10_000)]]) {
          const params = [...awkward, ...filler]
          const task = {
            name: "it's \\ a task 😀",
            headers: { "o'\\": "'" },
            retry_strategy: { kind: "fixed", base_seconds: 1.5 },
            max_attempts: 7,
            cancellation: { max_delay: 60 }
          }
          const spawned = yield* spawnAlike(client, queue, task, params)
          const stored = yield* query(
            client,
            `select t.task_id, r.run_id, task_name, params, headers, retry_strategy, max_attempts, cancellation, t.state,
               r.state as run_state, attempt, r.available_at = t.enqueue_at as at_once
             from unnest($1::uuid[]) with ordinality s (task_id, ord)
             join absurd.t_${queue} t using (task_id) join absurd.r_${queue} r using (task_id) order by ord`,
            [spawned.map((row) => row["task_id"])]
          )
          assert.deepStrictEqual(
            stored,
            params.map((params, index) => ({
              ...spawned[index],
              task_name: task.name,
              params,
              headers: task.headers,
              retry_strategy: task.retry_strategy,
              max_attempts: 7,
              cancellation: task.cancellation,
              state: "pending",
              run_state: "pending",
              attempt: 1,
              at_once: true
            }))
          )
        }
      }
    }))

  it.effect("with keys are planned once, and store what they are given", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const at = 4_102_444_812.25
      yield* query(client, "set datestyle = 'SQL, DMY'")
      for (const mode of ["partitioned", "unpartitioned"]) {
        const queue = `keys_${mode}`
        yield* query(client, "select absurd.create_queue($1, $2)", [queue, mode])
        for (const filler of [[], ["x".repeat(10_000)]]) {
          const tasks = [...awkward, ...filler].map((params, index) => ({
            name: "it's \\ a task 😀",
            params,
            at,
            idempotency_key: `it's \\ key ${index} ${filler.length}`
          }))
          const spawn = query(
            client,
            "select ord::int as ord, task_id, run_id, created from absurd_effect.spawn($1, $2::jsonb, true) order by ord",
            [queue, JSON.stringify(tasks)]
          )
          const before = yield* executed(client)
          const spawned = yield* spawn
          const found = yield* spawn
          const after = yield* executed(client)
          assert.deepStrictEqual(
            { generic: Number(after?.["generic"]) - Number(before?.["generic"]), custom: after?.["custom"] },
            { generic: filler.length === 0 ? 2 : 0, custom: 0 }
          )
          assert.deepStrictEqual(spawned.map(({ created }) => created), tasks.map(() => true))
          assert.deepStrictEqual(found, spawned.map((row) => ({ ...row, created: false })))
          const stored = yield* query(
            client,
            `select task_name as name, params, extract(epoch from r.available_at)::float8 as at, idempotency_key
             from unnest($1::uuid[]) with ordinality s (task_id, ord)
             join absurd.t_${queue} t using (task_id) join absurd.r_${queue} r using (task_id) order by ord`,
            [spawned.map((row) => row["task_id"])]
          )
          assert.deepStrictEqual(stored, tasks)
        }
      }
    }))

  it.effect("are due when they are meant to be, whatever the style of dates and the time zone", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      const at = 4_102_444_812.25
      // There are two time zones whose name is written so.
      yield* query(client, "set timezone = 'Asia/Kolkata'")
      for (const style of ["SQL, DMY", "SQL, MDY", "German", "Postgres, DMY", "ISO"]) {
        yield* query(client, `set datestyle = '${style}'`)
        const before = yield* query(client, "show datestyle")
        const [spawned] = yield* spawnAlike(client, queue, { at }, [style])
        assert.deepStrictEqual(yield* query(client, "show datestyle"), before)
        const rows = yield* query(
          client,
          `select extract(epoch from available_at)::float8 as at, state, abs(extract(epoch from now() - created_at)) < 60 as kept
           from absurd.r_${queue} where run_id = $1`,
          [spawned?.["run_id"]]
        )
        assert.deepStrictEqual(rows, [{ at, state: "sleeping", kept: true }])
      }
    }))

  it.effect("go to the queue that has the name now", () =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      const other = yield* Sessions.session
      const queue = yield* Sessions.queue(client)
      for (const mode of ["partitioned", "unpartitioned"]) {
        yield* spawnAlike(client, queue, {}, [1])
        yield* query(other, "select absurd.drop_queue($1)", [queue])
        const { code } = yield* Sessions.failure(client, "select * from absurd_effect.spawn_alike($1, '{}', '[1]')", [
          queue
        ])
        assert.strictEqual(code, "42P01")
        yield* query(other, "select absurd.create_queue($1, $2)", [queue, mode])
        const [spawned] = yield* spawnAlike(client, queue, {}, [1])
        assert.deepStrictEqual(yield* Sessions.claim(client, queue, "token"), [spawned?.["run_id"]])
      }
    }))
})

/** Newer servers have only strings of the standard. */
const lacksOldStrings = (client: pg.Client) =>
  client.query("set standard_conforming_strings = off").then(() => false, () => true)
