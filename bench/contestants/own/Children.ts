/** A task that waits for others. */
import { Effect, Layer, Schema } from "effect"
import { Task, TaskHandle, Worker } from "effect-absurd"
import { seconds } from "../../Measure.ts"
import { queue } from "../AbsurdTables.ts"
import type { Own, Runtime } from "./Own.ts"
import { start } from "./Started.ts"

const Child = Task.make("child", { params: {}, success: Schema.Int, queue })
const Parent = Task.make("parent", { params: { count: Schema.Int }, success: Schema.Int, queue })

const ParentLive = Parent.toLayer(Effect.fnUntraced(function*({ count }) {
  const children = yield* Child.spawnMany(Array.from({ length: count }, () => ({})))
  return (yield* TaskHandle.all(children)).length
}))

export const joinChildren = (runtime: Runtime): Own["joinChildren"] => async (count, concurrency) => {
  const handlers = Layer.mergeAll(ParentLive, Child.toLayer(() => Effect.succeed(1)))
  const stop = await start(runtime, Worker.layer({ concurrency }).pipe(Layer.provide(handlers)))
  const join = Effect.flatMap(Parent.spawn({ count }), (parent) => parent.await)
  const took = await seconds(() => runtime.runPromise(join))
  await stop()
  return took
}
