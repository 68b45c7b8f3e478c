import { Effect } from "effect"
import { Absurd } from "effect-absurd"

/** A record of tasks that belong together. */
export const example = Effect.gen(function*() {
  const runId = yield* Absurd.createWorkflowRun("order_fulfilment", "1.4.0", {
    inputs: { orderId: "42" },
    createdBy: "checkout",
    tags: ["eu", "express"]
  })
  yield* Absurd.updateWorkflowRunStatus(runId, "running", { taskCount: 1 })
  const spawned = yield* Absurd.spawnTask("pack", { orderId: "42" }, { workflowRunId: runId })
  yield* Absurd.cancelTask(spawned.taskId)
  yield* Absurd.updateWorkflowRunStatus(runId, "completed", { result: { tracking: "T1" } })

  const run = yield* Absurd.getWorkflowRun(runId)
  const listed = yield* Absurd.listWorkflowRuns({ name: "order_fulfilment", status: "completed", tag: "eu", limit: 10 })
  const deleted = yield* Absurd.cleanupWorkflowRuns({ ttl: "30 days" })
  const refused = yield* Effect.flip(Absurd.createWorkflowRun("Order__Fulfilment", "1"))
  return { run, spawned, listed, deleted, refused: refused.message }
})
