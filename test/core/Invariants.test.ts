import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration } from "effect"
import * as Fs from "node:fs"
import { CheckpointName, ClaimToken, RunId, TaskId } from "../../src/core/Identifiers.ts"
import * as Invariants from "../../src/core/Invariants.ts"
import { type LimitedRun, parkedUntil } from "../../src/core/LimitStore.ts"
import type { Checkpoint, Claimed, RunRow, TaskRow, WaitRow } from "../../src/core/Records.ts"
import * as DoctorSql from "../../src/drivers/postgres/DoctorSql.ts"
import { empty } from "../differential/Known.ts"

type Writable<A> = { -readonly [K in keyof A]: A[K] }
type Rows = { tasks: Array<Writable<TaskRow>>; runs: Array<Writable<RunRow>>; waits: Array<Writable<WaitRow>> } & {
  checkpoints: Array<Writable<Checkpoint>>
  events: Array<Writable<Invariants.Dump["events"][number]>>
  limits: Array<Invariants.Dump["limits"][number]>
  limitedRuns: Array<Writable<LimitedRun>>
  limitKeys: Array<Invariants.Dump["limitKeys"][number]>
}

const at = (seconds: number) => DateTime.makeUnsafe(1_767_571_200_000 + seconds * 1000)
const taskId = (n: number) => TaskId.make(`01900000-0000-7000-8000-00000000000${n}`)
const runId = (n: number) => RunId.make(`01900000-0000-7000-8000-0000000000f${n}`)

const task = (n: number, fields: Partial<TaskRow>): TaskRow => ({
  taskId: taskId(n),
  name: "t",
  params: null,
  headers: null,
  retryStrategy: null,
  maxAttempts: 5,
  cancellation: null,
  enqueueAt: at(0),
  firstStartedAt: at(0),
  state: "pending",
  attempts: 1,
  lastAttemptRun: runId(n),
  completedPayload: null,
  cancelledAt: null,
  idempotencyKey: null,
  ...fields
})

const run = (n: number, fields: Partial<RunRow>): RunRow => ({
  runId: runId(n),
  taskId: taskId(n),
  attempt: 1,
  state: "pending",
  claimedBy: null,
  claimExpiresAt: null,
  availableAt: at(0),
  wakeEvent: null,
  eventPayload: null,
  startedAt: null,
  completedAt: null,
  failedAt: null,
  result: null,
  failureReason: null,
  createdAt: at(0),
  ...fields
})

const checkpoint = (n: number, name: string): Checkpoint => ({
  taskId: taskId(n),
  name: CheckpointName.make(name),
  state: 1,
  status: "committed",
  ownerRunId: runId(n),
  updatedAt: at(1)
})

const limited = (n: number, state: LimitedRun["state"]): LimitedRun => ({
  runId: runId(n),
  name: "tenants",
  key: "acme",
  state,
  due: at(0)
})

/** A sound queue: 1 completed, 2 waits with a deadline, 3 runs, 4 failed and is tried again, 6 waits for the limit of 3. */
const sound = (): Rows => ({
  tasks: [
    task(1, { state: "completed", completedPayload: { n: 1 }, idempotencyKey: "k" }),
    task(2, { state: "sleeping" }),
    task(3, { state: "running" }),
    task(4, { attempts: 2, lastAttemptRun: runId(5) }),
    task(6, { state: "sleeping", firstStartedAt: null })
  ],
  runs: [
    run(1, { state: "completed", completedAt: at(2), result: { n: 1 }, startedAt: at(1) }),
    run(2, { state: "sleeping", availableAt: at(60), wakeEvent: "e" }),
    run(3, { state: "running", claimedBy: "w", claimExpiresAt: at(60), startedAt: at(1) }),
    run(4, { state: "failed", failedAt: at(2), failureReason: "no", startedAt: at(1) }),
    run(5, { taskId: taskId(4), attempt: 2 }),
    run(6, { state: "sleeping", availableAt: parkedUntil })
  ],
  checkpoints: [checkpoint(1, "step"), checkpoint(2, "$deadline:w")],
  events: [{ name: "other", payload: 1, emittedAt: at(1) }],
  waits: [{ taskId: taskId(2), runId: runId(2), step: "w", event: "e", timeoutAt: at(60), createdAt: at(1) }],
  limits: [{ name: "tenants", figures: { concurrency: 2, rate: null }, override: null, stale: false }],
  limitedRuns: [limited(3, "running"), limited(5, "admitted"), limited(6, "waiting")],
  limitKeys: []
})

