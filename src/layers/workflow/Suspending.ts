/** How an execution goes to sleep in the store. */
import { Duration, Effect, type Schema } from "effect"
import { SecureRandom } from "effect/crypto"
import type { Workflow } from "effect/workflow"
import type * as Driver from "../../core/Driver.ts"
import type { CheckpointName, EventName, QueueName } from "../../core/Identifiers.ts"
import * as Encoding from "./Encoding.ts"
import type { Environment } from "./Environment.ts"
import * as Execution from "./Execution.ts"
import * as Names from "./Names.ts"

/** Puts the run to sleep until the first of its waits is over; false when one already is, so that the body goes on. */
export const suspend = (
  environment: Environment,
  self: Execution.Execution,
  suspended: Workflow.Suspended
): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    yield* storeFailure(environment, self, suspended)
    const { absurd: { driver }, settings: { queue } } = environment
    const { runId, token } = self.claimed
    const waits = waitsOf(self, suspended, queue)
    const answer = yield* Execution.settle(
      self,
      Execution.request(self, "suspend", driver.suspend({ queue, runId, token, waits }))
    )
    for (const [index, state] of answer.waits.entries()) {
      const { step } = waits[index]!
      if (state._tag === "Emitted") self.checkpoints.set(step, state.payload)
      if (state._tag === "Due") self.fired.add(step)
    }
    if (answer.suspended) return true
    if (self.checkpoints.has(Names.interruptStep)) yield* Execution.learnInterrupt(environment, self)
    return false
  })

// --- internal

/** What the run waits for: an interrupt, a resume, and, unless it has failed, everything that its last attempt waited for. */
const waitsOf = (
  self: Execution.Execution,
  suspended: Workflow.Suspended,
  queue: QueueName
): ReadonlyArray<Driver.Wait> => {
  const { attempt: { activityAwaits, children, clocks, instance, seen }, checkpoints, claimed: { taskId } } = self
  const waits: Array<Driver.Wait> = []
  const event = (step: CheckpointName, event: EventName) => waits.push({ _tag: "Event", step, event, timeout: null })
  const suspension = SecureRandom.uuidV7Unsafe()
  event(Names.resumeStep(suspension), Names.resumeEvent(taskId, suspension))
  event(Names.interruptStep, Names.interruptEvent(taskId))
  if (suspended.failed === true) return waits
  for (const name of new Set([...instance.awaitedDeferreds.keys(), ...activityAwaits.keys(), ...clocks])) {
    if (seen.has(name)) continue
    const clock = Names.clockStep(name)
    event(Names.deferredStep(name), Names.deferredEvent(self.executionId, name))
    if (checkpoints.has(clock)) waits.push({ _tag: "Timer", step: clock, until: Duration.zero })
  }
  for (const [executionId, childTaskId] of children) {
    waits.push({ _tag: "Tasks", step: Names.childStep(executionId), queue, taskIds: [childTaskId], failFast: false })
  }
  return waits
}

/** What `poll` tells of an execution that failed and sleeps. Nothing is stored for the many that never do. */
const storeFailure = (
  environment: Environment,
  self: Execution.Execution,
  suspended: Workflow.Suspended
): Effect.Effect<void> =>
  Effect.gen(function*() {
    let number = 0
    while (self.checkpoints.has(Names.failureStep(number))) number++
    const failure = yield* Encoding.encodeSuspended(suspended)
    const last = number === 0 ? noFailure : self.checkpoints.get(Names.failureStep(number - 1))
    if (JSON.stringify(last) === JSON.stringify(failure)) return
    yield* Execution.store(environment, self, Names.failureStep(number), failure)
  })

const noFailure: Schema.Json = { cause: null, failed: false }
