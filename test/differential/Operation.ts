/**
 * What the alphabet of the differential test is made of. A family of operations is a file in `alphabet`, which
 * `Command.ts` names.
 */
import type { DateTime, Duration, Effect, Schema } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import type { QueueName } from "../../src/core/Identifiers.ts"
import type { Known, QueueRef } from "./Known.ts"
import type { Names } from "./Names.ts"

/** Where a command is carried out, and what is known there. */
export interface Place {
  readonly driver: Driver["Service"]
  /** The queue that the command is about. */
  readonly queue: QueueName
  readonly queueOf: (ref: QueueRef) => QueueName
  readonly known: Known
  readonly names: Names
  /** When the sequence began. */
  readonly start: DateTime.Utc
  /** A number of the command, the same for all stores. */
  readonly number: string
}

/** Chance of the sequence that is drawn. */
export interface Chance {
  /** Whether something of this probability, from 0 to 1, happens. */
  readonly happens: (probability: number) => boolean
  readonly pick: <A>(all: ReadonlyArray<A>) => A | undefined
}

export interface Operation<Fields extends Schema.Struct.Fields> {
  /** What is drawn. Its values are JSON, for they are printed when stores differ. */
  readonly fields: Fields
  /** How often it is drawn, given what is in the queue. */
  readonly weight: (known: Known) => number
  /** Brings what was drawn near to what is there. */
  readonly aim?: (
    command: Schema.Struct.Type<Fields>,
    known: Known,
    chance: Chance
  ) => Partial<Schema.Struct.Type<Fields>>
  readonly perform: (place: Place, command: Schema.Struct.Type<Fields>) => Effect.Effect<unknown, unknown>
  /** What it changes beside its queue, or instead: then its queue is not looked at. */
  readonly touches?: "schedules" | "workflowRuns" | "every queue" | "nothing"
  /** Only by itself, not among others in a transaction. */
  readonly alone?: boolean
}

export const operation = <const Fields extends Schema.Struct.Fields>(self: Operation<Fields>): Operation<Fields> => self

/** So long after now, or then (relative to the start of the sequence). */
export type Instant = DateTime.Utc | Duration.Duration
