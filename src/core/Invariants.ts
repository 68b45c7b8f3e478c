/**
 * What always holds of a queue between operations, as pure functions on everything that is stored in it.
 *
 * For tests, and for those who suspect that a store or a program beside it broke something. `Doctor` looks for the same
 * on a live database, and for runs that failed without a reason (S11), which no dump tells from those whose reason is JSON
 * null.
 *
 * @since 0.1.0
 */
import { DateTime } from "effect"
import { isTerminal, type RunId, type State, type TaskId } from "./Identifiers.ts"
import type { Checkpoint, RunRow, StoredEvent, TaskRow, WaitRow } from "./Records.ts"

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
}

/**
 * Something that must not be. `id` names the invariant, `subject` the row, and `problem` says what is wrong.
 *
 * @since 0.1.0
 * @category models
 */
export interface Violation {
  readonly id: string
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
  const now = index(after)
  for (const task of before.tasks) {
    const next = now.tasks.get(task.taskId)
    if (next !== undefined) stepTask(task, next, report)
    // What has not ended is not cleaned up.
    else if (!isTerminal(task.state)) report("S49", task.taskId, `was deleted while ${task.state}`)
  }
  for (const run of before.runs) {
    const next = now.runs.get(run.runId)
    if (next !== undefined) stepRun(run, next, report)
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
 * Violations as text, one a line.
 *
 * @since 0.1.0
 * @category formatting
 */
export const format = (violations: ReadonlyArray<Violation>): string =>
  violations.map(({ id, problem, subject }) => `${id} ${subject}: ${problem}`).join("\n")

// --- internal

type Report = (id: string, subject: string, problem: string) => void

const partKey = ({ name, taskId }: Checkpoint): string => `${taskId}/${name}`

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

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
  if (at.events.has(wait.event)) {
    const overdue = wait.timeoutAt !== null && run.availableAt !== null
    if (!overdue) report("S31", subject, `waits for "${wait.event}", which has been emitted`)
  }
  const deadline = at.checkpoints.get(`${wait.taskId}/$deadline:${wait.step}`)
  if (wait.timeoutAt !== null && deadline === undefined) report("S34", subject, "its deadline is not in a checkpoint")
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
  if (!same([task.name, task.params, task.idempotencyKey], [next.name, next.params, next.idempotencyKey])) {
    report("S10", taskId, "what it was spawned with was changed")
  }
}

const stepRun = (run: RunRow, next: RunRow, report: Report) => {
  if (isTerminal(run.state) && !same(run, next)) report("S5", run.runId, `was ${run.state} and was changed`)
  const held = run.state === "running" && next.state === "running" && run.claimedBy === next.claimedBy
  if (held && (run.claimExpiresAt?.epochMilliseconds ?? 0) > (next.claimExpiresAt?.epochMilliseconds ?? 0)) {
    report("S14", run.runId, "its lease was shortened")
  }
  // Nobody takes over a run: an expired claim ends it.
  if (run.state === "running" && next.state === "running" && run.claimedBy !== next.claimedBy) {
    report("S3", run.runId, "was claimed while another claim held it")
  }
}
