/**
 * Replacing tasks that have not been started.
 *
 * @since 0.1.0
 */
import { Effect, type Schema } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import { InvalidInput } from "./Errors.ts"
import type { QueueName } from "./Identifiers.ts"
import * as Spawning from "./Spawning.ts"
import * as Stored from "./Stored.ts"

/**
 * What {@link replaceTask} answers.
 *
 * @since 0.1.0
 * @category models
 */
export interface Replaced extends Driver.Spawned {
  /** Whether a task that had not been started was given these params. */
  readonly replaced: boolean
}

/**
 * Spawns a task or, while the one that has its idempotency key has not been started, replaces its params and everything else
 * of it. With `due: "renew"` (the default) it becomes due by `delay` from now, so a burst of calls starts one task, `delay`
 * after the last of them, with the last params; with `"keep"` it stays due when it was.
 *
 * A key names one task for as long as that is stored: once it has been started, this is `spawnTask`, which returns it, or
 * fails with `IdempotencyConflict` when it has other params. Use keys that say which burst or period they are for. The same
 * failure tells that the key belongs to a task of another name.
 *
 * @since 0.1.0
 * @category operations
 */
export const replaceTask = Effect.fn("Absurd.replaceTask")(function*(
  name: string,
  params: Schema.Json,
  options: Spawning.SpawnOptions & {
    readonly queue?: string | undefined
    readonly idempotencyKey: string
    readonly due?: "renew" | "keep" | undefined
  }
): Effect.fn.Return<Replaced, Spawning.SpawnError, Absurd> {
  const queue = yield* resolveQueue(options.queue)
  const limits = yield* Stored.Limits
  const item = yield* Spawning.prepare(limits, name, yield* Stored.normalizeWithin(limits, "params", params), options)
  return yield* replace(queue, item, options.due)
})

/**
 * {@link replaceTask} of a task that has been prepared. Like every spawn it goes through the program's hooks, with the trace
 * that it belongs to. `InvalidInput` when it has no idempotency key.
 *
 * @since 0.1.0
 * @category combinators
 */
export const replace = (
  queue: QueueName,
  item: Driver.SpawnItem,
  due: "renew" | "keep" = "renew"
): Effect.Effect<Replaced, Spawning.SpawnError, Absurd> =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const key = item.idempotencyKey
    if (key === null) {
      return yield* new InvalidInput({
        field: "idempotencyKey",
        problem: "is what the task to replace is known by; give one with the call or with the definition of the task"
      })
    }
    let replaced = false
    const attempt = (task: Driver.SpawnItem) =>
      Effect.gen(function*() {
        const revised = yield* driver.revisePending({ queue, key, task, keepDue: due === "keep" })
        replaced = revised !== undefined
        return revised === undefined ? yield* driver.spawn({ queue, tasks: [task] }) : [revised]
      })
    const [spawned] = yield* Spawning.send(queue, [item], ([task]) =>
      // Somebody else may have spawned it in between; then it can be replaced.
      Effect.retry(attempt({ ...task!, idempotencyKey: key }), {
        times: 1,
        while: (error) => error._tag === "IdempotencyConflict"
      }))
    return { ...spawned!, replaced }
  })
