/** Limits between sessions, and what keeping to them reads where very many runs wait. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Backlog from "./Backlog.ts"
import * as Sessions from "./Sessions.ts"

const { batch, claim, query, queue, session, spawn } = Sessions

const limited = (key: string, concurrency: number | null, rate: Sessions.Row | null = null) => ({
  headers: { $limit: { name: "tenants", key, concurrency, rate } }
})

const complete = (client: pg.Client, name: string, token: string, ...runs: ReadonlyArray<string>) =>
  batch(client, "complete", name, runs.map((run) => ({ run, token, result: null })))

const states = (client: pg.Client, name: string) =>
  query(
    client,
    "select key, state, count(*)::int as n from absurd_effect.limited_runs where queue_name = $1 group by 1, 2",
    [
      name
    ]
  ).pipe(
    Effect.map((rows) => Object.fromEntries(rows.map(({ key, n, state }) => [`${String(key)} ${String(state)}`, n])))
  )

layer(TestPostgres.layer())("limits between sessions", (it) => {
  it.effect("however claims and ends meet, no key has too many runs, and all of them complete", () =>
    Effect.gen(function*() {
      const observer = yield* session
      const name = yield* queue(observer)
      const keys = ["a", "b", "c"]
      for (let n = 0; n < 90; n++) yield* spawn(observer, name, limited(keys[n % 3]!, 2))
      let done = 0
      const work = (worker: number) =>
        Effect.gen(function*() {
          const client = yield* session
          for (let turn = 0; done < 90 && turn < 2_000; turn++) {
            const token = `${worker} ${turn}`
            const runs = yield* claim(client, name, token, 1 + (turn % 3))
            const counts = yield* query(
              client,
              `select t.headers -> '$limit' ->> 'key' as key, count(*)::int as n
               from absurd."r_${name}" r join absurd."t_${name}" t using (task_id) where r.state = 'running' group by 1`
            )
            for (const { n } of counts) assert.isAtMost(Number(n), 2)
            yield* complete(client, name, token, ...runs)
            done += runs.length
          }
        })
      yield* Effect.forEach([1, 2, 3, 4], work, { concurrency: "unbounded", discard: true })
      assert.strictEqual(done, 90)
      assert.deepStrictEqual(yield* states(observer, name), {})
    }))

  it.effect("a transaction that has ended a run holds up neither ends nor claims of its key", () =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.all([session, session])
      const name = yield* queue(one)
      for (let n = 0; n < 4; n++) yield* spawn(one, name, limited("a", 2))
      const [first, second] = yield* claim(one, name, "held")
      yield* query(one, "begin")
      yield* complete(one, name, "held", first!)
      yield* query(two, "set lock_timeout = '1ms'")
      yield* complete(two, name, "held", second!)
      yield* spawn(two, name, limited("a", 2))
      yield* spawn(two, name, limited("b", 2))
      // That of the other key alone: what was left to do for the first one waits for its row.
      assert.lengthOf(yield* claim(two, name, "free"), 1)
      assert.deepStrictEqual(yield* claim(two, name, "nothing"), [])
      yield* query(one, "commit")
      assert.lengthOf(yield* claim(two, name, "two"), 2)
      assert.deepStrictEqual(yield* states(one, name), { "a running": 2, "a waiting": 1, "b running": 1 })
    }))

  it.effect("what is undone, or is of another isolation, lets nobody go too early and is not forgotten", () =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.all([session, session])
      const name = yield* queue(one)
      for (let n = 0; n < 3; n++) yield* spawn(one, name, limited("a", 1))
      const [first] = yield* claim(one, name, "first")
      yield* query(one, "begin")
      yield* complete(one, name, "first", first!)
      assert.deepStrictEqual(yield* claim(two, name, "no"), [])
      yield* query(one, "rollback")
      assert.deepStrictEqual(yield* claim(two, name, "neither"), [])
      yield* query(one, "begin isolation level repeatable read")
      yield* complete(one, name, "first", first!)
      yield* query(one, "commit")
      assert.lengthOf(yield* claim(two, name, "second"), 1)
      assert.deepStrictEqual(yield* states(one, name), { "a running": 1, "a waiting": 1 })
    }))

  it.effect("a run that is locked is passed over, and goes later", () =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.all([session, session])
      const name = yield* queue(one)
      for (let n = 0; n < 2; n++) yield* spawn(one, name, limited("a", 1))
      const [first] = yield* claim(one, name, "first")
      yield* query(two, "begin")
      yield* query(two, `select from absurd."r_${name}" where state = 'sleeping' for update`)
      yield* complete(one, name, "first", first!)
      assert.deepStrictEqual(yield* claim(one, name, "locked"), [])
      yield* query(two, "commit")
      assert.lengthOf(yield* claim(one, name, "second"), 1)
    }))

  it.effect("runs that other software has ended give their slots back in the end", () =>
    Effect.gen(function*() {
      const client = yield* session
      const name = yield* queue(client)
      for (let n = 0; n < 2; n++) yield* spawn(client, name, limited("a", 1))
      const [first] = yield* claim(client, name, "first")
      yield* query(client, `update absurd."r_${name}" set state = 'completed' where run_id = $1`, [first])
      assert.deepStrictEqual(yield* claim(client, name, "no"), [])
      yield* query(client, "update absurd_effect.limits set swept_at = swept_at - interval '1 minute'")
      assert.lengthOf(yield* claim(client, name, "second"), 1)
    }))

  it.effect("a run that other software has put to sleep does not stand in its own way", () =>
    Effect.gen(function*() {
      const client = yield* session
      const name = yield* queue(client)
      for (let n = 0; n < 2; n++) yield* spawn(client, name, limited("a", 1))
      const [first] = yield* claim(client, name, "first")
      const sleeps = `state = 'sleeping', claimed_by = null, claim_expires_at = null, available_at = now()`
      yield* query(client, `update absurd."r_${name}" set ${sleeps} where run_id = $1`, [first])
      yield* query(client, `update absurd."t_${name}" set state = 'sleeping' where last_attempt_run = $1`, [first])
      // The one that has waited goes first.
      const [second] = yield* claim(client, name, "second")
      assert.isDefined(second)
      assert.notStrictEqual(second, first)
      yield* complete(client, name, "second", second!)
      assert.deepStrictEqual(yield* claim(client, name, "third"), [first])
    }))

  it.effect("keys that nothing is known of any more are not kept", () =>
    Effect.gen(function*() {
      const client = yield* session
      const name = yield* queue(client)
      yield* spawn(client, name, limited("a", 1))
      yield* spawn(client, name, limited("b", null, { limit: 1, seconds: 0.001, burst: 1 }))
      yield* complete(client, name, "t", ...(yield* claim(client, name, "t")))
      const kept = query(client, "select key from absurd_effect.limit_keys where queue_name = $1", [name])
      assert.notInclude((yield* kept).map((row) => row["key"]), "a")
      yield* query(client, "update absurd_effect.limits set swept_at = swept_at - interval '1 minute'")
      yield* query(client, "update absurd_effect.limit_keys set arrival = arrival - interval '1 minute'")
      yield* claim(client, name, "sweeping")
      assert.deepStrictEqual(yield* kept, [])
    }))

  it.effect("programs in other languages spawn limited tasks and are kept to limits as well", () =>
    Effect.gen(function*() {
      const client = yield* session
      const name = yield* queue(client)
      for (let n = 0; n < 2; n++) {
        yield* query(client, "select * from absurd.spawn_task($1, 'task', null, $2)", [
          name,
          JSON.stringify(limited("a", 1))
        ])
      }
      const theirs = query(client, "select run_id from absurd.claim_task($1, 'w', 60, 5)", [name])
      const [first, ...rest] = yield* theirs
      assert.deepStrictEqual(rest, [])
      assert.deepStrictEqual(yield* theirs, [])
      yield* query(client, "select absurd.complete_run($1, $2)", [name, first?.["run_id"]])
      assert.lengthOf(yield* theirs, 1)
    }))
})

const waiting = 100_000

layer(Backlog.layer({ mode: "unpartitioned", size: 500, analysed: false }).pipe(Layer.provide(TestPostgres.layer())), {
  timeout: "3 minutes"
})(
  `with ${waiting} waiting runs of one key, never analysed`,
  (it) => {
    it.effect("claims, ends and cancellations read what they need of them", () =>
      Effect.gen(function*() {
        const { client } = yield* Backlog.Backlog
        const { nodes } = yield* Backlog.plansOf("select run_id from absurd_effect.claim('big', 'before', 60, 5)")
        const touching = nodes.filter((node) => node["Relation Name"]?.startsWith("limit") === true)
        // Without limits, one look into an index.
        assert.lengthOf(touching, 1)
        yield* fill(client)
        const claimed = yield* narrow("select run_id from absurd_effect.claim('big', 'one', 60, 5)", [], 5)
        assert.lengthOf(claimed, 5)
        const [held] = yield* query(
          client,
          "select run_id as run from absurd_effect.limited_runs where state = 'running' and key = 'large'"
        )
        yield* narrow("select * from absurd_effect.complete('big', $1::jsonb)", [
          JSON.stringify([{ run: held?.["run"], token: "large", result: null }])
        ], 5)
        assert.lengthOf(yield* narrow("select run_id from absurd_effect.claim('big', 'two', 60, 1)", [], 5), 1)
        const [parked] = yield* query(
          client,
          "select run_id as run from absurd_effect.limited_runs where state = 'waiting' limit 1"
        )
        yield* narrow("select absurd_effect.cancel_run('big', $1)", [parked?.["run"]], 5)
        yield* narrow("select absurd_effect.spawn('big', $1::jsonb, false)", [
          JSON.stringify([{ name: "task", ...limited("large", 1) }])
        ], 5)
      }), 180_000)
  }
)

const narrow = (text: string, values: ReadonlyArray<unknown>, limit: number) =>
  Effect.map(Backlog.plansOf(text, values), ({ nodes, rows }) => {
    Backlog.assertNarrow(nodes.filter((node) => node["Relation Name"]?.startsWith("limit") === true), limit, text)
    // The queue is small beside what waits, and may be looked at where that is cheaper.
    Backlog.assertNarrow(nodes, 1_000, text)
    return rows
  })

/** One running and many waiting runs of a key, and a few of another one that are due. */
const fill = Effect.fnUntraced(function*(client: pg.Client) {
  yield* spawn(client, "big", limited("large", 1))
  yield* query(
    client,
    "update absurd.r_big set available_at = available_at - interval '1 hour' where task_id in (select task_id from absurd.t_big where headers ? '$limit')"
  )
  assert.lengthOf(yield* claim(client, "big", "large", 1), 1)
  yield* query(
    client,
    `with task as (
      insert into absurd.t_big (task_id, task_name, params, headers, state, attempts, last_attempt_run)
      select absurd.portable_uuidv7(), 'task', 'null', $1::jsonb, 'sleeping', 1, absurd.portable_uuidv7()
      from generate_series(1, ${waiting})
      returning task_id, last_attempt_run
    ),
    run as (
      insert into absurd.r_big (run_id, task_id, attempt, state, available_at)
      select last_attempt_run, task_id, 1, 'sleeping', absurd_effect.parked_until() from task
    )
    insert into absurd_effect.limited_runs (queue_name, run_id, name, key, state, due)
    select 'big', last_attempt_run, 'tenants', 'large', 'waiting', now() - interval '2 hours' from task`,
    [JSON.stringify(limited("large", 1).headers)]
  )
  for (let n = 0; n < 3; n++) yield* spawn(client, "big", limited(`small ${n}`, 1))
})
