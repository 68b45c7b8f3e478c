/** What is known of a store before a command, by names instead of ids, so that it is the same for all stores. */
import type { DateTime } from "effect"
import type { RunRow, StoredSchedule, TaskRow, WorkflowRun } from "../../src/core/Driver.ts"
import { isTerminal } from "../../src/core/Identifiers.ts"
import type { Dump } from "../../src/core/Invariants.ts"
import type { Names } from "./Names.ts"

/** The queues of a sequence: two that it begins with, and one that it may make. */
export const queueRefs = ["a", "b", "c"] as const
export type QueueRef = typeof queueRefs[number]

export const empty: Dump = {
  tasks: [],
  runs: [],
  checkpoints: [],
  events: [],
  waits: [],
  limits: [],
  limitedRuns: [],
  limitKeys: []
}

/** Everything in a store. */
export interface World {
  readonly queues: { readonly [Q in QueueRef]: Dump | undefined }
  readonly workflowRuns: ReadonlyArray<WorkflowRun>
  readonly schedules: ReadonlyArray<StoredSchedule>
}

export interface KnownRun {
  readonly name: string
  readonly row: RunRow
}

export interface KnownTask {
  readonly name: string
  readonly row: TaskRow
}

export interface Known {
  /** The present of the command. */
  readonly now: DateTime.Utc
  readonly world: World
  /** Whether the queue exists. */
  readonly exists: boolean
  readonly dump: Dump
  readonly runs: ReadonlyArray<KnownRun>
  readonly tasks: ReadonlyArray<KnownTask>
  /** The runs that are running. */
  readonly held: ReadonlyArray<KnownRun>
  /** The runs that could be claimed. */
  readonly due: ReadonlyArray<KnownRun>
  /** The tasks that have not ended. */
  readonly open: ReadonlyArray<KnownTask>
  /** The events that somebody waits for. */
  readonly awaited: ReadonlyArray<string>
  /** The same of another queue. */
  readonly at: (queue: QueueRef) => Known
}

export const make = (world: World, names: Names, now: DateTime.Utc, queue: QueueRef): Known => {
  const dump = world.queues[queue] ?? empty
  const runs = dump.runs.map((row): KnownRun => ({ name: names.nameOf(row.runId), row }))
  const tasks = dump.tasks.map((row): KnownTask => ({ name: names.nameOf(row.taskId), row }))
  const isDue = ({ availableAt, state }: RunRow) =>
    (state === "pending" || state === "sleeping") && availableAt !== null &&
    availableAt.epochMilliseconds <= now.epochMilliseconds
  return {
    now,
    world,
    exists: world.queues[queue] !== undefined,
    dump,
    runs,
    tasks,
    held: runs.filter(({ row }) => row.state === "running"),
    due: runs.filter(({ row }) => isDue(row)),
    open: tasks.filter(({ row }) => !isTerminal(row.state)),
    awaited: dump.waits.map(({ event }) => event).filter((event) => !event.startsWith("$")),
    at: (other) => make(world, names, now, other)
  }
}
