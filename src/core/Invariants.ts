/**
 * What always holds of a queue between operations, as pure functions on everything that is stored in it.
 *
 * For tests, and for those who suspect that a store or a program beside it broke something. `Doctor` looks on a live
 * database for all that {@link check} says of one state; {@link all} tells what is looked at where.
 *
 * @since 0.1.0
 */
import { DateTime } from "effect"
import { isTerminal, type RunId, type State, type TaskId } from "./Identifiers.ts"
import { type LimitArrival, type LimitedRun, limitHeader, parkedUntil, type StoredLimit } from "./LimitStore.ts"
import type { Checkpoint, Claimed, RunRow, StoredEvent, TaskRow, WaitRow } from "./Records.ts"

/**
 * What must always hold, and where it is looked at: in one `state` of a queue ({@link check}), in a `step` from one state to
 * the next ({@link checkStep}), in the answer of a `claim` ({@link checkClaim}), in several `queues` of a store
 * ({@link checkQueues}), and by the `doctor`.
 *
 * The doctor looks at more than a state: what only a database can tell is a run that failed without a reason from one
 * whose reason is JSON null (S11), an event that nobody has emitted from one that was deleted (S49), and the tables behind the
 * names of queues (S55).
 *
 * @since 0.1.0
 * @category constants
 */
export const all = {
  S1: { says: "the attempts of a task are 1, 2, 3 and so on", where: ["state", "step", "doctor"] },
  S2: { says: "at most one run of a task has not ended", where: ["state", "doctor"] },
  S3: { says: "a run is under one claim at a time", where: ["step"] },
  S4: { says: "a task and its newest run are in states that fit, with their instants", where: ["state", "doctor"] },
  S5: { says: "what has ended stays so, but for a failed task that is retried", where: ["state", "step", "doctor"] },
  S7: { says: "there are as many runs as attempts, and no more than allowed", where: ["state", "doctor"] },
  S8: { says: "the last run of a task is that of its last attempt", where: ["state", "doctor"] },
  S10: { says: "a result is written once, and is that of the run", where: ["state", "step", "doctor"] },
  S11: { says: "a run that failed has a reason", where: ["doctor"] },
  S13: { says: "a run that sleeps is under no claim", where: ["state", "doctor"] },
  S14: { says: "no lease is shortened", where: ["step"] },
  S17: { says: "every lease ends", where: ["state", "doctor"] },
  S18: { says: "a claim takes as many runs as asked at most, of its queue, that are due", where: ["step", "claim"] },
  S19: { says: "an expired lease leads to the next attempt or to the end of the task", where: ["step"] },
  S20: { says: "a checkpoint is never changed", where: ["step"] },
  S26: { says: "a checkpoint is written by a run of its task", where: ["state", "doctor"] },
  S28: { says: "a run that sleeps wakes at some time, or waits for something", where: ["state", "doctor"] },
  S29: { says: "a wait belongs to a sleeping run of its task, which waits for that event", where: ["state", "doctor"] },
  S30: { says: "an emitted event is never changed", where: ["step"] },
  S31: { says: "nobody sleeps for what has been emitted", where: ["state", "doctor"] },
  S33: { says: "a wait that timed out has received nothing", where: ["state", "doctor"] },
  S34: { says: "a wait ends at its deadline, which is fixed in a checkpoint", where: ["state", "doctor"] },
  S36: { says: "a run is woken by what happens in its own queue", where: ["step"] },
  S37: { says: "an idempotency key is that of one task", where: ["state", "doctor"] },
  S49: { says: "what has not ended is not deleted, nor what it waits for", where: ["step", "doctor"] },
  S50: { says: "a task is deleted as a whole", where: ["state", "step", "doctor"] },
  S55: { says: "queues share nothing", where: ["queues", "doctor"] },
  S58: { says: "what a limit counts is a run, and a run that is parked waits for a limit", where: ["state", "doctor"] }
} as const satisfies { readonly [id: string]: Invariant }

/**
 * @since 0.1.0
 * @category models
 */
export interface Invariant {
  readonly says: string
  readonly where: ReadonlyArray<"state" | "step" | "claim" | "queues" | "doctor">
}

/**
 * The name of an invariant.
 *
 * @since 0.1.0
 * @category models
 */
export type Id = keyof typeof all

