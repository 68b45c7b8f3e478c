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
