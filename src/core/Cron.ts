/**
 * Schedules: tasks that are spawned at the instants of a cron expression.
 *
 * A schedule is stored, so any number of processes may run it, without a leader: each of its ticks is spawned once, in the
 * transaction that moves the schedule on. It can be listed, paused, resumed, changed and removed while programs run.
 *
 * @since 0.1.0
 */
import { Cause, Cron as Expression, DateTime, Duration, Effect, Layer, Option, Result, Schema } from "effect"
import { Absurd } from "./Absurd.ts"
import * as CronTicks from "./CronTicks.ts"
import * as Driver from "./Driver.ts"
import { type DriverError, InvalidInput, NotFound } from "./Errors.ts"
import { IdempotencyKey, isTerminal, QueueName, type TaskId, TaskName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Outage from "./Outage.ts"
import * as Stored from "./Stored.ts"
import type * as Task from "./Task.ts"

/**
 * When a schedule ticks, and what becomes of its ticks.
 *
 * @since 0.1.0
 * @category models
 */
export interface Timing {
  /** The zone of the expression, as IANA names it, or an offset; the zone of the given `Cron`, else UTC, by default. */
  readonly timeZone?: string | undefined
  /**
   * Which of the ticks count that came while no process was there, or while the one that was was late; `last` by default.
   *
   * - `last`: only the newest one that is due, however late it is.
   * - `skip`: only the newest one that is due, and only while it is no older than `tolerance`.
   * - `all`: each one.
   */
  readonly missed?: CronTicks.Missed | undefined
  /** How late a tick may be with `missed: "skip"`; one minute by default. */
  readonly tolerance?: Duration.Input | undefined
  /** With `skip`, a tick is left out while the task of an earlier one has not ended; `allow` by default. */
  readonly overlap?: "allow" | "skip" | undefined
}

/**
 * A schedule as a program declares it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cron<R = never> {
  readonly name: string
  /** What is stored of it. */
  readonly definition: Effect.Effect<typeof Definition.Type, InvalidInput, Absurd | R>
}

/**
 * A schedule as it is stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface Schedule {
  readonly name: string
  readonly cron: string
  readonly timeZone: string
  readonly missed: CronTicks.Missed
  readonly overlap: "allow" | "skip"
  readonly queue: string
  /** The name of the task that it spawns. */
  readonly task: string
  readonly params: Schema.Json
  readonly paused: boolean
  /** The next tick; none when it has been stored just now. */
  readonly next: Option.Option<DateTime.Utc>
  /** The task that it spawned last. */
  readonly lastTask: Option.Option<TaskId>
}

/**
 * Declares a schedule: `task` is spawned with `params` at each tick. Each task carries its tick in the headers `schedule`
 * and `scheduledAt`, an ISO instant, which its handler finds in `CurrentRun`.
 *
 * `cron` has five fields, or six with seconds first, or is a `Cron` of Effect. Changes of daylight saving time are dealt
 * with as Effect's `Cron` does: a wall time that a change leaves out moves to the instant after the gap, and one that comes
 * twice ticks at the first.
 *
 * ```ts
 * import { Schema } from "effect"
 * import { Cron, Task } from "effect-absurd"
 *
 * const Report = Task.make("report", { params: { kind: Schema.String } })
 *
 * const Nightly = Cron.make("nightly", "30 2 * * *", Report, { kind: "sales" }, { timeZone: "Europe/Berlin" })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <
  Name extends string,
  P extends Schema.Constraint,
  S extends Schema.Constraint,
  E extends Schema.Constraint
>(
  name: string,
  cron: string | Expression.Cron,
  task: Task.Task<Name, P, S, E>,
  params: P["Type"],
  options: Timing & { readonly spawn?: Omit<Task.SpawnOptions, "delay" | "idempotencyKey"> | undefined } = {}
): Cron<P["EncodingServices"]> => ({
  name,
  definition: Effect.gen(function*() {
    yield* checkName(name)
    const { item, queue } = yield* task.prepare(params, options.spawn)
    const tolerance = yield* Input.duration("tolerance", options.tolerance ?? "1 minute")
    return {
      ...(yield* readCron(cron, options.timeZone)),
      missed: options.missed ?? "last",
      overlap: options.overlap ?? "allow",
      tolerance,
      queue,
      item: { ...item, idempotencyKey: null, delay: null }
    }
  })
})

/**
 * Declares schedules and runs all that are stored, for as long as the layer lives. Provide it in any number of processes.
 *
 * A declaration takes effect when it differs from the last one of that name; what was changed at run time since stays
 * otherwise. A schedule that is no longer declared goes on: see {@link remove}.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <R = never>(
  crons: ReadonlyArray<Cron<R>>,
  options?: {
    /** How soon a change that another process makes is noticed at the latest; 15 seconds by default. */
    readonly pollInterval?: Duration.Input | undefined
  }
): Layer.Layer<never, InvalidInput | DriverError, Absurd | R> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const pollInterval = yield* Input.duration("pollInterval", options?.pollInterval ?? "15 seconds", {
      minimum: "10 millis",
      maximum: "1 hour"
    })
    yield* Effect.forEach(crons, declare, { discard: true })
    yield* Effect.forkScoped(loop(pollInterval))
  }))

