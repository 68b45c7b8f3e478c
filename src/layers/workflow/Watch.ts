/**
 * Looks for what other processes have done to live runs: a deferred that a run has parked on, next to something that keeps it
 * running, preempts it; an interrupt lets it start nothing more; an unsafe one ends it. Runs that sleep are woken by the
 * store.
 */
import { Effect, Schedule, type Scope } from "effect"
import type { EventName } from "../../core/Identifiers.ts"
import * as Outage from "../../core/Outage.ts"
import { type Environment } from "./Environment.ts"
import * as Execution from "./Execution.ts"
import * as Names from "./Names.ts"

/** Looks once per poll interval, at all live runs at once. */
export const make = (environment: Environment): Effect.Effect<void, never, Scope.Scope> =>
  look(environment).pipe(
    Effect.repeat(Schedule.spaced(environment.settings.pollInterval)),
    Effect.forkScoped,
    Effect.asVoid
  )

// --- internal

/** The most names of one request. */
const maxLoad = 2000

const look = (environment: Environment): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { absurd, settings: { queue } } = environment
    const wanted = new Map<EventName, () => void>()
    for (const execution of environment.live.values()) want(execution, wanted)
    const names = [...wanted.keys()]
    for (let from = 0; from < names.length; from += maxLoad) {
      yield* absurd.outage.up
      const events = names.slice(from, from + maxLoad)
      const request = absurd.driver.readEvents({ queue, events })
      const found = yield* Outage.answerWithin(request, "readEvents", Outage.answerLimit)
      for (const { name } of found) wanted.get(name as EventName)?.()
    }
  }).pipe(
    Effect.catch((error) => Effect.sync(() => environment.absurd.outage.report(error)))
  )

/** The events that matter to a run now, and what they do to it. */
const want = (execution: Execution.Execution, wanted: Map<EventName, () => void>): void => {
  const { attempt, claimed: { taskId }, executionId } = execution
  if (!execution.interrupted) {
    wanted.set(Names.interruptEvent(taskId), () => {
      execution.interrupted = true
    })
  }
  if (!execution.killed) wanted.set(Names.killEvent(taskId), () => Execution.kill(execution))
  for (const name of attempt.parked) {
    if (!attempt.instance.awaitedDeferreds.has(name) || attempt.seen.has(name)) continue
    wanted.set(Names.deferredEvent(executionId, name), () => {
      if (attempt !== execution.attempt || !attempt.parked.delete(name)) return
      // Once: the attempt ends by it, and the next one reads the completion.
      Execution.preempt(execution, name)
    })
  }
}
