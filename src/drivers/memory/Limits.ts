/**
 * Keeping to the limits of tasks.
 *
 * @since 0.1.0
 */
import { Result, Schema } from "effect"
import {
  LimitFigures,
  limitHeader,
  type LimitKeyRow,
  type LimitRow,
  parkedUntil,
  TaskLimit
} from "../../core/Driver.ts"
import type { LimitName, RunId } from "../../core/Identifiers.ts"
import type { Dump } from "../../core/Invariants.ts"
import * as Instants from "./Instants.ts"
import * as Json from "./Json.ts"
import { type Limited, lineOf } from "./LimitTables.ts"
import type { Call, Run, Task } from "./Tables.ts"

/** The instant of {@link parkedUntil}. @since 0.1.0 @category constants */
export const parked: number = parkedUntil.epochMilliseconds

/** Stores the figures of the limits of tasks that are spawned: of each limit those of its last task. @since 0.1.0 */
export const declare = (call: Call, spawned: ReadonlyArray<Pick<Task, "headers">>): void => {
  const newest = new Map<string, TaskLimit>()
  for (const { headers } of spawned) {
    const limit = parse(headers)
    if (limit !== undefined) newest.set(limit.name, limit)
  }
  const { limits } = call.tables.limits
  for (const { concurrency, name, rate } of newest.values()) {
    const figures = { concurrency, rate }
    const found = limits.get(name)
    if (found !== undefined && Json.equals(found.figures, figures)) continue
    const stale = found !== undefined && (found.stale || found.override === null)
    limits.set(name, { name, figures, override: found?.override ?? null, stale })
  }
}

/** Lets runs go by figures that have changed. @since 0.1.0 */
export const refresh = (call: Call): void => {
  for (const limit of call.tables.limits.limits.values()) if (limit.stale) apply(call, limit.name)
}

/**
 * Whether a run that is due may start, and now counts as running. Otherwise it is parked, or given the time at which it may.
 *
 * @since 0.1.0
 */
export const mayStart = (call: Call, run: Run, isExcepted: (task: Task) => boolean): boolean => {
  const { limits, tasks } = call.tables
  const limit = limits.limits.size === 0 ? undefined : parse(tasks.get(run.taskId)?.headers ?? null)
  const figures = limit === undefined ? undefined : figuresOf(call, limit.name)
  if (limit === undefined || figures === undefined) return true
  const line = lineOf(limit)
  const known = limits.limited.get(run.runId)
  if (known?.state !== "admitted" && !hasRoom(call, line, figures)) {
    park(call, run, limit)
    parkBehind(call, line, isExcepted)
    return false
  }
  const at = figures.rate === null ? call.now : nextStart(call, line, figures.rate)
  const row = known ?? rowOf(run, limit, "admitted")
  if (at > call.now) {
    limits.limited.set(run.runId, row)
    hold(call, run, at)
    return false
  }
  if (figures.rate !== null) count(call, row, figures.rate)
  limits.limited.set(run.runId, { ...row, state: "running" })
  if (figures.rate !== null) admit(call, line, figures)
  return true
}

/** Forgets runs that no longer run or wait for their limits, and then lets the next ones of their keys go. @since 0.1.0 */
export const leave = (call: Call, ...runIds: ReadonlyArray<RunId>): void => {
  const { limited } = call.tables.limits
  const gone = runIds.flatMap((runId) => limited.get(runId) ?? [])
  for (const { runId } of gone) limited.delete(runId)
  for (const row of gone) {
    const figures = figuresOf(call, row.name)
    if (row.state !== "waiting" && figures !== undefined) admit(call, lineOf(row), figures)
    forget(call, lineOf(row))
  }
}

/** Since when a run is due, which a parked one does not tell. @since 0.1.0 */
export const dueOf = (call: Call, run: Run): number | null =>
  call.tables.limits.limited.get(run.runId)?.due ?? run.availableAt

/** @since 0.1.0 */
export const list = (call: Call): ReadonlyArray<LimitRow> => {
  const { limited, limits } = call.tables.limits
  const counts = tally(limited.values(), (row) => row.name)
  return limits.values().toSorted((a, b) => a.name < b.name ? -1 : 1).map(({ figures, name, override }) => ({
    name,
    figures,
    override,
    ...(counts.get(name) ?? none)
  }))
}

