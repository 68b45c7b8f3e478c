/**
 * The tables of a queue, and what an operation sees of the store.
 *
 * Instants are numbers (see `Instants`). Undefined JSON is SQL null, which is not JSON null. Rows are immutable.
 *
 * Invariants, between operations: a task that has not ended has exactly one run that has not ended, its newest, in the same
 * state; one that has ended has none. Waits belong to sleeping runs.
 *
 * @since 0.1.0
 */
import type { Random, Schema } from "effect"
import type { Headers, Held, Outcome, QueuePolicy, Signal } from "../../core/Driver.ts"
import { type CheckpointName, isTerminal, RunId, type State, TaskId } from "../../core/Identifiers.ts"
import * as Json from "./Json.ts"
import { LimitTables } from "./LimitTables.ts"
import { Groups, type Journal, Ordered, Table } from "./Table.ts"
import type * as Uuid from "./Uuid.ts"

/** @since 0.1.0 */
export interface Task {
  readonly taskId: TaskId
  readonly name: string
  readonly params: Schema.Json
  readonly headers: typeof Headers.Type | null
  readonly retryStrategy: Schema.Json | null
  readonly maxAttempts: number | null
  readonly cancellation: Schema.Json | null
  readonly enqueueAt: number
  readonly firstStartedAt: number | null
  readonly state: State
  readonly attempts: number
  readonly lastAttemptRun: RunId
  readonly completedPayload: Schema.Json | undefined
  readonly cancelledAt: number | null
  readonly idempotencyKey: string | null
  /** When it completed, failed or was cancelled; null for one that has not ended. */
  readonly endedAt: number | null
}

/** @since 0.1.0 */
export interface Run {
  readonly runId: RunId
  readonly taskId: TaskId
  /** The attempt before this one. */
  readonly previous: RunId | null
  readonly attempt: number
  readonly state: State
  readonly claimedBy: string | null
  readonly claimExpiresAt: number | null
  /** Null for never: the run waits for an event without limit. */
  readonly availableAt: number | null
  readonly wakeEvent: string | null
  readonly eventPayload: Schema.Json | undefined
  readonly startedAt: number | null
  readonly completedAt: number | null
  readonly failedAt: number | null
  readonly result: Schema.Json | undefined
  readonly failureReason: Schema.Json | undefined
  readonly createdAt: number
}

/** All checkpoints are committed ones. @since 0.1.0 */
export interface Checkpoint {
  readonly taskId: TaskId
  readonly name: CheckpointName
  readonly state: Schema.Json
  readonly ownerRunId: RunId
  readonly updatedAt: number
  /** Counts up within the queue, in the order of writing. */
  readonly ordinal: number
}

/** @since 0.1.0 */
export interface Event {
  readonly name: string
  readonly payload: Schema.Json
  readonly emittedAt: number
}

/** @since 0.1.0 */
export interface Wait {
  readonly taskId: TaskId
  readonly runId: RunId
  readonly step: CheckpointName
  readonly event: string
  readonly timeoutAt: number | null
  readonly createdAt: number
}

/**
 * One queue.
 *
 * @since 0.1.0
 * @category models
 */
export class Tables {
  readonly tasks: Table<TaskId, Task>
  readonly runs: Table<RunId, Run>
  /** By {@link partKey} of the task and the name. */
  readonly checkpoints: Table<string, Checkpoint>
  readonly events: Table<string, Event>
  /** By {@link partKey} of the run and the step. */
  readonly waits: Table<string, Wait>

  readonly tasksByKey: Groups<TaskId, Task>
  /** Tasks that a policy will cancel, by when. */
  readonly deadlines: Ordered<TaskId, Task>
  readonly ended: Ordered<TaskId, Task>
  readonly runsByToken: Groups<RunId, Run>
  /** Runs that can be claimed, by when. */
  readonly due: Ordered<RunId, Run>
  readonly leases: Ordered<RunId, Run>
  readonly checkpointsByTask: Groups<string, Checkpoint>
  readonly emitted: Ordered<string, Event>
  readonly waitsByTask: Groups<string, Wait>
  readonly waitsByEvent: Groups<string, Wait>

