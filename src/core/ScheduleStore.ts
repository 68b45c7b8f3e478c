/**
 * The part of the seam that is about schedules: named rows that become due. What is due, the store's clock decides; which
 * instants a schedule names, the caller computes.
 *
 * @since 0.1.0
 */
import { type DateTime, type Effect, Schema } from "effect"
import type { DriverError } from "./Errors.ts"
import { TaskId } from "./Identifiers.ts"

/** What is stored of a schedule. Instants are of whole milliseconds. @since 0.1.0 */
export const StoredSchedule = Schema.Struct({
  name: Schema.String,
  /** What it does and when; the store does not look into it. */
  definition: Schema.Json,
  paused: Schema.Boolean,
  /** Everything up to this instant has been dealt with. */
  after: Schema.DateTimeUtc,
  /** When it is due; null when that has to be computed from `after`. */
  next: Schema.NullOr(Schema.DateTimeUtc),
  /** The task that it spawned last. */
  lastTask: Schema.NullOr(TaskId),
  /** Another one after every change. */
  revision: Schema.Number
})
/** @since 0.1.0 */
export type StoredSchedule = typeof StoredSchedule.Type

/** What a store must do about schedules. @since 0.1.0 */
export interface ScheduleStore {
  /**
   * Stores the definition. A schedule that is new, or that had another definition, begins now: `after` is the present and
   * `next` is null. Whether it is paused stays.
   *
   * With `declared`, it is what a program declares at its start: it has no effect while the last declaration was the same,
   * so that changes that were made since are kept. Without, a schedule that does not exist is left alone.
   *
   * Returns whether the schedule exists afterwards.
   */
  readonly putSchedule: (request: {
    readonly name: string
    readonly definition: Schema.Json
    readonly declared: boolean
  }) => Effect.Effect<boolean, DriverError>
  /** A schedule that is resumed begins now. Returns whether it exists. */
  readonly pauseSchedule: (request: {
    readonly name: string
    readonly paused: boolean
  }) => Effect.Effect<boolean, DriverError>
  /** Returns whether it existed. */
  readonly deleteSchedule: (name: string) => Effect.Effect<boolean, DriverError>
  /** By name. */
  readonly listSchedules: Effect.Effect<ReadonlyArray<StoredSchedule>, DriverError>
  /**
   * The store's present; the schedules that are not paused and whose `next` has come or is null, at most 100, by name; and
   * when the next of the others is due, null when there is none.
   */
  readonly dueSchedules: Effect.Effect<{
    readonly now: DateTime.Utc
    readonly due: ReadonlyArray<StoredSchedule>
    readonly later: DateTime.Utc | null
  }, DriverError>
  /** Moves a schedule on, unless it has changed since `revision`; then it does nothing and returns false. */
  readonly advanceSchedule: (request: {
    readonly name: string
    readonly revision: number
    readonly after: DateTime.Utc
    readonly next: DateTime.Utc
    readonly lastTask: TaskId | null
  }) => Effect.Effect<boolean, DriverError>
}
