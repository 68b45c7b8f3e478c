/**
 * Of several runs that wait for one key of a limit since the same instant, the one with the lesser id goes first. Ids come in the
 * order in which runs were made, but for those of one instant: which of these goes is chance. There are none that could go.
 */
import type { DateTime } from "effect"
import type { RunId, TaskId } from "../../src/core/Identifiers.ts"
import type { Dump } from "../../src/core/Invariants.ts"
import type { Command, Simple } from "./Command.ts"
import { empty, type QueueRef, type World } from "./Known.ts"
import * as LimitHeaders from "./LimitHeaders.ts"

export const withoutLimitTies = (command: Command, world: World, now: DateTime.Utc): Command =>
  command._tag === "together"
    ? { ...command, commands: apart(command.commands, world, now) }
    : simple(command, world, now)

// --- internal

/** Before anything else is done with two that are alike, one of them is cancelled. */
const simple = (drawn: Simple, world: World, now: DateTime.Utc): Simple => {
  const command = drawn._tag === "spawn" ? { ...drawn, tasks: staggered(drawn.tasks) } : drawn
  const { queue } = command
  const dump = world.queues[queue] ?? empty
  if (dump.limits.length === 0) return command
  const alike = firstAlike(dump)
  if (alike !== undefined) {
    return {
      _tag: "cancelTask",
      queue,
      task: { pick: "any", n: dump.tasks.findIndex((task) => task.taskId === alike) }
    }
  }
  return command._tag === "claim" ? endOneExpired(dump, now, queue) ?? command : command
}

type Spawned = Extract<Simple, { readonly _tag: "spawn" }>["tasks"]

/** Tasks of one key become due one after the other. */
const staggered = (tasks: Spawned): Spawned =>
  tasks.map((item, place) =>
    tasks.findIndex((other) => isLike(item.limit, other.limit)) < place
      ? { ...item, delay: { at: false, millis: place === 1 ? 1 : 250 } }
      : item
  )

/** Runs whose leases have ended become due anew together, within the claim. */
const endOneExpired = (dump: Dump, now: DateTime.Utc, queue: QueueRef): Simple | undefined => {
  const lines = linesOf(dump)
  const running = dump.runs.filter(({ state }) => state === "running")
  const seen = new Set<string>()
  for (const [n, run] of running.entries()) {
    const line = lines.get(run.taskId)
    if (line === undefined || !isOver(run.claimExpiresAt, now)) continue
    if (seen.has(line)) {
      return { _tag: "complete", queue, runs: [{ run: { pick: "held", n, token: "right" }, result: "null" }] }
    }
    seen.add(line)
  }
  return undefined
}

/**
 * Commands that happen at one instant. Only one of them makes runs that go by limits, at most one for each key, so that none
 * of these is like another.
 */
const apart = (commands: ReadonlyArray<Simple>, world: World, now: DateTime.Utc): ReadonlyArray<Simple> => {
  const made = new Set<QueueRef>()
  return commands.map((drawn) => {
    const { queue } = drawn
    const dump = world.queues[queue] ?? empty
    const command = simple(drawn, world, now)
    const isFirst = !made.has(queue)
    switch (command._tag) {
      case "spawn": {
        const tasks = command.tasks.map((item, place) =>
          isFirst && command.tasks.findIndex((other) => isLike(item.limit, other.limit)) === place
            ? item
            : { ...item, limit: null }
        )
        if (tasks.some(({ limit }) => limit !== null)) made.add(queue)
        return { ...command, tasks }
      }
      case "fail":
        made.add(queue)
        return {
          ...command,
          runs: command.runs.map((item, place) =>
            isFirst && place === 0 ? item : { ...item, retry: { ...item.retry, kind: "Never" as const } }
          )
        }
      case "retryTask":
        made.add(queue)
        return isFirst ? command : { _tag: "listLimits", queue }
      case "claim":
        if (!dump.runs.some((run) => run.state === "running" && isOver(run.claimExpiresAt, now))) return command
        made.add(queue)
        return isFirst ? command : { _tag: "listLimits", queue }
      default:
        return command
    }
  })
}

const isLike = (a: LimitHeaders.Limit, b: LimitHeaders.Limit): boolean =>
  typeof a === "object" && typeof b === "object" && a !== null && a.name === b?.name && a.key === b.key

const isOver = (at: DateTime.Utc | null, now: DateTime.Utc): boolean =>
  at !== null && at.epochMilliseconds <= now.epochMilliseconds

const linesOf = ({ tasks }: Dump): ReadonlyMap<TaskId, string> =>
  new Map(tasks.flatMap((task) => {
    const line = LimitHeaders.lineOf(task)
    return line === undefined ? [] : [[task.taskId, line] as const]
  }))

/** The task of a run that is like another one: of the same key and instant, and due at the same time, or woken by anything. */
const firstAlike = (dump: Dump): TaskId | undefined => {
  const lines = linesOf(dump)
  const dues = new Map<RunId, number>(dump.limitedRuns.map(({ due, runId }) => [runId, due.epochMilliseconds]))
  const waiting = new Set(dump.waits.map(({ runId }) => runId))
  const seen = new Set<string>()
  for (const run of dump.runs) {
    const line = lines.get(run.taskId)
    if (line === undefined || (run.state !== "pending" && run.state !== "sleeping")) continue
    const due = dues.get(run.runId) ?? run.availableAt?.epochMilliseconds
    const like = [`due ${due}`, ...(waiting.has(run.runId) ? ["woken"] : [])]
      .map((how) => `${line} ${run.createdAt.epochMilliseconds} ${how}`)
    if (like.some((how) => seen.has(how))) return run.taskId
    for (const how of like) seen.add(how)
  }
  return undefined
}
