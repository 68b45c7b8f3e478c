import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { failure, query, queue, session } = Sessions

interface Subject {
  readonly client: pg.Client
  readonly name: string
  readonly task: string
  readonly run: string
}

const spawnTask = (client: pg.Client, name: string, options: object = {}) =>
  query(client, "select * from absurd.spawn_task($1, 'task', null, $2)", [name, JSON.stringify(options)]).pipe(
    Effect.map((rows) => rows[0] ?? {})
  )

const claimTask = (client: pg.Client, name: string, lease: number | null = 60, qty = 1) =>
  query(client, "select * from absurd.claim_task($1, 'worker', $2, $3)", [name, lease, qty])

const call = (text: string) => ({ client, name, run, task }: Subject) =>
  query(client, text.replaceAll(":q", `'${name}'`).replaceAll(":run", `'${run}'`).replaceAll(":task", `'${task}'`))

const failureOf = (text: string) => ({ client, name, run, task }: Subject) =>
  failure(client, text.replaceAll(":q", `'${name}'`).replaceAll(":run", `'${run}'`).replaceAll(":task", `'${task}'`))

// How the run named in a call got where it is.
const situations: Readonly<Record<string, (subject: Subject) => Effect.Effect<unknown>>> = {
  pending: () => Effect.void,
  running: ({ client, name }) => claimTask(client, name),
  "sleeping on a timer": (subject) =>
    claimTask(subject.client, subject.name).pipe(
      Effect.andThen(call("select absurd.schedule_run(:q, :run, now() + interval '1 hour')")(subject))
    ),
  "sleeping on an event": (subject) =>
    claimTask(subject.client, subject.name).pipe(
      Effect.andThen(call("select absurd.await_event(:q, :task, :run, 'step', 'event')")(subject))
    ),
  "pending after emit": (subject) =>
    claimTask(subject.client, subject.name).pipe(
      Effect.andThen(call("select absurd.await_event(:q, :task, :run, 'step', 'event')")(subject)),
      Effect.andThen(call("select absurd.emit_event(:q, 'event', '1')")(subject))
    ),
  completed: (subject) =>
    claimTask(subject.client, subject.name).pipe(
      Effect.andThen(call("select absurd.complete_run(:q, :run, '1')")(subject))
    ),
  "failed, next alive": (subject) =>
    claimTask(subject.client, subject.name).pipe(
      Effect.andThen(call("select absurd.fail_run(:q, :run, '{}')")(subject))
    ),
  "failed, last": (subject) =>
    query(subject.client, `update absurd."t_${subject.name}" set max_attempts = 1`).pipe(
      Effect.andThen(claimTask(subject.client, subject.name)),
      Effect.andThen(call("select absurd.fail_run(:q, :run, '{}')")(subject))
    ),
  "failed, cancelled by max_duration": (subject) =>
    query(subject.client, `update absurd."t_${subject.name}" set cancellation = '{"max_duration": 60}'`).pipe(
      Effect.andThen(claimTask(subject.client, subject.name)),
      Effect.andThen(call("select absurd.fail_run(:q, :run, '{}', now() + interval '1 hour')")(subject))
    ),
  cancelled: (subject) =>
    claimTask(subject.client, subject.name).pipe(Effect.andThen(call("select absurd.cancel_task(:q, :task)")(subject)))
}

const operations = {
  complete: "select absurd.complete_run(:q, :run, '2')",
  fail: "select absurd.fail_run(:q, :run, '{}')",
  schedule: "select absurd.schedule_run(:q, :run, now())",
  extend: "select absurd.extend_claim(:q, :run, 5)",
  checkpoint: "select absurd.set_task_checkpoint_state(:q, :task, 'new', '1', :run)",
  await: "select absurd.await_event(:q, :task, :run, 'other', 'another')",
  retry: "select absurd.retry_task(:q, :task)"
} as const

type Operation = keyof typeof operations