/**
 * Stores a schedule that a program declares, as {@link layer} does, without running it.
 *
 * @since 0.1.0
 * @category operations
 */
export const declare = <R>(cron: Cron<R>): Effect.Effect<void, InvalidInput | DriverError, Absurd | R> =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const definition = yield* codec.encode(yield* cron.definition)
    yield* driver.putSchedule({ name: cron.name, definition, declared: true })
  })

/**
 * Spawns the ticks that are due, once, and returns the ids of the tasks: for programs that have a loop of their own, and for
 * tests.
 *
 * @since 0.1.0
 * @category operations
 */
export const runDue: Effect.Effect<ReadonlyArray<TaskId>, DriverError, Absurd> = Effect.map(
  Effect.suspend(() => pass),
  ({ spawned }) => spawned
)

/**
 * All schedules, by name.
 *
 * @since 0.1.0
 * @category operations
 */
export const list: Effect.Effect<ReadonlyArray<Schedule>, DriverError, Absurd> = Effect.gen(function*() {
  const { driver } = yield* Absurd
  const rows = yield* driver.listSchedules
  const found = yield* Effect.forEach(
    rows,
    (row) => Effect.option(Effect.map(codec.decode(row.definition), describe(row)))
  )
  return found.flatMap(Option.toArray)
})

/**
 * Stops the ticks of a schedule. `NotFound` when there is none of that name.
 *
 * @since 0.1.0
 * @category operations
 */
export const pause = (name: string): Effect.Effect<void, NotFound | DriverError, Absurd> => setPaused(name, true)

/**
 * Lets a schedule tick again, from now on: ticks that came meanwhile are left out, whatever `missed` says. `NotFound` when
 * there is none of that name.
 *
 * @since 0.1.0
 * @category operations
 */
export const resume = (name: string): Effect.Effect<void, NotFound | DriverError, Absurd> => setPaused(name, false)

/**
 * Changes when a schedule ticks, from now on; what is absent stays. It holds until a program declares the schedule otherwise
 * than it did before. `NotFound` when there is none of that name.
 *
 * @since 0.1.0
 * @category operations
 */
export const change = Effect.fn("Cron.change")(function*(
  name: string,
  timing: Timing & { readonly cron?: string | Expression.Cron | undefined }
): Effect.fn.Return<void, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const row = (yield* driver.listSchedules).find((row) => row.name === name)
  if (row === undefined) return yield* new NotFound({ kind: "schedule", id: name })
  const before = yield* Effect.mapError(codec.decode(row.definition), unreadable(name))
  const zone = timing.timeZone ??
    (timing.cron === undefined || typeof timing.cron === "string" ? before.timeZone : undefined)
  const definition = yield* codec.encode({
    ...before,
    ...(timing.cron === undefined
      ? yield* readCron(before.cron, zone, before.onDstOverlap)
      : yield* readCron(timing.cron, zone)),
    missed: timing.missed ?? before.missed,
    overlap: timing.overlap ?? before.overlap,
    tolerance: timing.tolerance === undefined
      ? before.tolerance
      : yield* Input.duration("tolerance", timing.tolerance)
  })
  const exists = yield* driver.putSchedule({ name, definition, declared: false })
  if (!exists) return yield* new NotFound({ kind: "schedule", id: name })
})

