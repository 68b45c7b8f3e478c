/**
 * Testing programs that use Absurd: a store in memory, time under control, a worker that runs when the test says so,
 * assertions, and every crash there can be.
 *
 * It needs nothing but Effect: no database, no Node. Tests run on Effect's `TestClock`, which `it.effect` of
 * `@effect/vitest` provides; elsewhere, provide `TestClock.layer()` from `effect/testing`.
 *
 * @since 0.1.0
 */
import { Context, Effect, Layer } from "effect"
import * as Client from "../core/Absurd.ts"
import type { DriverError, InvalidInput, InvalidState } from "../core/Errors.ts"
import { MemoryStore } from "../drivers/memory/MemoryDriver.ts"
import * as Processes from "./testkit/Processes.ts"
import * as TestStore from "./testkit/TestStore.ts"

export { emitEvent as emit } from "../core/Absurd.ts"
export { crashEverywhere, CrashFound } from "./testkit/Crashing.ts"
export type { CrashOptions, Explored } from "./testkit/Crashing.ts"
export { advance, nextDue, runDue, runUntilIdle } from "./testkit/Driving.ts"
export type { Options } from "./testkit/Driving.ts"
export {
  ExpectationFailed,
  expectCompleted,
  expectFailed,
  expectSpawned,
  expectSuspended,
  inspect,
  spawned
} from "./testkit/Looking.ts"
export type { Inspection, SpawnedTask } from "./testkit/Looking.ts"
export { Processes } from "./testkit/Processes.ts"
export { now, setTime, start, TestStore } from "./testkit/TestStore.ts"

/**
 * A client on an empty store in memory, with its default queue, at {@link start}. Put the handlers of the tasks on top:
 * `Layer.provideMerge(OrderLive, AbsurdTest.layer)`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  Client.Absurd | TestStore.TestStore | MemoryStore | Processes.Processes,
  InvalidInput | InvalidState | DriverError
> = Layer.suspend(() => layerWith({}))

/**
 * Like {@link layer}, with options of the client, and with the queues that the test needs beside the default one.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (
  options: Client.Options & { readonly queues?: ReadonlyArray<string> | undefined }
): Layer.Layer<
  Client.Absurd | TestStore.TestStore | MemoryStore | Processes.Processes,
  InvalidInput | InvalidState | DriverError
> =>
  Layer.effectContext(Effect.gen(function*() {
    const prepare = Effect.gen(function*() {
      const { defaultQueue } = yield* Client.Absurd
      yield* Effect.forEach([defaultQueue, ...(options.queues ?? [])], (queue) => Client.createQueue(queue))
    })
    const { absurd, processes, store } = yield* Processes.make(options, prepare)
    const tested = yield* TestStore.make({ ...store, setTime: () => Effect.void, settle: Effect.void })
    return Context.merge(tested, Context.make(Client.Absurd, absurd)).pipe(
      Context.add(MemoryStore, store),
      Context.add(Processes.Processes, processes)
    )
  })).pipe((built) => Layer.provideMerge(TestStore.layerStart, built))
