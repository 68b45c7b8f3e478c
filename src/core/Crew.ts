/**
 * The runs that a worker executes: how many, of which tasks, and how they end when the worker stops.
 *
 * @since 0.1.0
 */
import { type Duration, Effect, type Fiber, Latch } from "effect"
import { Absurd } from "./Absurd.ts"
import * as Claimer from "./Claimer.ts"
import type * as Driver from "./Driver.ts"
import * as Engine from "./Engine.ts"
import type { Heartbeat } from "./Heartbeat.ts"
import type { QueueName } from "./Identifiers.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Crew {
  /** Executes a run at once; or hands it back, when as many of its task as may are executed already. */
  readonly start: (queue: QueueName, claimed: Driver.Claimed, claimedAt: number) => void
  /** For how many more runs there is room. */
  readonly free: () => number
  /** Returns when there is room. */
  readonly vacancy: Effect.Effect<void>
  /** The tasks for which there is no room, although there may be for others. */
  readonly full: () => ReadonlyArray<string>
  /** Returns when nothing is executed. */
  readonly idle: Effect.Effect<void>
  /**
   * Returns when all that is executed has ended, of itself within `patience`, or else interrupted and handed back; but after
   * `limit` at the latest, when there is code left that does not end.
   */
  readonly disband: (patience: Duration.Duration, limit: Duration.Duration) => Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly concurrency: number
  readonly taskConcurrency: ReadonlyMap<string, number>
  readonly lease: Duration.Duration
  readonly stallAfter: Duration.Duration
  readonly heartbeat: Heartbeat
  /** Told how each execution ended. */
  readonly onEnd: (result: Engine.Result) => void
}

/**
 * An empty crew. Its fibers outlive the scope unless it is disbanded.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  absurd: Absurd["Service"],
  options: Options
): Effect.fn.Return<Crew> {
  const context = yield* Effect.context<never>()
  const fork = Effect.runForkWith(context)
  const fibers = new Set<Fiber.Fiber<unknown>>()
  const byTask = new Map<string, number>()
  const vacancy = Latch.makeUnsafe(true)
  const idle = Latch.makeUnsafe(true)
  let working = 0
  let closing = false

  const launch = (effect: Effect.Effect<unknown>, onEnd: () => void) => {
    idle.closeUnsafe()
    // Runs at once up to its first wait, so it can be interrupted only after it has taken care of that.
    const fiber = fork(effect)
    fibers.add(fiber)
    fiber.addObserver(() => {
      fibers.delete(fiber)
      onEnd()
      if (fibers.size === 0) idle.openUnsafe()
    })
  }

  const isFull = (task: string) => (byTask.get(task) ?? 0) >= (options.taskConcurrency.get(task) ?? Infinity)

  const start: Crew["start"] = (queue, claimed, claimedAt) => {
    if (closing || isFull(claimed.name)) return launch(Claimer.giveBack(absurd, queue, [claimed]), () => {})
    working++
    byTask.set(claimed.name, (byTask.get(claimed.name) ?? 0) + 1)
    if (working >= options.concurrency) vacancy.closeUnsafe()
    const execution = Engine.execute(claimed, {
      queue,
      lease: options.lease,
      claimedAt,
      stallAfter: options.stallAfter,
      track: (execution) => options.heartbeat.track(queue, execution)
    })
    launch(
      Effect.map(Effect.provideService(execution, Absurd, absurd), options.onEnd),
      () => {
        working--
        const left = (byTask.get(claimed.name) ?? 1) - 1
        if (left === 0) byTask.delete(claimed.name)
        else byTask.set(claimed.name, left)
        if (working < options.concurrency) vacancy.openUnsafe()
      }
    )
  }

  const disband: Crew["disband"] = (patience, limit) =>
    Effect.gen(function*() {
      closing = true
      yield* Effect.timeoutOption(idle.await, patience)
      for (const fiber of fibers) fiber.interruptUnsafe()
      yield* Effect.timeoutOption(idle.await, limit)
      if (fibers.size > 0) {
        yield* Effect.logWarning(
          `${fibers.size} runs did not end when they were interrupted; others take them up when their leases end`
        )
      }
    })

  return {
    start,
    free: () => options.concurrency - working,
    vacancy: vacancy.await,
    full: () => [...options.taskConcurrency.keys()].filter(isFull),
    idle: idle.await,
    disband
  }
})
