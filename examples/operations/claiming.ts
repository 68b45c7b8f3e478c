import { DateTime, Effect } from "effect"
import { Absurd } from "effect-absurd"

const claimOne = Effect.map(
  Absurd.claimTask({ workerId: "by-hand", claimTimeout: "1 minute", qty: 1 }),
  ([run]) => run!
)

/** Driving runs by hand. A `Worker` does all of this. */
export const example = Effect.gen(function*() {
  const { taskId } = yield* Absurd.spawnTask("import", { file: "a.csv" }, {
    retryStrategy: { kind: "fixed", base_seconds: 0 }
  })

  let run = yield* claimOne
  yield* Absurd.extendClaim(run, "5 minutes")
  yield* Absurd.failTask(run, "the file is not there yet")

  // The next attempt is another run. It hands itself back until a time that is over already.
  run = yield* claimOne
  yield* Absurd.scheduleTask(run, DateTime.makeUnsafe(0))

  // The same run, claimed again, sleeps durably: the first call stores the wake time and ends this claim.
  run = yield* claimOne
  const suspended = yield* Effect.flip(Absurd.sleep(run, "1 day", { step: "a day" }))
  const cancelled = yield* Absurd.cancelRun(run.runId)

  const other = yield* Absurd.spawnTask("import", { file: "b.csv" })
  run = yield* claimOne
  yield* Absurd.completeTask(run, { rows: 3 })
  // A second completion changes nothing.
  const twice = yield* Effect.flip(Absurd.completeTask(run, { rows: 4 }))
  const result = yield* Absurd.awaitTaskResult(other.taskId, { timeout: "1 minute" })

  const stopped = yield* Absurd.spawnTask("import", { file: "c.csv" })
  const wasStopped = yield* Absurd.cancelTask(stopped.taskId)
  return { taskId, suspended: suspended._tag, cancelled, twice: twice._tag, result, wasStopped }
})