const notRunning = `Run ":run" is not currently running in queue ":q"`
const cannotFail = `Run ":run" cannot be failed in queue ":q"`
const mustRun = `Run ":run" must be running to await events`
const notFailed = `Task ":task" is not currently failed in queue ":q"`
const alreadyFailed = ["AB002", `Run ":run" has already failed in queue ":q"`]
const cancelled = ["AB001", "Task has been cancelled"]
const ok = ["00000", "succeeded"]
const other = (message: string) => ["P0001", message]

const idle = {
  complete: other(notRunning),
  fail: other(cannotFail),
  schedule: other(notRunning),
  extend: other(notRunning),
  checkpoint: other(notRunning),
  await: other(mustRun),
  retry: other(notFailed)
}

const expected: Readonly<Record<string, Readonly<Record<Operation, ReadonlyArray<string>>>>> = {
  pending: idle,
  running: { complete: ok, fail: ok, schedule: ok, extend: ok, checkpoint: ok, await: ok, retry: other(notFailed) },
  "sleeping on a timer": { ...idle, fail: ok },
  "sleeping on an event": { ...idle, fail: ok },
  "pending after emit": idle,
  completed: idle,
  "failed, next alive": {
    ...idle,
    complete: alreadyFailed,
    fail: alreadyFailed,
    extend: alreadyFailed,
    checkpoint: alreadyFailed
  },
  "failed, last": {
    ...idle,
    complete: alreadyFailed,
    fail: alreadyFailed,
    extend: alreadyFailed,
    checkpoint: alreadyFailed,
    retry: ok
  },
  "failed, cancelled by max_duration": {
    ...idle,
    complete: alreadyFailed,
    fail: alreadyFailed,
    extend: cancelled,
    checkpoint: cancelled,
    await: cancelled
  },
  cancelled: {
    ...idle,
    complete: cancelled,
    fail: cancelled,
    extend: cancelled,
    checkpoint: cancelled,
    await: cancelled
  }
}

