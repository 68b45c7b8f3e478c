/**
 * Maintenance, as a layer: partitions in time, and nothing kept for longer than policies say.
 *
 * @since 0.1.0
 */
import { Config, Effect, Layer } from "effect"
import type { Absurd } from "../core/Absurd.ts"
import type { InvalidInput } from "../core/Errors.ts"
import * as Maintenance from "../core/Maintenance.ts"

export * from "../core/Maintenance.ts"

/**
 * Maintenance for as long as the layer lives. Put it into as many processes as you like: one at a time does the work, and it
 * needs nothing but the database.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Maintenance.Options): Layer.Layer<never, InvalidInput, Absurd> =>
  Layer.effectDiscard(Maintenance.make(options))

/**
 * {@link layer} with options read from the configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<Maintenance.Options>
): Layer.Layer<never, InvalidInput | Config.ConfigError, Absurd> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))
