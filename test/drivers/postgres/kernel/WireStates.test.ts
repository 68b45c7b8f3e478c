/**
 * The state machine of the wire contract as a table: every situation of a run × every function that other SDKs call on it.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Struct } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

interface Subject {
  readonly client: pg.Client
  readonly queue: string
  readonly task: string
  readonly run: string
}

type Step = (subject: Subject) => Effect.Effect<unknown>

/** A statement about the run ($2) or the task ($3) of the queue ($1). */
const sql = (text: string): Step => ({ client, queue, run, task }) =>
  Sessions.query(client, `with ids as (select $1::text q, $2::uuid run, $3::uuid task) select ${text} from ids`, [
    queue,
    run,
    task
  ])

const inAnHour = `absurd.current_time() + interval '1 hour'`

const steps = {
  claim: sql("(select count(*) from absurd.claim_task(q, 'worker', 60))"),
  onTimer: sql(`absurd.schedule_run(q, run, ${inAnHour})`),
  onEvent: sql("absurd.await_event(q, task, run, 'w', 'event')"),
  emit: sql("absurd.emit_event(q, 'event', '1')"),
  complete: sql("absurd.complete_run(q, run, '1')"),
  fail: sql(`absurd.fail_run(q, run, '{"message": "no"}')`),
  failLate: sql(`absurd.fail_run(q, run, '{"message": "no"}', ${inAnHour})`),
  cancel: sql("absurd.cancel_task(q, task)"),
  expire: sql("set_config('absurd.fake_now', (absurd.current_time() + interval '10 minutes')::text, false)")
}

/** How to get there from a spawned task, with the options of its spawn. */
const situations = {
  pending: ["{}"],
  running: ["{}", steps.claim],
  "running, lease expired": ["{}", steps.claim, steps.expire],
  "sleeping on a timer": ["{}", steps.claim, steps.onTimer],
  "sleeping on an event": ["{}", steps.claim, steps.onEvent],
  "pending after emit": ["{}", steps.claim, steps.onEvent, steps.emit],
  completed: ["{}", steps.claim, steps.complete],
  "failed, a newer attempt is alive": ["{}", steps.claim, steps.fail],
  "failed, last attempt": [`{"max_attempts": 1}`, steps.claim, steps.fail],
  "failed, task cancelled by max_duration": [`{"cancellation": {"max_duration": 60}}`, steps.claim, steps.failLate],
  cancelled: ["{}", steps.claim, steps.cancel]
} satisfies Record<string, readonly [options: string, ...steps: ReadonlyArray<Step>]>

/** With the queue as $1, the run as $2 and the task as $3. */
const operations = {
  complete_run: "absurd.complete_run($1, $2::uuid, '1')",
  fail_run: `absurd.fail_run($1, $2::uuid, '{"message": "no"}')`,
  schedule_run: `absurd.schedule_run($1, $2::uuid, ${inAnHour})`,
  extend_claim: "absurd.extend_claim($1, $2::uuid, 3600)",
  set_task_checkpoint_state: "absurd.set_task_checkpoint_state($1, $3::uuid, 's', '1', $2::uuid)",
  await_event: "absurd.await_event($1, $3::uuid, $2::uuid, 'w2', 'unknown')",
  cancel_task: "absurd.cancel_task($1, $3::uuid)",
  retry_task: "absurd.retry_task($1, $3::uuid)"
}

/** Either the error, of which nothing came, or the states of task and runs afterwards, or that nothing has changed. */
type Cell = string | ReadonlyArray<string>
type Row = { readonly [K in keyof typeof operations]: Cell }

const notRunning = "P0001 is not currently running"
const mustRun = "P0001 must be running to await events"
const unchanged = "unchanged"

/** What is neither running nor ended as failed or cancelled. */
const idle = {
  complete_run: notRunning,
  fail_run: "P0001 cannot be failed",
  schedule_run: notRunning,
  extend_claim: notRunning,
  set_task_checkpoint_state: notRunning,
  await_event: mustRun,
  cancel_task: unchanged,
  retry_task: "P0001 is not currently failed"
} satisfies Row