/** @since 0.1.0 */
export const listKeys = (
  call: Call,
  { limit, name }: { readonly name: LimitName; readonly limit: number }
): ReadonlyArray<LimitKeyRow> =>
  [...tally(call.tables.limits.limited.values().filter((row) => row.name === name), (row) => row.key)]
    .map(([key, counts]) => ({ key, ...counts }))
    .sort((a, b) => b.waiting - a.waiting || (a.key < b.key ? -1 : 1))
    .slice(0, limit)

/** What a dump tells of limits. @since 0.1.0 */
export const dump = ({ now, tables: { limits } }: Call): Pick<Dump, "limits" | "limitedRuns" | "limitKeys"> => ({
  limits: limits.limits.values().toSorted((a, b) => a.name < b.name ? -1 : 1),
  limitedRuns: limits.limited.values().toSorted((a, b) => a.runId < b.runId ? -1 : 1)
    .map((row) => ({ ...row, due: Instants.toDateTime(row.due) })),
  limitKeys: limits.arrivals.values().filter(({ at }) => at > micros(now))
    .map(({ at, key, name }) => ({ name, key, arrival: Instants.toDateTime(at / 1000) }))
})

/** @since 0.1.0 */
export const override = (
  call: Call,
  { figures, name }: { readonly name: LimitName; readonly figures: LimitFigures | null }
): Result.Result<boolean, never> => {
  const { limits } = call.tables.limits
  const found = limits.get(name)
  if (found === undefined) return Result.succeed(false)
  limits.set(name, { ...found, override: figures })
  apply(call, name)
  return Result.succeed(true)
}

// --- internal

type Rate = NonNullable<LimitFigures["rate"]>

const none = { admitted: 0, waiting: 0 }

const tally = (rows: ReadonlyArray<Limited>, by: (row: Limited) => string) => {
  const counts = new Map<string, typeof none>()
  for (const row of rows) {
    const found = counts.get(by(row)) ?? none
    counts.set(
      by(row),
      row.state === "waiting"
        ? { ...found, waiting: found.waiting + 1 }
        : { ...found, admitted: found.admitted + 1 }
    )
  }
  return counts
}

const isTaskLimit = Schema.is(TaskLimit)

// Other programs may have stored anything.
const parse = (headers: Task["headers"]): TaskLimit | undefined => {
  const limit = headers?.[limitHeader]
  return limit !== undefined && isTaskLimit(limit) ? limit : undefined
}

const figuresOf = (call: Call, name: string): LimitFigures | undefined => {
  const limit = call.tables.limits.limits.get(name)
  return limit?.override ?? limit?.figures
}

const rowOf = (run: Run, { key, name }: TaskLimit, state: Limited["state"]): Limited => ({
  runId: run.runId,
  name,
  key,
  state,
  due: run.availableAt ?? run.createdAt
})

/** Whether one more run of a key may be admitted that has not waited; never ahead of those that have. */
const hasRoom = ({ tables: { limits } }: Call, line: string, { concurrency, rate }: LimitFigures): boolean =>
  limits.waiting.count(line) === 0 &&
  (concurrency === null || limits.held.count(line) < concurrency) &&
  (rate === null || limits.admitted.count(line) === 0)

/** Lets waiting runs of a key go, for as long as there is room. Those of a rate go when they may start. */
const admit = (call: Call, line: string, { concurrency, rate }: LimitFigures): void => {
  const { limits, runs } = call.tables
  for (let row = limits.waiting.first(line); row !== undefined; row = limits.waiting.first(line)) {
    if (concurrency !== null && limits.held.count(line) >= concurrency) return
    let at = row.due
    if (rate !== null) {
      const ahead = limits.admitted.count(line)
      const startable = startableNow(call, line, rate)
      if (ahead >= Math.max(1, startable)) return
      if (ahead >= startable) at = Math.max(at, nextStart(call, line, rate))
    }
    limits.limited.set(row.runId, { ...row, state: "admitted" })
    const run = runs.get(row.runId)
    if (run !== undefined) runs.set(run.runId, { ...run, availableAt: at })
    if (at <= call.now) call.signalWork()
  }
}