/**
 * The names of the invariants that are looked at there, in their order.
 *
 * @since 0.1.0
 * @category constants
 */
export const idsOf = (where: Invariant["where"][number]): ReadonlyArray<Id> =>
  (Object.entries(all) as ReadonlyArray<[Id, Invariant]>).flatMap(([id, invariant]) =>
    invariant.where.includes(where) ? [id] : []
  )

/**
 * Everything that is stored in a queue.
 *
 * @since 0.1.0
 * @category models
 */
export interface Dump {
  readonly tasks: ReadonlyArray<TaskRow>
  readonly runs: ReadonlyArray<RunRow>
  readonly checkpoints: ReadonlyArray<Checkpoint>
  readonly events: ReadonlyArray<StoredEvent>
  readonly waits: ReadonlyArray<WaitRow>
  readonly limits: ReadonlyArray<StoredLimit>
  readonly limitedRuns: ReadonlyArray<LimitedRun>
  readonly limitKeys: ReadonlyArray<LimitArrival>
}

/**
 * Something that must not be. `id` names the invariant, `subject` the row, and `problem` says what is wrong.
 *
 * @since 0.1.0
 * @category models
 */
export interface Violation {
  readonly id: Id
  readonly subject: string
  readonly problem: string
}

/**
 * The violations in one state of a queue; none in a sound one.
 *
 * @since 0.1.0
 * @category checking
 */
export const check = (dump: Dump): ReadonlyArray<Violation> => {
  const found: Array<Violation> = []
  const report: Report = (id, subject, problem) => found.push({ id, subject, problem })
  const at = index(dump)
  for (const task of dump.tasks) checkTask(task, at.runsOf.get(task.taskId) ?? [], report)
  for (const run of dump.runs) checkRun(run, at, report)
  for (const checkpoint of dump.checkpoints) checkCheckpoint(checkpoint, at, report)
  for (const wait of dump.waits) checkWait(wait, at, report)
  checkLimits(dump, at, report)
  const keys = new Map<string, TaskId>()
  for (const { idempotencyKey, taskId } of dump.tasks) {
    if (idempotencyKey === null) continue
    const other = keys.get(idempotencyKey)
    if (other !== undefined) report("S37", taskId, `has the idempotency key of task ${other}`)
    keys.set(idempotencyKey, taskId)
  }
  return found
}

/**
 * The violations in a step from one state of a queue to a later one: what was final and has changed. Deleting is allowed.
 *
 * @since 0.1.0
 * @category checking
 */
export const checkStep = (before: Dump, after: Dump): ReadonlyArray<Violation> => {
  const found: Array<Violation> = []
  const report: Report = (id, subject, problem) => found.push({ id, subject, problem })
  const [then, now] = [index(before), index(after)]
  for (const task of before.tasks) {
    const next = now.tasks.get(task.taskId)
    if (next !== undefined) stepTask(task, next, report)
    // What has not ended is not cleaned up.
    else if (!isTerminal(task.state)) report("S49", task.taskId, `was deleted while ${task.state}`)
  }
  for (const run of before.runs) {
    const next = now.runs.get(run.runId)
    if (next !== undefined) stepRun(run, next, then, now, report)
    else if (now.tasks.has(run.taskId)) report("S50", run.runId, "was deleted without its task")
  }
  for (const checkpoint of before.checkpoints) {
    const next = now.checkpoints.get(partKey(checkpoint))
    if (next === undefined) {
      if (now.tasks.has(checkpoint.taskId)) report("S50", partKey(checkpoint), "was deleted without its task")
    } else if (checkpoint.status === "committed" && !same(next.state, checkpoint.state)) {
      report("S20", partKey(checkpoint), "a committed checkpoint was changed")
    }
  }
  for (const event of before.events) {
    const next = now.events.get(event.name)
    if (next !== undefined && DateTime.Equivalence(next.emittedAt, event.emittedAt) && !same(next, event)) {
      report("S30", event.name, "an emitted event was changed")
    }
  }
  return found
}

/**
 * The violations in the answer of a claim, given what is in the queue afterwards.
 *
 * @since 0.1.0
 * @category checking
 */
