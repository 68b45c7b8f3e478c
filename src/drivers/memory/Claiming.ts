/**
 * Claiming runs, and keeping and giving up claims.
 *
 * @since 0.1.0
 */
import { Duration } from "effect"
import type { CheckpointSet, Claim, Claimed, Extend, Outcome, Release, SetCheckpoints } from "../../core/Driver.ts"
import type { ClaimToken } from "../../core/Identifiers.ts"
import * as Cancelling from "./Cancelling.ts"
import * as Finishing from "./Finishing.ts"
import * as Instants from "./Instants.ts"
import * as Json from "./Json.ts"
import * as Limits from "./Limits.ts"
import * as Rows from "./Rows.ts"
import { type Call, holds, refusal, type Run, type Task } from "./Tables.ts"

/** @since 0.1.0 */
export const claim = (call: Call, request: typeof Claim.Type, paused: boolean): ReadonlyArray<Claimed> => {
  cancelOverdue(call)
  failExpired(call, request.limit)
  if (paused) return []
  const claimExpiresAt = Instants.after(call.now, request.lease)
  Limits.refresh(call)
  const { tables } = call
  const except = request.except ?? []
  const isExcepted = ({ name }: Task) => except.includes(name)
  const next = (): ReadonlyArray<Run> => {
    if (except.length > 0) {
      return tables.due.select(call.now, request.limit - claimed.length, (run) => !isExcepted(tables.taskOf(run)))
    }
    const run = tables.due.first(call.now)
    return run === undefined ? [] : [run]
  }
  const claimed: Array<Claimed> = []
  while (claimed.length < request.limit) {
    const found = next()
    if (found.length === 0) break
    // Each of them is started, or is no longer due.
    for (const { runId } of found) {
      const run = tables.runs.get(runId)
      // One that was parked with another one is no longer due.
      if (run?.availableAt == null || run.availableAt > call.now) continue
      if (Limits.mayStart(call, run, isExcepted)) claimed.push(start(call, run, request.token, claimExpiresAt))
    }
  }
  return tables.limits.limits.size === 0 ? claimed : oldestFirst(claimed)
}

/** @since 0.1.0 */
export const claimedWith = (call: Call, { token }: { readonly token: ClaimToken }): ReadonlyArray<Claimed> => {
  const { runs, runsByToken } = call.tables
  return [...runsByToken.get(token)].sort().flatMap((runId) => {
    const run = runs.get(runId)
    if (run === undefined) return []
    const at = run.startedAt ?? call.now
    return [Rows.claimed(call.tables, token, run, call.tables.taskOf(run), at, at)]
  })
}

/** @since 0.1.0 */
export const extend = (call: Call, { runs }: typeof Extend.Type): ReadonlyArray<Outcome> =>
  runs.map((item) => {
    const run = call.tables.runs.get(item.runId)
    if (run === undefined || !holds(run, item)) return refused(call, run)
    extendTo(call, run, Instants.after(call.now, item.lease))
    return "applied"
  })

/** @since 0.1.0 */
export const release = (call: Call, { runs }: typeof Release.Type): ReadonlyArray<Outcome> =>
  runs.map((item) => {
    const run = call.tables.runs.get(item.runId)
    if (run === undefined || !holds(run, item)) return refused(call, run)
    const task = call.tables.taskOf(run)
    const availableAt = Instants.resolve(call.now, item.until)
    call.tables.runs.set(run.runId, {
      ...run,
      state: "sleeping",
      claimedBy: null,
      claimExpiresAt: null,
      availableAt,
      wakeEvent: null,
      eventPayload: undefined
    })
    call.tables.tasks.set(task.taskId, { ...task, state: "sleeping" })
    Limits.leave(call, run.runId)
    if (availableAt <= call.now) call.signalWork()
    return "applied"
  })

/** @since 0.1.0 */
export const setCheckpoints = (
  call: Call,
  { checkpoints }: typeof SetCheckpoints.Type
): ReadonlyArray<CheckpointSet> =>
  checkpoints.map((item) => {
    const run = call.tables.runs.get(item.runId)
    if (run === undefined || !holds(run, item)) return { outcome: refused(call, run), existing: undefined }
    const existing = call.tables.writeCheckpoint(run, item.name, Json.normalize(item.state), call.now)
    if (item.extendBy !== null) extendTo(call, run, Instants.after(call.now, item.extendBy))
    return { outcome: "applied", existing: existing === undefined ? undefined : Json.copy(existing) }
  })

/** @since 0.1.0 */
export const forgiveAttempts = ({ tables }: Call): void => {
  for (const { taskId } of tables.leases.select(Infinity, Infinity, () => true)) {
    const task = tables.tasks.get(taskId)
    if (task === undefined || task.maxAttempts === null) continue
    tables.tasks.set(taskId, { ...task, maxAttempts: task.maxAttempts + 1 })
  }
}

// --- internal

// Runs that were let go by others of the claim may have been due before those.
const oldestFirst = (claimed: ReadonlyArray<Claimed>) =>
  claimed.toSorted((a, b) => Duration.toMillis(b.waited) - Duration.toMillis(a.waited) || (a.runId < b.runId ? -1 : 1))

const refused = (call: Call, run: Run | undefined): Outcome =>
  refusal(run, run === undefined ? undefined : call.tables.taskOf(run))

// No write shortens a lease.
const extendTo = (call: Call, run: Run, claimExpiresAt: number) => {
  if (run.claimExpiresAt !== null && run.claimExpiresAt < claimExpiresAt) {
    call.tables.runs.set(run.runId, { ...run, claimExpiresAt })
  }
}

// All of them, so that no overdue task is started below.
const cancelOverdue = (call: Call) => {
  const { deadlines } = call.tables
  if (deadlines.first(call.now) !== undefined) {
    Cancelling.cancel(call, ...deadlines.select(call.now, Infinity, () => true))
  }
}

const failExpired = (call: Call, limit: number) => {
  const { leases } = call.tables
  for (let count = 0; count < limit; count++) {
    const run = leases.first(call.now)
    if (run === undefined) return
    const reason = {
      name: "$ClaimTimeout",
      message: "worker did not finish task within claim interval",
      workerId: run.claimedBy,
      claimExpiredAt: run.claimExpiresAt === null ? null : Instants.toJsonText(run.claimExpiresAt),
      attempt: run.attempt
    }
    Finishing.failRun(call, run, call.tables.taskOf(run), Json.normalize(reason), { _tag: "Stored" })
  }
}

const start = (call: Call, due: Run, token: ClaimToken, claimExpiresAt: number): Claimed => {
  const { now, tables } = call
  const before = tables.taskOf(due)
  const run: Run = {
    ...due,
    state: "running",
    claimedBy: token,
    claimExpiresAt,
    startedAt: now,
    availableAt: now
  }
  const task = {
    ...before,
    state: "running" as const,
    attempts: Math.max(before.attempts, run.attempt),
    firstStartedAt: before.firstStartedAt ?? now,
    lastAttemptRun: run.runId
  }
  tables.runs.set(run.runId, run)
  tables.tasks.set(task.taskId, task)
  tables.deleteWaits(task.taskId)
  return Rows.claimed(tables, token, run, task, now, due.availableAt ?? now)
}