/** Lets runs of all keys of a limit go by the figures that hold now. */
const apply = (call: Call, name: string): void => {
  const { limits, runs } = call.tables
  const [limit, figures] = [limits.limits.get(name), figuresOf(call, name)]
  if (limit === undefined || figures === undefined) return
  if (limit.stale) limits.limits.set(name, { ...limit, stale: false })
  if (figures.rate !== null) bringForward(call, name, figures.rate)
  const lines = new Set<string>()
  for (const row of limits.limited.values()) {
    if (row.name !== name || row.state === "running") continue
    lines.add(lineOf(row))
    const run = row.state === "admitted" ? runs.get(row.runId) : undefined
    if (run === undefined || (run.availableAt ?? 0) <= call.now) continue
    const at = figures.rate === null ? row.due : Math.max(row.due, nextStart(call, lineOf(row), figures.rate))
    runs.set(run.runId, { ...run, availableAt: at })
    if (at <= call.now) call.signalWork()
  }
  for (const line of lines) admit(call, line, figures)
}

/** Keys come and go; one of which nothing is known any more is not kept. */
const forget = (call: Call, line: string): void => {
  const { arrivals, held, waiting } = call.tables.limits
  const isUsed = waiting.count(line) > 0 || held.count(line) > 0
  if (!isUsed && (arrivals.get(line)?.at ?? Infinity) <= micros(call.now)) arrivals.delete(line)
}

const park = (call: Call, run: Run, limit: TaskLimit): void => {
  call.tables.limits.limited.set(run.runId, rowOf(run, limit, "waiting"))
  hold(call, run, parked)
}

/** Parks the other runs of a key without room that are among the next thousand due ones. */
const parkBehind = (call: Call, line: string, isExcepted: (task: Task) => boolean): void => {
  const { due, limits, tasks } = call.tables
  for (const run of due.select(call.now, 1000, () => true)) {
    const task = tasks.get(run.taskId)
    const limit = task === undefined || isExcepted(task) ? undefined : parse(task.headers)
    if (limit === undefined || lineOf(limit) !== line || limits.limited.has(run.runId)) continue
    park(call, run, limit)
  }
}

/** Puts a run that is due to sleep until it may start. What it waited for is over. */
const hold = (call: Call, run: Run, availableAt: number): void => {
  const { tables } = call
  tables.runs.set(run.runId, { ...run, state: "sleeping", availableAt })
  tables.tasks.set(run.taskId, { ...tables.taskOf(run), state: "sleeping" })
  tables.deleteWaits(run.taskId)
}

/** The generic cell rate algorithm, in whole microseconds. */
const cells = ({ burst, limit, seconds }: Rate) => {
  const spacing = Math.min(Math.ceil(Math.round(seconds * 1e6) / (limit - burst + 1)), longest)
  return { spacing, tolerance: Math.min((burst - 1) * spacing, longest) }
}

/** Ten years. */
const longest = 315_360_000e6

const micros = (millis: number): number => Math.round(millis * 1000)

/** When the next run of a key is expected, in microseconds; not before now. */
const arrival = (call: Call, line: string): number =>
  Math.max(micros(call.now), call.tables.limits.arrivals.get(line)?.at ?? 0)

/** Other figures must not expect the next run later than they would have done after a start at present. */
const bringForward = (call: Call, name: string, rate: Rate): void => {
  const { arrivals } = call.tables.limits
  const { spacing, tolerance } = cells(rate)
  const latest = micros(call.now) + tolerance + spacing
  for (const row of arrivals.values()) {
    if (row.name === name && row.at > latest) arrivals.set(lineOf(row), { ...row, at: latest })
  }
}

/** The first instant at which a run may start. */
const nextStart = (call: Call, line: string, rate: Rate): number =>
  Math.max(call.now, (arrival(call, line) - cells(rate).tolerance) / 1000)

/** How many runs may start at once. */
const startableNow = (call: Call, line: string, rate: Rate): number => {
  const { spacing, tolerance } = cells(rate)
  return Math.max(0, Math.floor((tolerance - (arrival(call, line) - micros(call.now))) / spacing) + 1)
}

const count = (call: Call, { key, name }: Pick<Limited, "name" | "key">, rate: Rate): void => {
  const line = lineOf({ key, name })
  call.tables.limits.arrivals.set(line, { name, key, at: arrival(call, line) + cells(rate).spacing })
}
