/**
 * The runs that a worker has claimed: those that it executes, those that wait for their turn, and those that are over and of
 * which the store is being told.
 *
 *     claimed --> waiting --> executing --> settling --> gone
 *                    \--> given back, when its turn does not come soon
 *
 * Only what executes takes a place. A busy worker claims ahead, as many runs as it lately got through within `horizon`, so
 * that the store is asked less often; of slow tasks that is none, and they are left for other workers.
 *
 * @since 0.1.0
 */
import { Clock, Context, Duration, Effect, Latch } from "effect"
import { Absurd } from "./Absurd.ts"
import * as Claimer from "./Claimer.ts"
import type * as Driver from "./Driver.ts"
import * as Engine from "./Engine.ts"
import type { Heartbeat } from "./Heartbeat.ts"
import type { QueueName, RunId } from "./Identifiers.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Crew {
  /**
   * Takes a run on, whose claim was not sent before `claimedAt`, in monotonic milliseconds. It is handed back instead, when
   * as many of its task as may have been taken on already.
   */
  readonly start: (queue: QueueName, claimed: Driver.Claimed, claimedAt: number) => void
  /** How many more runs may be claimed now. */
  readonly free: () => number
  /** Returns when it is worth while to claim. */
  readonly vacancy: Effect.Effect<void>
  /** The tasks for which there is no room, although there may be for others. */
  readonly full: () => ReadonlyArray<string>
  /** Whether a run waits for its turn. */
  readonly holds: (runId: RunId) => boolean
  /** Returns when nothing is left of what was claimed. */
  readonly idle: Effect.Effect<void>
  /**
   * Returns when all that was claimed has ended, of itself within `patience`, or else interrupted and handed back; but after
   * `limit` at the latest, when there is code left that does not end. What waits for its turn is handed back at once.
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
  const context = Context.add(yield* Effect.context<never>(), Absurd, absurd)
  const clock = yield* Clock.Clock
  const engine = Engine.make(absurd, context, options)
  const fork = Effect.runForkWith(context)
  /** What is executed, settled or given back. */
  const live = new Set<Engine.Running>()
  const waiting = new Map<RunId, Waiting>()
  const byTask = new Map<string, number>()
  const vacancy = Latch.makeUnsafe(true)
  const idle = Latch.makeUnsafe(true)
  const pace = makePace(options.concurrency)
  // Long before the lease ends, for nobody renews it meanwhile.
  const patience = Math.min(longestWait, Duration.toMillis(options.lease) / 4)
  let executing = 0
  let closing = false

  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const free = () => {
    const claimed = executing + waiting.size
    return Math.min(options.concurrency + pace.ahead - claimed, options.concurrency + mostUnsettled - live.size)
  }
  const announce = () => {
    // What is claimed ahead is filled up when half of it is used, not run by run.
    if (free() > pace.ahead / 2) vacancy.openUnsafe()
    else vacancy.closeUnsafe()
  }

  const enter = (one: Engine.Running) => {
    idle.closeUnsafe()
    live.add(one)
  }
  const leave = (one: Engine.Running) => {
    live.delete(one)
    announce()
    if (live.size === 0 && waiting.size === 0) idle.openUnsafe()
  }
  const giveBack = ({ claimed, queue }: Waiting) => {
    const fiber = fork(Claimer.giveBack(absurd, queue, [claimed]))
    enter(fiber)
    fiber.addObserver(() => leave(fiber))
  }

  const isFull = (task: string) => (byTask.get(task) ?? 0) >= (options.taskConcurrency.get(task) ?? Infinity)
  const count = (task: string, by: number) => {
    if (options.taskConcurrency.has(task)) byTask.set(task, (byTask.get(task) ?? 0) + by)
  }

  const execute = ({ claimed, claimedAt, queue }: Waiting) => {
    executing++
    let over = false
    const vacate = () => {
      if (over) return
      over = true
      executing--
      count(claimed.name, -1)
      pace.ended(now())
      fill()
      announce()
    }
    let running: Engine.Running | undefined
    const one = { interruptUnsafe: () => running?.interruptUnsafe() }
    enter(one)
    running = engine.start(claimed, {
      queue,
      claimedAt,
      track: (execution) => options.heartbeat.track(queue, execution),
      vacate,
      onEnd: (result) => {
        vacate()
        if (result !== undefined) options.onEnd(result)
        leave(one)
      }
    })
  }

  /**
   * Gives free places to what waits. A handler that waits for nothing is over when it has been started, so this goes on from
   * one to the next by itself, and lets others have a turn now and then.
   */
  const fill = () => {
    if (filling) return
    filling = true
    for (const next of waiting.values()) {
      if (executing >= options.concurrency) break
      const present = now()
      if (begun === 0) since = present
      // Short enough for everybody else, and long enough for the ends of many runs to be told together.
      if (begun >= options.concurrency && present - since >= longestRound) {
        fork(nextRound)
        return
      }
      takeOut(next)
      if (present - next.claimedAt <= patience) {
        begun++
        execute(next)
      } else shed(next)
    }
    filling = false
  }
  let filling = false
  /** How many were begun since others had a turn, and since when. */
  let begun = 0
  let since = 0
  const nextRound = Effect.andThen(
    Effect.yieldNow,
    Effect.sync(() => {
      begun = 0
      filling = false
      fill()
      announce()
    })
  )

  const takeOut = ({ claimed }: Waiting) => waiting.delete(claimed.runId)
  const shed = (one: Waiting) => {
    count(one.claimed.name, -1)
    giveBack(one)
    pace.reset()
  }

  /** Hands back what waits for too long, as long as something waits. */
  const watch = Effect.gen(function*() {
    while (waiting.size > 0) {
      yield* Effect.sleep(Duration.millis(patience / 2))
      for (const one of waiting.values()) {
        if (now() - one.claimedAt <= patience) continue
        takeOut(one)
        shed(one)
      }
    }
  })
  let watching = false

  const start: Crew["start"] = (queue, claimed, claimedAt) => {
    const one = { queue, claimed, claimedAt }
    if (closing || isFull(claimed.name)) return giveBack(one)
    count(claimed.name, 1)
    idle.closeUnsafe()
    waiting.set(claimed.runId, one)
    fill()
    if (waiting.size > 0 && !watching) {
      watching = true
      fork(watch).addObserver(() => {
        watching = false
      })
    }
    announce()
  }

  const disband: Crew["disband"] = (patience, limit) =>
    Effect.gen(function*() {
      closing = true
      for (const one of waiting.values()) {
        takeOut(one)
        shed(one)
      }
      yield* Effect.timeoutOption(idle.await, patience)
      for (const one of live) one.interruptUnsafe()
      yield* Effect.timeoutOption(idle.await, limit)
      if (live.size > 0) {
        yield* Effect.logWarning(
          `${live.size} runs did not end when they were interrupted; others take them up when their leases end`
        )
      }
    })

  return {
    start,
    free,
    vacancy: Effect.suspend(() => {
      announce()
      return vacancy.await
    }),
    full: () => [...options.taskConcurrency.keys()].filter(isFull),
    holds: (runId) => waiting.has(runId),
    idle: idle.await,
    disband
  }
})

// --- internal

/** A run that has been claimed and is not executed yet. */
interface Waiting {
  readonly queue: QueueName
  readonly claimed: Driver.Claimed
  readonly claimedAt: number
}

/** For how many milliseconds' worth of work a worker claims ahead. */
const horizon = 50
/** How many runs are claimed ahead at the most. */
const mostAhead = 1000
/** After how many milliseconds of beginning one run after another everybody else has a turn. */
const longestRound = 4
/** How many runs may be over without the store having answered. */
const mostUnsettled = 2000
/** After how many milliseconds a run whose turn has not come is handed back. */
const longestWait = 500

/** How many runs are worth claiming ahead, by how fast they have lately been got through. */
const makePace = (concurrency: number) => {
  let ended = 0
  let since: number | undefined
  const pace = {
    ahead: 0,
    reset: () => {
      pace.ahead = 0
      ended = 0
      since = undefined
    },
    ended: (at: number) => {
      since ??= at
      ended++
      const millis = at - since
      // One round of all places tells nothing: they may all have taken long.
      if (ended <= concurrency || millis < horizon / 2) return
      pace.ahead = Math.min(mostAhead, Math.floor(ended * horizon / millis))
      ended = 0
      since = at
    }
  }
  return pace
}
