/**
 * The queues of a store, and their policies.
 *
 * @since 0.1.0
 */
import { Duration, Result } from "effect"
import type { QueuePolicy, QueuePolicyUpdate, StorageMode } from "../../core/Driver.ts"
import { InvalidInput, InvalidState, NotFound } from "../../core/Errors.ts"
import type { QueueName } from "../../core/Identifiers.ts"
import type { Journal, Table } from "./Table.ts"
import { type Queue, Tables } from "./Tables.ts"

/** @since 0.1.0 */
export type Queues = Table<string, Queue>

/** @since 0.1.0 */
export const create = (
  queues: Queues,
  journal: Journal,
  { queue, storage }: { readonly queue: QueueName; readonly storage: StorageMode }
): Result.Result<void, InvalidState> => {
  const state = queues.get(queue)?.policy.storageMode
  if (state === undefined) {
    queues.set(queue, {
      name: queue,
      policy: standard(storage),
      tables: new Tables(journal),
      paused: false
    })
  }
  return state === undefined || state === storage
    ? Result.succeed(undefined)
    : Result.fail(new InvalidState({ operation: "createQueue", id: queue, state, expected: storage }))
}

/** @since 0.1.0 */
export const list = (queues: Queues): ReadonlyArray<string> => Array.from(queues.values(), (queue) => queue.name).sort()

/** @since 0.1.0 */
export const find = (queues: Queues, name: string): Result.Result<Queue, NotFound> => {
  const queue = queues.get(name)
  return queue === undefined ? Result.fail(new NotFound({ kind: "queue", id: name })) : Result.succeed(queue)
}

/** @since 0.1.0 */
export const setPolicy = (
  queues: Queues,
  queue: Queue,
  update: QueuePolicyUpdate
): Result.Result<void, InvalidInput | InvalidState> => {
  const problem = check(queue, update)
  if (problem !== undefined) return Result.fail(problem)
  const { policy } = queue
  queues.set(queue.name, {
    ...queue,
    policy: {
      storageMode: policy.storageMode,
      defaultPartition: update.defaultPartition ?? policy.defaultPartition,
      partitionLookahead: update.partitionLookahead ?? policy.partitionLookahead,
      partitionLookback: update.partitionLookback ?? policy.partitionLookback,
      cleanupTtl: update.cleanupTtl ?? policy.cleanupTtl,
      cleanupLimit: update.cleanupLimit ?? policy.cleanupLimit,
      detachMode: update.detachMode ?? policy.detachMode,
      detachMinAge: update.detachMinAge ?? policy.detachMinAge
    }
  })
  return Result.succeed(undefined)
}

/** Returns whether that changed something. */
export const setPaused = (queues: Queues, queue: Queue, paused: boolean): boolean => {
  if (queue.paused === paused) return false
  queues.set(queue.name, { ...queue, paused })
  return true
}

// --- internal

const standard = (storageMode: StorageMode): QueuePolicy => ({
  storageMode,
  defaultPartition: "enabled",
  partitionLookahead: Duration.days(28),
  partitionLookback: Duration.days(1),
  cleanupTtl: Duration.days(30),
  cleanupLimit: 1000,
  detachMode: "none",
  detachMinAge: Duration.days(30)
})

const durations = ["partitionLookahead", "partitionLookback", "cleanupTtl", "detachMinAge"] as const

const check = (queue: Queue, update: QueuePolicyUpdate): InvalidInput | InvalidState | undefined => {
  if (update.cleanupLimit !== undefined && update.cleanupLimit < 1) {
    return new InvalidInput({ field: "cleanupLimit", problem: "must be at least 1" })
  }
  const negative = durations.find((field) => Duration.isNegative(update[field] ?? Duration.zero))
  if (negative !== undefined) return new InvalidInput({ field: negative, problem: "must not be negative" })
  if (update.defaultPartition !== undefined && queue.policy.storageMode !== "partitioned") {
    return new InvalidState({
      operation: "setQueuePolicy",
      id: queue.name,
      state: queue.policy.storageMode,
      expected: "partitioned, to have a default partition"
    })
  }
  return undefined
}
