/** Claims while another session holds an old snapshot, so that nothing of what earlier claims have left can be removed. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { query, session, spawn } = Sessions

/** How many runs have come, were claimed under a lease that is over, and have ended. */
const past = 100_000

/** A session that everybody may use; the snapshot is held by another one. */
class Past extends Context.Service<Past, pg.Client>()("test/kernel/Floors/Past") {}

const fill = (mode: "unpartitioned" | "partitioned") =>
  Effect.gen(function*() {
    const [client, holder] = yield* Effect.all([session, session])
    yield* query(client, "select absurd.create_queue('big', $1)", [mode])
    yield* query(holder, "begin isolation level repeatable read")
    yield* query(holder, "select count(*) from pg_class")
    // Half an hour ago, over half an hour.
    yield* query(
      client,
      `insert into absurd.r_big (run_id, task_id, attempt, state, available_at)
        select absurd.portable_uuidv7(), absurd.portable_uuidv7(), 1, 'pending', now() - interval '1 hour' + i * interval '18 ms'
        from generate_series(1, ${past}) i`
    )
    // Many were claimed together; the entries of equal leases take little room.
    yield* query(
      client,
      `update absurd.r_big set state = 'running', claimed_by = 'earlier',
        claim_expires_at = date_trunc('minute', available_at) + interval '1 minute'`
    )
    yield* query(client, "update absurd.r_big set state = 'completed', completed_at = now()")
    return client
  })

/** What decides about floors. Without `pause`, a claim looks below for as long as it may. */
const decide = (client: pg.Client, options: { patience?: string; pause?: number; slice?: string } = {}) =>
  query(
    client,
    `create or replace function absurd_effect.floor_patience() returns interval language sql immutable
      as $$ select interval '${options.patience ?? "0 ms"}' $$;
    create or replace function absurd_effect.floor_slice() returns interval language sql immutable
      as $$ select interval '${options.slice ?? "1 day"}' $$;
    create or replace function absurd_effect.floor_pause() returns double precision language sql immutable
      as $$ select ${options.pause ?? 0}::double precision $$`
  )

/** A pause that does not end. */
const never = 1e12

/** Claims, and says how many blocks were looked at. */
const blocks = (client: pg.Client, except = "null") =>
  query(
    client,
    `explain (analyze, buffers, timing off, format json)
     select * from absurd_effect.claim('big', 'token', 3600, 10, ${except}::text[])`
  ).pipe(Effect.map((rows) => {
    const [explained] = rows.map((row) => row["QUERY PLAN"]) as [[{ readonly Plan: Record<string, number> }]]
    const plan = explained[0].Plan
    return { blocks: plan["Shared Hit Blocks"]! + plan["Shared Read Blocks"]!, claimed: plan["Actual Rows"]! }
  }))

/** The ids of the runs that a claim returns, in order. */
const claim = (client: pg.Client, limit = 10, except: ReadonlyArray<string> | null = null) =>
  query(client, "select run_id from absurd_effect.claim('big', 'token', 3600, $1, $2)", [limit, except]).pipe(
    Effect.map((rows) => rows.map((row) => String(row["run_id"])))
  )

/** Spawns a task that has been due for some time. */
const spawnDue = (client: pg.Client, ago: string, task: Sessions.Row = {}) =>
  Effect.tap(
    spawn(client, "big", task),
    ({ run }) =>
      query(client, "update absurd.r_big set available_at = now() - $2::interval where run_id = $1", [run, ago])
  )

const settings = (client: pg.Client, except = "null") =>
  query(
    client,
    `select nullif(current_setting('absurd_effect.dues_' || md5(concat('big', ${except}::text[]::text)), true), '') as due,
      nullif(current_setting('absurd_effect.leases_' || md5('big'), true), '') as lease`
  ).pipe(Effect.map((rows) => rows[0] as { readonly due: string | null; readonly lease: string | null }))

/** A session with both floors, and nothing due. */
const floored = Effect.gen(function*() {
  const observer = yield* Past
  yield* decide(observer, { pause: never })
  const client = yield* session
  assert.lengthOf(yield* claim(client, 100), 0)
  const { due, lease } = yield* settings(client)
  assert.isNotNull(due)
  assert.isNotNull(lease)
  yield* decide(observer)
  return client
})

