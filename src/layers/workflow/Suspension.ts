/** Executions that sleep, seen from outside. */
import { Cause, Effect, Option, Schema } from "effect"
import { Workflow } from "effect/workflow"
import { TaskId } from "../../core/Identifiers.ts"
import * as Encoding from "./Encoding.ts"
import { ask, askTogether, type Environment } from "./Environment.ts"
import * as Names from "./Names.ts"

/**
 * What a sleeping execution is suspended for. None when it does not wait: it was handed back, or its process died, and it is
 * only not claimed yet.
 */
export const look = (environment: Environment, taskId: TaskId): Effect.Effect<Option.Option<Workflow.Suspended>> =>
  lookDown(environment, taskId, deepest)

// --- internal

/** How many generations of children are looked at. */
const deepest = 10

const lookDown = (
  environment: Environment,
  taskId: TaskId,
  depth: number
): Effect.Effect<Option.Option<Workflow.Suspended>> =>
  Effect.gen(function*() {
    const { absurd: { driver }, settings: { queue } } = environment
    const waits = yield* ask(environment, "listWaits", driver.listWaits({ queue, taskId }))
    if (waits.length === 0) return Option.none()
    const checkpoints = yield* ask(
      environment,
      "getCheckpoints",
      driver.getCheckpoints({ queue, taskId, name: null, includePending: false })
    )
    const failure = checkpoints.findLast(({ name }) => name.startsWith(Names.failurePrefix))
    const own = failure === undefined ? new Workflow.Suspended({}) : yield* Encoding.decodeSuspended(failure.state)
    if (own.cause !== undefined || own.failed === true || depth === 0) return Option.some(own)
    // What children have failed with and wait to be resumed from is why their parent does not go on.
    const children = waits.flatMap(({ step }) => childOf(step))
    const suspended = yield* Effect.forEach(children, (child) => lookAtChild(environment, child, depth - 1), {
      concurrency: 10
    })
    const causes = suspended.flatMap((child) => Option.isSome(child) && child.value.cause ? [child.value.cause] : [])
    const [first, ...others] = causes
    return Option.some(
      first === undefined
        ? own
        : new Workflow.Suspended({ cause: others.reduce((all, cause) => Cause.combine(all, cause), first) })
    )
  })

const lookAtChild = (environment: Environment, taskId: TaskId, depth: number) =>
  Effect.gen(function*() {
    const { absurd: { coalesced }, settings: { queue } } = environment
    const result = yield* askTogether(environment, coalesced.result(queue, taskId))
    return result?.state === "sleeping" ? yield* lookDown(environment, taskId, depth) : Option.none()
  })

const isTaskId = Schema.is(TaskId)

/** The wait for a child is registered under its step with the id of its task behind. */
const childOf = (step: string): ReadonlyArray<TaskId> => {
  const taskId = step.slice(-36)
  return step.startsWith(Names.childPrefix) && isTaskId(taskId) ? [taskId] : []
}
