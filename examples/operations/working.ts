import { Effect, Layer, Option, Schema } from "effect"
import { Absurd, CurrentRun, Hooks, Step, Task, Worker } from "effect-absurd"

const Upload = Task.make("upload", { params: { file: Schema.String }, success: Schema.Json })

const UploadLive = Upload.toLayer(Effect.fn(function*({ file }) {
  const { headers } = yield* CurrentRun
  // A step in two parts, for work that does not fit into one effect.
  const step = yield* Step.begin("upload")
  if (Option.isSome(step.completed)) return step.completed.value
  // The next part may take longer than the worker's lease.
  yield* Step.heartbeat("10 minutes")
  return yield* step.complete({ file, tenant: headers["tenant"] ?? null })
}))

/** Around every spawn: a header of whoever spawns. */
const Tenant = Hooks.layerSpawn(({ tasks }, next) =>
  next(tasks.map((task) => ({ ...task, headers: { ...task.headers, tenant: "acme" } })))
)

/** Around every execution: the tenant in all logs. */
const TenantLogs = Hooks.layerExecution((handler, run) =>
  Effect.annotateLogs(handler, { tenant: run.headers["tenant"] })
)

/** Works off one batch, without a worker in the background. */
export const example = Effect.gen(function*() {
  const upload = yield* Upload.spawn({ file: "a.csv" })
  yield* Absurd.spawnTask("of-another-program", null)
  const results = yield* Worker.runOnce({ concurrency: 10 })
  const result = yield* upload.await
  // A task without a handler here was put back, for 15 to 30 seconds and without having spent an attempt.
  const unknown = yield* Worker.unknownTasks
  return { results, result, unknown }
}).pipe(Effect.provide(Layer.mergeAll(UploadLive, Tenant, TenantLogs)))
