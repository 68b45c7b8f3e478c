/** What the body of a workflow does durably: activities, deferreds and clocks. */
import { DateTime, Duration, Effect, Exit, Option, type Schema } from "effect"
import { type Activity, type DurableClock, Workflow, WorkflowEngine } from "effect/workflow"
import * as Encoding from "./Encoding.ts"
import { ask, type Environment } from "./Environment.ts"
import * as Execution from "./Execution.ts"
import * as Names from "./Names.ts"

/** The stored exit of an activity, or that of executing it. One that is interrupted or suspends is executed again. */
export const activityExecute = (
  environment: Environment,
  activity: Activity.Any,
  number: number
): Effect.Effect<Workflow.Result<unknown, unknown>, never, WorkflowEngine.WorkflowInstance> =>
  Effect.flatMap(
    WorkflowEngine.WorkflowInstance,
    (instance) =>
      Effect.flatMap(current(instance.executionId), (execution) => {
        const step = Names.activityStep(activity.name, number)
        const known = execution.checkpoints.get(step)
        if (known !== undefined) return completed(known)
        // A replay for an interrupt only rebuilds compensations; these themselves may execute activities.
        if (execution.interrupted && !instance.interrupted) return Effect.succeed(new Workflow.Suspended({}))
        if (!Execution.isHeld(execution)) return Effect.interrupt
        const own = WorkflowEngine.WorkflowInstance.initial(instance.workflow, instance.executionId, {
          awaitedDeferreds: execution.attempt.activityAwaits
        })
        own.interrupted = instance.interrupted
        const executed = Effect.provideService(
          Workflow.intoResult(activity.executeEncoded),
          WorkflowEngine.WorkflowInstance,
          own
        ) as Effect.Effect<Workflow.Result<unknown, unknown>>
        return Effect.flatMap(executed, (result): Effect.Effect<Workflow.Result<unknown, unknown>> =>
          result._tag === "Suspended"
            ? Effect.succeed(result)
            : Encoding.activityExit.encode(result.exit).pipe(
              Effect.flatMap((encoded) => Execution.store(environment, execution, step, encoded)),
              Effect.flatMap(completed)
            ))
      })
  )

/** The exit of a deferred, which is kept from the first time that the execution sees it. */
export const deferredResult = (
  environment: Environment,
  name: string
): Effect.Effect<Option.Option<Exit.Exit<unknown, unknown>>, never, WorkflowEngine.WorkflowInstance> =>
  Effect.gen(function*() {
    const { executionId } = yield* WorkflowEngine.WorkflowInstance
    const { absurd: { coalesced }, settings: { queue } } = environment
    const execution = yield* current(executionId)
    const { parked, seen } = execution.attempt
    const step = Names.deferredStep(name)
    const known = execution.checkpoints.get(step)
    if (known !== undefined) {
      seen.add(name)
      return Option.some(yield* Encoding.deferredExit.decode(known))
    }
    if (yield* isDue(execution, name)) {
      seen.add(name)
      return Option.some(Exit.succeed(null))
    }
    const event = yield* Execution.send(
      execution,
      "readEvent",
      coalesced.readEvent(queue, Names.deferredEvent(executionId, name))
    )
    if (event !== undefined) {
      const stored = yield* Execution.store(environment, execution, step, event.payload)
      seen.add(name)
      return Option.some(yield* Encoding.deferredExit.decode(stored))
    }
    parked.add(name)
    return Option.none()
  })

/** The first completion stays, whether or not the execution exists. */
export const deferredDone = (
  environment: Environment,
  options: Parameters<WorkflowEngine.Encoded["deferredDone"]>[0]
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { deferredName, executionId, exit } = options
    const { absurd: { driver }, live, settings: { queue }, wake } = environment
    const own = yield* Effect.serviceOption(WorkflowEngine.WorkflowInstance)
    if (Option.isSome(own) && own.value.executionId === executionId) own.value.completedDeferreds.add(deferredName)
    const execution = yield* Execution.Current
    const emit = driver.emit({
      queue,
      event: Names.deferredEvent(executionId, deferredName),
      payload: yield* Encoding.deferredExit.encode(exit)
    })
    const { emitted } = yield* execution === undefined
      ? ask(environment, "emit", emit)
      : Execution.request(execution, "emit", emit)
    // What had been completed before is known, or the watch over live runs tells of it.
    if (!emitted) return
    // What is not committed yet must not be acted upon; then the store and the watch tell.
    if (yield* driver.inTransaction) return
    wake.openUnsafe()
    const target = live.get(executionId)
    if (target !== undefined) Execution.preempt(target, deferredName)
  })

/**
 * Fixes when the clock is due, by the store's clock, the first time that an execution asks for it. Sleeping executions are
 * woken by the store, live ones by a timer of their own.
 */
export const scheduleClock = (
  environment: Environment,
  { clock, executionId }: { readonly executionId: string; readonly clock: DurableClock.DurableClock }
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const execution = yield* current(executionId)
    const { name } = clock.deferred
    const step = Names.clockStep(name)
    if (!execution.checkpoints.has(step)) {
      const { clocks } = execution.attempt
      clocks.add(name)
      const due = Math.min(
        (yield* Execution.storeMillisAtMost(execution)) + Duration.toMillis(clock.duration),
        lastMillis
      )
      yield* Execution.store(environment, execution, step, DateTime.formatIso(DateTime.makeUnsafe(Math.ceil(due))))
      clocks.delete(name)
    }
    if (execution.timers.has(name) || (yield* isDue(execution, name))) return
    execution.timers.add(name)
    yield* Effect.forkIn(ring(execution, name), execution.timerScope)
  })

// --- internal

/** The end of the year 9999, for clocks that never fire. */
const lastMillis = 253_402_300_799_000

const completed = (stored: Schema.Json): Effect.Effect<Workflow.Complete<unknown, unknown>> =>
  Effect.map(Encoding.activityExit.decode(stored), (exit) => new Workflow.Complete({ exit }))

const current = (executionId: string): Effect.Effect<Execution.Execution> =>
  Effect.flatMap(Execution.Current, (execution) =>
    execution?.executionId === executionId
      ? Effect.succeed(execution)
      : Effect.die(new Error(`The execution ${executionId} is not the one that this code is part of`)))

const dueMillis = (execution: Execution.Execution, name: string): number => {
  const stored: Schema.Json | undefined = execution.checkpoints.get(Names.clockStep(name))
  return typeof stored === "string" ? DateTime.makeUnsafe(stored).epochMilliseconds : Infinity
}

/** Preempts the run when the clock is due. A timer may go off a little early, and then nothing would be found to be due. */
const ring = (execution: Execution.Execution, name: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    while (true) {
      const remaining = dueMillis(execution, name) - (yield* Execution.storeMillisAtLeast(execution))
      if (remaining <= 0) return Execution.preempt(execution, name)
      yield* Effect.sleep(Duration.millis(Math.ceil(remaining)))
    }
  })

const isDue = (execution: Execution.Execution, name: string): Effect.Effect<boolean> =>
  execution.fired.has(Names.clockStep(name))
    ? Effect.succeed(true)
    : Effect.map(Execution.storeMillisAtLeast(execution), (now) => dueMillis(execution, name) <= now)
