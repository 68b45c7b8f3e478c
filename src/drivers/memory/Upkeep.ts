/**
 * Looking after a store in memory, which has neither partitions nor a scheduler of its own.
 *
 * @since 0.1.0
 */
import { Result } from "effect"
import type { Cleaned } from "../../core/Driver.ts"
import { InvalidState, type NotFound } from "../../core/Errors.ts"
import type { QueueName } from "../../core/Identifiers.ts"
import * as Cleaning from "./Cleaning.ts"
import * as Queues from "./Queues.ts"
import type { Call, Queue } from "./Tables.ts"

/**
 * Nothing, for a queue that exists or for all.
 *
 * @since 0.1.0
 */
export const nothing = <A>(
  queues: Queues.Queues,
  queue: QueueName | null,
  answer: A
): Result.Result<A, NotFound> =>
  queue === null ? Result.succeed(answer) : Result.map(Queues.find(queues, queue), () => answer)

/** @since 0.1.0 */
export const cleanupAll = (
  queues: Queues.Queues,
  queue: QueueName | null,
  callOn: (queue: Queue) => Call
): Result.Result<ReadonlyArray<Cleaned>, NotFound> => {
  const clean = (found: Queue): Cleaned => {
    const { cleanupLimit: limit, cleanupTtl: ttl } = found.policy
    const [call, request] = [callOn(found), { ttl, limit }]
    return {
      queue: found.name,
      tasks: Cleaning.cleanupTasks(call, request),
      events: Cleaning.cleanupEvents(call, request)
    }
  }
  return queue === null
    ? Result.succeed([...queues.values()].sort((a, b) => a.name < b.name ? -1 : 1).map(clean))
    : Result.map(Queues.find(queues, queue), (found) => [clean(found)])
}

/** @since 0.1.0 */
export const withoutCron = (operation: string): Result.Result<never, InvalidState> =>
  Result.fail(
    new InvalidState({ operation, id: "pg_cron", state: "not available", expected: "installed here" })
  )
