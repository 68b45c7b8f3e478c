/** What may be done to a run, by whom and for how long. */
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Sessions from "../Sessions.ts"
import * as Findings from "./Findings.ts"

const { batch, query, untilBlocked } = Sessions
const { call, claimed, pass, refusal, refuses, rowOf, running, setCheckpoint, spawnTask, spawned, stateOf, unknown } =
  Findings

Findings.suite("runs", [
  [
    "U1",
    "who names a running run may end it; under our tokens a former holder can change nothing",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const { client, queue, run } = subject
      yield* Sessions.claim(client, queue, "first")
      yield* batch(client, "release", queue, [{ run, token: "first", delay: 0 }])
      yield* Sessions.claim(client, queue, "second")
      const before = yield* Sessions.contents(client, queue)
      const item = {
        run,
        token: "first",
        name: "step",
        state: 1,
        extend: 1,
        lease: 1,
        result: 1,
        reason: 1,
        retry: "never"
      }
      for (const operation of ["set_checkpoints", "extend", "complete", "fail", "release"]) {
        const [answer] = yield* batch(client, operation, queue, [item])
        assert.strictEqual(answer?.["outcome"], "leaseLost", operation)
      }
      assert.deepStrictEqual(yield* Sessions.contents(client, queue), before)
      yield* call(subject, "select absurd.complete_run(:q, :run, '1')")
      assert.strictEqual(yield* stateOf(subject), "completed")
    })
  ],
  [
    "U2",
    "a sleeping run can be failed on the wire, and not under a token",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const { client, queue, run } = subject
      yield* Sessions.claim(client, queue, "mine")
      yield* batch(client, "release", queue, [{ run, token: "mine", delay: 60 }])
      const [answer] = yield* batch(client, "fail", queue, [{ run, token: "mine", reason: 1, retry: "never" }])
      assert.strictEqual(answer?.["outcome"], "leaseLost")
      yield* call(subject, "select absurd.fail_run(:q, :run, '1')")
      assert.strictEqual((yield* rowOf(subject))["state"], "failed")
    })
  ],
  [
    "U3",
    "a checkpoint that waits for whoever fails its run is not stored",
    Effect.gen(function*() {
      const subject = yield* running()
      const sweeper = yield* Sessions.session
      yield* query(sweeper, "begin")
      yield* call({ ...subject, client: sweeper }, "select absurd.fail_run(:q, :run, '1')")
      const late = yield* Effect.forkChild(refusal(subject, setCheckpoint(":task")), { startImmediately: true })
      yield* untilBlocked(sweeper, subject.client)
      yield* query(sweeper, "commit")
      assert.include(yield* Fiber.join(late), "AB002")
      assert.deepStrictEqual(
        yield* call(subject, "select from absurd.get_task_checkpoint_state(:q, :task, 'step')"),
        []
      )
    })
  ],
  [
    "U4",
    "a run writes checkpoints of its own task only, and only while it is running",
    Effect.gen(function*() {
      const subject = yield* running()
      const other = yield* spawnTask(subject.client, subject.queue)
      yield* refuses(subject, "P0001 Run", [setCheckpoint(`'${other.task}'`), setCheckpoint(unknown)])
      yield* refuses(subject, "does not belong to task", [setCheckpoint(`'${other.task}'`), setCheckpoint(unknown)])
      yield* refuses(other, "is not currently running", [setCheckpoint(":task")])
      yield* call(subject, setCheckpoint(":task"))
      yield* call(subject, "select absurd.complete_run(:q, :run, '1')")
      yield* refuses(subject, "is not currently running", [setCheckpoint(":task"), setCheckpoint(unknown)])
    })
  ],
  [
    "U5",
    "an extension may shorten a lease on the wire, and never does under a token",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const { client, queue, run } = subject
      yield* Sessions.claim(client, queue, "mine")
      const lease = Effect.map(
        call(
          subject,
          `select extract(epoch from claim_expires_at - absurd.current_time())::int as lease from absurd.r_${queue}`
        ),
        ([row]) => row?.["lease"]
      )
      yield* batch(client, "extend", queue, [{ run, token: "mine", lease: 30 }])
      yield* batch(client, "set_checkpoints", queue, [{ run, token: "mine", name: "step", state: 1, extend: 30 }])
      assert.strictEqual(yield* lease, 3600)
      yield* call(subject, setCheckpoint(":task", "1", "40"))
      assert.strictEqual(yield* lease, 40)
      yield* call(subject, "select absurd.extend_claim(:q, :run, 30)")
      assert.strictEqual(yield* lease, 30)
    })
  ],
  [
    "U15",
    "a lease of nothing has no end on the wire",
    Effect.gen(function*() {
      const subject = yield* spawned()
      yield* claimed(subject, 0)
      assert.strictEqual((yield* rowOf(subject))["claim_expires_at"], null)
    })
  ],
  [
    "U16",
    "nothing can be put off to an instant that never comes",
    Effect.gen(function*() {
      const subject = yield* running()
      for (const instant of ["infinity", "-infinity"]) {
        yield* refuses(subject, "P0001 wake_at must be finite", [`select absurd.schedule_run(:q, :run, '${instant}')`])
        yield* refuses(subject, "P0001 retry_at must be finite", [
          `select absurd.fail_run(:q, :run, '1', '${instant}')`
        ])
      }
      assert.include(yield* refusal(subject, "select absurd.schedule_run(:q, :run, null)"), "23502")
    })
  ],
  [
    "U27",
    "a holder whose lease has ended goes on until somebody takes the run over",
    Effect.gen(function*() {
      const subject = yield* running()
      yield* pass(subject, "1 hour")
      yield* call(subject, setCheckpoint(":task"))
      yield* call(subject, "select absurd.complete_run(:q, :run, '1')")
      assert.strictEqual(yield* stateOf(subject), "completed")
    })
  ]
])
