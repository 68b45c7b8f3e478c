/**
 * Schedules in memory.
 *
 * @since 0.1.0
 */
import { DateTime } from "effect"
import type { ScheduleStore, StoredSchedule } from "../../core/ScheduleStore.ts"
import * as Json from "./Json.ts"
import { type Journal, Table } from "./Table.ts"

interface Row extends StoredSchedule {
  readonly declared: StoredSchedule["definition"]
}

type Request<Name extends keyof ScheduleStore> = ScheduleStore[Name] extends (request: infer R) => unknown ? R : never

/**
 * The schedules of a store.
 *
 * @since 0.1.0
 * @category models
 */
export class Schedules {
  private readonly rows: Table<string, Row>
  private revisions = 0

  constructor(journal: Journal) {
    this.rows = new Table(journal)
  }

  put(now: number, request: Request<"putSchedule">): boolean {
    const { declared, name } = request
    const found = this.rows.get(name)
    if (found === undefined && !declared) return false
    const definition = Json.normalize(request.definition)
    if (found !== undefined) {
      if (declared && Json.equals(found.declared, definition)) return true
      if (Json.equals(found.definition, definition)) {
        if (declared) this.set({ ...found, declared: definition })
        return true
      }
    }
    this.set({
      name,
      definition,
      declared: declared ? definition : found?.declared ?? definition,
      paused: found?.paused ?? false,
      after: instant(now),
      next: null,
      lastTask: found?.lastTask ?? null,
      revision: 0
    })
    return true
  }

  pause(now: number, { name, paused }: Request<"pauseSchedule">): boolean {
    const found = this.rows.get(name)
    if (found === undefined) return false
    if (found.paused && !paused) this.set({ ...found, paused, after: instant(now), next: null })
    else if (!found.paused && paused) this.set({ ...found, paused })
    return true
  }

  remove(name: string): boolean {
    const found = this.rows.has(name)
    this.rows.delete(name)
    return found
  }

  list(): ReadonlyArray<StoredSchedule> {
    return this.sorted().map(copied)
  }

  due(now: number) {
    const active = this.sorted().filter((row) => !row.paused)
    const isDue = ({ next }: Row) => next === null || next.epochMilliseconds <= now
    const others = active.flatMap((row) => isDue(row) || row.next === null ? [] : [row.next.epochMilliseconds])
    return {
      now: instant(now),
      due: active.filter(isDue).slice(0, 100).map(copied),
      later: others.length === 0 ? null : instant(Math.min(...others))
    }
  }

  advance({ name, revision, ...change }: Request<"advanceSchedule">): boolean {
    const found = this.rows.get(name)
    if (found?.revision !== revision) return false
    this.set({ ...found, ...change })
    return true
  }

  private set(row: Row): void {
    this.rows.set(row.name, { ...row, revision: ++this.revisions })
  }

  private sorted(): ReadonlyArray<Row> {
    return [...this.rows.values()].sort((a, b) => a.name < b.name ? -1 : 1)
  }
}

// --- internal

const instant = (millis: number): DateTime.Utc => DateTime.makeUnsafe(Math.floor(millis))

const copied = ({ after, definition, lastTask, name, next, paused, revision }: Row): StoredSchedule => ({
  name,
  definition: Json.copy(definition),
  paused,
  after,
  next,
  lastTask,
  revision
})
