import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { batch, claim, emit, failure, query, queue, session, spawn, suspend, untilBlocked } = Sessions

const three = Effect.all([session, session, session])

layer(TestPostgres.layer())("waiting and emitting at the same time", (it) => {
  it.effect("a run that is going to sleep is woken by the emit that waited for it", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const { run } = yield* spawn(one, name)
      yield* claim(one, name, "a")
      yield* query(one, "begin")
      assert.strictEqual((yield* suspend(one, name, run, "a", [{ step: "s", event: "e" }]))["suspended"], true)
      const emitting = yield* Effect.forkChild(emit(two, name, "e", { n: 1 }))
      yield* untilBlocked(observer, two)
      yield* query(one, "commit")
      assert.deepStrictEqual(yield* Fiber.join(emitting), { emitted: true, woken: 1 })
      const row = yield* Sessions.run(one, name, run)
      assert.deepStrictEqual([row["state"], row["event_payload"]], ["pending", { n: 1 }])
    }))

  it.effect("a run that wanted to sleep while the event was emitted goes on", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const { run } = yield* spawn(one, name)
      yield* claim(one, name, "a")
      yield* query(two, "begin")
      yield* emit(two, name, "e", null)
      const suspending = yield* Effect.forkChild(suspend(one, name, run, "a", [{ step: "s", event: "e" }]))
      yield* untilBlocked(observer, one)
      yield* query(two, "commit")
      assert.deepStrictEqual(yield* Fiber.join(suspending), {
        outcome: "applied",
        suspended: false,
        waits: [{ _tag: "Emitted", payload: null }]
      })
    }))

  it.effect("an emit that is undone leaves the run asleep, to be woken by the next", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const { run } = yield* spawn(one, name)
      yield* claim(one, name, "a")
      yield* query(two, "begin")
      yield* emit(two, name, "e", 1)
      const suspending = yield* Effect.forkChild(suspend(one, name, run, "a", [{ step: "s", event: "e" }]))
      yield* untilBlocked(observer, one)
      yield* query(two, "rollback")
      assert.strictEqual((yield* Fiber.join(suspending))["suspended"], true)
      assert.deepStrictEqual(yield* emit(two, name, "e", 2), { emitted: true, woken: 1 })
    }))

  it.effect("a cleaning between the waits of two runs loses no wake-up", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      yield* spawn(one, name)
      yield* claim(one, name, "a")
      // The row of an event nobody has emitted is deleted while somebody is about to hold it.
      yield* query(one, `insert into absurd."e_${name}" (event_name, emitted_at) values ('e', 'epoch')`)
      yield* query(two, "begin")
      yield* query(two, `delete from absurd."e_${name}"`)
      const [run] = (yield* query(one, `select run_id from absurd."r_${name}"`)).map((row) => String(row["run_id"]))
      const suspending = yield* Effect.forkChild(suspend(one, name, run!, "a", [{ step: "s", event: "e" }]))
      yield* untilBlocked(observer, one)
      yield* query(two, "commit")
      assert.strictEqual((yield* Fiber.join(suspending))["suspended"], true)
      assert.strictEqual((yield* query(one, `select * from absurd."e_${name}"`)).length, 1)
      assert.deepStrictEqual(yield* emit(two, name, "e", 2), { emitted: true, woken: 1 })
    }))

  it.effect("the two doors exclude each other as well, in both orders", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const first = yield* spawn(one, name)
      yield* claim(one, name, "a")
      yield* query(one, "begin")
      yield* query(one, "select * from absurd.await_event($1, $2, $3, 's', 'e')", [name, first.task, first.run])
      const emitting = yield* Effect.forkChild(emit(two, name, "e", 1))
      yield* untilBlocked(observer, two)
      yield* query(one, "commit")
      assert.deepStrictEqual(yield* Fiber.join(emitting), { emitted: true, woken: 1 })

      const second = yield* spawn(one, name)
      yield* claim(one, name, "b")
      yield* query(two, "begin")
      yield* query(two, "select absurd.emit_event($1, 'f', '2')", [name])
      const suspending = yield* Effect.forkChild(suspend(one, name, second.run, "b", [{ step: "s", event: "f" }]))
      yield* untilBlocked(observer, one)
      yield* query(two, "commit")
      assert.deepStrictEqual((yield* Fiber.join(suspending))["waits"], [{ _tag: "Emitted", payload: 2 }])
    }))

  it.effect("runs that wait for several events in any order do not block each other", () =>
    Effect.gen(function*() {
      const [one, two] = yield* three
      const name = yield* queue(one)
      yield* spawn(one, name)
      yield* spawn(one, name)
      const [a, b] = yield* claim(one, name, "t")
      yield* query(one, "begin")
      yield* query(two, "begin")
      yield* query(two, `insert into absurd."e_${name}" (event_name, emitted_at) values ('x', 'epoch'), ('y', 'epoch')`)
      yield* query(two, "commit")
      yield* suspend(one, name, a!, "t", [{ step: "1", event: "x" }, { step: "2", event: "y" }])
      yield* suspend(two, name, b!, "t", [{ step: "1", event: "y" }, { step: "2", event: "x" }])
      yield* query(one, "commit")
      assert.deepStrictEqual(yield* emit(one, name, "x", 0), { emitted: true, woken: 2 })
    }))
})