const found = (violations: ReadonlyArray<Invariants.Violation>) => [...new Set(violations.map(({ id }) => id))]

const after = (harm: (rows: Rows) => void): Rows => {
  const rows = sound()
  harm(rows)
  return rows
}

type Case = readonly [id: Invariants.Id, what: string, harm: (rows: Rows) => void]

/** That there is a case for everything that is looked at there. */
const covers = (
  where: Invariants.Invariant["where"][number],
  cases: ReadonlyArray<readonly [Invariants.Id, ...Array<unknown>]>
) =>
  it("has a test for everything that it looks for", () =>
    assert.deepStrictEqual([...new Set(cases.map(([id]) => id))].toSorted(), Invariants.idsOf(where).toSorted()))

describe("Invariants.check", () => {
  it("finds nothing in a sound queue, nor in an empty one", () => {
    assert.deepStrictEqual(Invariants.check(sound()), [])
    assert.deepStrictEqual(Invariants.check(empty), [])
  })

  const cases: ReadonlyArray<Case> = [
    ["S1", "a missing attempt", ({ runs }) => (runs[4]!.attempt = 3)],
    ["S2", "two runs that have not ended", ({ runs }) => (runs[3]!.state = "pending")],
    ["S4", "a task in another state than its run", ({ tasks }) => (tasks[1]!.state = "pending")],
    ["S4", "a task without a run", ({ limitedRuns, runs }) => [limitedRuns.shift(), runs.splice(2, 1)]],
    ["S4", "a task that was never started, whose run was", ({ tasks }) => (tasks[0]!.firstStartedAt = null)],
    ["S4", "a completed run without an end", ({ runs }) => (runs[0]!.completedAt = null)],
    ["S5", "a time of cancellation in a task that was not", ({ tasks }) => (tasks[0]!.cancelledAt = at(1))],
    ["S7", "more attempts than runs", ({ tasks }) => (tasks[3]!.attempts = 3)],
    ["S7", "more attempts than allowed", ({ tasks }) => (tasks[3]!.maxAttempts = 1)],
    ["S8", "a last run that is not the last", ({ tasks }) => (tasks[3]!.lastAttemptRun = runId(4))],
    ["S10", "a result that is not that of the run", ({ tasks }) => (tasks[0]!.completedPayload = 2)],
    ["S13", "a sleeper under a claim", ({ runs }) => (runs[1]!.claimedBy = "w")],
    ["S17", "a lease without an end", ({ runs }) => (runs[2]!.claimExpiresAt = null)],
    ["S26", "a checkpoint of another task's run", ({ checkpoints }) => (checkpoints[0]!.ownerRunId = runId(3))],
    ["S28", "a sleeper that waits for nothing", ({ checkpoints, runs, waits }) => {
      runs[1]!.availableAt = null
      waits.length = 0
      checkpoints.pop()
    }],
    ["S29", "a wait of a run that is awake", ({ runs, tasks }) => {
      runs[1]!.state = "pending"
      tasks[1]!.state = "pending"
    }],
    ["S29", "a wait of another task", ({ waits }) => (waits[0]!.taskId = taskId(1))],
    ["S29", "a run that waits for another event", ({ runs }) => (runs[1]!.wakeEvent = "other")],
    ["S31", "a wait for what has been emitted", ({ checkpoints, events, runs, waits }) => {
      events[0]!.name = "e"
      waits[0]!.timeoutAt = null
      checkpoints.pop()
      runs[1]!.availableAt = null
    }],
    ["S31", "a wait with a deadline for what was emitted before it", ({ events }) => (events[0]!.name = "e")],
    [
      "S33",
      "a wait that timed out and received",
      ({ checkpoints }) => checkpoints.push(checkpoint(1, "$timeout:step"))
    ],
    ["S34", "a sleep beyond the deadline", ({ runs }) => (runs[1]!.availableAt = at(61))],
    ["S34", "a deadline that is not fixed", ({ checkpoints }) => checkpoints.pop()],
    ["S37", "a key of two tasks", ({ tasks }) => (tasks[1]!.idempotencyKey = "k")],
    ["S50", "a run without its task", ({ tasks }) => tasks.splice(2, 1)],
    ["S50", "a checkpoint without its task", ({ checkpoints }) => checkpoints.push(checkpoint(9, "step"))],
    ["S58", "a run that counts and does not run", ({ limitedRuns }) => (limitedRuns[0]!.runId = runId(1))],
    ["S58", "a run that counts and does not exist", ({ limitedRuns }) => (limitedRuns[0]!.runId = runId(9))],
    ["S58", "a run that may go and runs", ({ limitedRuns }) => (limitedRuns[1]!.runId = runId(3))],
    ["S58", "a run that waits and is not parked", ({ runs }) => (runs[5]!.availableAt = at(1))],
    ["S58", "a parked run that waits for nothing", ({ limitedRuns }) => limitedRuns.pop()]
  ]
  it("allows an event that came at the deadline or later", () => {
    const late = after(({ events, runs }) => {
      events[0]!.name = "e"
      events[0]!.emittedAt = at(60)
      runs[1]!.availableAt = at(60)
    })
    assert.deepStrictEqual(Invariants.check(late), [])
  })

  covers("state", cases)

  it("looks for nothing that the doctor does not look for", () => {
    assert.deepStrictEqual(Invariants.idsOf("state").filter((id) => !Invariants.idsOf("doctor").includes(id)), [])
    assert.sameMembers([...DoctorSql.ids], [...Invariants.idsOf("doctor")])
  })

  it("is told in the documentation of the doctor", () => {
    const text = Fs.readFileSync(new URL("../../docs/maintenance.md", import.meta.url), "utf8")
    const told = [...text.matchAll(/^\| (S\d+) \| (.*) \|$/gm)].map(([, id, says]) => `${id} ${says}`)
    assert.deepStrictEqual(told, Invariants.idsOf("doctor").map((id) => `${id} ${Invariants.all[id].says}`))
  })

  for (const [id, what, harm] of cases) {
    it(`finds ${what}`, () => assert.deepStrictEqual(found(Invariants.check(after(harm))), [id]))
  }
})

