/**
 * The client, with the layers that give it a store.
 *
 * @since 0.1.0
 */
import { Config, Effect, Layer, Option } from "effect"
import type { SqlClient } from "effect/sql/SqlClient"
import * as Client from "../core/Absurd.ts"
import type { DriverError, InvalidInput } from "../core/Errors.ts"
import * as MemoryDriver from "../drivers/memory/MemoryDriver.ts"
import type { MemoryStore } from "../drivers/memory/MemoryDriver.ts"
import * as PostgresDriver from "../drivers/postgres/PostgresDriver.ts"

export * from "../core/Absurd.ts"
export * from "../core/Claims.ts"
export * from "../core/Inspection.ts"
export { replaceTask } from "../core/Replacing.ts"
export type { Replaced } from "../core/Replacing.ts"
export { spawnCancellableTask, spawnRetryTask, spawnTask, spawnTasks } from "../core/Spawning.ts"
export type { Spawned, SpawnError, SpawnOptions } from "../core/Spawning.ts"
export * from "../core/Upkeep.ts"
export {
  cleanupWorkflowRuns,
  createWorkflowRun,
  getWorkflowRun,
  listWorkflowRuns,
  updateWorkflowRunStatus
} from "../core/WorkflowRuns.ts"
export type {
  CreateOptions as CreateWorkflowRunOptions,
  ListOptions as ListWorkflowRunsOptions,
  UpdateOptions as UpdateWorkflowRunOptions
} from "../core/WorkflowRuns.ts"

/**
 * How to make a client on PostgreSQL.
 *
 * @since 0.1.0
 * @category models
 */
export interface PostgresOptions extends Client.Options {
  /**
   * Whether to listen for hints of the database, with one connection of a pool of at least four; true by default. Switch it
   * off behind a pooler that gives each transaction another session: workers poll, and lose nothing but a fraction of a second.
   */
  readonly notifications?: boolean | undefined
}

/**
 * The client on a PostgreSQL database, through any `SqlClient`: operations use that client, so inside its
 * `withTransaction` they commit or roll back with the rest. The schema must be installed (see `Installation`).
 *
 * The default queue is read from `ABSURD_DEFAULT_QUEUE` (`absurd_default` when unset), the worker id from
 * `ABSURD_WORKER_ID` (`worker` when unset).
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  Client.Absurd,
  InvalidInput | DriverError | Config.ConfigError,
  SqlClient
> = Layer.unwrap(Effect.suspend(() => Effect.map(fromEnvironment, (options) => layerWith(options))))

/**
 * Like {@link layer}, with options instead of the environment.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (
  options: PostgresOptions
): Layer.Layer<Client.Absurd, InvalidInput | DriverError, SqlClient> =>
  Client.layerDriver(options).pipe(
    Layer.provide(PostgresDriver.layerWith({ notifications: options.notifications }))
  )

/**
 * Like {@link layer}, with options read from the configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<PostgresOptions>
): Layer.Layer<Client.Absurd, InvalidInput | DriverError | Config.ConfigError, SqlClient> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layerWith))

/**
 * The client on a store in memory, for tests: the same behaviour on Effect's `Clock`, gone when the layer is. `MemoryStore`
 * shows what is in it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory: Layer.Layer<Client.Absurd | MemoryStore, InvalidInput> = Layer.suspend(() =>
  layerMemoryWith({})
)

/**
 * Like {@link layerMemory}, with options.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemoryWith = (options: Client.Options): Layer.Layer<Client.Absurd | MemoryStore, InvalidInput> =>
  Client.layerDriver(options).pipe(Layer.provideMerge(MemoryDriver.layer))

// --- internal

const fromEnvironment: Config.Config<Client.Options> = Config.all({
  queue: Config.option(Config.String("ABSURD_DEFAULT_QUEUE")),
  workerId: Config.option(Config.String("ABSURD_WORKER_ID"))
}).pipe(Config.map(({ queue, workerId }) => ({
  queue: Option.getOrUndefined(queue),
  workerId: Option.getOrUndefined(workerId)
})))
