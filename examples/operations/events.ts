import { Effect } from "effect"
import { Absurd } from "effect-absurd"

const claimOne = Effect.map(Absurd.claimTask(), ([run]) => run!)

/** Waiting for events by hand, and emitting them. */
export const example = Effect.gen(function*() {
  const { taskId } = yield* Absurd.spawnTask("ship", null)
  let run = yield* claimOne
  const { shouldSuspend } = yield* Absurd.awaitEvent(run, "packed:42", { step: "packed", timeout: "1 day" })
  const waits = yield* Absurd.listWaits(taskId)
  const first = yield* Absurd.emitEvent("packed:42", { tracking: "T1" })
  // The first payload stays.
  const second = yield* Absurd.emitEvent("packed:42", { tracking: "T2" })

  run = yield* claimOne
  const payload = yield* Absurd.waitForEvent(run, "packed:42", { step: "packed" })
  const stored = yield* Absurd.readEvent("packed:42")
  const sleeps = yield* Absurd.setRunSleeping(run, "delivered:42")
  yield* Absurd.emitEvent("delivered:42")
  run = yield* claimOne
  yield* Absurd.completeTask(run, payload)
  return { shouldSuspend, waits, first, second, payload, stored, sleeps }
})
