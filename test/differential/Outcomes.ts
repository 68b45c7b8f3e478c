/** What became of operations, for counting: `complete applied`, `suspend Emitted`, `claim none`. */
import type { Command } from "./Command.ts"

export const of = (command: Command, answer: unknown): ReadonlyArray<string> => {
  if (command._tag !== "together") {
    return outcomesOf(command._tag, answer).map((outcome) => `${command._tag} ${outcome}`)
  }
  const how = `together ${command.how} ${isObject(answer) && "success" in answer ? "committed" : "undone"}`
  return command.nested ? [how, "together nested"] : [how]
}

/** How often each outcome was told of. */
export class Counts {
  readonly counts = new Map<string, number>()

  readonly told = (command: Command, answer: unknown): void => {
    for (const outcome of of(command, answer)) this.counts.set(outcome, this.of(outcome) + 1)
  }

  of(outcome: string): number {
    return this.counts.get(outcome) ?? 0
  }
}

// --- internal

type Fields = { readonly [key: string]: unknown }

const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null

const outcomesOf = (tag: string, answer: unknown): ReadonlyArray<string> => {
  if (!isObject(answer)) return ["strange"]
  if (!("success" in answer)) return [failureOf(answer)]
  const { success } = answer
  if (tag === "suspend" && isObject(success)) return suspended(success)
  if (tag === "emit" && isObject(success)) {
    return [success["emitted"] === false ? "again" : Number(success["woken"]) > 0 ? "woke" : "alone"]
  }
  if ((tag === "claim" || tag === "claimedWith") && isObject(success)) {
    return [Array.isArray(success["runs"]) && success["runs"].length > 0 ? "some" : "none"]
  }
  if (tag === "listQueues") return ["answered"]
  if (tag === "listLimits" && Array.isArray(success)) return limits(success)
  if (tag === "revisePending") return [success === null ? "none" : "revised"]
  if (Array.isArray(success)) return success.map((item) => outcomeOf(item))
  return [outcomeOf(success)]
}

const limits = (rows: ReadonlyArray<Fields>): ReadonlyArray<string> => [
  rows.length > 0 ? "some" : "none",
  ...(rows.some(({ waiting }) => Number(waiting) > 0) ? ["waits"] : []),
  ...(rows.some(({ override }) => override !== null) ? ["overridden"] : [])
]

const failureOf = (answer: Fields): string => {
  const [kind = "strange"] = Object.keys(answer)
  const of = answer[kind]
  return isObject(of) && typeof of["_tag"] === "string" ? of["_tag"] : `${kind}`
}

const suspended = ({ outcome, suspended, waits }: Fields): ReadonlyArray<string> => {
  if (outcome !== "applied") return [String(outcome)]
  const all = Array.isArray(waits) ? waits.map((wait: Fields) => String(wait["_tag"])) : []
  return [...new Set(all), "applied", ...(suspended === true ? ["sleeps"] : [])]
}

const outcomeOf = (item: unknown): string => {
  if (typeof item === "number") return item > 0 ? "some" : "none"
  if (!isObject(item)) return String(item)
  if ("outcome" in item) {
    const again = "existing" in item && item["existing"] !== undefined
    return again ? "existing" : String(item["outcome"])
  }
  if ("created" in item) return item["created"] === true ? "created" : "found"
  if ("cancelled" in item) return item["cancelled"] === true ? "cancelled" : "ended before"
  return "answered"
}