describe("Invariants.checkStep", () => {
  it("finds nothing when nothing changes, or when an ended task is deleted", () => {
    assert.deepStrictEqual(Invariants.checkStep(sound(), sound()), [])
    const cleaned = after((rows) => {
      rows.tasks.shift()
      rows.runs.shift()
      rows.checkpoints.shift()
      rows.events.shift()
    })
    assert.deepStrictEqual(Invariants.checkStep(sound(), cleaned), [])
  })

  const cases: ReadonlyArray<Case> = [
    ["S1", "attempts that became fewer", ({ tasks }) => (tasks[3]!.attempts = 1)],
    ["S3", "a claim that was taken over", ({ runs }) => (runs[2]!.claimedBy = "x")],
    ["S5", "a task that came back", ({ tasks }) => (tasks[0]!.state = "failed")],
    ["S5", "an ended run that was changed", ({ runs }) => (runs[3]!.failureReason = "yes")],
    ["S10", "a result that was changed", ({ tasks }) => (tasks[0]!.completedPayload = 2)],
    ["S10", "params that were changed", ({ tasks }) => (tasks[2]!.params = 2)],
    ["S14", "a lease that was shortened", ({ runs }) => (runs[2]!.claimExpiresAt = at(59))],
    ["S18", "a run that was claimed before it was due", ({ runs, tasks, waits }) => {
      Object.assign(runs[1]!, { state: "running", claimedBy: "w", claimExpiresAt: at(90), startedAt: at(59) })
      tasks[1]!.state = "running"
      waits.length = 0
    }],
    ["S19", "an expired run that nothing follows", ({ runs, tasks }) => {
      Object.assign(runs[2]!, { state: "failed", failedAt: at(60), failureReason: "$ClaimTimeout" })
      tasks[2]!.state = "pending"
    }],
    ["S20", "a checkpoint that was changed", ({ checkpoints }) => (checkpoints[0]!.state = 2)],
    ["S30", "an event that was changed", ({ events }) => (events[0]!.payload = 2)],
    ["S36", "a run that nothing woke", ({ runs, tasks, waits }) => {
      runs[1]!.state = "pending"
      tasks[1]!.state = "pending"
      waits.length = 0
    }],
    ["S49", "a task that was deleted before its end", (rows) => {
      rows.tasks.splice(2, 1)
      rows.runs.splice(2, 1)
    }],
    ["S50", "a run that was deleted alone", ({ runs }) => runs.splice(3, 1)],
    ["S50", "a checkpoint that was deleted alone", ({ checkpoints }) => checkpoints.shift()]
  ]
  it("allows what wakes a run: its event, the end of its task, a revision before its start", () => {
    const woken = (rows: Rows) => {
      rows.runs[1]!.state = "pending"
      rows.tasks[1]!.state = "pending"
      rows.waits.length = 0
    }
    const emitted = after((rows) => {
      woken(rows)
      rows.events.push({ name: "e", payload: 1, emittedAt: at(2) })
    })
    assert.deepStrictEqual(Invariants.checkStep(sound(), emitted), [])
    const awaiting = after(({ waits }) => {
      Object.assign(waits[0]!, { event: `$task:${taskId(1)}`, step: `w:${taskId(1)}` })
    })
    assert.deepStrictEqual(Invariants.checkStep(awaiting, after(woken)), [])
    const delayed = after(({ waits }) => waits.length = 0)
    assert.deepStrictEqual(Invariants.checkStep(delayed, after(woken)), [])
  })

  covers("step", cases)

  for (const [id, what, harm] of cases) {
    it(`finds ${what}`, () => assert.deepStrictEqual(found(Invariants.checkStep(sound(), after(harm))), [id]))
  }

  it("is told in words", () => {
    const violations = Invariants.check(after(({ tasks }) => (tasks[1]!.idempotencyKey = "k")))
    assert.strictEqual(Invariants.format(violations), `S37 ${taskId(2)}: has the idempotency key of task ${taskId(1)}`)
  })
})