export const checkClaim = (
  request: { readonly token: string; readonly limit: number; readonly except?: ReadonlyArray<string> | undefined },
  claimed: ReadonlyArray<Claimed>,
  after: Dump
): ReadonlyArray<Violation> => {
  const found: Array<Violation> = []
  const runs = new Map(after.runs.map((run) => [run.runId, run]))
  const report = (subject: string, problem: string) => found.push({ id: "S18", subject, problem })
  if (claimed.length > request.limit) {
    report(request.token, `${claimed.length} runs were claimed, ${request.limit} were asked for`)
  }
  for (const { name, runId } of claimed) {
    const run = runs.get(runId)
    if (run?.state !== "running" || run.claimedBy !== request.token) {
      report(runId, "was claimed, but is not running under the token in this queue")
    }
    if (request.except?.includes(name) === true) report(runId, `was claimed, although it is of the task "${name}"`)
  }
  return found
}

/**
 * The violations between queues of one store: rows that are in several of them.
 *
 * @since 0.1.0
 * @category checking
 */
export const checkQueues = (dumps: ReadonlyMap<string, Dump>): ReadonlyArray<Violation> => {
  const found: Array<Violation> = []
  const owners = new Map<string, string>()
  for (const [queue, { runs, tasks }] of dumps) {
    for (const id of [...tasks.map((task) => task.taskId), ...runs.map((run) => run.runId)]) {
      const owner = owners.get(id)
      if (owner !== undefined) found.push({ id: "S55", subject: id, problem: `is in the queues ${owner} and ${queue}` })
      owners.set(id, queue)
    }
  }
  return found
}

/**
 * Violations as text, one a line.
 *
 * @since 0.1.0
 * @category formatting
 */
export const format = (violations: ReadonlyArray<Violation>): string =>
  violations.map(({ id, problem, subject }) => `${id} ${subject}: ${problem}`).join("\n")

// --- internal

type Report = (id: Id, subject: string, problem: string) => void

const partKey = ({ name, taskId }: Checkpoint): string => `${taskId}/${name}`

/** As JSON, that is; most are the same, member by member, and need not be written out to be compared. */
const same = (a: unknown, b: unknown): boolean => isAlike(a, b) || JSON.stringify(a) === JSON.stringify(b)

const isAlike = (a: unknown, b: unknown): boolean => {
  if (a === b) return true
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false
  if (DateTime.isDateTime(a)) return DateTime.isDateTime(b) && DateTime.Equivalence(a, b)
  if (Array.isArray(a) !== Array.isArray(b)) return false
  const keys = Object.keys(a)
  const others = Object.keys(b)
  return keys.length === others.length &&
    keys.every((key, place) => key === others[place] && isAlike(Reflect.get(a, key), Reflect.get(b, key)))
}

interface Index {
  readonly tasks: ReadonlyMap<TaskId, TaskRow>
  readonly runs: ReadonlyMap<RunId, RunRow>
  readonly runsOf: ReadonlyMap<TaskId, ReadonlyArray<RunRow>>
  readonly checkpoints: ReadonlyMap<string, Checkpoint>
  readonly events: ReadonlyMap<string, StoredEvent>
  readonly waitsOf: ReadonlyMap<RunId, ReadonlyArray<WaitRow>>
}

const index = (dump: Dump): Index => ({
  tasks: new Map(dump.tasks.map((row) => [row.taskId, row])),
  runs: new Map(dump.runs.map((row) => [row.runId, row])),
  runsOf: Map.groupBy(dump.runs.toSorted((a, b) => a.attempt - b.attempt), (row) => row.taskId),
  checkpoints: new Map(dump.checkpoints.map((row) => [partKey(row), row])),
  events: new Map(dump.events.map((row) => [row.name, row])),
  waitsOf: Map.groupBy(dump.waits, (row) => row.runId)
})