layer(TestPostgres.layer())("one idempotency key at the same time", (it) => {
  const keyed = (client: Parameters<typeof query>[0], name: string, params: unknown = null) =>
    query(client, "select task_id, created, conflict from absurd_effect.spawn($1, $2::jsonb, true)", [
      name,
      JSON.stringify([{ name: "task", params, idempotency_key: "key" }])
    ]).pipe(Effect.map((rows) => rows[0] ?? {}))

  for (const storage of ["unpartitioned", "partitioned"]) {
    const start = Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = `keys_${storage}_${Math.trunc(Reflect.get(one, "processID"))}`
      yield* query(one, "select absurd.create_queue($1, $2)", [name, storage])
      yield* query(one, "begin")
      const first = yield* keyed(one, name)
      const second = yield* Effect.forkChild(keyed(two, name))
      yield* untilBlocked(observer, two)
      return { one, name, first, second }
    })

    it.effect(`the second spawn waits for the first and finds its task (${storage})`, () =>
      Effect.gen(function*() {
        const { first, one, second } = yield* start
        yield* query(one, "commit")
        const found = yield* Fiber.join(second)
        assert.deepStrictEqual([first["created"], found["created"]], [true, false])
        assert.strictEqual(found["task_id"], first["task_id"])
      }))

    it.effect(`the second spawn takes over when the first is undone (${storage})`, () =>
      Effect.gen(function*() {
        const { first, name, one, second } = yield* start
        yield* query(one, "rollback")
        const made = yield* Fiber.join(second)
        assert.strictEqual(made["created"], true)
        assert.notStrictEqual(made["task_id"], first["task_id"])
        assert.strictEqual((yield* query(one, `select * from absurd."r_${name}"`)).length, 1)
      }))

    it.effect(`a conflict undoes its own call only (${storage})`, () =>
      Effect.gen(function*() {
        const one = yield* session
        const name = `conflict_${storage}`
        yield* query(one, "select absurd.create_queue($1, $2)", [name, storage])
        yield* keyed(one, name)
        yield* query(one, "begin")
        yield* spawn(one, name)
        const rows = yield* query(one, "select conflict from absurd_effect.spawn($1, $2::jsonb, true)", [
          name,
          JSON.stringify([
            { name: "new", params: 1, idempotency_key: "other" },
            { name: "task", params: "else", idempotency_key: "key" }
          ])
        ])
        assert.strictEqual(Reflect.get(rows[0]?.["conflict"] as object, "differs"), "params")
        yield* query(one, "commit")
        const names = yield* query(one, `select task_name from absurd."t_${name}"`)
        assert.deepStrictEqual(names.map((row) => row["task_name"]), ["task", "task"])
      }))
  }
})

