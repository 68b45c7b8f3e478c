/**
 * Completions beside other transactions. They lock the runs beforehand and their tasks only by changing them.
 *
 * @internal
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { batch, claim, query, queue, session, spawn, suspend, untilBlocked } = Sessions

const three = Effect.all([session, session, session])

const completions = (runs: ReadonlyArray<string>) => runs.map((run) => ({ run, token: "t", result: 1 }))

layer(TestPostgres.layer())("a completion", (it) => {
  it.effect("changes tasks in the order of their runs, however few there are", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      // The first run belongs to the last task.
      const ids = [1, 2].map((n) => ({ task: `0190a000-0000-7000-8000-00000000000${3 - n}`, run: runId(n) }))
      for (const { run, task } of ids) {
        yield* query(
          one,
          `insert into absurd."t_${name}" (task_id, task_name, params, state, attempts, last_attempt_run)
           values ($1, 'task', 'null', 'pending', 1, $2)`,
          [task, run]
        )
        yield* query(
          one,
          `insert into absurd."r_${name}" (run_id, task_id, attempt, state, available_at)
           values ($1, $2, 1, 'pending', 'epoch')`,
          [run, task]
        )
      }
      const runs = yield* claim(one, name, "t")
      yield* query(one, `vacuum (analyze) absurd."t_${name}", absurd."r_${name}"`)
      const [first, second] = ids.map(({ task }) => task)
      const locking = `select from absurd."t_${name}" where task_id = $1 for share`
      yield* query(one, "begin")
      yield* query(one, locking, [first])
      const completing = yield* Effect.forkChild(batch(two, "complete", name, completions(runs.toReversed())))
      yield* untilBlocked(observer, two)
      // Nobody has this one yet, or whoever holds both in this order would wait for ever.
      yield* query(observer, `${locking} nowait`, [second])
      yield* query(one, "commit")
      assert.deepStrictEqual(yield* Fiber.join(completing), [])
      const states = yield* query(one, `select distinct state from absurd."t_${name}"`)
      assert.deepStrictEqual(states, [{ state: "completed" }])
    }))

  it.effect("wakes who was about to wait for its task", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const parent = yield* spawn(one, name)
      const child = yield* spawn(one, name)
      yield* claim(one, name, "t")
      yield* query(one, "begin")
      const wait = { step: "child", queue: name, tasks: [child.task], failFast: true }
      assert.strictEqual((yield* suspend(one, name, parent.run, "t", [wait]))["suspended"], true)
      const completing = yield* Effect.forkChild(batch(two, "complete", name, completions([child.run])))
      yield* untilBlocked(observer, two)
      yield* query(one, "commit")
      assert.deepStrictEqual(yield* Fiber.join(completing), [])
      assert.strictEqual((yield* Sessions.run(one, name, parent.run))["state"], "pending")
    }))

  it.effect("keeps who comes after it from waiting for its task", () =>
    Effect.gen(function*() {
      const [one, two, observer] = yield* three
      const name = yield* queue(one)
      const parent = yield* spawn(one, name)
      const child = yield* spawn(one, name)
      yield* claim(one, name, "t")
      yield* query(one, "begin")
      yield* batch(one, "complete", name, completions([child.run]))
      const wait = { step: "child", queue: name, tasks: [child.task], failFast: true }
      const suspending = yield* Effect.forkChild(suspend(two, name, parent.run, "t", [wait]))
      yield* untilBlocked(observer, two)
      yield* query(one, "commit")
      assert.strictEqual((yield* Fiber.join(suspending))["suspended"], false)
    }))

  for (
    const [what, statement, outcome, state] of [
      ["cancelled", "select absurd_effect.cancel($1, $2), $3::uuid", "cancelled", "cancelled"],
      ["failed", "select absurd.fail_run($1, $3, '{}'), $2::uuid", "leaseLost", "pending"],
      ["put to sleep", "select absurd.schedule_run($1, $3, 'epoch'), $2::uuid", "leaseLost", "sleeping"],
      ["completed", "select absurd.complete_run($1, $3, '2'), $2::uuid", "leaseLost", "completed"]
    ] as const
  ) {
    it.effect(`does nothing to a run that is ${what} while it waits, and goes on with the others`, () =>
      Effect.gen(function*() {
        const [one, two, observer] = yield* three
        const name = yield* queue(one)
        const contested = yield* spawn(one, name)
        const other = yield* spawn(one, name)
        yield* claim(one, name, "t")
        yield* query(one, "begin")
        yield* query(one, statement, [name, contested.task, contested.run])
        const before = yield* query(one, `select * from absurd."t_${name}" where task_id = $1`, [contested.task])
        const completing = yield* Effect.forkChild(
          batch(two, "complete", name, completions([contested.run, other.run, contested.run, other.run, runId(1)]))
        )
        yield* untilBlocked(observer, two)
        yield* query(one, "commit")
        assert.deepStrictEqual(yield* Fiber.join(completing), [
          { ord: "1", outcome },
          { ord: "3", outcome },
          { ord: "4", outcome: "leaseLost" },
          { ord: "5", outcome: "notFound" }
        ])
        const after = yield* query(one, `select * from absurd."t_${name}" where task_id = $1`, [contested.task])
        assert.deepStrictEqual(after, before)
        assert.strictEqual(after[0]?.["state"], state)
        assert.strictEqual((yield* Sessions.run(one, name, other.run))["state"], "completed")
      }))
  }
})

// --- internal

const runId = (n: number) => `0190b000-0000-7000-8000-00000000000${n}`
