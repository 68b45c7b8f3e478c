/**
 * Under what names an execution's parts are stored.
 *
 * The event of a deferred is a public format: a program in any language completes a deferred by emitting it. What belongs to
 * one task only is named by the task's id, so that an execution that is started anew, after its task was cleaned up, meets
 * nothing of its predecessor.
 */
import { CheckpointName, EventName, type TaskId } from "../../core/Identifiers.ts"

// --- events

/** What is made of the id of a task needs no check. */
const ofTask = (name: `wf:${TaskId}:${string}`): EventName => name as string as EventName

/** The completion of a deferred. Its payload is the encoded exit. */
export const deferredEvent = (executionId: string, name: string): EventName =>
  EventName.make(`wf:${executionId}:deferred:${name}`)

export const interruptEvent = (taskId: TaskId): EventName => ofTask(`wf:${taskId}:interrupt`)

/** Emitted before {@link interruptEvent} when the execution must not go on even where it would not suspend. */
export const killEvent = (taskId: TaskId): EventName => ofTask(`wf:${taskId}:kill`)

/** An event is emitted once, so every suspension waits for a resume of its own. */
export const resumeEvent = (taskId: TaskId, suspension: string): EventName =>
  EventName.make(`wf:${taskId}:resume:${suspension}`)

// --- checkpoints

/** The encoded exit of an activity. */
export const activityStep = (name: string, attempt: number): CheckpointName => {
  const step = `activity:${attempt}:${name}`
  const known = checked.get(step)
  if (known !== undefined) return known
  // Of most programs there are few; of those that make names up, the first ones stay.
  const made = CheckpointName.make(step)
  if (checked.size < 1000) checked.set(step, made)
  return made
}

/** Executions of a workflow have the same activities. */
const checked = new Map<string, CheckpointName>()

/** The encoded exit of a deferred, once the execution has seen it. */
export const deferredStep = (name: string): CheckpointName => CheckpointName.make(`deferred:${name}`)

/** When the clock behind a deferred is due. */
export const clockStep = (deferredName: string): CheckpointName => CheckpointName.make(`clock:${deferredName}`)

/** How a child execution ended. */
export const childPrefix = "child:"
export const childStep = (executionId: string): CheckpointName => CheckpointName.make(childPrefix + executionId)

/** The id of a child execution's task, once it was started. */
export const startedStep = (executionId: string): CheckpointName => CheckpointName.make(`started:${executionId}`)

export const interruptStep: CheckpointName = CheckpointName.make("interrupt")

export const resumePrefix = "resume:"
export const resumeStep = (suspension: string): CheckpointName => CheckpointName.make(resumePrefix + suspension)

/** The failure with which the execution was suspended last. A checkpoint is written once, hence the number. */
export const failurePrefix = "failure:"
export const failureStep = (number: number): CheckpointName => CheckpointName.make(failurePrefix + number)

// --- headers

/** The header of a task that holds the execution's id, which is its idempotency key as well. */
export const executionHeader = "effect-workflow-execution"

/** The header that holds the id of the execution that started this one. */
export const parentHeader = "effect-workflow-parent"
