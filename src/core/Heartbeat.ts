/**
 * Keeps the leases of all runs of a worker alive.
 *
 * Each beat is one request per queue, on a connection that no other work can take where the store has one. Beside it a watch
 * ends every run whose lease could not be renewed, a sixth of the lease before its end on this process's own monotonic
 * clock: nobody may work on a run that somebody else may have. The watch waits for no request.
 *
 * @since 0.1.0
 */
import { Clock, Duration, Effect, Latch, Result, Schedule, type Scope } from "effect"
import type { Absurd } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import type { Execution } from "./Execution.ts"
import type { QueueName, RunId } from "./Identifiers.ts"
import * as Lease from "./Lease.ts"
import * as Outage from "./Outage.ts"

export { monotonicMillis } from "./Lease.ts"

/**
 * What a heart knows of an execution.
 *
 * @since 0.1.0
 * @category models
 */
export type Beating = Pick<Execution, "claimed" | "settling" | "end" | "lease">

/**
 * The heart of one worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Heartbeat {
  /** Looks after the lease of a run until the returned function is called. */
  readonly track: (queue: QueueName, execution: Beating) => () => void
  /** The lease of a run whose claim was not sent before `claimedAt`, in monotonic milliseconds. */
  readonly leaseOf: (claimedAt: number) => Lease.Lease
  /** Whether a run is looked after. */
  readonly tracks: (runId: RunId) => boolean
  /** Asks at once how things are with a task, if it runs here. */
  readonly askAbout: (queue: string, taskId: string) => void
}

/**
 * Starts beating, in the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  absurd: Absurd["Service"],
  lease: Duration.Duration
): Effect.fn.Return<Heartbeat, never, Scope.Scope> {
  const runs = new Map<RunId, Tracked>()
  /** There may be two of a task, while one that has lost its claim still unwinds. */
  const byTask = new Map<string, Tracked>()
  const asked = new Set<Tracked>()
  const ask = Latch.makeUnsafe(false)
  const leaseMillis = Duration.toMillis(lease)
  const { extend } = yield* absurd.driver.heartbeats
  const clock = yield* Clock.Clock

  const send = (queue: QueueName, batch: ReadonlyArray<Tracked>) =>
    Effect.gen(function*() {
      const sentAt = yield* Lease.monotonicMillis
      const items = batch.map(({ execution: { claimed } }) => ({ runId: claimed.runId, token: claimed.token, lease }))
      const outcomes = yield* Outage.answerWithin(
        extend({ queue, runs: items }),
        "extend",
        Duration.millis(leaseMillis / 4)
      )
      outcomes.forEach((outcome, index) => settle(batch[index]!, outcome, sentAt))
      return outcomes.includes("busy")
    })

  const beat = (all: ReadonlyArray<Tracked>) =>
    Effect.forEach(loadsOf(all), ([queue, batch]) => Effect.result(send(queue, batch)), { concurrency: 4 })

  const beats = Effect.gen(function*() {
    let failing = false
    while (true) {
      const results = yield* beat([...runs.values()])
      const failure = results.find(Result.isFailure)
      if (failure === undefined) {
        failing = false
        // A run that somebody has locked is asked about again before its lease is in danger.
        const busy = results.some((result) => Result.isSuccess(result) && result.success)
        yield* Effect.sleep(Duration.millis(leaseMillis / (busy ? 12 : 3)))
        continue
      }
      absurd.outage.report(failure.failure)
      if (!failing && !Outage.isPassing(failure.failure)) {
        yield* Effect.logWarning("Leases could not be renewed; trying again", failure.failure)
      }
      failing = true
      yield* Effect.sleep(Duration.millis(Math.min(500, leaseMillis / 12)))
      // One fiber asks for all whether the store is back; when it takes long, the leases are lost anyway.
      yield* Effect.timeoutOption(absurd.outage.up, lease)
    }
  })

  const answers = Effect.gen(function*() {
    while (true) {
      yield* ask.await
      ask.closeUnsafe()
      const all = [...asked]
      asked.clear()
      yield* beat(all)
    }
  })

  const watch = Effect.sync(() => {
    for (const { execution } of runs.values()) {
      if (!Lease.holds(execution.lease) && !execution.settling) execution.end({ _tag: "Lost" })
    }
  })

  yield* Effect.forkScoped(beats)
  yield* Effect.forkScoped(answers)
  yield* Effect.forkScoped(Effect.repeat(watch, Schedule.spaced(Duration.millis(leaseMillis / 12))))

  return {
    track: (queue, execution) => {
      const { runId, taskId } = execution.claimed
      const tracked: Tracked = { queue, execution, next: byTask.get(taskId) }
      runs.set(runId, tracked)
      byTask.set(taskId, tracked)
      return () => {
        if (runs.get(runId) === tracked) runs.delete(runId)
        asked.delete(tracked)
        const rest = without(byTask.get(taskId), tracked)
        if (rest === undefined) byTask.delete(taskId)
        else byTask.set(taskId, rest)
      }
    },
    leaseOf: Lease.maker(clock, lease),
    tracks: (runId) => runs.has(runId),
    askAbout: (queue, taskId) => {
      for (let tracked = byTask.get(taskId); tracked !== undefined; tracked = tracked.next) {
        // Of one that is settling the store's answer to that is on its way.
        if (tracked.queue !== queue || tracked.execution.settling) continue
        asked.add(tracked)
        ask.openUnsafe()
      }
    }
  }
})

// --- internal

interface Tracked {
  readonly queue: QueueName
  readonly execution: Beating
  /** Another one of the same task. */
  next: Tracked | undefined
}

const without = (first: Tracked | undefined, gone: Tracked): Tracked | undefined => {
  if (first === gone) return gone.next
  for (let one = first; one !== undefined; one = one.next) if (one.next === gone) one.next = gone.next
  return first
}

const settle = ({ execution }: Tracked, outcome: Driver.Outcome | "busy", sentAt: number) => {
  if (outcome === "busy") return
  if (outcome === "applied") Lease.renewed(execution.lease, sentAt)
  else if (!execution.settling) execution.end({ _tag: outcome === "cancelled" ? "Cancelled" : "Lost" })
}

const maxLoad = 1000

const loadsOf = (all: ReadonlyArray<Tracked>): ReadonlyArray<readonly [QueueName, ReadonlyArray<Tracked>]> => {
  const byQueue = new Map<QueueName, Array<Tracked>>()
  for (const tracked of all) {
    const group = byQueue.get(tracked.queue)
    if (group === undefined) byQueue.set(tracked.queue, [tracked])
    else group.push(tracked)
  }
  return [...byQueue].flatMap(([queue, group]) =>
    Array.from(
      { length: Math.ceil(group.length / maxLoad) },
      (_, load) => [queue, group.slice(load * maxLoad, (load + 1) * maxLoad)] as const
    )
  )
}
