/**
 * Replacing tasks that have not been started.
 *
 * @since 0.1.0
 */
import { Effect, type Schema } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import { IdempotencyKey } from "./Identifiers.ts"
import * as Input from "./Input.ts"
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
  const { driver } = yield* Absurd
  const queue = yield* resolveQueue(options.queue)
  const key = yield* checkKey(options.idempotencyKey)
  const task = yield* Spawning.prepare(name, yield* Stored.normalize("params", params), options)
  const revise = driver.revisePending({ queue, key, task, keepDue: options.due === "keep" })
  const attempt = Effect.gen(function*() {
    const revised = yield* revise
    if (revised !== undefined) return { ...revised, replaced: true }
    const [spawned] = yield* driver.spawn({ queue, tasks: [task] })
    return { ...spawned!, replaced: false }
  })
  // Somebody else may have spawned it in between; then it can be replaced.
  return yield* Effect.retry(attempt, { times: 1, while: (error) => error._tag === "IdempotencyConflict" })
})

// --- internal

const checkKey = Input.check("idempotencyKey", IdempotencyKey)
