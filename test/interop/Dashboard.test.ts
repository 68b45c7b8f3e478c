/**
 * What the dashboard (Habitat) and the command line (absurdctl) of Absurd rely on, where our workers have filled the tables:
 * the columns they read and join by, and the functions they call with literals of no type.
 */
import { assert } from "@effect/vitest"
import { Effect, Option, Schema } from "effect"
import { Absurd, Event, RetryStrategy, Step, Task } from "effect-absurd"
import * as Interop from "./support/Interop.ts"

/** A queue with a task in every state that a dashboard shows. */
const setup = Effect.gen(function*() {
  const shared = yield* Interop.Interop
  const queue = yield* Effect.promise(() => shared.freshQueue())
  const rows = (text: string) => Effect.promise(() => shared.rows(text.replaceAll("<q>", queue)))
  return { ...shared, queue, rows }
})

const everyState = Effect.gen(function*() {
  const context = yield* setup
  const { advance, queue } = context
  const Paid = Event.make("paid", { queue, payload: Schema.Int })
  const make = (name: string, maxAttempts = 2) =>
    Task.make(name, { queue, params: { n: Schema.Int }, success: Schema.Json, maxAttempts, retry: RetryStrategy.none })
  const [Done, Failed, Timer, Waiter, Woken, Cancelled, Retried, Fresh] = [
    make("done"),
    make("failed"),
    make("timer"),
    make("waiter"),
    make("woken"),
    make("cancelled"),
    make("retried"),
    make("fresh")
  ]
  let tries = 0
  const ids = new Map<string, string>()
  const spawn = (task: typeof Done, n: number) =>
    Effect.map(task.spawn({ n }, { headers: { trace: task.name } }), (spawned) => {
      ids.set(task.name, spawned.taskId)
      return spawned
    })
  for (const [n, task] of [Done, Failed, Timer, Waiter, Woken, Retried].entries()) yield* spawn(task, n)
  const work = Interop.weWork(queue).pipe(
    Effect.provide(Done.toLayer(({ n }) => Step.run("first", Effect.succeed(n)))),
    Effect.provide(Failed.toLayer(() => Effect.die(new TypeError("no such thing")))),
    Effect.provide(Timer.toLayer(() => Effect.as(Step.sleep("nap", "1 hour"), "slept"))),
    Effect.provide(Waiter.toLayer(() => Paid.wait("1", { timeout: "1 day" }).pipe(Effect.orDie))),
    Effect.provide(Woken.toLayer(() => Paid.wait("2"))),
    Effect.provide(
      Retried.toLayer(() =>
        Effect.andThen(
          Step.run("once", Effect.succeed("kept")),
          Effect.suspend(() => ++tries < 2 ? Effect.die(new Error("at first")) : Effect.succeed("in the end"))
        )
      )
    )
  )
  yield* work
  yield* advance("1 second")
  yield* Paid.emit("2", 5)
  yield* work
  const cancelled = yield* spawn(Cancelled, 6)
  yield* cancelled.cancel
  yield* spawn(Fresh, 7)
  return { ...context, idOf: (name: string) => ids.get(name)! }
})

