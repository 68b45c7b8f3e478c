/**
 * Executes the body of a workflow, again and again until it is complete or sleeps in the store.
 *
 * States: claimed → attempting the body (each attempt has an instance of its own) → completing, or suspending → asleep in
 * the store, or back to attempting when something it waits for is there already. From any state it may be cut off: when its
 * lease is lost, its task is cancelled, or the process lets go of it. A body that is cut off is abandoned in the sense of
 * Effect's engine: its scopes close, the workflow's finalizers are skipped.
 */
import { Context, Duration, Effect, Exit, Fiber, Scope } from "effect"
import { Workflow, WorkflowEngine } from "effect/workflow"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import * as Encoding from "./Encoding.ts"
import type { Environment } from "./Environment.ts"
import * as Execution from "./Execution.ts"
import * as Suspending from "./Suspending.ts"

/**
 * What came of a run.
 *
 * - `Completed`, `Failed`, `Interrupted`: the execution has ended, and this is how.
 * - `Suspended`: it sleeps until something that it waits for happens.
 * - `Deferred`: it was handed back, unfinished.
 * - `Lost`: it is no longer this process's.
 */
export interface Result {
  readonly _tag: "Completed" | "Failed" | "Interrupted" | "Suspended" | "Deferred" | "Lost"
}

/** Executes the run to its end, in the store or in this process. */
export const run = (environment: Environment, self: Execution.Execution): Effect.Effect<Result> =>
  Effect.gen(function*() {
    const { registration } = self
    yield* Execution.begin(self)
    yield* Execution.learnInterrupt(environment, self)
    const payload = yield* Effect.exit(
      registration.provide(Encoding.decodePayload(registration.workflow, self.claimed.params))
    )
    if (Exit.isFailure(payload)) return yield* complete(environment, self, Exit.die(payload.cause))
    while (true) {
      const ended = yield* attemptBody(self, payload.value)
      if (self.cut !== undefined) return yield* Effect.interrupt
      // The body was interrupted before it started.
      if (ended === undefined) continue
      if (!(ended instanceof Workflow.Suspended)) return yield* complete(environment, self, ended)
      yield* Execution.written(self)
      // What preempted the body may have been given to it, and then no wait would tell of it again.
      if (!self.attempt.preempted && (yield* Suspending.suspend(environment, self, ended))) {
        return { _tag: "Suspended" } as const
      }
    }
  }).pipe(
    // What is left is an interruption: the run was cut off.
    Effect.exit,
    Effect.tap(() => Scope.close(self.timerScope, Exit.void)),
    Effect.flatMap((exit) => Exit.isSuccess(exit) ? Effect.succeed(exit.value) : handBack(environment, self))
  )

// --- internal

type Instance = WorkflowEngine.WorkflowInstance["Service"]

type Ended = Workflow.Suspended | Exit.Exit<unknown, unknown>

/** Runs the body once. Its finalizers have run when this returns. */
const attemptBody = (self: Execution.Execution, payload: object): Effect.Effect<Ended | undefined> =>
  Effect.gen(function*() {
    const { executionId, registration } = self
    if (self.attempt.begun) self.attempt = Execution.makeAttempt(registration.workflow, executionId)
    const { attempt } = self
    const { instance } = attempt
    attempt.begun = true
    let ended: Ended | undefined
    const body = Effect.suspend(() => registration.execute(payload, executionId)).pipe(
      Effect.onExit((exit) => {
        attempt.fiber = undefined
        return applyInterrupt(self, instance, exit)
      }),
      Workflow.intoResult,
      // Whoever is interrupted ends as interrupted; what it came to is known in here only.
      Effect.onExit((exit) =>
        Effect.sync(() => {
          ended = endOf(exit)
        })
      ),
      Effect.uninterruptible,
      Effect.provideService(WorkflowEngine.WorkflowInstance, instance),
      Effect.provideService(Execution.Current, self)
    ) as Effect.Effect<Workflow.Result<unknown, unknown>>
    const fiber = yield* Effect.forkChild(body)
    attempt.fiber = fiber
    if (self.cut !== undefined) fiber.interruptUnsafe()
    yield* Fiber.await(fiber)
    attempt.fiber = undefined
    if (ended instanceof Workflow.Suspended) {
      // The owner-local part of the instance ends here; the workflow itself goes on, perhaps elsewhere.
      instance.abandoned = true
      yield* Scope.close(instance.scope, Exit.void)
    }
    return ended
  })

const endOf = (exit: Exit.Exit<Workflow.Result<unknown, unknown>>): Ended => {
  if (Exit.isFailure(exit)) return exit
  return exit.value._tag === "Complete" ? exit.value.exit : exit.value
}

/**
 * A pending interrupt takes effect where the run would suspend; after an unsafe one the run does not end in any other way.
 */
const applyInterrupt = (
  self: Execution.Execution,
  instance: Instance,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<void> => {
  if (!self.interrupted || self.cut !== undefined) return Effect.void
  const wouldSuspend = instance.suspended ||
    (Context.get(instance.workflow.annotations, Workflow.SuspendOnFailure) && Exit.isFailure(exit))
  if (!wouldSuspend && !self.killed) return Effect.void
  instance.interrupted = true
  instance.suspended = false
  return Effect.withFiber((fiber) => Effect.interruptible(Fiber.interrupt(fiber)))
}

const complete = (
  environment: Environment,
  self: Execution.Execution,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<Result> =>
  Effect.gen(function*() {
    const { absurd: { coalesced }, ending, observers, settings: { queue }, wake } = environment
    const { claimed: { runId, taskId, token }, registration: { provide, workflow } } = self
    const captured = Context.get(workflow.annotations, Workflow.CaptureDefects)
    const result = yield* provide(Encoding.encodeOutcome(workflow, exit, { captured }))
    const completed = coalesced.complete(queue, { runId, token, result: { ...result } })
    ending.add(taskId)
    const sent = Execution.send(self, "complete", Effect.map(completed, (outcome) => ({ outcome })))
    yield* Execution.settle(self, sent).pipe(
      Effect.ensuring(Effect.sync(() => ending.delete(taskId)))
    )
    observers.notify(taskId, { taskId, state: "completed", result: { ...result }, failure: null })
    wake.openUnsafe()
    return { _tag: resultOf[result.outcome] }
  })

const resultOf = {
  succeeded: "Completed",
  failed: "Failed",
  defect: "Failed",
  interrupted: "Interrupted"
} as const

/** What cannot be handed back while its lease holds comes back by itself. */
const handBack = (environment: Environment, self: Execution.Execution): Effect.Effect<Result> => {
  if (self.cut !== "Released" && self.cut !== "Faulted") return Effect.succeed({ _tag: "Lost" })
  const { absurd: { coalesced, outage }, settings: { lease, queue } } = environment
  const { runId, token } = self.claimed
  const until = self.cut === "Released" ? Duration.zero : Duration.seconds(15)
  return outage.persist(coalesced.release(queue, { runId, token, until })).pipe(
    Effect.timeoutOption(lease),
    Effect.catch((error: DriverError | NotFound) => Effect.logWarning("Could not hand the execution back", error)),
    Effect.as({ _tag: "Deferred" } as const)
  )
}