layer(TestPostgres.layer())("a claim", (it) => {
  for (const table of ["r", "t"]) {
    it.effect(`waits for nothing that somebody has locked (${table})`, () =>
      Effect.gen(function*() {
        const [one, two] = yield* three
        const name = yield* queue(one)
        const overdue = yield* spawn(one, name, { cancellation: { max_duration: 1 } })
        const expired = yield* spawn(one, name)
        yield* claim(one, name, "old")
        yield* query(one, `update absurd."t_${name}" set first_started_at = now() - interval '1 hour'`)
        yield* query(
          one,
          `update absurd."r_${name}" set claim_expires_at = now() - interval '1 hour' where run_id = $1`,
          [expired.run]
        )
        yield* spawn(one, name)
        yield* query(one, "begin")
        yield* query(one, `select from absurd."${table}_${name}" for update`)
        const free = yield* spawn(two, name)
        assert.deepStrictEqual(yield* claim(two, name, "new"), [free.run])
        yield* query(one, "rollback")
        assert.strictEqual((yield* Sessions.run(one, name, expired.run))["state"], "running")

        // Once it is free, the same call does all of it: the expired run and its next attempt, and the other due run.
        assert.strictEqual((yield* claim(two, name, "newer")).length, 2)
        assert.strictEqual((yield* Sessions.run(one, name, overdue.run))["state"], "cancelled")
        assert.strictEqual((yield* Sessions.run(one, name, expired.run))["state"], "failed")
      }))
  }

  it.effect("takes no run twice, whatever goes on beside it", () =>
    Effect.gen(function*() {
      const clients = yield* Effect.all([session, session, session, session])
      const name = yield* queue(clients[0])
      yield* query(
        clients[0],
        `select count(*) from absurd_effect.spawn($1, (
          select jsonb_agg('{"name": "task"}'::jsonb) from generate_series(1, 400)), true)`,
        [name]
      )
      const taken = yield* Effect.forEach(clients, (client, worker) =>
        Effect.forEach(Array.from({ length: 12 }), (_, n) =>
          claim(client, name, `${worker}-${n}`, 10)), {
        concurrency: 4
      })
      const all = taken.flat(2)
      assert.strictEqual(all.length, 400)
      assert.strictEqual(new Set(all).size, 400)
    }))

  it.effect("is not stopped by a run that cannot be failed", () =>
    Effect.gen(function*() {
      const client = yield* session
      const name = yield* queue(client)
      const broken = yield* spawn(client, name, { retry_strategy: { kind: "exponential", base_seconds: "abc" } })
      const whole = yield* spawn(client, name)
      yield* claim(client, name, "old")
      yield* query(
        client,
        `alter table absurd."r_${name}" add constraint broken check (not (state = 'failed' and
        run_id = '${broken.run}'))`
      )
      yield* query(client, `update absurd."r_${name}" set claim_expires_at = now() - interval '1 hour'`)
      assert.strictEqual((yield* claim(client, name, "new")).length, 1)
      assert.strictEqual((yield* Sessions.run(client, name, whole.run))["state"], "failed")
      assert.strictEqual((yield* Sessions.run(client, name, broken.run))["state"], "running")
    }))
})

layer(TestPostgres.layer())("batches and cancellations", (it) => {
  it.effect("two batches over the same runs in opposite order do not deadlock", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      yield* spawn(one, name)
      yield* spawn(one, name)
      const runs = yield* claim(one, name, "t")
      const items = runs.map((run) => ({ run, token: "t", name: "s", state: 1, extend: 5000 }))
      yield* query(observer, "begin")
      yield* query(observer, `select from absurd."r_${name}" where run_id = $1 for update`, [runs.toSorted()[0]])
      const first = yield* Effect.forkChild(batch(one, "set_checkpoints", name, items))
      const watcher = yield* session
      yield* untilBlocked(watcher, one)
      const second = yield* Effect.forkChild(batch(two, "complete", name, items.toReversed()))
      yield* untilBlocked(watcher, two)
      yield* query(observer, "commit")
      assert.deepStrictEqual(yield* Fiber.join(first), [])
      assert.deepStrictEqual(yield* Fiber.join(second), [])
    }))

  it.effect("a cancellation that waited for a failing attempt cancels the next one", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const { run, task } = yield* spawn(one, name)
      yield* claim(one, name, "t")
      yield* query(one, "begin")
      yield* query(one, `select from absurd."r_${name}" where run_id = $1 for update`, [run])
      const cancelling = yield* Effect.forkChild(query(two, "select absurd_effect.cancel($1, $2) as s", [name, task]))
      yield* untilBlocked(observer, two)
      yield* query(one, "select absurd.fail_run($1, $2, '{}')", [name, run])
      yield* query(one, "commit")
      assert.deepStrictEqual(yield* Fiber.join(cancelling), [{ s: "pending" }])
      const states = yield* query(one, `select state from absurd."r_${name}" order by attempt`)
      assert.deepStrictEqual(states.map((row) => row["state"]), ["failed", "cancelled"])
    }))

  it.effect("an attempt that was given up cannot write through the wire door either", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const { run, task } = yield* spawn(one, name)
      yield* claim(one, name, "t")
      yield* query(one, "begin")
      yield* batch(one, "fail", name, [{ run, token: "t", reason: {}, retry: "stored" }])
      const write = yield* Effect.forkChild(failure(
        two,
        "select absurd.set_task_checkpoint_state($1, $2, 's', '1', $3)",
        [name, task, run]
      ))
      yield* untilBlocked(observer, two)
      yield* query(one, "commit")
      assert.strictEqual((yield* Fiber.join(write)).code, "AB002")
      assert.deepStrictEqual(yield* query(one, `select * from absurd."c_${name}"`), [])
    }))
})
