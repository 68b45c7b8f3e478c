/**
 * What can be seen of tasks from outside, and the layer that samples queues.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Layer, Metric, Schedule } from "effect"
import { type Absurd, resolveQueue } from "../core/Absurd.ts"
import type { InvalidInput } from "../core/Errors.ts"
import * as Input from "../core/Input.ts"
import * as Telemetry from "../core/Telemetry.ts"
import * as Worker from "../core/Worker.ts"

export {
  batchSize,
  claimLatency,
  lostLeases,
  oldestDue,
  queueDepth,
  runDuration,
  runs,
  steps,
  traceparentHeader
} from "../core/Telemetry.ts"

/**
 * Looks from time to time how much there is to do in queues, for the gauges `queueDepth` and `oldestDue`. One program of an
 * installation is enough. While the store cannot be asked, the gauges stay as they were.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerQueues = (options?: {
  /** The client's own queue by default. */
  readonly queues?: ReadonlyArray<string> | undefined
  /** How long between two looks, at least 1 second; 15 seconds by default. */
  readonly interval?: Duration.Input | undefined
}): Layer.Layer<never, InvalidInput, Absurd> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const queues = yield* Effect.forEach(options?.queues ?? [undefined], resolveQueue)
    const interval = yield* Input.duration("interval", options?.interval ?? "15 seconds", { minimum: "1 second" })
    yield* Effect.forEach(queues, sample, { discard: true }).pipe(
      Effect.repeat(Schedule.spaced(interval)),
      Effect.forkScoped
    )
  }))

// --- internal

const sample = (queue: string) =>
  Effect.flatMap(Worker.load(queue), ({ due, later, oldest, running }) => {
    const depth = (state: string, runs: number) =>
      Metric.update(Metric.withAttributes(Telemetry.queueDepth, { queue, state }), runs)
    return Effect.all([
      depth("due", due),
      depth("later", later),
      depth("running", running),
      Metric.update(
        Metric.withAttributes(Telemetry.oldestDue, { queue }),
        oldest === null ? 0 : Duration.toMillis(oldest)
      )
    ], { discard: true })
  }).pipe(Effect.catch((error) => Effect.logDebug(`Could not ask how much there is to do in "${queue}"`, error._tag)))