Interop.suite("a dashboard", (it) => {
  it.effect("lists queues with their age, and counts what is in each state by the newest attempts", () =>
    Effect.gen(function*() {
      const { queue, rows } = yield* everyState
      const queues = yield* rows("select queue_name, created_at from absurd.queues where queue_name = '<q>'")
      assert.deepStrictEqual(queues.map((row) => row["queue_name"]), [queue])
      assert.instanceOf(queues[0]?.["created_at"], Date)
      const depth = yield* rows(`
        select r.state, count(*)::int as runs
        from absurd.t_<q> t join absurd.r_<q> r on r.run_id = t.last_attempt_run
        group by r.state order by r.state`)
      assert.deepStrictEqual(depth, [
        { state: "cancelled", runs: 1 },
        { state: "completed", runs: 3 },
        { state: "failed", runs: 1 },
        { state: "pending", runs: 1 },
        { state: "sleeping", runs: 2 }
      ])
    }))

  it.effect("lists runs, the newest first, with what it shows of each", () =>
    Effect.gen(function*() {
      const { rows } = yield* everyState
      const runs = yield* rows(`
        select t.task_name, t.params, t.headers, t.max_attempts, t.attempts, r.attempt, r.state, r.claimed_by,
          r.created_at, r.started_at, r.completed_at, r.failed_at, r.result, r.failure_reason, t.completed_payload
        from absurd.r_<q> r join absurd.t_<q> t on t.task_id = r.task_id
        order by r.run_id desc`)
      const created = runs.map((row) => Number(row["created_at"]))
      assert.deepStrictEqual(created, created.toSorted((a, b) => b - a))
      const of = (name: string) => runs.filter((row) => row["task_name"] === name)
      const [done] = of("done")
      assert.deepInclude(done, {
        params: { n: 0 },
        headers: { trace: "done" },
        attempt: 1,
        attempts: 1,
        max_attempts: 2,
        state: "completed",
        result: 0,
        completed_payload: 0,
        failed_at: null
      })
      // Who had it, for how long: kept after its end.
      assert.isString(done?.["claimed_by"])
      for (const column of ["created_at", "started_at", "completed_at"]) assert.instanceOf(done?.[column], Date)
      assert.deepStrictEqual(of("retried").map((row) => [row["attempt"], row["state"], row["result"]]), [
        [2, "completed", "in the end"],
        [1, "failed", null]
      ])
      assert.deepStrictEqual(of("failed").map((row) => [row["attempt"], row["state"]]), [[2, "failed"], [1, "failed"]])
      for (const row of of("failed")) {
        assert.deepInclude(row["failure_reason"], { name: "TypeError", message: "no such thing" })
        assert.instanceOf(row["failed_at"], Date)
      }
      assert.deepInclude(of("fresh")[0], { state: "pending", claimed_by: null, started_at: null })
    }))

  it.effect("tells failures that are final from those with another attempt", () =>
    Effect.gen(function*() {
      const { rows } = yield* everyState
      const final = yield* rows(`
        select t.task_name from absurd.t_<q> t join absurd.r_<q> r on r.run_id = t.last_attempt_run
        where r.state = 'failed' and t.state = 'failed'`)
      assert.deepStrictEqual(final, [{ task_name: "failed" }])
    }))

  it.effect("finds a run's checkpoints by their owner", () =>
    Effect.gen(function*() {
      const { idOf, rows } = yield* everyState
      const checkpoints = yield* rows(`
        select r.attempt, c.checkpoint_name, c.state, c.status, c.updated_at is not null as dated
        from absurd.r_<q> r join absurd.c_<q> c on c.task_id = r.task_id and c.owner_run_id = r.run_id
        where r.task_id = '${idOf("retried")}'`)
      assert.deepStrictEqual(checkpoints, [
        { attempt: 1, checkpoint_name: "once", state: "kept", status: "committed", dated: true }
      ])
    }))

  it.effect("shows what a sleeping run waits for: a timer, or an event with its wait, once", () =>
    Effect.gen(function*() {
      const { rows } = yield* everyState
      const sleeping = yield* rows(`
        select t.task_name, r.wake_event, r.available_at > absurd.current_time() as later, w.step_name,
          w.timeout_at = r.available_at as until, w.created_at is not null as dated
        from absurd.r_<q> r
        join absurd.t_<q> t on t.task_id = r.task_id
        left join absurd.w_<q> w on w.run_id = r.run_id
        where r.state = 'sleeping' order by 1`)
      assert.deepStrictEqual(sleeping, [
        { task_name: "timer", wake_event: null, later: true, step_name: null, until: null, dated: false },
        {
          task_name: "waiter",
          wake_event: "paid:1",
          later: true,
          step_name: "$awaitEvent:paid:1",
          until: true,
          dated: true
        }
      ])
    }))

  it.effect("shows the events that have been emitted, and not those that are only waited for", () =>
    Effect.gen(function*() {
      const { idOf, rows } = yield* everyState
      const events = yield* rows(`
        select event_name, payload, emitted_at > '2000-01-01' as dated from absurd.e_<q> where payload is not null`)
      assert.deepStrictEqual(events, [{ event_name: "paid:2", payload: 5, dated: true }])
      const ofWait = yield* rows(`
        select e.payload from absurd.r_<q> r
        join absurd.e_<q> e on e.event_name = r.wake_event and e.payload is not null`)
      assert.deepStrictEqual(ofWait, [])
      // What woke a run stays with it.
      const woken = yield* rows(`select event_payload from absurd.r_<q> where task_id = '${idOf("woken")}'`)
      assert.deepStrictEqual(woken, [{ event_payload: 5 }])
    }))

  it.effect("retries a failed task, in place or as a new one", () =>
    Effect.gen(function*() {
      const { idOf, queue, rows } = yield* everyState
      const retry = (options: object) =>
        rows(
          `select task_id, attempt, created from absurd.retry_task('<q>', '${idOf("failed")}', '${
            JSON.stringify(options)
          }'::jsonb)`
        )
      const [anew] = yield* retry({ spawn_new: true, max_attempts: 1 })
      assert.deepInclude(anew, { attempt: 1, created: true })
      const [again] = yield* retry({})
      assert.deepInclude(again, { task_id: idOf("failed"), attempt: 3, created: false })
      const claimed = yield* Absurd.claimTask({ queue, qty: 10 })
      assert.sameMembers(claimed.map((run) => String(run.taskId)), [
        String(anew?.["task_id"]),
        idOf("failed"),
        idOf("fresh")
      ])
    }))
})

