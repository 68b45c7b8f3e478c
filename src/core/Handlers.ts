/**
 * The handlers of one program, by queue and task. Filled by `Task.toLayer`, read by workers.
 *
 * @since 0.1.0
 */
import type { Cause, Context, Duration, Effect, Schema, Scope } from "effect"
import type { CurrentRun } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import type { Failure } from "./Failure.ts"
import type { QueueName } from "./Identifiers.ts"

/**
 * A handler in the encoded terms of a worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handler {
  readonly task: string
  readonly queue: QueueName
  /** The services of the program, which `execute` finds in its context. */
  readonly context: Context.Context<never>
  /** From encoded params to the encoded result. Whatever it fails with is for `onFailure`. */
  readonly execute: (params: Schema.Json) => Effect.Effect<Schema.Json, unknown, CurrentRun | Scope.Scope>
  /** What is stored of a failure, and when the next attempt starts. */
  readonly onFailure: (failed: {
    readonly cause: Cause.Cause<unknown>
    readonly attempt: number
    readonly elapsed: Duration.Duration
  }) => Effect.Effect<{ readonly failure: Failure; readonly retry: Driver.Retry }>
}

/**
 * A mutable set of handlers.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handlers {
  /** Returns what removes the handler again. A second handler for one task replaces the first. */
  readonly register: (handler: Handler) => () => void
  readonly find: (queue: QueueName, task: string) => Handler | undefined
  /** Counts a run that was put back because there is no handler for it; returns how many of the task there were. */
  readonly missed: (queue: QueueName, task: string) => number
  /** How many runs were put back, by queue and task. At most 1,000 names are kept. */
  readonly misses: () => ReadonlyArray<{ readonly queue: QueueName; readonly task: string; readonly runs: number }>
}

/**
 * An empty set.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (): Handlers => {
  const handlers = new Map<string, Handler>()
  const misses = new Map<string, { readonly queue: QueueName; readonly task: string; readonly runs: number }>()
  // A queue name contains no NUL, so no two pairs share a key.
  const key = (queue: QueueName, task: string) => `${queue}\u0000${task}`
  return {
    register: (handler) => {
      const at = key(handler.queue, handler.task)
      handlers.set(at, handler)
      return () => {
        if (handlers.get(at) === handler) handlers.delete(at)
      }
    },
    find: (queue, task) => handlers.get(key(queue, task)),
    missed: (queue, task) => {
      const at = key(queue, task)
      const runs = (misses.get(at)?.runs ?? 0) + 1
      // Names come from whoever spawns.
      if (runs > 1 || misses.size < 1000) misses.set(at, { queue, task, runs })
      return runs
    },
    misses: () => [...misses.values()]
  }
}
