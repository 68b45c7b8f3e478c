/**
 * Claims the runs of workflows, keeps their leases alive, and tells live runs what other processes have done.
 *
 * Everything belongs to the engine's scope. When it closes, claiming stops first; then all runs are cut off and handed back,
 * claimable at once; the heartbeats end last.
 */
import { Clock, Deferred, Duration, Effect, Exit, FiberSet, Schedule, type Scope, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import type * as Driver from "../../core/Driver.ts"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import { ClaimToken } from "../../core/Identifiers.ts"
import { type Environment, outageBackoff } from "./Environment.ts"
import * as Execution from "./Execution.ts"
import * as Names from "./Names.ts"

export const make = Effect.fnUntraced(function*(environment: Environment): Effect.fn.Return<void, never, Scope.Scope> {
  yield* keepLeases(environment)
  const slots: Slots = { used: 0, fibers: yield* FiberSet.make<void>() }
  yield* Effect.addFinalizer(() => release(environment, () => true))
  yield* Effect.forkScoped(Effect.repeat(watch(environment), Schedule.spaced(environment.settings.pollInterval)))
  yield* listen(environment)
  yield* work(environment, slots).pipe(
    Effect.tapError((error) => Effect.logWarning("Claiming failed; trying again", error)),
    Effect.retry(outageBackoff),
    Effect.orDie,
    Effect.annotateLogs({ queue: environment.settings.queue, worker: environment.absurd.workerId }),
    Effect.forkScoped
  )
})

/** Cuts off the live runs that match, and waits until they are handed back. */
export const release = (
  environment: Environment,
  matches: (execution: Execution.Execution) => boolean
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const executions = [...environment.live.values()].filter(matches)
    for (const execution of executions) Execution.cutOff(execution, "Released")
    return Effect.forEach(executions, (execution) => Deferred.await(execution.finished), { discard: true })
  })

// --- internal

interface Slots {
  used: number
  readonly fibers: FiberSet.FiberSet<void>
}

const work = Effect.fnUntraced(function*(
  environment: Environment,
  slots: Slots
): Effect.fn.Return<never, DriverError | NotFound> {
  const { changed, settings, wake, workflows } = environment
  while (true) {
    changed.closeUnsafe()
    const free = settings.concurrency - slots.used
    if (free <= 0 || workflows.size === 0) {
      yield* changed.await
      continue
    }
    // Closed before the claim, so that a hint during the claim is not lost.
    wake.closeUnsafe()
    const claimed = yield* Effect.uninterruptible(claimAndStart(environment, slots, free))
    if (claimed < free) yield* Effect.ignore(Effect.timeout(wake.await, settings.pollInterval))
  }
})

const claimAndStart = Effect.fnUntraced(function*(
  environment: Environment,
  slots: Slots,
  limit: number
) {
  const { absurd, settings: { lease, queue } } = environment
  const token = ClaimToken.make(`${absurd.workerId}:${SecureRandom.uuidV7Unsafe()}`)
  const sentAt = yield* Clock.currentTimeMillis
  const claimed = yield* Effect.catchIf(
    absurd.driver.claim({ queue, token, lease, limit }),
    (error) => error._tag === "DriverError" && error.reason._tag === "OutcomeUnknown",
    () => absurd.driver.claimedWith({ queue, token })
  )
  slots.used += claimed.length
  const freed = Effect.sync(() => {
    slots.used--
    environment.changed.openUnsafe()
  })
  for (const run of claimed) {
    yield* FiberSet.run(slots.fibers, Effect.ensuring(execute(environment, run, sentAt), freed))
  }
  return claimed.length
})

const execute = (environment: Environment, claimed: Driver.Claimed, sentAt: number): Effect.Effect<void> => {
  const { live, observers, settings: { lease }, workflows } = environment
  const registration = workflows.get(claimed.name)
  const executionId = claimed.headers[Names.executionHeader]
  const executed = registration === undefined || typeof executionId !== "string"
    ? deferUnknown(environment, claimed)
    : Effect.suspend(() => {
      const execution = Execution.make(claimed, registration, { executionId, sentAt, lease })
      live.set(executionId, execution)
      return Effect.ensuring(
        Execution.run(environment, execution),
        Effect.sync(() => {
          if (live.get(executionId) === execution) live.delete(executionId)
          Deferred.doneUnsafe(execution.finished, Exit.void)
          observers.notify(claimed.taskId)
        })
      )
    })
  return Effect.annotateLogs(executed, { workflow: claimed.name, taskId: claimed.taskId, runId: claimed.runId })
}

