/**
 * Looking after a store: partitions, and the deleting of what is no longer needed. The layer `Maintenance` does all of it.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import type { DriverError, InvalidInput, InvalidState, NotFound } from "./Errors.ts"
import type { QueueName } from "./Identifiers.ts"

type Upkeep<A, E = never> = Effect.Effect<A, E | InvalidInput | NotFound | DriverError, Absurd>

/**
 * Provides the partitions that the policy of a queue asks for, from `partitionLookback` ago to `partitionLookahead` from
 * now; without a queue, those of all queues. Nothing happens for a queue that is not partitioned.
 *
 * @since 0.1.0
 * @category upkeep
 */
export const ensurePartitions = (queue?: string): Upkeep<void> =>
  about(queue, (driver, name) => driver.ensurePartitions(name))

/**
 * The partitions that can go, by the policies of one queue or of all: older than `detachMinAge`, empty, and needed by no
 * task that may go on. None while the policy's `detachMode` is `none`, as it is by default.
 *
 * @since 0.1.0
 * @category upkeep
 */
export const listDetachCandidates = (queue?: string): Upkeep<ReadonlyArray<Driver.Partition>> =>
  about(queue, (driver, name) => driver.listDetachCandidates(name))

/**
 * Detaches and drops the partitions that can go, and returns them. Each takes a lock on its queue for a moment; one that
 * cannot have the lock within a second is left for another time.
 *
 * @since 0.1.0
 * @category upkeep
 */
export const detachPartitions = (queue?: string): Upkeep<ReadonlyArray<Driver.Partition>> =>
  about(
    queue,
    (driver, name) =>
      Effect.flatMap(
        driver.listDetachCandidates(name),
        Effect.filter((partition) => driver.detachPartition(partition))
      )
  )

/**
 * Deletes ended tasks and old events by the policies of one queue or of all: for each at most `cleanupLimit` tasks and as
 * many events that are older than `cleanupTtl`. Returns what was deleted, one entry per queue, sorted.
 *
 * @since 0.1.0
 * @category upkeep
 */
export const cleanupAll = (queue?: string): Upkeep<ReadonlyArray<Driver.Cleaned>> =>
  about(queue, (driver, name) => driver.cleanupAll(name))

/**
 * When pg_cron does what, in the five fields of cron, by the clock of the server.
 *
 * @since 0.1.0
 * @category models
 */
export interface CronOptions {
  /** One queue; all by default. */
  readonly queue?: string | undefined
  /** `5 * * * *` by default. */
  readonly partitions?: string | undefined
  /** `17 * * * *` by default. */
  readonly cleanup?: string | undefined
  /** `29 * * * *` by default. */
  readonly detach?: string | undefined
}

/**
 * Has PostgreSQL's extension pg_cron look after one queue, or all, whether or not a program runs. `InvalidState` on a store
 * without that extension.
 *
 * @since 0.1.0
 * @category upkeep
 */
export const enableCron = (options: CronOptions = {}): Upkeep<ReadonlyArray<Driver.CronJob>, InvalidState> =>
  about(options.queue, (driver, name) =>
    driver.enableCron(name, {
      partitions: options.partitions ?? "5 * * * *",
      cleanup: options.cleanup ?? "17 * * * *",
      detach: options.detach ?? "29 * * * *"
    }))

/**
 * Undoes {@link enableCron} for one queue, or what it did for all, and returns the jobs that are gone. Jobs of single queues
 * stay when no queue is given.
 *
 * @since 0.1.0
 * @category upkeep
 */
export const disableCron = (queue?: string): Upkeep<ReadonlyArray<Driver.CronJob>, InvalidState> =>
  about(queue, (driver, name) => driver.disableCron(name))

// --- internal

const about = <A, E>(
  queue: string | undefined,
  use: (driver: Absurd["Service"]["driver"], queue: QueueName | null) => Effect.Effect<A, E>
): Effect.Effect<A, E | InvalidInput, Absurd> =>
  Effect.flatMap(Absurd, ({ driver }) =>
    queue === undefined
      ? use(driver, null)
      : Effect.flatMap(resolveQueue(queue), (name) => use(driver, name)))
