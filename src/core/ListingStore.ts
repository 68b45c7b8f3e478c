/**
 * The part of the seam that is about looking through the tasks of a queue. It is for people, not for workers: what it looks for
 * may be far back, and no index leads there.
 *
 * @since 0.1.0
 */
import type { Effect } from "effect"
import type { DriverError, NotFound } from "./Errors.ts"
import type { QueueName, State, TaskId } from "./Identifiers.ts"
import type { TaskRow } from "./Records.ts"

/** Which tasks are wanted. `null` is any. @since 0.1.0 */
export interface ListTasks {
  readonly queue: QueueName
  readonly name: string | null
  readonly states: ReadonlyArray<State> | null
  /** What the result of a completed task must have as its member `outcome`, which is a text. */
  readonly outcome: string | null
  /** Only tasks that were spawned before this one. */
  readonly before: TaskId | null
  readonly limit: number
}

/** How many tasks of a name are in a state, and completed with results of an `outcome`, if they have one that is a text. @since 0.1.0 */
export interface TaskCount {
  readonly name: string
  readonly state: State
  readonly outcome: string | null
  readonly tasks: number
}

/** What a store must do about looking through tasks. `NotFound` is about the queue. @since 0.1.0 */
export interface ListingStore {
  /** The newest first. */
  readonly listTasks: (request: ListTasks) => Effect.Effect<ReadonlyArray<TaskRow>, DriverError | NotFound>
  /** In any order. */
  readonly countTasks: (queue: QueueName) => Effect.Effect<ReadonlyArray<TaskCount>, DriverError | NotFound>
}
