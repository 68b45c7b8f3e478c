/**
 * The part of the seam that is about tasks that have not been started yet.
 *
 * @since 0.1.0
 */
import type { Effect } from "effect"
import type { Spawned, SpawnItem } from "./Driver.ts"
import type { DriverError, NotFound } from "./Errors.ts"
import type { IdempotencyKey, QueueName } from "./Identifiers.ts"

/** What a store must do about tasks that have not been started. `NotFound` is about the queue. @since 0.1.0 */
export interface PendingStore {
  /**
   * Gives the task that has the key everything else of the item, if it has the item's name and no run of it was ever
   * claimed; with `keepDue` it stays due when it was, otherwise it becomes due by the item's delay. Returns undefined, and
   * changes nothing, when there is no such task.
   */
  readonly revisePending: (request: {
    readonly queue: QueueName
    readonly key: IdempotencyKey
    readonly task: SpawnItem
    readonly keepDue: boolean
  }) => Effect.Effect<Spawned | undefined, DriverError | NotFound>
}