  readonly limits: LimitTables

  private ordinal = 0

  constructor(journal: Journal) {
    this.tasks = new Table(journal)
    this.runs = new Table(journal)
    this.checkpoints = new Table(journal)
    this.events = new Table(journal)
    this.waits = new Table(journal)
    this.tasksByKey = this.tasks.index(new Groups((task) => task.idempotencyKey))
    this.deadlines = this.tasks.index(new Ordered(deadlineOf))
    this.ended = this.tasks.index(new Ordered((task) => task.endedAt))
    this.runsByToken = this.runs.index(new Groups((run) => run.state === "running" ? run.claimedBy : null))
    this.due = this.runs.index(
      new Ordered((run) => run.state === "pending" || run.state === "sleeping" ? run.availableAt : null)
    )
    this.leases = this.runs.index(new Ordered((run) => run.state === "running" ? run.claimExpiresAt : null))
    this.checkpointsByTask = this.checkpoints.index(new Groups((checkpoint) => checkpoint.taskId))
    this.emitted = this.events.index(new Ordered((event) => event.emittedAt))
    this.waitsByTask = this.waits.index(new Groups((wait) => wait.taskId))
    this.waitsByEvent = this.waits.index(new Groups((wait) => wait.event))
    this.limits = new LimitTables(journal)
  }

  /** How often something was written in any of the tables. */
  get writes(): number {
    return this.tasks.writes + this.runs.writes + this.checkpoints.writes + this.events.writes + this.waits.writes
  }

  /** The task of a run, which is there as long as the run is. */
  taskOf(run: Run): Task {
    const task = this.tasks.get(run.taskId)
    if (task === undefined) throw new Error(`run ${run.runId} has lost its task ${run.taskId}`)
    return task
  }

  /** The task's runs, by attempt. */
  runsOf(taskId: TaskId): ReadonlyArray<Run> {
    const found: Array<Run> = []
    let next = this.tasks.get(taskId)?.lastAttemptRun ?? null
    while (next !== null) {
      const run = this.runs.get(next)
      if (run !== undefined) found.push(run)
      next = run?.previous ?? null
    }
    return found.toReversed()
  }

  /** The task's checkpoints, in the order of writing. */
  checkpointsOf(taskId: TaskId): ReadonlyArray<Checkpoint> {
    const found: Array<Checkpoint> = []
    for (const key of this.checkpointsByTask.get(taskId)) {
      const checkpoint = this.checkpoints.get(key)
      if (checkpoint !== undefined) found.push(checkpoint)
    }
    return found.length > 1 ? found.sort((a, b) => a.updatedAt - b.updatedAt || a.ordinal - b.ordinal) : found
  }

  checkpoint(taskId: TaskId, name: string): Checkpoint | undefined {
    return this.checkpoints.get(partKey(taskId, name))
  }

  /** Writes a checkpoint of the run's task unless there is one; returns the state of the one that was there. */
  writeCheckpoint(run: Run, name: CheckpointName, state: Schema.Json, now: number): Schema.Json | undefined {
    const key = partKey(run.taskId, name)
    const existing = this.checkpoints.get(key)
    if (existing !== undefined) return existing.state
    this.checkpoints.set(key, {
      taskId: run.taskId,
      name,
      state,
      ownerRunId: run.runId,
      updatedAt: now,
      ordinal: this.ordinal++
    })
    return undefined
  }

  /** The task's waits, by step. */
  waitsOf(taskId: TaskId): ReadonlyArray<Wait> {
    const found: Array<Wait> = []
    for (const key of this.waitsByTask.get(taskId)) {
      const wait = this.waits.get(key)
      if (wait !== undefined) found.push(wait)
    }
    return found.length > 1 ? found.sort((a, b) => a.step < b.step ? -1 : a.step > b.step ? 1 : 0) : found
  }