/** Claims while there is always something due now, until a run is among what was claimed. */
const untilClaimed = (client: pg.Client, run: string, claims = 40) =>
  Effect.gen(function*() {
    const newer: Array<string> = []
    for (let n = 0; n < claims; n++) {
      newer.push((yield* spawn(client, "big")).run)
      const claimed = yield* claim(client)
      if (claimed.includes(run)) {
        assert.strictEqual(claimed[0], run)
        return
      }
      assert.deepStrictEqual(claimed, newer.splice(0))
    }
    assert.fail(`${run} was not claimed`)
  })

for (const mode of ["unpartitioned", "partitioned"] as const) {
  layer(Layer.effect(Past, fill(mode)).pipe(Layer.provideMerge(TestPostgres.layer())), {
    concurrent: false,
    timeout: "4 minutes"
  })(`${past} dead entries of a queue that is ${mode}`, (it) => {
    it.effect("are passed by the first claims of a session, and by no other", () =>
      Effect.gen(function*() {
        const [client, observer] = yield* Effect.all([session, Past])
        yield* decide(observer, { pause: never })
        for (let n = 0; n < 40; n++) yield* spawnDue(observer, "10 seconds")
        // The second one finds out up to where.
        for (let n = 0; n < 2; n++) {
          const first = yield* blocks(client)
          assert.strictEqual(first.claimed, 10)
          assert.isAbove(first.blocks, past / 50)
        }
        for (const expected of [10, 10, 0, 0]) {
          const { blocks: seen, claimed } = yield* blocks(client)
          assert.strictEqual(claimed, expected)
          assert.isBelow(seen, past / 100)
        }
      }))

    it.effect("are not passed either behind runs that are excepted or locked", () =>
      Effect.gen(function*() {
        const [client, other, observer] = yield* Effect.all([session, session, Past])
        yield* decide(observer, { pause: never })
        const excepted = yield* spawnDue(observer, "2 hours", { name: "excepted" })
        const locked = yield* spawnDue(observer, "2 hours")
        yield* query(other, "begin")
        yield* query(other, "select from absurd.r_big where run_id = $1 for update", [locked.run])
        const except = "array['excepted']"
        assert.isAbove((yield* blocks(client, except)).blocks, past / 50)
        yield* blocks(client, except)
        for (let n = 0; n < 3; n++) {
          const { run } = yield* spawn(observer, "big")
          const { blocks: seen, claimed } = yield* blocks(client, except)
          assert.strictEqual(claimed, 1, run)
          assert.isBelow(seen, past / 100)
        }
        yield* query(other, "rollback")
        // What is not excepted any more does not have to be looked for.
        assert.include(yield* claim(client), excepted.run)
      }))

    it.effect("hide no run that becomes due below the floor, by whatever way", () =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([floored, session])
        yield* query(other, "begin")
        const late = yield* spawnDue(other, "40 minutes")
        assert.lengthOf(yield* claim(client), 0)
        yield* query(other, "commit")
        yield* untilClaimed(client, late.run)

        const [released] = yield* batchRelease(client, late.run)
        assert.isUndefined(released)
        yield* untilClaimed(client, late.run)

        const back = yield* spawnDue(other, "50 minutes")
        yield* query(other, "begin")
        assert.deepStrictEqual(yield* claim(other), [back.run])
        assert.lengthOf(yield* claim(client), 0)
        yield* query(other, "rollback")
        yield* untilClaimed(client, back.run)

        // Nothing else is due: then one claim looks at everything.
        const old = yield* spawnDue(other, "3 years")
        assert.deepStrictEqual(yield* claim(client), [old.run])
      }))

    it.effect("hide none of many runs, of which each claim can take a few only", () =>
      Effect.gen(function*() {
        const client = yield* floored
        const runs: Array<string> = []
        for (let n = 0; n < 25; n++) runs.push((yield* spawnDue(client, `40 minutes ${30 - n} seconds`)).run)
        const newer = yield* spawn(client, "big")
        const claimed: Array<string> = []
        for (let n = 0; n < 40 && claimed.length < 26; n++) claimed.push(...yield* claim(client, 4))
        assert.deepStrictEqual(claimed, [...runs, newer.run])
      }))

    it.effect("hide no lease that has ended", () =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([floored, session])
        for (const ended of ["0", "40 minutes"]) {
          const { run } = yield* spawn(other, "big")
          yield* query(other, "begin")
          assert.deepStrictEqual(yield* claim(other), [run])
          yield* query(
            other,
            "update absurd.r_big set claim_expires_at = clock_timestamp() - $2::interval where run_id = $1",
            [
              run,
              ended
            ]
          )
          assert.lengthOf(yield* claim(client), 0)
          yield* query(other, "commit")
          // The next attempt is due at once.
          const claimed: Array<string> = []
          for (let n = 0; n < 3 && claimed.length === 0; n++) claimed.push(...yield* claim(client))
          assert.lengthOf(claimed, 1)
          assert.deepStrictEqual(
            (yield* query(client, "select state, attempt from absurd.r_big where run_id = any ($1) order by attempt", [
              [run, ...claimed]
            ])).map((row) => row["state"]),
            ["failed", "running"]
          )
        }
      }))

    it.effect("are passed again when that takes no time, or under another clock", () =>
      Effect.gen(function*() {
        const [client, observer] = yield* Effect.all([floored, Past])
        const { run } = yield* spawnDue(observer, "90 minutes")
        const before = yield* settings(client)
        yield* decide(observer, { pause: never })
        yield* query(client, "select set_config('absurd.fake_now', (now() - interval '80 minutes')::text, false)")
        assert.deepStrictEqual(yield* claim(client), [run])
        assert.deepStrictEqual(yield* settings(client), before)
        yield* Sessions.batch(client, "complete", "big", [{ run, token: "token", result: null }])
        yield* query(client, "reset absurd.fake_now")
        yield* decide(observer, { patience: "1 day" })
        assert.lengthOf(yield* claim(client), 0)
        assert.deepStrictEqual(yield* settings(client), { due: null, lease: null })
        assert.lengthOf(yield* claim(client), 0)
        assert.deepStrictEqual(yield* settings(client), { due: null, lease: null })
      }))

    it.effect("a claim that is rolled back has not looked at anything", () =>
      Effect.gen(function*() {
        const client = yield* floored
        const before = yield* settings(client)
        const { run } = yield* spawn(client, "big")
        yield* query(client, "begin")
        assert.deepStrictEqual(yield* claim(client), [run])
        yield* query(client, "rollback")
        assert.deepStrictEqual(yield* settings(client), before)
        assert.deepStrictEqual(yield* claim(client), [run])
      }))

    it.effect("hide no run when the queue gets limits", () =>
      Effect.gen(function*() {
        const client = yield* floored
        const limit = { name: "tenants", key: "a", concurrency: 1, rate: null }
        const { run } = yield* spawnDue(client, "40 minutes", { headers: { $limit: limit } })
        assert.deepStrictEqual(yield* claim(client), [run])
        assert.isNull((yield* settings(client)).due)
        yield* query(client, "delete from absurd_effect.limits")
      }))
  })
}

layer(TestPostgres.layer())("a small queue", (it) => {
  it.effect("has no floor, however long a claim takes", () =>
    Effect.gen(function*() {
      const client = yield* session
      yield* query(client, "select absurd.create_queue('big')")
      yield* decide(client)
      const { run } = yield* spawn(client, "big")
      assert.deepStrictEqual(yield* claim(client), [run])
      assert.lengthOf(yield* claim(client), 0)
      assert.deepStrictEqual(yield* settings(client), { due: null, lease: null })
    }))
})

/** Gives a run back as of an instant at which it had been due. */
const batchRelease = (client: pg.Client, run: string) =>
  Effect.flatMap(
    query(client, "select now() - interval '45 minutes' as instant"),
    (rows) => Sessions.batch(client, "release", "big", [{ run, token: "token", instant: rows[0]?.["instant"] }])
  )
