/**
 * What a queue keeps of limits: what they allow, which runs go by them, and when the next ones of a rate may start.
 *
 * Invariants, between operations: a row belongs to a run that has not ended. One that is `waiting` belongs to a parked run, one
 * that is `admitted` to a run that can be claimed once it is due, one that is `running` to a running run. While rows of a key
 * wait, as many others as its concurrency allows do not; or, where there is a rate, at least one is admitted.
 *
 * @since 0.1.0
 */
import type { LimitFigures } from "../../core/Driver.ts"
import type { RunId } from "../../core/Identifiers.ts"
import { Groups, type Index, type Journal, Ordered, type Slot, Table } from "./Table.ts"

/** @since 0.1.0 */
export interface Limit {
  readonly name: string
  readonly figures: LimitFigures
  readonly override: LimitFigures | null
  /** Whether its figures have changed since runs were last let go by them. */
  readonly stale: boolean
}

/** A run that goes by a limit. @since 0.1.0 */
export interface Limited {
  readonly runId: RunId
  readonly name: string
  readonly key: string
  readonly state: "waiting" | "admitted" | "running"
  /** Since when the run is due. */
  readonly due: number
}

/** The theoretical time of the next start of a key, in microseconds since 1970. @since 0.1.0 */
export interface Arrival {
  readonly name: string
  readonly key: string
  readonly at: number
}

/** The limits of one queue. @since 0.1.0 @category models */
export class LimitTables {
  readonly limits: Table<string, Limit>
  readonly limited: Table<RunId, Limited>
  /** By {@link lineOf}, like the indexes below. */
  readonly arrivals: Table<string, Arrival>
  readonly waiting: Lines
  readonly admitted: Groups<RunId, Limited>
  /** Those that are admitted or running. */
  readonly held: Groups<RunId, Limited>

  constructor(journal: Journal) {
    this.limits = new Table(journal)
    this.limited = new Table(journal)
    this.arrivals = new Table(journal)
    this.waiting = this.limited.index(new Lines())
    this.admitted = this.limited.index(new Groups((row) => row.state === "admitted" ? lineOf(row) : null))
    this.held = this.limited.index(new Groups((row) => row.state === "waiting" ? null : lineOf(row)))
  }
}

/** What is counted apart: a limit under one key. No text that is stored has the character between them. @since 0.1.0 */
export const lineOf = ({ key, name }: Pick<Limited, "name" | "key">): string => `${name}\u0000${key}`

/** The waiting rows of each key by when they became due. @since 0.1.0 @category models */
export class Lines implements Index<RunId, Limited> {
  private readonly lines = new Map<string, Ordered<RunId, Limited>>()

  first(line: string): Limited | undefined {
    return this.lines.get(line)?.first(Infinity)
  }

  count(line: string): number {
    return this.lines.get(line)?.size ?? 0
  }

  /** The keys that have any. */
  names(): ReadonlyArray<string> {
    return [...this.lines.keys()]
  }

  change(slot: Slot<RunId, Limited>, previous: Limited | undefined, next: Limited | undefined): void {
    const from = previous?.state === "waiting" ? lineOf(previous) : undefined
    const to = next?.state === "waiting" ? lineOf(next) : undefined
    if (from !== undefined && from === to) return this.lines.get(from)?.change(slot, previous, next)
    if (from !== undefined) {
      const line = this.lines.get(from)
      line?.change(slot, previous, undefined)
      if (line?.size === 0) this.lines.delete(from)
    }
    if (to !== undefined) {
      const line = this.lines.get(to) ?? makeLine(to)
      this.lines.set(to, line)
      line.change(slot, undefined, next)
    }
  }
}

// --- internal

// An entry counts only while its row still is in this line.
const makeLine = (name: string) =>
  new Ordered<RunId, Limited>((row) => row.state === "waiting" && lineOf(row) === name ? row.due : null)