/**
 * Removes a schedule; returns whether there was one. The tasks that it spawned stay. A program that declares it brings it
 * back.
 *
 * @since 0.1.0
 * @category operations
 */
export const remove = (name: string): Effect.Effect<boolean, DriverError, Absurd> =>
  Absurd.use(({ driver }) => driver.deleteSchedule(name))

// --- internal

const checkName = Input.check("schedule", TaskName)

const Definition = Schema.Struct({
  cron: Schema.String,
  timeZone: Schema.String,
  onDstOverlap: Schema.Literals(["earlier", "later", "both"]),
  missed: Schema.Literals(["skip", "last", "all"]),
  overlap: Schema.Literals(["allow", "skip"]),
  tolerance: Schema.Duration,
  queue: QueueName,
  item: Driver.SpawnItem
})

const codec = Stored.codec("schedule", Definition)

const unreadable = (name: string) => () =>
  new InvalidInput({ field: "schedule", problem: `${name} was stored by another version; declare it anew` })

const describe = (row: Driver.StoredSchedule) => (definition: typeof Definition.Type): Schedule => ({
  name: row.name,
  cron: definition.cron,
  timeZone: definition.timeZone,
  missed: definition.missed,
  overlap: definition.overlap,
  queue: definition.queue,
  task: definition.item.name,
  params: definition.item.params,
  paused: row.paused,
  next: Option.fromNullishOr(row.next),
  lastTask: Option.fromNullishOr(row.lastTask)
})

/** The text of an expression that names the same instants, or `InvalidInput`. */
const readCron = (
  cron: string | Expression.Cron,
  timeZone: string | undefined,
  onDstOverlap: Expression.DstOverlapPolicy = "earlier"
): Effect.Effect<Pick<typeof Definition.Type, "cron" | "timeZone" | "onDstOverlap">, InvalidInput> =>
  Effect.suspend(() => {
    const given = typeof cron === "string" ? undefined : cron
    const zone = timeZone ?? Option.getOrUndefined(Option.map(given?.tz ?? Option.none(), DateTime.zoneToString)) ??
      "UTC"
    const policy = given?.onDstOverlap ?? onDstOverlap
    const text = typeof cron === "string" ? cron : Expression.format(cron, { includeSeconds: true })
    const parsed = Expression.parse(text, zone, { onDstOverlap: policy })
    const refuse = (problem: string) => Effect.fail(new InvalidInput({ field: "cron", problem }))
    if (Result.isFailure(parsed)) return refuse(parsed.failure.message)
    if (
      given !== undefined &&
      !Expression.equals(Expression.make({ ...given, tz: undefined }), withoutZone(parsed.success))
    ) {
      return refuse("a Cron that wants days and weekdays to match both cannot be stored; give the expression as text")
    }
    return everTicks(parsed.success)
      ? Effect.succeed({ cron: text, timeZone: zone, onDstOverlap: policy })
      : refuse(`"${text}" names no instant`)
  })

const withoutZone = (cron: Expression.Cron) => Expression.make({ ...cron, tz: undefined })

const everTicks = (cron: Expression.Cron): boolean => {
  try {
    Expression.next(cron, "2000-01-01T00:00:00Z")
    return true
  } catch {
    return false
  }
}

const setPaused = (name: string, paused: boolean) =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const exists = yield* driver.pauseSchedule({ name, paused })
    if (!exists) return yield* new NotFound({ kind: "schedule", id: name })
  })

/** Ends a transaction whose schedule has been moved on by somebody else. */
class Overtaken {
  readonly _tag = "Overtaken"
}

