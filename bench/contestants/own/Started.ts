/** Layers that a promise starts and another one ends. */
import { type Duration, Effect, Exit, Layer, Scope } from "effect"
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

/** Waits until the answer is `true`, asking again after each pause. */
export const until = async (isTrue: () => Promise<boolean>, pause: Duration.Input): Promise<void> => {
  while (!await isTrue()) await Effect.runPromise(Effect.sleep(pause))
}