const checkTask = (task: TaskRow, runs: ReadonlyArray<RunRow>, report: Report) => {
  const { taskId } = task
  const newest = runs.at(-1)
  if (runs.some((run, place) => run.attempt !== place + 1)) {
    report("S1", taskId, `its attempts are ${runs.map((run) => run.attempt).join(", ")}`)
  }
  const open = runs.filter((run) => !isTerminal(run.state))
  if (open.length > 1) report("S2", taskId, `${open.length} of its runs have not ended`)
  if (newest === undefined) return report("S4", taskId, "it has no run")
  const pair = `${task.state} ${newest.state}`
  if (task.state !== newest.state && pair !== "cancelled failed") {
    report("S4", taskId, `it is ${task.state}, its newest run ${newest.state}`)
  }
  if (task.attempts !== runs.length) report("S7", taskId, `${task.attempts} attempts, but ${runs.length} runs`)
  if (task.maxAttempts !== null && task.attempts > Math.max(1, task.maxAttempts)) {
    report("S7", taskId, `${task.attempts} attempts of at most ${task.maxAttempts}`)
  }
  if (task.lastAttemptRun !== newest.runId) report("S8", taskId, "its last run is not the one of the last attempt")
  if (task.state === "completed" && !same(task.completedPayload, newest.result)) {
    report("S10", taskId, "its result is not that of its run")
  }
  if ((task.state === "cancelled") !== (task.cancelledAt !== null)) {
    report("S5", taskId, `it is ${task.state}, and ${task.cancelledAt === null ? "never was" : "was"} cancelled`)
  }
  if (task.firstStartedAt === null && runs.some((run) => run.startedAt !== null)) {
    report("S4", taskId, "a run was started, the task never")
  }
}

const needs: { readonly [S in State]: ReadonlyArray<keyof RunRow> } = {
  pending: ["availableAt"],
  running: ["claimedBy", "claimExpiresAt", "startedAt"],
  sleeping: [],
  completed: ["completedAt"],
  failed: ["failedAt"],
  cancelled: []
}

const checkRun = (run: RunRow, at: Index, report: Report) => {
  const task = at.tasks.get(run.taskId)
  if (task === undefined) report("S50", run.runId, `its task ${run.taskId} does not exist`)
  for (const field of needs[run.state]) {
    if (run[field] === null) report(run.state === "running" ? "S17" : "S4", run.runId, `${run.state} without ${field}`)
  }
  if (run.state !== "sleeping") return
  const waits = at.waitsOf.get(run.runId) ?? []
  if (run.claimedBy !== null || run.claimExpiresAt !== null) report("S13", run.runId, "sleeping under a claim")
  if (run.availableAt === null && waits.length === 0) report("S28", run.runId, "sleeps for ever, and waits for nothing")
  if (waits.length === 0) return
  // A run wakes at its first deadline at the latest.
  const deadlines = waits.flatMap((wait) => wait.timeoutAt?.epochMilliseconds ?? [])
  if (deadlines.length > 0 && (run.availableAt?.epochMilliseconds ?? Infinity) > Math.min(...deadlines)) {
    report("S34", run.runId, "sleeps beyond the deadline of its wait")
  }
}

const checkCheckpoint = (checkpoint: Checkpoint, at: Index, report: Report) => {
  const { name, ownerRunId, taskId } = checkpoint
  const subject = partKey(checkpoint)
  if (!at.tasks.has(taskId)) report("S50", subject, "its task does not exist")
  const owner = ownerRunId === null ? undefined : at.runs.get(ownerRunId)
  if (owner !== undefined && owner.taskId !== taskId) report("S26", subject, "was written by a run of another task")
  if (name.startsWith("$timeout:") && at.checkpoints.has(`${taskId}/${name.slice("$timeout:".length)}`)) {
    report("S33", subject, "the wait both timed out and received its event")
  }
}

const checkWait = (wait: WaitRow, at: Index, report: Report) => {
  const subject = `${wait.runId}/${wait.step}`
  const run = at.runs.get(wait.runId)
  if (run === undefined || run.taskId !== wait.taskId) return report("S29", subject, "belongs to no run of its task")
  if (run.state !== "sleeping") report("S29", subject, `its run is ${run.state}`)
  if (run.wakeEvent !== null && run.wakeEvent !== wait.event) report("S29", subject, "its run waits for another event")
  const event = at.events.get(wait.event)
  // An event that came after the deadline changes nothing: the run is due, and will find that it timed out.
  if (event !== undefined && (wait.timeoutAt === null || DateTime.isLessThan(event.emittedAt, wait.timeoutAt))) {
    report("S31", subject, `waits for "${wait.event}", which has been emitted`)
  }
  const deadline = at.checkpoints.get(`${wait.taskId}/$deadline:${wait.step}`)
  if (wait.timeoutAt !== null && deadline === undefined) report("S34", subject, "its deadline is not in a checkpoint")
}

const isParked = ({ availableAt, state }: RunRow): boolean =>
  state === "sleeping" && availableAt !== null && DateTime.Equivalence(availableAt, parkedUntil)

