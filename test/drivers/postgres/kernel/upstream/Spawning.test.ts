/** What is spawned, with which options and keys. */
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Sessions from "../Sessions.ts"
import * as Findings from "./Findings.ts"

const { query, untilBlocked } = Sessions
const { call, claimed, pass, refuses, running, spawnTask, spawnWith, spawned, stateOf } = Findings

Findings.suite("spawning", [
  [
    "U9",
    "a policy that could not be kept is refused, and one that is stored all the same stops nobody",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const bad = ["1.5", "-5", "60.0", "1e12", "\"soon\"", "\"\"", "[]", "{}", "true"]
      for (const key of ["max_delay", "max_duration"]) {
        yield* refuses(
          subject,
          `P0001 cancellation.${key} must be a whole number of seconds`,
          bad.map((value) => spawnWith(`{"cancellation": {"${key}": ${value}}}`))
        )
      }
      yield* refuses(subject, "cancellation must be a JSON object", [spawnWith("{\"cancellation\": 5}")])
      yield* query(subject.client, `update absurd.t_${subject.queue} set cancellation = '{"max_delay": 0.5}'`)
      assert.lengthOf(yield* claimed(subject), 1)
    })
  ],
  [
    "U10",
    "a retry strategy that means nothing is refused, and one that is stored all the same stops nobody",
    Effect.gen(function*() {
      const subject = yield* running()
      const bad = ["\"abc\"", "\"NaN\"", "\"\"", "-1", "\"-1\"", "[]", "{}", "true"]
      for (const key of ["base_seconds", "factor", "max_seconds"]) {
        yield* refuses(
          subject,
          `P0001 retry_strategy.${key} must be a number`,
          bad.map((value) => spawnWith(`{"retry_strategy": {"kind": "exponential", "${key}": ${value}}}`))
        )
      }
      for (const value of ["\"abc\"", "\"NaN\"", "1e300"]) {
        yield* query(
          subject.client,
          `update absurd.t_${subject.queue}
           set retry_strategy = '{"kind": "exponential", "base_seconds": ${value}, "factor": ${value}}'`
        )
        const { queue } = subject
        const next = yield* spawnTask(subject.client, queue)
        yield* pass(subject, "2 minutes")
        const [first] = yield* claimed(subject)
        assert.strictEqual(first?.["task_id"], next.task)
        yield* call(next, "select absurd.complete_run(:q, :run)")
        yield* pass(subject, "20 years")
        yield* claimed(subject)
      }
    })
  ],
  [
    "U20",
    "options that are none are refused; keys that nobody knows are ignored",
    Effect.gen(function*() {
      const subject = yield* spawned()
      yield* refuses(subject, "P0001 options must be a JSON object", [
        ...["[]", "\"text\"", "5"].map(spawnWith),
        "select absurd.retry_task(:q, :task, '[]')"
      ])
      const bad = ["[1]", "\"text\"", "5", "true"]
      for (const key of ["headers", "retry_strategy", "cancellation"]) {
        yield* refuses(
          subject,
          `P0001 ${key} must be a JSON object`,
          bad.map((value) => spawnWith(`{"${key}": ${value}}`))
        )
      }
      yield* refuses(
        subject,
        "P0001 idempotency_key must be a text that is not empty",
        ["\"\"", "42", "[]", "{}", "false"].map((value) => spawnWith(`{"idempotency_key": ${value}}`))
      )
      const nothing = `{"headers": null, "retry_strategy": null, "max_attempts": null, "cancellation": null,
        "idempotency_key": null, "colour": "blue"}`
      for (const options of ["null", "{}", nothing, "{\"retry_strategy\": {\"kind\": \"linear\"}}"]) {
        assert.lengthOf(yield* call(subject, spawnWith(options)), 1)
      }
      assert.lengthOf(yield* call(subject, "select * from absurd.spawn_task(:q, 'task', null, null)"), 1)
    })
  ],
  [
    "U21",
    "a spawn with a key always has ids, also when the owner of the key is being deleted",
    Effect.gen(function*() {
      const subject = yield* spawned({ idempotency_key: "key" })
      yield* call(subject, "select absurd.cancel_task(:q, :task)")
      yield* pass(subject, "1 day")
      const cleaner = yield* Sessions.session
      yield* query(cleaner, "begin")
      yield* query(cleaner, `delete from absurd.t_${subject.queue} where task_id = $1`, [subject.task])
      const spawning = yield* Effect.forkChild(
        spawnTask(subject.client, subject.queue, { idempotency_key: "key" }),
        { startImmediately: true }
      )
      yield* untilBlocked(cleaner, subject.client)
      yield* query(cleaner, "commit")
      const next = yield* Fiber.join(spawning)
      assert.notInclude([subject.task, "null"], next.task)
      assert.notStrictEqual(next.run, "null")
    })
  ],
  [
    "U22",
    "a key finds the task that has it on the wire, whatever else was asked; our door tells the difference",
    Effect.gen(function*() {
      const subject = yield* spawned({ idempotency_key: "key" })
      const found = yield* call(
        subject,
        "select task_id, created from absurd.spawn_task(:q, 'other', '2', '{\"idempotency_key\": \"key\"}')"
      )
      assert.deepStrictEqual(found, [{ task_id: subject.task, created: false }])
      const [refused] = yield* query(subject.client, "select conflict from absurd_effect.spawn($1, $2::jsonb, true)", [
        subject.queue,
        JSON.stringify([{ name: "other", params: 2, idempotency_key: "key" }])
      ])
      assert.deepInclude(refused?.["conflict"], { task: subject.task, differs: "name" })
    })
  ],
  [
    "U28",
    "without a limit and a strategy a task is tried again at once, for ever",
    Effect.gen(function*() {
      const subject = yield* spawned()
      for (let attempt = 1; attempt <= 10; attempt++) {
        const [row] = yield* claimed(subject)
        assert.strictEqual(row?.["attempt"], attempt)
        yield* call({ ...subject, run: String(row?.["run_id"]) }, "select absurd.fail_run(:q, :run, '1')")
      }
      assert.strictEqual(yield* stateOf(subject), "pending")
    })
  ]
])
