/** Of several rows with the same instant, which come first is chance: then a command takes all of them. */
import type { DateTime } from "effect"
import { hasEnded } from "../../src/core/Driver.ts"
import type { Dump } from "../../src/core/Invariants.ts"
import type { Command, Simple } from "./Command.ts"
import { empty, type World } from "./Known.ts"
import { withoutLimitTies } from "./LimitTies.ts"

export const withoutTies = (drawn: Command, world: World, now: DateTime.Utc): Command => {
  const command = withoutLimitTies(drawn, world, now)
  return command._tag === "together"
    ? { ...command, commands: command.commands.map((inner) => simple(inner, world, now, true)) }
    : simple(command, world, now, false)
}

// --- internal

const all = 50

const simple = (command: Simple, world: World, now: DateTime.Utc, together: boolean): Simple => {
  // It has no limit of its own, but those of the policies.
  if (command._tag === "cleanupAll") {
    const tied = Object.values(world.queues).some((dump = empty) =>
      hasDoubles(ends(dump)) || hasDoubles(dump.events.map(({ emittedAt }) => emittedAt))
    )
    return together || tied ? { _tag: "cleanupTasks", queue: command.queue, millis: 60_000, limit: all } : command
  }
  if (!("limit" in command) || command.limit === 0) return command
  const dump = world.queues[command.queue] ?? empty
  switch (command._tag) {
    case "claim":
      return together || isTied(command.limit, dump, now) ? { ...command, limit: all } : command
    case "cleanupTasks":
      return together || hasDoubles(ends(dump)) ? { ...command, limit: all } : command
    case "cleanupEvents":
      return together || hasDoubles(dump.events.map(({ emittedAt }) => emittedAt))
        ? { ...command, limit: all }
        : command
    case "cleanupWorkflowRuns":
      return together || hasDoubles(world.workflowRuns.map((run) => hasEnded(run.status) ? run.completedAt : null))
        ? { ...command, limit: all }
        : command
    default:
      return command
  }
}

type Instants = ReadonlyArray<DateTime.Utc | null>

const millisOf = (instants: Instants): ReadonlyArray<number> => instants.flatMap((at) => at?.epochMilliseconds ?? [])

const hasDoubles = (instants: Instants): boolean => {
  const all = millisOf(instants)
  return new Set(all).size < all.length
}

const isTied = (limit: number, dump: Dump, now: DateTime.Utc): boolean => {
  const until = (instants: Instants) => millisOf(instants).filter((at) => at <= now.epochMilliseconds)
  const expired = until(dump.runs.map((run) => run.state === "running" ? run.claimExpiresAt : null))
  const due = until(
    dump.runs.map(({ availableAt, state }) => state === "pending" || state === "sleeping" ? availableAt : null)
  )
  const isNew = due.includes(now.epochMilliseconds)
  // The attempts after several that have expired may be due at once.
  return (expired.length > 0 && (limit > 1 || isNew)) || new Set(expired).size < expired.length ||
    new Set(due).size < due.length
}

/** When tasks ended. */
const ends = (dump: Dump): Instants => {
  const runs = new Map(dump.runs.map((run) => [run.runId, run]))
  return dump.tasks.map((task) => {
    const run = task.lastAttemptRun === null ? undefined : runs.get(task.lastAttemptRun)
    switch (task.state) {
      case "completed":
        return run?.completedAt ?? null
      case "failed":
        return run?.failedAt ?? null
      case "cancelled":
        return task.cancelledAt
      default:
        return null
    }
  })
}