/** A process of another version may know the workflow: it is put back, without an attempt, for a few seconds. */
const deferUnknown = (environment: Environment, { runId, token }: Driver.Claimed): Effect.Effect<void> =>
  Effect.logWarning("No workflow of this name is registered in this program; putting it back").pipe(
    Effect.andThen(environment.absurd.coalesced.release(environment.settings.queue, {
      runId,
      token,
      until: Duration.seconds(5)
    })),
    Effect.catch((error: DriverError | NotFound) => Effect.logWarning("Could not put the task back", error)),
    Effect.asVoid
  )

/** Hints may be missing altogether; polling does not depend on them. */
const listen = ({ absurd, settings, wake }: Environment) =>
  absurd.driver.signals.pipe(
    Stream.runForEach((signal) =>
      signal._tag === "Work" && signal.queue === settings.queue ? Effect.sync(() => wake.openUnsafe()) : Effect.void
    ),
    Effect.retry(outageBackoff),
    Effect.ignore,
    Effect.forkScoped
  )

/**
 * Renews the leases of all live runs, in one request per beat. A run whose claim does not hold any more is cut off; so is, a
 * sixth of the lease before its end, a run whose lease could not be renewed.
 */
const keepLeases = Effect.fnUntraced(function*({ absurd, live, settings: { lease, queue } }: Environment) {
  const leaseMillis = Duration.toMillis(lease)
  const beat = (execution: Execution.Execution) =>
    Effect.gen(function*() {
      const { runId, token } = execution.claimed
      const sentAt = yield* Clock.currentTimeMillis
      const outcome = yield* absurd.coalesced.extend(queue, { runId, token, lease })
      if (outcome === "applied") execution.heldUntil = sentAt + leaseMillis
      else Execution.cutOff(execution, "Lost")
    }).pipe(Effect.catch((error: DriverError | NotFound) => Effect.logWarning("A heartbeat failed", error)))
  const beats = Effect.suspend(() => Effect.forEach(live.values(), beat, { concurrency: "unbounded", discard: true }))
  const expire = Effect.map(Clock.currentTimeMillis, (now) => {
    for (const execution of live.values()) {
      if (now >= execution.heldUntil - leaseMillis / 6) Execution.cutOff(execution, "Lost")
    }
  })
  // The watch must not wait for a heartbeat that does not return.
  yield* Effect.forkScoped(Effect.repeat(beats, Schedule.spaced(Duration.millis(leaseMillis / 3))))
  yield* Effect.forkScoped(Effect.repeat(expire, Schedule.spaced(Duration.millis(leaseMillis / 12))))
})

/**
 * Looks for what other processes have done to live runs: a deferred that a run has parked on, next to something that keeps it
 * running, preempts it; an unsafe interrupt ends it. Runs that sleep are woken by the store.
 */
const watch = (environment: Environment): Effect.Effect<void> =>
  Effect.suspend(() =>
    Effect.forEach(environment.live.values(), (execution) => Effect.ignoreCause(look(environment, execution)), {
      concurrency: 5,
      discard: true
    })
  )

const look = (environment: Environment, execution: Execution.Execution): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { absurd: { driver }, settings: { queue } } = environment
    const { attempt, executionId } = execution
    if (!execution.killed) yield* Execution.learnInterrupt(environment, execution)
    if (execution.killed) Execution.kill(execution)
    for (const name of attempt.parked) {
      if (!attempt.instance.awaitedDeferreds.has(name)) continue
      const event = yield* Execution.request(
        execution,
        driver.readEvent({ queue, event: Names.deferredEvent(executionId, name) })
      )
      if (event === undefined || attempt !== execution.attempt) continue
      // Once: the attempt ends by it, and the next one reads the completion.
      attempt.parked.delete(name)
      Execution.preempt(execution, name)
    }
  })