Interop.suite("a command line", (it) => {
  it.effect("finds the version, and names every queue on a line of its own", () =>
    Effect.gen(function*() {
      const { queue, rows } = yield* setup
      assert.deepStrictEqual(
        yield* rows("select to_regprocedure('absurd.get_schema_version()') is not null as found"),
        [{ found: true }]
      )
      const queues = yield* rows("select * from absurd.list_queues()")
      for (const row of queues) assert.deepStrictEqual(Object.keys(row), ["queue_name"])
      assert.include(queues.map((row) => row["queue_name"]), queue)
    }))

  it.effect("spawns, emits, cancels and looks, with literals of no type", () =>
    Effect.gen(function*() {
      const { queue, rows } = yield* setup
      const [spawned] = yield* rows(
        `select task_id, run_id, attempt, created from absurd.spawn_task('<q>', 'job', '{"n": 1}', '{"max_attempts": 3}')`
      )
      assert.deepInclude(spawned, { attempt: 1, created: true })
      const id = String(spawned?.["task_id"])
      yield* rows("select absurd.emit_event('<q>', 'paid:1', '7')")
      assert.deepStrictEqual(
        yield* Effect.map(Absurd.readEvent("paid:1", { queue }), Option.map((event) => event.payload)),
        Option.some(7)
      )
      yield* rows(`select absurd.cancel_task('<q>', '${id}')`)
      const [task] = yield* rows(
        `select state, cancelled_at is not null as dated, attempts, params from absurd.t_<q> where task_id = '${id}'`
      )
      assert.deepStrictEqual(task, { state: "cancelled", dated: true, attempts: 1, params: { n: 1 } })
      assert.deepStrictEqual(yield* rows(`select state, result from absurd.get_task_result('<q>', '${id}')`), [
        { state: "cancelled", result: null }
      ])
    }))

  it.effect("makes, tunes and drops queues of both kinds", () =>
    Effect.gen(function*() {
      const { queue, rows } = yield* setup
      for (const storage of ["", ", 'partitioned'"]) {
        const name = `${queue}_${storage === "" ? "plain" : "partitioned"}`
        yield* rows(`select absurd.create_queue('${name}'${storage})`)
        yield* rows(
          `select absurd.set_queue_policy('${name}', '{"cleanup_ttl": "35 days", "cleanup_limit": 7, "detach_mode": "empty"}')`
        )
        const [policy] = yield* rows(
          `select cleanup_ttl::text as ttl, cleanup_limit, detach_mode from absurd.get_queue_policy('${name}')`
        )
        assert.deepStrictEqual(policy, { ttl: "35 days", cleanup_limit: 7, detach_mode: "empty" })
        assert.deepInclude(yield* Absurd.getQueuePolicy(name), { cleanupLimit: 7, detachMode: "empty" })
        yield* rows(`select absurd.ensure_partitions('${name}')`)
        assert.deepStrictEqual(yield* rows(`select * from absurd.list_detach_candidates('${name}')`), [])
        yield* rows(`select absurd.drop_queue('${name}')`)
        assert.notInclude(yield* Absurd.listQueues, name)
      }
    }))

  it.effect("cleans up, in batches until nothing is left", () =>
    Effect.gen(function*() {
      const { advance, rows } = yield* everyState
      yield* advance("1 hour")
      let tasks = 0
      let events = 0
      for (let batch = 0; batch < 10; batch++) {
        const [deleted] = yield* rows(
          "select absurd.cleanup_tasks('<q>', '60'::int, '2'::int) as t, absurd.cleanup_events('<q>', '60'::int, '2'::int) as e"
        )
        tasks += Number(deleted?.["t"])
        events += Number(deleted?.["e"])
        if (deleted?.["t"] === 0 && deleted["e"] === 0) break
        assert.isBelow(batch, 9)
      }
      assert.strictEqual(tasks, 5)
      assert.isAtLeast(events, 1)
      // Those that go on have kept what they wait for.
      assert.deepStrictEqual(
        yield* rows("select state, count(*)::int as n from absurd.t_<q> group by 1 order by 1"),
        [{ state: "pending", n: 1 }, { state: "sleeping", n: 2 }]
      )
      assert.deepStrictEqual(yield* rows("select event_name from absurd.w_<q>"), [{ event_name: "paid:1" }])
      assert.deepStrictEqual(
        yield* rows("select queue_name, tasks_deleted, events_deleted from absurd.cleanup_all_queues('<q>')"),
        [{ queue_name: (yield* rows("select '<q>' as q"))[0]?.["q"], tasks_deleted: 0, events_deleted: 0 }]
      )
    }))
})
