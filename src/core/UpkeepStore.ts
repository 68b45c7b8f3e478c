/**
 * The part of the seam that is about looking after a store: its partitions, and the deleting of what is no longer needed.
 *
 * @since 0.1.0
 */
import type { Effect, Option } from "effect"
import type { DriverError, InvalidState, NotFound } from "./Errors.ts"
import type { QueueName } from "./Identifiers.ts"

/** What one batch of cleaning deleted from a queue. @since 0.1.0 */
export interface Cleaned {
  readonly queue: string
  readonly tasks: number
  readonly events: number
}

/** A partition of a partitioned queue: the names of two tables, without the schema. @since 0.1.0 */
export interface Partition {
  readonly queue: string
  readonly parent: string
  readonly partition: string
}

/** When the store's own scheduler does what, in the five fields of cron. @since 0.1.0 */
export interface CronSchedules {
  readonly partitions: string
  readonly cleanup: string
  readonly detach: string
}

/** A job of the store's own scheduler. @since 0.1.0 */
export interface CronJob {
  readonly name: string
  readonly id: number
}

/**
 * What a store must do about its upkeep. A queue of `null` is every queue. `NotFound` is about the queue.
 *
 * @since 0.1.0
 */
export interface UpkeepStore {
  /**
   * Provides the partitions that the policies ask for; nothing for what is not partitioned. Idempotent. Rather than wait for
   * long while the queue is in use, it fails with `Unavailable`, or with no queue given leaves out those that are.
   */
  readonly ensurePartitions: (queue: QueueName | null) => Effect.Effect<void, DriverError | NotFound>
  /** The partitions that the policies give up: old, empty, and needed by no task that may go on. */
  readonly listDetachCandidates: (
    queue: QueueName | null
  ) => Effect.Effect<ReadonlyArray<Partition>, DriverError | NotFound>
  /**
   * Removes a partition, if it still is a candidate; returns whether it did. Gives up, with false, rather than wait for
   * long while the queue is in use.
   */
  readonly detachPartition: (partition: Partition) => Effect.Effect<boolean, DriverError>
  /** Deletes one batch of tasks and one of events per queue, by its policy. Sorted by queue. */
  readonly cleanupAll: (queue: QueueName | null) => Effect.Effect<ReadonlyArray<Cleaned>, DriverError | NotFound>
  /** Jobs of the same name are replaced. `InvalidState` when the store has no scheduler. */
  readonly enableCron: (
    queue: QueueName | null,
    schedules: CronSchedules
  ) => Effect.Effect<ReadonlyArray<CronJob>, DriverError | NotFound | InvalidState>
  /** The jobs that were removed. `null` is the jobs for every queue, not those of each queue. */
  readonly disableCron: (
    queue: QueueName | null
  ) => Effect.Effect<ReadonlyArray<CronJob>, DriverError | NotFound | InvalidState>
  /**
   * Runs `self` in a transaction, unless another `exclusively` is running on this store, in this or any process: then it
   * does nothing and returns none, at once.
   */
  readonly exclusively: <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | DriverError, R>
}
