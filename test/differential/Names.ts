/**
 * Names for what has ids. Tasks are numbered in the order of their making, and runs by their attempts: `task1`, `task1.2`.
 */
import type { Exit } from "effect"
import { Cause, Exit as Exits } from "effect"
import type { TaskId } from "../../src/core/Identifiers.ts"
import type { Dump } from "../../src/core/Invariants.ts"

export class Names {
  private readonly names = new Map<string, string>()
  private readonly ids = new Map<string, string>()
  /** When checkpoints were written. */
  private readonly written = new Map<string, number>()
  /** Most rows are the same after the next operation. A name never changes, so neither does what has none but known ids. */
  private readonly canonicals = new Map<string, string>()
  private tasks = 0

  /** Names what is new in a dump, tasks in the order in which the answer of the operation tells of them. */
  learn(answer: unknown, dump: Dump): void {
    const stored = new Set<string>(dump.tasks.map((task) => task.taskId))
    for (const [id] of (JSON.stringify(answer ?? null)).matchAll(uuid)) {
      if (stored.has(id) && !this.names.has(id)) this.put(id, `task${++this.tasks}`)
    }
    for (const { taskId } of dump.tasks.toSorted((a, b) => (a.taskId < b.taskId ? -1 : 1))) {
      if (!this.names.has(taskId)) this.put(taskId, `task${++this.tasks}`)
    }
    for (const run of dump.runs) {
      if (!this.names.has(run.runId)) this.put(run.runId, `${this.names.get(run.taskId)}.${run.attempt}`)
    }
    for (const { name, taskId, updatedAt } of dump.checkpoints) {
      this.written.set(`${taskId}/${name}`, updatedAt.epochMilliseconds)
    }
  }

  idOf(name: string): string | undefined {
    return this.ids.get(name)
  }

  /** Everything as text, with names for ids, keys in order, and rows that have no order in that of their names. */
  canonical(value: unknown): string {
    const plain = JSON.stringify(value ?? null)
    const before = this.canonicals.get(plain)
    if (before !== undefined) return before
    const strangers = new Map<string, string>()
    const text = plain.replaceAll(uuid, (id) => {
      const known = this.names.get(id) ?? strangers.get(id)
      if (known !== undefined) return known
      const name = `unnamed${strangers.size + 1}`
      strangers.set(id, name)
      return name
    })
    const canonical = JSON.stringify(sorted(JSON.parse(text)))
    if (strangers.size === 0) this.canonicals.set(plain, canonical)
    return canonical
  }

  /** Each row of a dump as text, in an order that is the same for all stores. */
  rows(dump: Dump): ReadonlyArray<string> {
    return (Object.entries(dump) as ReadonlyArray<[string, ReadonlyArray<unknown>]>).flatMap(([table, rows]) =>
      rows.map((row) => `${table} ${this.canonical(row)}`).sort()
    )
  }

  nameOf(id: string): string {
    return this.names.get(id) ?? id
  }

  /** In the order of their canonical texts. */
  sorted(all: ReadonlyArray<unknown>): ReadonlyArray<unknown> {
    return all.toSorted((a, b) => (this.canonical(a) < this.canonical(b) ? -1 : 1))
  }

  /** A task's checkpoints by name, and whether they came in the order of writing, which is free within one instant. */
  inOrder<A extends { readonly name: string }>(taskId: TaskId, checkpoints: ReadonlyArray<A>) {
    const written = checkpoints.map(({ name }) => this.written.get(`${taskId}/${name}`) ?? Infinity)
    return {
      inOrder: written.every((at, place) => place === 0 || written[place - 1]! <= at),
      checkpoints: checkpoints.toSorted((a, b) => (a.name < b.name ? -1 : 1))
    }
  }

  private put(id: string, name: string): void {
    this.names.set(id, name)
    this.ids.set(name, id)
  }
}

/** What is compared of an exit. */
export const essence = (exit: Exit.Exit<unknown, unknown>): unknown => {
  if (Exits.isSuccess(exit)) return { success: exit.value ?? null }
  const error: unknown = Cause.squash(exit.cause)
  if (typeof error !== "object" || error === null || !("_tag" in error)) return { defect: String(error) }
  switch (error._tag) {
    case "DriverError":
      return { DriverError: Reflect.get(Reflect.get(error, "reason") as object, "_tag") as unknown }
    // The words may differ.
    case "InvalidInput":
      return { InvalidInput: Reflect.get(error, "field") as unknown }
    default:
      return { failure: { ...error } }
  }
}

// --- internal

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g

/** With keys in order, and without the revisions of schedules, which each store counts by itself. */
const sorted = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) {
    const all = value.map(sorted)
    return isClaimed(all) ? all.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : all
  }
  const entries = Object.entries(value).filter(([key]) => key !== "revision").sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, member]) => [key, sorted(member)]))
}

/** Whether these are claimed runs, whose order among equals is chance. */
const isClaimed = (rows: ReadonlyArray<unknown>): boolean =>
  rows.length > 1 && rows.every((row) => typeof row === "object" && row !== null && "claimedAt" in row)