const pass = Effect.gen(function*() {
  const { driver } = yield* Absurd
  const { due, later, now } = yield* driver.dueSchedules
  const spawned: Array<TaskId> = []
  let wait = later === null ? Duration.infinity : DateTime.distance(now, later)
  for (const row of due) {
    // One schedule that cannot be run must not hold up the others.
    const { next, tasks } = yield* Effect.catchCause(fire(row, now), (cause) =>
      Effect.andThen(
        Effect.logError(`The schedule "${row.name}" could not be run`, cause),
        cause.reasons.some((reason) => Cause.isFailReason(reason) && Outage.isPassing(reason.error))
          ? Effect.succeed(nothing)
          : postpone(row, now)
      ))
    spawned.push(...tasks)
    if (next !== undefined) wait = Duration.min(wait, Duration.max(DateTime.distance(now, next), Duration.zero))
  }
  return { spawned, wait }
})

const nothing = { tasks: [], next: undefined }

/** It is looked at again after a minute, behind those that are due by then. Its ticks since `after` are not lost. */
const postpone = ({ after, lastTask, name, revision }: Driver.StoredSchedule, now: DateTime.Utc) =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const next = DateTime.add(now, { minutes: 1 })
    yield* driver.advanceSchedule({ name, revision, after, next, lastTask })
    return { tasks: [], next }
  }).pipe(Effect.catchCause(() => Effect.succeed(nothing)))

const fire = Effect.fnUntraced(function*(row: Driver.StoredSchedule, now: DateTime.Utc) {
  const { driver } = yield* Absurd
  const definition = yield* codec.decode(row.definition)
  const cron = yield* Effect.fromResult(
    Expression.parse(definition.cron, definition.timeZone, { onDstOverlap: definition.onDstOverlap })
  )
  const { after, next, ticks } = CronTicks.due(cron, { ...definition, after: row.after, now })
  const tasks = yield* driver.withTransaction(Effect.gen(function*() {
    const tasks: Array<TaskId> = []
    let lastTask = row.lastTask
    for (const tick of ticks) {
      if (definition.overlap === "skip" && lastTask !== null && !(yield* hasEnded(definition.queue, lastTask))) continue
      lastTask = yield* spawnTick(row.name, definition, tick)
      tasks.push(lastTask)
    }
    const advanced = yield* driver.advanceSchedule({ name: row.name, revision: row.revision, after, next, lastTask })
    return advanced ? tasks : yield* Effect.fail(new Overtaken())
  })).pipe(Effect.catchIf((error) => error instanceof Overtaken, () => Effect.succeed<ReadonlyArray<TaskId>>([])))
  return { tasks, next }
})

const hasEnded = (queue: QueueName, taskId: TaskId) =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const [result] = yield* driver.results({ queue, taskIds: [taskId] })
    return result === undefined || isTerminal(result.state)
  })

/** The key is a second guard, for a schedule that is removed and declared anew. */
const spawnTick = (name: string, { item, queue }: typeof Definition.Type, tick: DateTime.Utc) =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const scheduledAt = DateTime.formatIso(tick)
    const task: Driver.SpawnItem = {
      ...item,
      headers: { ...item.headers, schedule: name, scheduledAt },
      idempotencyKey: IdempotencyKey.make(`schedule:${name}:${scheduledAt}`)
    }
    const [spawned] = yield* driver.spawn({ queue, tasks: [task] })
    return spawned!.taskId
  }).pipe(Effect.catchTag("IdempotencyConflict", ({ taskId }) => Effect.succeed(taskId)))

const loop = (pollInterval: Duration.Duration): Effect.Effect<never, never, Absurd> =>
  Effect.flatMap(Absurd, ({ outage }) =>
    outage.persist(pass).pipe(
      Effect.map(({ wait }) => Duration.min(wait, pollInterval)),
      Effect.catchCause((cause) => Effect.as(Effect.logError("The schedules could not be run", cause), pollInterval)),
      Effect.flatMap(Effect.sleep),
      Effect.forever
    ))
