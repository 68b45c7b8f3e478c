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
import type * as CurrentRun from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import type { QueueName, RunId } from "./Identifiers.ts"
import * as Outage from "./Outage.ts"

/**
 * What a heart knows of an execution.
 *
 * @since 0.1.0
 * @category models
 */
export type Beating = Pick<CurrentRun.Execution, "claimed" | "settling" | "end">

/**
 * The heart of one worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Heartbeat {
  /**
   * Looks after the lease of a run until the returned function is called. `claimedAt` is the monotonic time, in
   * milliseconds, before which its claim was not sent.
   */
  readonly track: (queue: QueueName, execution: Beating, claimedAt: number) => () => void
  /** Whether a run is looked after. */
  readonly tracks: (runId: RunId) => boolean
  /** Asks at once how things are with a task, if it runs here. */
  readonly askAbout: (queue: string, taskId: string) => void
}

/**
 * Monotonic time in milliseconds.
 *
 * @since 0.1.0
 * @category constructors
 */
export const monotonicMillis: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos / 1_000_000n)
)

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
  const asked = new Set<string>()
  const ask = Latch.makeUnsafe(false)
  const leaseMillis = Duration.toMillis(lease)
  const { extend } = yield* absurd.driver.heartbeats

  const send = (queue: QueueName, batch: ReadonlyArray<Tracked>) =>
    Effect.gen(function*() {
      const sentAt = yield* monotonicMillis
      const items = batch.map(({ execution: { claimed } }) => ({ runId: claimed.runId, token: claimed.token, lease }))
      const outcomes = yield* Outage.answerWithin(
        extend({ queue, runs: items }),
        "extend",
        Duration.millis(leaseMillis / 4)
      )
      outcomes.forEach((outcome, index) => settle(batch[index]!, outcome, sentAt + leaseMillis))
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
        yield* Effect.sleep(Duration.millis(leaseMillis / 3))
        continue
      }
      absurd.outage.report(failure.failure)
      if (!failing && !Outage.isPassing(failure.failure)) {
        yield* Effect.logWarning("Leases could not be renewed; trying again", failure.failure)
      }
      failing = true
      yield* Effect.sleep(Duration.millis(Math.min(500, leaseMillis / 12)))
      yield* Effect.timeoutOption(absurd.outage.up, Duration.millis(leaseMillis / 6))
    }
  })

  const answers = Effect.gen(function*() {
    while (true) {
      yield* ask.await
      ask.closeUnsafe()
      const tasks = new Set(asked)
      asked.clear()
      yield* beat([...runs.values()].filter(({ execution }) => tasks.has(execution.claimed.taskId)))
    }
  })

  const watch = Effect.map(monotonicMillis, (now) => {
    for (const { execution, heldUntil } of runs.values()) {
      if (now >= heldUntil - leaseMillis / 6 && !execution.settling) execution.end({ _tag: "Lost" })
    }
  })

  yield* Effect.forkScoped(beats)
  yield* Effect.forkScoped(answers)
  yield* Effect.forkScoped(Effect.repeat(watch, Schedule.spaced(Duration.millis(leaseMillis / 12))))

  return {
    track: (queue, execution, claimedAt) => {
      const { runId } = execution.claimed
      const tracked: Tracked = { queue, execution, heldUntil: claimedAt + leaseMillis }
      runs.set(runId, tracked)
      return () => {
        if (runs.get(runId) === tracked) runs.delete(runId)
      }
    },
    tracks: (runId) => runs.has(runId),
    askAbout: (queue, taskId) => {
      for (const tracked of runs.values()) {
        if (tracked.queue !== queue || tracked.execution.claimed.taskId !== taskId) continue
        asked.add(taskId)
        ask.openUnsafe()
      }
    }
  }
})

// --- internal

interface Tracked {
  readonly queue: QueueName
  readonly execution: Beating
  /** Until when, in monotonic milliseconds, the lease surely holds. */
  heldUntil: number
}

const settle = (tracked: Tracked, outcome: Driver.Outcome, heldUntil: number) => {
  if (outcome === "applied") tracked.heldUntil = Math.max(tracked.heldUntil, heldUntil)
  else if (!tracked.execution.settling) tracked.execution.end({ _tag: outcome === "cancelled" ? "Cancelled" : "Lost" })
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