const checkLimits = ({ limitedRuns, runs }: Dump, at: Index, report: Report) => {
  for (const { runId, state } of limitedRuns) {
    const run = at.runs.get(runId)
    const fits = run !== undefined && {
      waiting: isParked(run),
      admitted: run.state === "pending" || run.state === "sleeping",
      running: run.state === "running"
    }[state]
    if (!fits) report("S58", runId, `is ${state} by its limit, but ${run?.state ?? "does not exist"}`)
  }
  const limited = new Set(limitedRuns.map(({ runId }) => runId))
  for (const run of runs) {
    if (isParked(run) && !limited.has(run.runId)) report("S58", run.runId, "is parked, and waits for no limit")
  }
}

const stepTask = (task: TaskRow, next: TaskRow, report: Report) => {
  const { taskId } = task
  if (isTerminal(task.state) && next.state !== task.state && task.state !== "failed") {
    report("S5", taskId, `was ${task.state} and became ${next.state}`)
  }
  if (task.state === "completed" && !same(task.completedPayload, next.completedPayload)) {
    report("S10", taskId, "its result was changed")
  }
  if (next.attempts < task.attempts) report("S1", taskId, "its attempts became fewer")
  // Until it is started it may be revised.
  const params = task.firstStartedAt === null ? next.params : task.params
  if (!same([task.name, params, task.idempotencyKey], [next.name, next.params, next.idempotencyKey])) {
    report("S10", taskId, "what it was spawned with was changed")
  }
}

const stepRun = (run: RunRow, next: RunRow, before: Index, now: Index, report: Report) => {
  if (isTerminal(run.state) && !same(run, next)) report("S5", run.runId, `was ${run.state} and was changed`)
  const held = run.state === "running" && next.state === "running" && run.claimedBy === next.claimedBy
  if (held && (run.claimExpiresAt?.epochMilliseconds ?? 0) > (next.claimExpiresAt?.epochMilliseconds ?? 0)) {
    report("S14", run.runId, "its lease was shortened")
  }
  // Nobody takes over a run: an expired claim ends it.
  if (run.state === "running" && next.state === "running" && run.claimedBy !== next.claimedBy) {
    report("S3", run.runId, "was claimed while another claim held it")
  }
  const isClaimed = run.state !== "running" && next.state === "running" && next.startedAt !== null
  if (isClaimed && (run.availableAt === null || DateTime.isGreaterThan(run.availableAt, next.startedAt))) {
    // In between it may have been woken or given another time, and claimed in the same transaction.
    if (run.state !== "sleeping" || !(isWoken(run, before, now) || isLimited(run, before))) {
      report("S18", run.runId, "was claimed before it was due")
    }
  }
  if (run.state === "running" && next.state === "failed") {
    const task = now.tasks.get(run.taskId)
    const goesOn = now.runsOf.get(run.taskId)?.some((other) => other.attempt === run.attempt + 1) === true
    if (!goesOn && task?.state !== "failed" && task?.state !== "cancelled") {
      report("S19", run.runId, "failed, and neither goes on nor ended its task")
    }
  }
  // One that was claimed in between has waited for something else since.
  const isSameSleep = run.state === "sleeping" && same(run.startedAt, next.startedAt)
  if (isSameSleep && next.state === "pending" && !isWoken(run, before, now)) {
    report("S36", run.runId, "was woken by nothing that happened in its queue")
  }
}

/** Whether the limit of its task may have made the run sleep, and let it go in the operation that claimed it. */
const isLimited = (run: RunRow, before: Index): boolean => {
  const headers = before.tasks.get(run.taskId)?.headers
  return typeof headers === "object" && headers !== null && limitHeader in headers
}

/** Whether something that a sleeping run waited for has happened, or whether it is a first run, which may be revised. */
const isWoken = (run: RunRow, before: Index, now: Index): boolean => {
  const waits = before.waitsOf.get(run.runId) ?? []
  if (waits.length === 0) return run.startedAt === null
  return waits.some(({ event, step, taskId }) => {
    if (now.events.has(event) || now.checkpoints.has(`${taskId}/${step}`)) return true
    const awaited = /^[$](?:task|settled):(.*)$/.exec(event)?.[1]
    if (awaited === undefined) return false
    const task = now.tasks.get(awaited as TaskId)
    return task === undefined || isTerminal(task.state)
  })
}
