/** Layers that a promise starts and another one ends. */
import { Effect, Exit, Layer, Scope } from "effect"
import type { Absurd } from "effect-absurd"
import type { Runtime } from "./Own.ts"

/** Builds the layer. The answer ends it. */
export const start = async <E>(
  runtime: Runtime,
  layer: Layer.Layer<never, E, Absurd.Absurd>
): Promise<() => Promise<unknown>> => {
  const scope = Scope.makeUnsafe()
  await runtime.runPromise(Layer.buildWithScope(layer, scope))
  return () => runtime.runPromise(Scope.close(scope, Exit.void))
}

/** Waits until the answer is `true`, asking every few milliseconds. */
export const until = async (isTrue: () => Promise<boolean>): Promise<void> => {
  while (!await isTrue()) await Effect.runPromise(Effect.sleep("10 millis"))
}
