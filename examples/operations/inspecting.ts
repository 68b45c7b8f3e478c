import { Duration, Effect } from "effect"
import { Absurd } from "effect-absurd"

/** Looking at tasks, trying failed ones again, and deleting what is no longer needed. */
export const example = Effect.gen(function*() {
  const { runId, taskId } = yield* Absurd.spawnTask("flaky", { n: 1 }, { maxAttempts: 1 })
  const [run] = yield* Absurd.claimTask()
  yield* Absurd.failTask(run!, { name: "Timeout", message: "the carrier did not answer" })

  const task = yield* Absurd.getTaskStatus(taskId)
  const attempt = yield* Absurd.getRunStatus(runId)
  const failed = yield* Absurd.getTaskResult(taskId)
  const inPlace = yield* Absurd.retryTask(taskId)
  const runs = yield* Absurd.listRuns(taskId)
  yield* Absurd.cancelTask(taskId)

  const tasks = yield* Absurd.cleanupTasks({ ttl: Duration.days(30), limit: 100 })
  const events = yield* Absurd.cleanupEvents({ ttl: Duration.days(30) })
  const unknown = yield* Effect.flip(Absurd.getTaskStatus("01900000-0000-7000-8000-000000000000"))
  return { task, attempt, failed, inPlace, runs, tasks, events, unknown: unknown._tag }
})
