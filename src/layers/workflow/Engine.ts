/** Effect's encoded engine contract, over the driver. */
import { Effect, type Schema } from "effect"
import { type Activity, Workflow, WorkflowEngine } from "effect/workflow"
import * as Durables from "./Durables.ts"
import * as Encoding from "./Encoding.ts"
import type { Environment } from "./Environment.ts"
import * as Executions from "./Executions.ts"
import * as Runs from "./Runs.ts"

export const make = (environment: Environment): WorkflowEngine.WorkflowEngine["Service"] => {
  const encoded = WorkflowEngine.makeUnsafe({
    register: (workflow, execute) => register(environment, () => engine, workflow, execute),
    // What is returned depends on a type parameter that the implementation cannot see.
    execute: (workflow, options) => Executions.execute(environment, workflow, options) as Effect.Effect<never>,
    poll: (workflow, executionId) => Executions.poll(environment, workflow, executionId),
    interrupt: (_workflow, executionId) => Executions.interrupt(environment, executionId, { unsafe: false }),
    interruptUnsafe: (_workflow, executionId) => Executions.interrupt(environment, executionId, { unsafe: true }),
    resume: (_workflow, executionId) => Executions.resume(environment, executionId),
    awaitComplete: (_workflow, executionId) => Executions.awaitComplete(environment, executionId),
    activityExecute: (activity, attempt) => Durables.activityExecute(environment, activity, attempt),
    deferredResult: (deferred) => Durables.deferredResult(environment, deferred.name),
    deferredDone: (options) => Durables.deferredDone(environment, options),
    scheduleClock: (_workflow, options) => Durables.scheduleClock(environment, options)
  })
  const engine = WorkflowEngine.WorkflowEngine.of({
    ...encoded,
    activityExecute: (activity, attempt) => activityExecute(environment, activity, attempt)
  })
  return engine
}

// --- internal

/** What Effect makes of the encoded one, but for the codec: activities are mostly made where they are executed, each time. */
const activityExecute = <S extends Schema.Constraint, E extends Schema.Constraint, R>(
  environment: Environment,
  activity: Activity.Activity<S, E, R>,
  attempt: number
): Effect.Effect<
  Workflow.Result<S["Type"], E["Type"]>,
  never,
  S["DecodingServices"] | E["DecodingServices"] | R | WorkflowEngine.WorkflowInstance
> =>
  Effect.flatMap(
    Durables.activityExecute(environment, activity, attempt),
    (result): ReturnType<typeof activityExecute<S, E, R>> =>
      result._tag === "Suspended"
        ? Effect.succeed(result)
        : Effect.map(Encoding.decodeActivity(activity, result.exit), (exit) => new Workflow.Complete({ exit }))
  )

const register = (
  environment: Environment,
  engine: () => WorkflowEngine.WorkflowEngine["Service"],
  ...[workflow, execute]: Parameters<WorkflowEngine.Encoded["register"]>
): ReturnType<WorkflowEngine.Encoded["register"]> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const { changed, unknown, wake, workflows } = environment
    const registration = {
      workflow,
      execute: (payload: object, executionId: string) =>
        Effect.provideService(execute(payload, executionId), WorkflowEngine.WorkflowEngine, engine()),
      provide: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, context)
    }
    workflows.set(workflow._tag, registration)
    unknown.delete(workflow._tag)
    wake.openUnsafe()
    changed.openUnsafe()
    yield* Effect.addFinalizer(() => {
      if (workflows.get(workflow._tag) === registration) workflows.delete(workflow._tag)
      // Its runs use services that are about to be closed.
      return Runs.release(environment, (execution) => execution.registration === registration)
    })
  })
