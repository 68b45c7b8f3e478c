import { Effect } from "effect"
import { Absurd } from "effect-absurd"

/** What a task has done, step by step. */
export const example = Effect.gen(function*() {
  const { runId, taskId } = yield* Absurd.spawnTask("report", null)
  const [run] = yield* Absurd.claimTask()
  const stored = yield* Absurd.setCheckpoint(run!, "count", 3, { extendClaimBy: "2 minutes" })
  // A committed checkpoint is never changed: this returns what is stored.
  const kept = yield* Absurd.saveCheckpointForRun(run!, "count", 4)
  const one = yield* Absurd.getCheckpoint(taskId, "count", { includePending: true })
  const all = yield* Absurd.getAllCheckpoints(taskId)
  const ofRun = yield* Absurd.getCheckpointsForRun(runId)
  const oneOfRun = yield* Absurd.getRunCheckpoint(runId, "count")
  yield* Absurd.completeTask(run!)
  return { stored, kept, one, all, ofRun, oneOfRun }
})
