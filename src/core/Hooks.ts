/**
 * Code of the program around every spawn and every execution: for tenants in headers, limits, measurements.
 *
 * @since 0.1.0
 */
import { Context, Effect, Layer } from "effect"
import type { CurrentRun } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import type { QueueName } from "./Identifiers.ts"
import type { SpawnError } from "./Spawning.ts"

/**
 * Tasks that are about to be stored in one round trip.
 *
 * @since 0.1.0
 * @category models
 */
export interface SpawnRequest {
  readonly queue: QueueName
  readonly tasks: ReadonlyArray<Driver.SpawnItem>
}

/**
 * Runs `next`, with the tasks as they are or with other headers and options. It answers for each task, in their order, so
 * `next` must be given as many tasks as there were.
 *
 * @since 0.1.0
 * @category models
 */
export type AroundSpawn = (
  request: SpawnRequest,
  next: (tasks: ReadonlyArray<Driver.SpawnItem>) => Effect.Effect<ReadonlyArray<Driver.Spawned>, SpawnError>
) => Effect.Effect<ReadonlyArray<Driver.Spawned>, SpawnError>

/**
 * Runs the handler of a run. What it does outside of the handler's steps is done in every execution, and what it fails with
 * fails the run.
 *
 * @since 0.1.0
 * @category models
 */
export type AroundExecution = <A, E, R>(
  handler: Effect.Effect<A, E, R>,
  run: CurrentRun["Service"]
) => Effect.Effect<A, E, R>

/**
 * What is done around every spawn; nothing by default.
 *
 * @since 0.1.0
 * @category references
 */
export const Spawn = Context.Reference<AroundSpawn>("effect-absurd/core/Hooks/Spawn", {
  defaultValue: () => (request, next) => next(request.tasks)
})

/**
 * What is done around every execution; nothing by default.
 *
 * @since 0.1.0
 * @category references
 */
export const Execution = Context.Reference<AroundExecution>("effect-absurd/core/Hooks/Execution", {
  defaultValue: () => asItIs
})

/**
 * Does something around the spawns of everything the layer is provided to; inside of what is done there already. A child
 * whose spawn an earlier execution has stored is not spawned again. Tasks that the store spawns by cron do not pass here.
 *
 * ```ts
 * import { Hooks } from "effect-absurd"
 *
 * const tenant = Hooks.layerSpawn(({ tasks }, next) =>
 *   next(tasks.map((task) => ({ ...task, headers: { ...task.headers, tenant: "acme" } })))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerSpawn = (around: AroundSpawn): Layer.Layer<never> =>
  Layer.effect(
    Spawn,
    Effect.map(Spawn, (outer): AroundSpawn => (request, next) =>
      outer(request, (tasks) => around({ ...request, tasks }, next)))
  )

/**
 * Does something around the executions of the workers that the layer is provided to; inside of what is done there already.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Hooks } from "effect-absurd"
 *
 * const tenants = Hooks.layerExecution((handler, run) => Effect.annotateLogs(handler, { of: run.task }))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerExecution = (around: AroundExecution): Layer.Layer<never> =>
  Layer.effect(
    Execution,
    Effect.map(Execution, (outer): AroundExecution => (handler, run) => outer(around(handler, run), run))
  )

// --- internal

/** One function, by which it is seen that there is no hook. */
const asItIs: AroundExecution = (handler) => handler
