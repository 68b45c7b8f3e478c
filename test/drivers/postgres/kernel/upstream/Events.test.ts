/** Waiting for events, emitting them, and deleting them. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Sessions from "../Sessions.ts"
import * as Findings from "./Findings.ts"

const { query } = Sessions
const { awaitEvent, call, claimed, pass, refusal, running, stateOf } = Findings

Findings.suite("events", [
  [
    "U6",
    "a timeout on the wire is told once, to the run and by the event's name",
    Effect.gen(function*() {
      const subject = yield* running()
      const answers: Array<unknown> = []
      for (const step of ["a", "b", "c"]) {
        answers.push((yield* call(subject, awaitEvent(step, "0")))[0])
        if (step === "a") yield* claimed(subject)
      }
      const suspends = { should_suspend: true, payload: null }
      assert.deepStrictEqual(answers, [suspends, { ...suspends, should_suspend: false }, suspends])
      assert.deepStrictEqual(yield* call(subject, "select from absurd.get_task_checkpoint_state(:q, :task, 'a')"), [])
    })
  ],
  [
    "U7",
    "neither emits nor waits where a wake-up could be lost",
    Effect.gen(function*() {
      const subject = yield* running()
      for (const level of ["repeatable read", "serializable"]) {
        yield* query(subject.client, `set default_transaction_isolation = '${level}'`)
        for (const text of ["select absurd.emit_event(:q, 'event', '1')", awaitEvent("step")]) {
          assert.include(
            yield* refusal(subject, text),
            `needs a transaction that is READ COMMITTED, and this one is ${level.toUpperCase()}`
          )
          assert.match(yield* refusal(subject, text), /^P0001 /)
        }
      }
    })
  ],
  [
    "U8",
    "deleting old events leaves those that somebody waits for",
    Effect.gen(function*() {
      const subject = yield* running()
      yield* call(subject, awaitEvent("step"))
      yield* pass(subject, "1 year")
      assert.deepStrictEqual(yield* call(subject, "select absurd.cleanup_events(:q, 0) as n"), [{ n: 0 }])
      yield* call(subject, "select absurd.emit_event(:q, 'event', '1')")
      assert.strictEqual(yield* stateOf(subject), "pending")
    })
  ],
  [
    "U29",
    "events are deleted by their age, and then their name is free",
    Effect.gen(function*() {
      const subject = yield* running()
      yield* call(subject, "select absurd.emit_event(:q, 'event', '1')")
      yield* pass(subject, "1 hour")
      assert.deepStrictEqual(yield* call(subject, "select absurd.cleanup_events(:q, 60) as n"), [{ n: 1 }])
      yield* call(subject, "select absurd.emit_event(:q, 'event', '2')")
      assert.deepStrictEqual(yield* call(subject, awaitEvent("step")), [{ should_suspend: false, payload: 2 }])
    })
  ]
])
