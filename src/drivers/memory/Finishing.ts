/**
 * Ending runs.
 *
 * @since 0.1.0
 */
import { Duration, type Schema } from "effect"
import type { Complete, Fail, Failed, Held, Outcome, Retry } from "../../core/Driver.ts"
import type { RunId, State } from "../../core/Identifiers.ts"
import * as RetryStrategy from "../../core/RetryStrategy.ts"
import * as Awaiting from "./Awaiting.ts"
import * as Instants from "./Instants.ts"
import * as Json from "./Json.ts"
import * as Limits from "./Limits.ts"
import { type Call, deadlineOf, holds, newRun, refusal, type Run, type Task } from "./Tables.ts"

/** @since 0.1.0 */
export const complete = (call: Call, { runs }: typeof Complete.Type): ReadonlyArray<Outcome> =>
  settle(call, runs, (item, run, task): Outcome => {
    const result = Json.normalize(item.result)
    call.tables.runs.set(run.runId, { ...run, state: "completed", completedAt: call.now, result })
    call.tables.tasks.set(task.taskId, {
      ...task,
      state: "completed",
      completedPayload: result,
      lastAttemptRun: run.runId,
      endedAt: call.now
    })
    Limits.leave(call, run.runId)
    call.signalEnd(task.taskId)
    Awaiting.wake(call, task.taskId)
    return "applied"
  }, (outcome) => outcome)

/** @since 0.1.0 */
export const fail = (call: Call, { runs }: typeof Fail.Type): ReadonlyArray<Failed> =>
  settle(
    call,
    runs,
    (item, run, task): Failed => ({
      outcome: "applied",
      state: failRun(call, run, task, Json.normalize(item.reason), item.retry)
    }),
    (outcome) => ({ outcome, state: null })
  )

/** Fails a running run and starts the next attempt, if there is one. Returns the task's state afterwards. @since 0.1.0 */
export const failRun = (call: Call, run: Run, task: Task, reason: Schema.Json, retry: Retry): State => {
  const { now, tables } = call
  tables.runs.set(run.runId, { ...run, state: "failed", failedAt: now, failureReason: reason, wakeEvent: null })
  Limits.leave(call, run.runId)
  const startAt = nextStart(now, run, task, retry)
  const deadline = task.firstStartedAt === null ? null : deadlineOf(task)
  if (startAt === undefined || (deadline !== null && deadline <= startAt)) {
    const state = startAt === undefined ? "failed" : "cancelled"
    tables.tasks.set(task.taskId, {
      ...task,
      state,
      lastAttemptRun: run.runId,
      cancelledAt: state === "cancelled" ? now : null,
      endedAt: now
    })
    call.signalEnd(task.taskId)
    Awaiting.wake(call, task.taskId)
    return state
  }
  const next = newRun(call, task.taskId, run, startAt)
  tables.runs.set(next.runId, next)
  tables.tasks.set(task.taskId, {
    ...task,
    state: next.state,
    attempts: Math.max(task.attempts, next.attempt),
    lastAttemptRun: next.runId
  })
  if (next.state === "pending") call.signalWork()
  return next.state
}

/**
 * The time between a failed attempt and the next one, from nothing to ten years, whatever the stored strategy looks like.
 *
 * @since 0.1.0
 */
export const retryDelay = (stored: Schema.Json, attempt: number): Duration.Duration => {
  const limit = Duration.toSeconds(RetryStrategy.maxDelay)
  switch (Json.textAt(stored, "kind")) {
    case "fixed":
      return RetryStrategy.delayAfter(
        { kind: "fixed", base_seconds: numberAt(stored, "base_seconds", 60, limit) },
        attempt
      )
    case "exponential": {
      const base = numberAt(stored, "base_seconds", 30, limit)
      const factor = numberAt(stored, "factor", 2, 1e6)
      // Too small to grow: the product of zero and infinity is not a number.
      if (attempt > 1 && (base < 1e-6 || factor < 1e-6)) return Duration.zero
      return RetryStrategy.delayAfter({
        kind: "exponential",
        base_seconds: base,
        factor,
        max_seconds: numberAt(stored, "max_seconds", limit, limit)
      }, attempt)
    }
    default:
      return Duration.zero
  }
}

// --- internal

/**
 * Answers for each item. All claims are looked at before anything changes, and of several items for one run the first one
 * that holds it applies.
 */
const settle = <I extends Held, A>(
  call: Call,
  items: ReadonlyArray<I>,
  apply: (item: I, run: Run, task: Task) => A,
  refuse: (outcome: Outcome) => A
): ReadonlyArray<A> => {
  const { runs, tasks } = call.tables
  const found = items.map((item) => {
    const run = runs.get(item.runId)
    return { item, run, task: run === undefined ? undefined : tasks.get(run.taskId) }
  })
  const done = new Set<RunId>()
  return found.map(({ item, run, task }) => {
    if (run === undefined || task === undefined || done.has(run.runId) || !holds(run, item)) {
      return refuse(refusal(run, task))
    }
    done.add(run.runId)
    return apply(item, run, task)
  })
}

const nextStart = (now: number, run: Run, task: Task, retry: Retry): number | undefined => {
  if (retry._tag === "Never" || (task.maxAttempts !== null && run.attempt >= task.maxAttempts)) return undefined
  switch (retry._tag) {
    case "Stored":
      return Instants.after(now, retryDelay(task.retryStrategy, run.attempt))
    case "After":
      return Math.max(now, Instants.after(now, retry.delay))
    case "At":
      return Math.max(now, retry.instant.epochMilliseconds)
  }
}

// A number, or the text of one, cut to 0 ... limit.
const numberAt = (stored: Schema.Json, key: string, otherwise: number, limit: number): number => {
  const text = Json.textAt(stored, key)?.trim() ?? ""
  return /^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$/.test(text)
    ? Math.min(Math.max(Number(text), 0), limit)
    : otherwise
}