const whileRunning: Row = {
  complete_run: ["completed", "completed"],
  fail_run: ["pending", "failed", "pending"],
  schedule_run: ["sleeping", "sleeping"],
  extend_claim: ["running", "running"],
  set_task_checkpoint_state: ["running", "running"],
  await_event: ["sleeping", "sleeping"],
  cancel_task: ["cancelled", "cancelled"],
  retry_task: idle.retry_task
}

const whilePending: Row = {
  ...idle,
  cancel_task: ["cancelled", "cancelled"]
}

const whileSleeping: Row = {
  ...whilePending,
  fail_run: ["pending", "failed", "pending"]
}

const failed: Row = {
  ...idle,
  complete_run: "AB002",
  fail_run: "AB002",
  extend_claim: "AB002",
  set_task_checkpoint_state: "AB002"
}

const table: { readonly [K in keyof typeof situations]: Row } = {
  pending: whilePending,
  running: whileRunning,
  "running, lease expired": whileRunning,
  "sleeping on a timer": whileSleeping,
  "sleeping on an event": whileSleeping,
  "pending after emit": whilePending,
  completed: idle,
  "failed, a newer attempt is alive": { ...failed, cancel_task: ["cancelled", "failed", "cancelled"] },
  "failed, last attempt": { ...failed, retry_task: ["pending", "failed", "pending"] },
  "failed, task cancelled by max_duration": {
    ...failed,
    extend_claim: "AB001",
    set_task_checkpoint_state: "AB001",
    await_event: "AB001"
  },
  cancelled: {
    ...idle,
    complete_run: "AB001",
    fail_run: "AB001",
    extend_claim: "AB001",
    set_task_checkpoint_state: "AB001",
    await_event: "AB001"
  }
}

const cells = Struct.keys(situations).flatMap((situation) =>
  Struct.keys(operations).map((operation) => [situation, operation] as const)
)

/** Every row of a queue, as text. */
const rowsOf = ({ client, queue }: Subject) =>
  Effect.map(
    Effect.forEach(["t", "r", "c", "e", "w"], (letter) =>
      Sessions.query(client, `select x::text as row from absurd.${letter}_${queue} as x order by 1`)),
    (tables) =>
      JSON.stringify(tables)
  )

const statesOf = ({ client, queue, task }: Subject) =>
  Effect.map(
    Sessions.query(
      client,
      `select state from absurd.t_${queue} where task_id = $1
       union all (select state from absurd.r_${queue} where task_id = $1 order by attempt)`,
      [task]
    ),
    (rows) => rows.map((row) => String(row["state"]))
  )

layer(Layer.effect(TestPostgres.TestDatabase, TestPostgres.database))("the state machine on the wire", (it) => {
  it.effect.each(cells)("%s: %s", ([situation, operation]) =>
    Effect.gen(function*() {
      const client = yield* Sessions.session
      yield* Sessions.query(client, "set absurd.fake_now = '2026-01-05T00:00:00Z'")
      const queue = yield* Sessions.queue(client)
      const [options, ...way]: readonly [string, ...ReadonlyArray<Step>] = situations[situation]
      const [spawned] = yield* Sessions.query(client, "select * from absurd.spawn_task($1, 'task', '1', $2::jsonb)", [
        queue,
        options
      ])
      const subject = { client, queue, task: String(spawned?.["task_id"]), run: String(spawned?.["run_id"]) }
      for (const step of way) yield* step(subject)
      const before = yield* rowsOf(subject)
      const expected = table[situation][operation]
      const used = `with ids as (select $1::text, $2::uuid, $3::uuid) select ${operations[operation]} from ids`
      const { code, message } = yield* Sessions.failure(client, used, [queue, subject.run, subject.task])
      if (typeof expected === "string") {
        const outcome = code === "00000" ? unchanged : `${code} ${message}`
        const [expectedCode = "", ...words] = expected.split(" ")
        assert.isTrue(outcome.startsWith(expectedCode) && outcome.includes(words.join(" ")), outcome)
        assert.strictEqual(yield* rowsOf(subject), before)
      } else {
        assert.strictEqual(code, "00000", message)
        assert.deepStrictEqual(yield* statesOf(subject), expected)
      }
    }))
})
