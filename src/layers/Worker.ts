/**
 * The worker, as a layer.
 *
 * @since 0.1.0
 */
import { Config, Effect, Layer } from "effect"
import type { Absurd } from "../core/Absurd.ts"
import type { InvalidInput } from "../core/Errors.ts"
import * as Worker from "../core/Worker.ts"

export * from "../core/Worker.ts"

/**
 * A worker that lives as long as the layer. Give it the handlers (`Task.toLayer`) and a client (`Absurd.layer`).
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Worker.Options): Layer.Layer<never, InvalidInput, Absurd> =>
  Layer.effectDiscard(Worker.make(options))

/**
 * A worker whose options are read from the configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<Worker.Options>
): Layer.Layer<never, InvalidInput | Config.ConfigError, Absurd> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))
