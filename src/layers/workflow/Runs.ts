/**
 * Claims the runs of workflows, and executes them side by side.
 *
 * Everything belongs to the engine's scope. When it closes, claiming stops first; then all runs are cut off and handed back,
 * claimable at once; the heartbeats end last.
 */
import { Deferred, Duration, Effect, Exit, Fiber, Latch, type Scope } from "effect"
import * as Claimer from "../../core/Claimer.ts"
import type * as Driver from "../../core/Driver.ts"
import * as Heartbeat from "../../core/Heartbeat.ts"
import * as Telemetry from "../../core/Telemetry.ts"
import * as Claiming from "./Claiming.ts"
import type { Environment } from "./Environment.ts"
import * as Execution from "./Execution.ts"
import * as Names from "./Names.ts"
import * as Running from "./Running.ts"
import * as Watch from "./Watch.ts"

export const make = Effect.fnUntraced(function*(environment: Environment): Effect.fn.Return<void, never, Scope.Scope> {
  const { absurd, settings } = environment
  const heartbeat = yield* Heartbeat.make(absurd, settings.lease)
  const slots = makeSlots(environment, heartbeat, Effect.runForkWith(yield* Effect.context<never>()))
  const claimer = yield* Claimer.make(absurd, {
    lease: settings.lease,
    start: slots.start,
    free: slots.free,
    tracks: heartbeat.tracks
  })
  yield* Watch.make(environment)
  const claiming = { ...environment, queue: settings.queue, pollInterval: settings.pollInterval, claimer }
  yield* Claiming.heed(claiming, heartbeat, (taskId) => {
    if (!environment.ending.has(taskId)) environment.observers.notify(taskId)
  })
  // Not of the scope, which would wait for the answer to a claim however long that takes.
  const polling = yield* Effect.forkDetach(Claiming.poll({
    ...claiming,
    wanted: () => environment.workflows.size === 0 ? 0 : slots.free(),
    except: () => [...environment.unknown]
  }))
  // Runs before everything above ends.
  yield* Effect.addFinalizer(() => shutDown(environment, slots, polling, claimer))
})

/** Cuts off the live runs that match, and waits until they are handed back, as long as the engine may take to stop. */
export const release = (
  environment: Environment,
  matches: (execution: Execution.Execution) => boolean
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const executions = [...environment.live.values()].filter(matches)
    for (const execution of executions) Execution.cutOff(execution, "Released")
    const finished = Effect.forEach(executions, (execution) => Deferred.await(execution.finished), { discard: true })
    return Effect.flatMap(Effect.timeoutOption(finished, environment.settings.shutdownGrace), (answer) => {
      if (answer._tag === "Some") return Effect.void
      const left = executions.filter((execution) => !Deferred.isDoneUnsafe(execution.finished)).length
      return Effect.logWarning(
        `${left} executions did not end when they were cut off; others take them up when their leases end`
      )
    })
  })

// --- internal

interface Slots {
  readonly start: Claimer.Options["start"]
  /** For how many more runs there is room. */
  readonly free: () => number
  /** From now on what is claimed is given back. */
  readonly close: () => void
  /** Returns when nothing is executed or given back. */
  readonly idle: Effect.Effect<void>
}

/** The fibers of runs belong to nobody's scope: code that does not end when it is interrupted must not keep the engine. */
const makeSlots = (
  environment: Environment,
  heartbeat: Heartbeat.Heartbeat,
  run: (effect: Effect.Effect<unknown>) => Fiber.Fiber<unknown>
): Slots => {
  const { absurd, changed, settings, unknown, workflows } = environment
  const idle = Latch.makeUnsafe(true)
  let fibers = 0
  let used = 0
  let closing = false
  const fork = (effect: Effect.Effect<unknown>): void => {
    fibers++
    idle.closeUnsafe()
    run(effect).addObserver(() => {
      if (--fibers === 0) idle.openUnsafe()
    })
  }
  const start: Slots["start"] = (queue, claimed, claimedAt) => {
    const registration = workflows.get(claimed.name)
    if (closing) return fork(Claimer.giveBack(absurd, queue, [claimed]))
    if (registration === undefined) {
      const isNew = !unknown.has(claimed.name)
      Claiming.remember(unknown, claimed.name)
      return fork(Effect.andThen(isNew ? logUnknown(claimed) : Effect.void, Claimer.giveBack(absurd, queue, [claimed])))
    }
    const executionId = claimed.headers[Names.executionHeader]
    if (typeof executionId !== "string") return fork(refuse(environment, claimed))
    used++
    const lease = heartbeat.leaseOf(claimedAt)
    const execution = Execution.make(environment, claimed, registration, { executionId, sentAt: claimedAt, lease })
    const untrack = heartbeat.track(queue, beating(execution))
    // One that is still live here has gone to sleep without having heard of it, or has lost its lease.
    const before = environment.live.get(executionId)
    if (before !== undefined) Execution.cutOff(before, "Lost")
    environment.live.set(executionId, execution)
    const ended = Effect.sync(() => {
      untrack()
      used--
      if (environment.live.get(executionId) === execution) environment.live.delete(executionId)
      Deferred.doneUnsafe(execution.finished, Exit.void)
      environment.observers.notify(claimed.taskId)
      changed.openUnsafe()
    })
    fork(Effect.ensuring(Telemetry.running(queue, claimed, Running.run(environment, execution)), ended))
  }
  return {
    start,
    free: () => settings.concurrency - used,
    close: () => {
      closing = true
    },
    idle: idle.await
  }
}

/** An execution as the heart of a worker knows it. */
const beating = (execution: Execution.Execution): Heartbeat.Beating => ({
  claimed: execution.claimed,
  lease: execution.lease,
  get settling() {
    return execution.settling
  },
  end: () => Execution.cutOff(execution, "Lost")
})

/** Another process, or this one in a moment, may know the workflow: it is given back at once, and left alone from then on. */
const logUnknown = ({ name }: Driver.Claimed) =>
  Effect.logInfo(`This program leaves executions of "${name}" to others, for no workflow of this name is registered`)

/** A task that no engine has started. It is nobody's. */
const refuse = ({ absurd: { coalesced, outage }, settings: { lease, queue } }: Environment, claimed: Driver.Claimed) =>
  Effect.logWarning(`The task ${claimed.taskId} has the name of a workflow, but is no execution; putting it back`).pipe(
    Effect.andThen(
      outage.persist(
        coalesced.release(queue, { runId: claimed.runId, token: claimed.token, until: Duration.minutes(1) })
      )
    ),
    Effect.timeoutOption(lease),
    Effect.ignore
  )

const shutDown = (
  environment: Environment,
  slots: Slots,
  polling: Fiber.Fiber<unknown>,
  claimer: Claimer.Claimer
): Effect.Effect<void> => {
  const { shutdownGrace } = environment.settings
  slots.close()
  return Effect.all([
    release(environment, () => true),
    Fiber.interrupt(polling).pipe(
      Effect.andThen(claimer.settle),
      Effect.andThen(slots.idle),
      Effect.timeoutOption(shutdownGrace)
    )
  ], { concurrency: "unbounded", discard: true })
}