describe("Invariants.checkClaim", () => {
  const claimed: Claimed = {
    runId: runId(3),
    taskId: taskId(3),
    token: ClaimToken.make("w"),
    name: "t",
    attempt: 1,
    params: null,
    headers: {},
    retryStrategy: null,
    maxAttempts: null,
    wakeEvent: null,
    eventPayload: undefined,
    checkpoints: [],
    claimedAt: at(1),
    elapsed: Duration.zero,
    waited: Duration.zero
  }
  const request = { token: "w", limit: 1 }

  it("finds nothing in a sound answer", () =>
    assert.deepStrictEqual(Invariants.checkClaim({ ...request, except: ["u"] }, [claimed], sound()), []))

  it("finds too many runs, runs of another queue or claim, and tasks that were not to be claimed", () => {
    const of = (...parameters: Parameters<typeof Invariants.checkClaim>) => found(Invariants.checkClaim(...parameters))
    assert.deepStrictEqual(of({ ...request, limit: 0 }, [claimed], sound()), ["S18"])
    assert.deepStrictEqual(of(request, [{ ...claimed, runId: runId(9) }], sound()), ["S18"])
    assert.deepStrictEqual(of({ ...request, token: "x" }, [claimed], sound()), ["S18"])
    assert.deepStrictEqual(of({ ...request, except: ["t"] }, [claimed], sound()), ["S18"])
  })
})

describe("Invariants.checkQueues", () => {
  it("finds a row that is in two queues", () => {
    assert.deepStrictEqual(Invariants.checkQueues(new Map([["a", sound()], ["b", empty]])), [])
    assert.deepStrictEqual(found(Invariants.checkQueues(new Map([["a", sound()], ["b", sound()]]))), ["S55"])
  })
})
