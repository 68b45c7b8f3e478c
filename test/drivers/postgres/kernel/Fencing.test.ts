import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
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

    for (const [what, wait] of [["sleep", { delay: 1 }], ["wait for an event", { event: "unheard of" }]] as const) {
      it.effect(`${way} lets nobody ${what}`, () =>
        Effect.gen(function*() {
          const claimed = yield* lost
          yield* lose(claimed)
          const before = yield* contents(claimed.client, claimed.name)
          const answer = yield* suspend(claimed.client, claimed.name, claimed.run, "zombie", [{ step: "s", ...wait }])
          assert.deepStrictEqual(answer, { outcome, suspended: false, waits: [] })
          assert.deepStrictEqual(yield* contents(claimed.client, claimed.name), before)
        }))
    }
  }

  it.effect("hides no event that is emitted meanwhile from the next wait", () =>
    Effect.gen(function*() {
      const claimed = yield* lost
      const [emitting, observer] = yield* Effect.all([session, session])
      const { client, name, run } = claimed
      yield* batch(client, "release", name, [{ run, token: "zombie", delay: 0 }])
      yield* claim(client, name, "owner")
      yield* query(client, "begin")
      yield* suspend(client, name, run, "zombie", [{ step: "s", event: "event" }])
      const emitted = yield* Effect.forkScoped(Sessions.emit(emitting, name, "event", 7))
      yield* Sessions.untilBlocked(observer, emitting)
      yield* query(client, "commit")
      assert.deepStrictEqual(yield* Fiber.join(emitted), { emitted: true, woken: 0 })
      const answer = yield* suspend(observer, name, run, "owner", [{ step: "s", event: "event" }])
      assert.deepInclude(answer, { suspended: false, waits: [{ _tag: "Emitted", payload: 7 }] })
    }))

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

layer(TestPostgres.layer())("a wait that does not come about", (it) => {
  it.effect("leaves no row of its event behind", () =>
    Effect.gen(function*() {
      const client = yield* session
      const name = yield* queue(client)
      const { run, task } = yield* spawn(client, name)
      yield* claim(client, name, "owner")
      yield* Sessions.emit(client, name, "emitted", 7)
      const events = query(client, `select event_name from absurd."e_${name}" order by 1`)
      // One of several waits is over.
      const answer = yield* suspend(client, name, run, "owner", [
        { step: "a", event: "unheard of" },
        { step: "b", event: "emitted" }
      ])
      assert.deepInclude(answer, { outcome: "applied", suspended: false })
      assert.deepStrictEqual(yield* events, [{ event_name: "emitted" }])
      // The timeout of an earlier wait is told, whose event has been cleaned away.
      yield* query(client, `update absurd."r_${name}" set wake_event = 'gone' where run_id = $1`, [run])
      const wire = yield* query(client, "select * from absurd.await_event($1, $2, $3, 'c', 'gone')", [name, task, run])
      assert.deepStrictEqual(wire, [{ should_suspend: false, payload: null }])
      assert.deepStrictEqual(yield* events, [{ event_name: "emitted" }])
    }))
})