  /** Removes the waits of a task, all of which are of the one run that has not ended. */
  deleteWaits(taskId: TaskId): void {
    for (const key of this.waitsByTask.get(taskId)) this.waits.delete(key)
  }
}

/** @since 0.1.0 */
export interface Queue {
  readonly name: string
  readonly policy: QueuePolicy
  readonly tables: Tables
  readonly paused: boolean
}

/**
 * One call of an operation on a queue: its clock, its ids, its signals.
 *
 * @since 0.1.0
 * @category models
 */
export class Call {
  readonly queue: string
  readonly tables: Tables
  readonly now: number
  private readonly random: Random.Random
  private readonly ids: Uuid.Generator
  private readonly outbox: Array<Signal>
  /** The tables of any queue of the store. */
  readonly tablesOf: (queue: string) => Tables | undefined

  constructor(
    queue: string,
    tables: Tables,
    now: number,
    random: Random.Random,
    ids: Uuid.Generator,
    outbox: Array<Signal>,
    tablesOf: (queue: string) => Tables | undefined
  ) {
    this.queue = queue
    this.tables = tables
    this.now = now
    this.random = random
    this.ids = ids
    this.outbox = outbox
    this.tablesOf = tablesOf
  }

  newTaskId(): TaskId {
    return TaskId.make(this.ids.next(this.now, this.random), trusted)
  }

  newRunId(): RunId {
    return RunId.make(this.ids.next(this.now, this.random), trusted)
  }

  /** Hints at work that is due, once per call. */
  signalWork(): void {
    const last = this.outbox.at(-1)
    if (last?._tag !== "Work" || last.queue !== this.queue) this.outbox.push({ _tag: "Work", queue: this.queue })
  }

  signalEnd(taskId: TaskId): void {
    this.outbox.push({ _tag: "Ended", queue: this.queue, taskId })
  }
}

/**
 * The key of what belongs to a task or run under a name. Ids are all of one length.
 *
 * @since 0.1.0
 * @category constructors
 */
export const partKey = (id: TaskId | RunId, name: string): string => id + name

/**
 * When a cancellation policy ends a task that has not ended by itself, or null for never. Limits are whole seconds of at
 * most nine digits; anything else limits nothing.
 *
 * @since 0.1.0
 * @category combinators
 */
export const deadlineOf = (task: Task): number | null => {
  if (task.cancellation === null || isTerminal(task.state)) return null
  const limit = Json.textAt(task.cancellation, task.firstStartedAt === null ? "max_delay" : "max_duration")
  if (limit === undefined || !/^[0-9]{1,9}$/.test(limit)) return null
  return (task.firstStartedAt ?? task.enqueueAt) + Number(limit) * 1000
}

/**
 * The first run of a task, or the one that follows the run `previous`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const newRun = (
  call: Call,
  taskId: TaskId,
  previous: { readonly runId: RunId; readonly attempt: number } | null,
  availableAt: number
): Run => ({
  runId: call.newRunId(),
  taskId,
  previous: previous?.runId ?? null,
  attempt: (previous?.attempt ?? 0) + 1,
  state: availableAt > call.now ? "sleeping" : "pending",
  claimedBy: null,
  claimExpiresAt: null,
  availableAt,
  wakeEvent: null,
  eventPayload: undefined,
  startedAt: null,
  completedAt: null,
  failedAt: null,
  result: undefined,
  failureReason: undefined,
  createdAt: call.now
})

/**
 * Whether a run is running under the token.
 *
 * @since 0.1.0
 * @category combinators
 */
export const holds = (run: Run, held: Held): boolean => run.state === "running" && run.claimedBy === held.token

/**
 * What becomes of an operation on a run that it cannot be applied to.
 *
 * @since 0.1.0
 * @category combinators
 */
export const refusal = (run: Run | undefined, task: Task | undefined): Outcome => {
  if (run === undefined) return "notFound"
  return run.state === "cancelled" || task?.state === "cancelled" ? "cancelled" : "leaseLost"
}

// --- internal

// Checking what the generator has made would only cost time.
const trusted = { disableChecks: true } as const