layer(TestPostgres.layer())("the wire door", (it) => {
  const subject = Effect.gen(function*() {
    const client = yield* session
    const name = yield* queue(client)
    const spawned = yield* spawnTask(client, name)
    return { client, name, task: String(spawned["task_id"]), run: String(spawned["run_id"]) }
  })

  for (const [situation, reach] of Object.entries(situations)) {
    it.effect(`answers as other programs expect when the run is ${situation}`, () =>
      Effect.gen(function*() {
        for (const [operation, text] of Object.entries(operations)) {
          const one = yield* subject
          yield* reach(one)
          const { code, message } = yield* failureOf(text)(one)
          const [wantedCode, wantedMessage = ""] = expected[situation]?.[operation as Operation] ?? []
          assert.deepStrictEqual(
            { operation, code, message },
            {
              operation,
              code: wantedCode,
              message: wantedMessage.replace(":run", one.run).replace(":task", one.task).replace(":q", one.name)
            }
          )
        }
      }))
  }

  it.effect("says what is missing or unknown", () =>
    Effect.gen(function*() {
      const one = yield* subject
      const unknown = "'00000000-0000-7000-8000-000000000000'"
      const cases: ReadonlyArray<readonly [string, string, string]> = [
        ["absurd.spawn_task(:q, ' ', null)", "P0001", "task_name must be provided"],
        ["absurd.spawn_task(:q, 'x', null, '{\"max_attempts\": 0}')", "P0001", "max_attempts must be >= 1"],
        [`absurd.complete_run(:q, ${unknown})`, "P0001", "not found in queue"],
        [`absurd.fail_run(:q, ${unknown}, '{}')`, "P0001", "cannot be failed"],
        [`absurd.schedule_run(:q, ${unknown}, now())`, "P0001", "is not currently running"],
        [`absurd.extend_claim(:q, ${unknown}, 1)`, "P0001", "not found in queue"],
        ["absurd.extend_claim(:q, :run, 0)", "P0001", "extend_by must be > 0"],
        [`absurd.cancel_task(:q, ${unknown})`, "P0001", "not found in queue"],
        [`absurd.retry_task(:q, ${unknown})`, "P0001", "not found in queue"],
        ["absurd.set_task_checkpoint_state(:q, :task, ' ', '1', :run)", "P0001", "step_name must be provided"],
        [
          `absurd.set_task_checkpoint_state(:q, :task, 's', '1', ${unknown})`,
          "P0001",
          "not found for checkpoint"
        ],
        [`absurd.get_task_checkpoint_states(:q, :task, ${unknown})`, "P0001", "not found"],
        [`absurd.get_task_checkpoint_states(:q, ${unknown}, :run)`, "P0001", "does not belong to task"],
        ["absurd.emit_event(:q, '')", "P0001", "event_name must be provided"],
        ["absurd.await_event(:q, :task, :run, 's', ' ')", "P0001", "event_name must be provided"],
        ["absurd.await_event(:q, :task, :run, 's', 'e', -1)", "P0001", "timeout must be non-negative"],
        [`absurd.await_event(:q, :task, ${unknown}, 's', 'e')`, "P0001", "not found while awaiting event"],
        ["absurd.claim_task('none', 'w')", "42P01", "absurd."],
        ["absurd.spawn_task('none', 'x', null)", "42P01", "absurd."],
        ["absurd.emit_event('none', 'e')", "42P01", "absurd."],
        ["absurd.claim_task(null, 'w')", "22004", ""]
      ]
      for (const [text, code, message] of cases) {
        const found = yield* failureOf(`select ${text}`)(one)
        assert.deepStrictEqual([text, found.code, found.message.includes(message)], [text, code, true], found.message)
      }
    }))

  it.effect("a lease of nothing has no end, and cannot be extended", () =>
    Effect.gen(function*() {
      const one = yield* subject
      yield* claimTask(one.client, one.name, 0)
      assert.strictEqual((yield* Sessions.run(one.client, one.name, one.run))["claim_expires_at"], null)
      const { message } = yield* failureOf("select absurd.extend_claim(:q, :run, 5)")(one)
      assert.strictEqual(message, `Run "${one.run}" does not have an active claim in queue "${one.name}"`)
    }))

  it.effect("an extension counts from now, and may shorten", () =>
    Effect.gen(function*() {
      const one = yield* subject
      yield* claimTask(one.client, one.name, 3600)
      yield* call("select absurd.extend_claim(:q, :run, 10)")(one)
      const [row] = yield* query(
        one.client,
        `select claim_expires_at < now() + interval '1 minute' as short from absurd."r_${one.name}"`
      )
      assert.strictEqual(row?.["short"], true)
    }))

  it.effect("a checkpoint is overwritten, but not when a newer attempt owns it; JSON and SQL null differ", () =>
    Effect.gen(function*() {
      const one = yield* subject
      yield* claimTask(one.client, one.name)
      const set = (value: string) => call(`select absurd.set_task_checkpoint_state(:q, :task, 's', ${value}, :run)`)
      const get = call("select state, state is null as missing from absurd.get_task_checkpoint_state(:q, :task, 's')")
      yield* set("'1'")(one)
      yield* set("null")(one)
      assert.deepStrictEqual(yield* get(one), [{ state: null, missing: true }])
      yield* set("'null'")(one)
      assert.deepStrictEqual(yield* get(one), [{ state: null, missing: false }])
      yield* query(
        one.client,
        `insert into absurd."r_${one.name}" (run_id, task_id, attempt, state, available_at)
        values ('00000000-0000-7000-8000-000000000001', '${one.task}', 2, 'pending', now())`
      )
      yield* query(
        one.client,
        `update absurd."c_${one.name}" set state = '2', owner_run_id = '00000000-0000-7000-8000-000000000001'`
      )
      yield* set("'3'")(one)
      assert.deepStrictEqual(yield* get(one), [{ state: 2, missing: false }])
      const seen = yield* call("select * from absurd.get_task_checkpoint_states(:q, :task, :run)")(one)
      assert.deepStrictEqual(seen, [])
    }))

  it.effect("a timed out wait is told once, by the claim and by the next await", () =>
    Effect.gen(function*() {
      const one = yield* subject
      const awaiting = (step: string) =>
        call(`select should_suspend, payload from absurd.await_event(:q, :task, :run, '${step}', 'event', 0)`)(one)
      yield* claimTask(one.client, one.name)
      assert.deepStrictEqual(yield* awaiting("first"), [{ should_suspend: true, payload: null }])
      const [claimed] = yield* claimTask(one.client, one.name)
      assert.deepStrictEqual([claimed?.["wake_event"], claimed?.["event_payload"]], ["event", null])
      assert.deepStrictEqual(yield* awaiting("first#2"), [{ should_suspend: false, payload: null }])
      assert.deepStrictEqual(yield* awaiting("first#3"), [{ should_suspend: true, payload: null }])
    }))

  it.effect("a run woken by an event has its payload and no wake event; the checkpoint answers from then on", () =>
    Effect.gen(function*() {
      const one = yield* subject
      yield* claimTask(one.client, one.name)
      yield* call("select absurd.await_event(:q, :task, :run, 'step', 'event', 60)")(one)
      yield* call("select absurd.emit_event(:q, 'event', '{\"n\": 1}')")(one)
      yield* call("select absurd.emit_event(:q, 'event', '{\"n\": 2}')")(one)
      const [claimed] = yield* claimTask(one.client, one.name)
      assert.deepStrictEqual([claimed?.["wake_event"], claimed?.["event_payload"]], [null, { n: 1 }])
      yield* call("select absurd.cancel_task(:q, :task)")(one)
      assert.deepStrictEqual(
        yield* call("select should_suspend, payload from absurd.await_event(:q, :task, :run, 'step', 'event')")(one),
        [{ should_suspend: false, payload: { n: 1 } }]
      )
    }))

  it.effect("a key finds the task in any state, under any name", () =>
    Effect.gen(function*() {
      const client = yield* session
      const name = yield* queue(client)
      const made = yield* spawnTask(client, name, { idempotency_key: "k" })
      const found = yield* query(
        client,
        "select * from absurd.spawn_task($1, 'another', '5', '{\"idempotency_key\": \"k\"}')",
        [name]
      )
      assert.deepStrictEqual(found, [{ ...made, created: false }])
    }))

  it.effect("a run that a sweep made anew is claimed by the same call", () =>
    Effect.gen(function*() {
      const one = yield* subject
      yield* claimTask(one.client, one.name, 1)
      yield* query(one.client, `update absurd."r_${one.name}" set claim_expires_at = now() - interval '1 second'`)
      const [claimed] = yield* claimTask(one.client, one.name)
      assert.deepStrictEqual([claimed?.["task_id"], claimed?.["attempt"]], [one.task, 2])
      const old = yield* Sessions.run(one.client, one.name, one.run)
      const { claimExpiredAt, ...reason } = old["failure_reason"] as Record<string, unknown>
      assert.isString(claimExpiredAt)
      assert.deepStrictEqual(reason, {
        name: "$ClaimTimeout",
        message: "worker did not finish task within claim interval",
        workerId: "worker",
        attempt: 1
      })
      assert.strictEqual(old["claimed_by"], "worker")
    }))

  it.effect("results say no more than the state allows", () =>
    Effect.gen(function*() {
      const one = yield* subject
      const result = call("select * from absurd.get_task_result(:q, :task)")(one)
      assert.deepStrictEqual(yield* result, [{
        task_id: one.task,
        state: "pending",
        result: null,
        failure_reason: null
      }])
      yield* claimTask(one.client, one.name)
      yield* call("select absurd.complete_run(:q, :run)")(one)
      assert.deepStrictEqual(
        yield* result,
        [{ task_id: one.task, state: "completed", result: null, failure_reason: null }]
      )
      assert.deepStrictEqual(
        yield* call("select * from absurd.get_task_result(:q, '00000000-0000-7000-8000-000000000000')")(one),
        []
      )
    }))
})
