import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { batch, claim, contents, query, queue, session, spawn, suspend } = Sessions

// What a worker does with a claim that it no longer has. Each is given the zombie's token.
const operations: Readonly<Record<string, (run: string) => readonly [string, Sessions.Row]>> = {
  complete: (run) => ["complete", { run, token: "zombie", result: 1 }],
  "fail with the stored strategy": (run) => ["fail", { run, token: "zombie", reason: {}, retry: "stored" }],
  "fail for good": (run) => ["fail", { run, token: "zombie", reason: {}, retry: "never" }],
  "write a checkpoint": (
    run
  ) => ["set_checkpoints", { run, token: "zombie", name: "step", state: "zombie", extend: 1 }],
  extend: (run) => ["extend", { run, token: "zombie", lease: 999_999 }],
  release: (run) => ["release", { run, token: "zombie", delay: 0 }]
}

layer(TestPostgres.layer())("a claim that was lost", (it) => {
  const lost = Effect.gen(function*() {
    const client = yield* session
    const name = yield* queue(client)
    const { run, task } = yield* spawn(client, name)
    assert.deepStrictEqual(yield* claim(client, name, "zombie"), [run])
    return { client, name, run, task }
  })

  // The ways to lose it, and what the zombie is told then.
  const ways = {
    "to another claim of the same run": {
      outcome: "leaseLost",
      lose: ({ client, name, run }: Effect.Success<typeof lost>) =>
        batch(client, "release", name, [{ run, token: "zombie", delay: 0 }]).pipe(
          Effect.andThen(claim(client, name, "owner"))
        )
    },
    "to the end of the lease": {
      outcome: "leaseLost",
      lose: ({ client, name }: Effect.Success<typeof lost>) =>
        query(client, `update absurd."r_${name}" set claim_expires_at = now() - interval '1 second'`).pipe(
          Effect.andThen(claim(client, name, "owner"))
        )
    },
    "to sleep": {
      outcome: "leaseLost",
      lose: ({ client, name, run }: Effect.Success<typeof lost>) =>
        suspend(client, name, run, "zombie", [{ step: "wait", event: "event" }])
    },
    "to completion": {
      outcome: "leaseLost",
      lose: ({ client, name, run }: Effect.Success<typeof lost>) =>
        batch(client, "complete", name, [{ run, token: "zombie", result: 0 }])
    },
    "to a cancellation": {
      outcome: "cancelled",
      lose: ({ client, name, task }: Effect.Success<typeof lost>) =>
        query(client, "select absurd_effect.cancel($1, $2)", [name, task])
    }
  }

  for (const [way, { lose, outcome }] of Object.entries(ways)) {
    for (const [operation, call] of Object.entries(operations)) {
      it.effect(`${way} lets nobody ${operation}`, () =>
        Effect.gen(function*() {
          const claimed = yield* lost
          yield* lose(claimed)
          const before = yield* contents(claimed.client, claimed.name)
          const [name, item] = call(claimed.run)
          const rows = yield* batch(claimed.client, name, claimed.name, [item])
          assert.deepStrictEqual(rows.map((row) => row["outcome"]), [outcome])
          assert.deepStrictEqual(yield* contents(claimed.client, claimed.name), before)
        }))
    }

    it.effect(`${way} lets nobody suspend`, () =>
      Effect.gen(function*() {
        const claimed = yield* lost
        yield* lose(claimed)
        const before = yield* contents(claimed.client, claimed.name)
        const answer = yield* suspend(claimed.client, claimed.name, claimed.run, "zombie", [{ step: "t", delay: 1 }])
        assert.deepStrictEqual(answer, { outcome, suspended: false, waits: [] })
        assert.deepStrictEqual(yield* contents(claimed.client, claimed.name), before)
      }))
  }

  it.effect("spoils no other item of its batch", () =>
    Effect.gen(function*() {
      const { client, name, run } = yield* lost
      const other = yield* spawn(client, name)
      yield* claim(client, name, "owner")
      const rows = yield* batch(client, "complete", name, [
        { run: "00000000-0000-7000-8000-000000000000", token: "owner", result: 0 },
        { run, token: "owner", result: 1 },
        { run: other.run, token: "owner", result: 2 },
        { run: other.run, token: "owner", result: 3 }
      ])
      assert.deepStrictEqual(rows.map((row) => [Number(row["ord"]), row["outcome"]]), [
        [1, "notFound"],
        [2, "leaseLost"],
        [4, "leaseLost"]
      ])
      assert.strictEqual((yield* Sessions.run(client, name, other.run))["result"], 2)
    }))
})
