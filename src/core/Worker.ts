/**
 * Works on queues: claims runs that are due, executes them side by side, keeps their leases alive, and hands back what it
 * cannot finish.
 *
 * Everything belongs to a scope. When it closes, claiming stops at once; running work goes on for the grace time, with its
 * leases kept alive; then it is interrupted and handed back, claimable at once and without having spent an attempt.
 *
 * Whatever happens to the store meanwhile, the worker goes on by itself when it is back.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Fiber, FiberSet, Latch, Random, type Scope, Stream } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import * as Batch from "./Batch.ts"
import * as Claimer from "./Claimer.ts"
import * as Crew from "./Crew.ts"
import type * as Driver from "./Driver.ts"
import type * as Engine from "./Engine.ts"
import { type DriverError, InvalidInput, type NotFound } from "./Errors.ts"
import * as Heartbeat from "./Heartbeat.ts"
import type { QueueName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Outage from "./Outage.ts"
import * as Rotation from "./Rotation.ts"
import type { QueueLoad } from "./WorkerStore.ts"

/**
 * How a worker works.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The queue; the client's own by default. */
  readonly queue?: string | undefined
  /**
   * Several queues instead of one, each with its weight, from 1 to 1,000: while all of them have work, a queue of weight 3
   * gets three times as many places as a queue of weight 1.
   */
  readonly queues?: { readonly [queue: string]: number } | undefined
  /**
   * How many runs are executed at once, from 1 to 10,000; 10 by default. A worker that gets through them quickly claims ahead
   * what it will execute within the next 50 milliseconds, at most 1,000 runs, and hands back what it has not come to.
   */
  readonly concurrency?: number | undefined
  /** How many runs of a task are executed at once at most, by name of the task; no limit but `concurrency` by default. */
  readonly taskConcurrency?: { readonly [task: string]: number } | undefined
  /**
   * How long a run stays claimed without a sign of life, from 1 second to 24 hours; 1 minute by default. It is renewed three
   * times within that, so this is how soon the work of a dead process is taken up, not how long a step may take.
   */
  readonly lease?: Duration.Input | undefined
  /**
   * How long an idle worker waits at most before it has looked for work again, at least 10 ms; 250 ms by default. After there
   * was work it waits a sixteenth of that, then twice as long each time. Hints of the store wake it at once. A store that takes
   * more than a quarter of that to answer is left alone for half of it.
   */
  readonly pollInterval?: Duration.Input | undefined
  /**
   * How long the worker may take to stop, at least 1 second; 30 seconds by default. Running work may go on until a quarter of
   * it is left, but 1.5 seconds at least and 5 at most (of less than 3 seconds, until half of it is left). Then it is
   * interrupted, its finalizers run, and it is handed back. What the store has not taken back by the end of that time others
   * take up when its lease ends.
   */
  readonly shutdownGrace?: Duration.Input | undefined
  /**
   * How long a run may stay awake in which some fibers wait durably and others do something that is neither a step nor a
   * wait; 10 seconds by default. Then it is suspended, and what those did outside of steps is done again. One that waits for
   * a timer of Effect that is longer than that would do so for ever: the task ends with `InvalidUse`.
   */
  readonly stallAfter?: Duration.Input | undefined
}

/**
 * Starts a worker in the current scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<void, InvalidInput, Absurd | Scope.Scope> {
  const settings = yield* checkOptions(options)
  const absurd = yield* Absurd
  const heartbeat = yield* Heartbeat.make(absurd, settings.lease)
  const crew = yield* Crew.make(absurd, { ...settings, heartbeat, onEnd: () => {} })
  const claimer = yield* Claimer.make(absurd, {
    lease: settings.lease,
    start: crew.start,
    free: crew.free,
    tracks: (runId) => heartbeat.tracks(runId) || crew.holds(runId)
  })
  const wake = Latch.makeUnsafe(false)
  const lanes = Rotation.lanes(settings.queues).map((lane): Lane => ({
    ...lane,
    pause: shortestPause(settings),
    until: 0,
    hinted: false,
    asking: false,
    failures: 0,
    told: false
  }))
  // Not of the scope, which would wait for the answer to a claim however long that takes.
  const polling = yield* poll({ absurd, settings, crew, claimer, lanes, wake }).pipe(
    Effect.annotateLogs({ worker: absurd.workerId }),
    Effect.forkDetach
  )
  yield* absurd.signals.subscribe((hint) => heed(hint, lanes, wake, heartbeat))
  // Runs before everything above ends.
  yield* Effect.addFinalizer(() => shutDown(settings, polling, crew, claimer))
})

/**
 * Claims once, executes what was claimed, and returns how each run ended. For programs that are started when there is work,
 * and for tests. With several queues, each is asked once.
 *
 * When it is interrupted, what it executes is interrupted and handed back.
 *
 * @since 0.1.0
 * @category combinators
 */
export const runOnce = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<ReadonlyArray<Engine.Result>, InvalidInput | DriverError | NotFound, Absurd> {
  const settings = yield* checkOptions(options)
  const absurd = yield* Absurd
  return yield* Effect.scoped(Effect.gen(function*() {
    const heartbeat = yield* Heartbeat.make(absurd, settings.lease)
    const results: Array<Engine.Result> = []
    const crew = yield* Crew.make(absurd, { ...settings, heartbeat, onEnd: (result) => results.push(result) })
    const claimer = yield* Claimer.make(absurd, {
      lease: settings.lease,
      start: crew.start,
      free: crew.free,
      tracks: heartbeat.tracks
    })
    const { limit } = periods(settings.shutdownGrace)
    yield* Effect.addFinalizer(() => leave(crew, claimer, Duration.zero, limit))
    const shares = Rotation.share(Rotation.lanes(settings.queues), settings.concurrency)
    let spare = settings.concurrency - [...shares.values()].reduce((sum, share) => sum + share, 0)
    for (const [{ queue }, share] of shares) {
      const claimed = yield* claimer.claim(queue, share + spare, crew.full())
      spare += share - claimed
    }
    yield* crew.idle
    return results
  }))
})

/**
 * The tasks for which this program has no handler although runs of them were claimed, and how many runs were put back for
 * that reason.
 *
 * @since 0.1.0
 * @category combinators
 */
export const unknownTasks: Effect.Effect<
  ReadonlyArray<{ readonly queue: QueueName; readonly task: string; readonly runs: number }>,
  never,
  Absurd
> = Absurd.useSync((absurd) => absurd.handlers.misses())

/**
 * Makes all workers, of this process and others, claim nothing more from a queue; what runs goes on. It stays so, whatever is
 * restarted, until {@link resume}. Returns whether this changed something.
 *
 * Workers in other languages obey too, unless the schema `absurd` belongs to another installation of Absurd.
 *
 * @since 0.1.0
 * @category operating
 */
export const pause = (queue?: string): Effect.Effect<boolean, InvalidInput | NotFound | DriverError, Absurd> =>
  setPaused(queue, true)

/**
 * Ends a {@link pause}. Returns whether this changed something.
 *
 * @since 0.1.0
 * @category operating
 */
export const resume = (queue?: string): Effect.Effect<boolean, InvalidInput | NotFound | DriverError, Absurd> =>
  setPaused(queue, false)

/**
 * How much there is to do in a queue, and whether it is paused.
 *
 * @since 0.1.0
 * @category operating
 */
export const load = (queue?: string): Effect.Effect<QueueLoad, InvalidInput | NotFound | DriverError, Absurd> =>
  Effect.flatMap(Absurd, ({ driver }) => Effect.flatMap(resolveQueue(queue), driver.queueLoad))

/**
 * What came of the executions of this client's workers, from now on, each after the store has acknowledged its end. A consumer
 * that falls more than 4,096 behind misses the oldest.
 *
 * @since 0.1.0
 * @category operating
 */
export const outcomes: Stream.Stream<Engine.Outcome, never, Absurd> = Stream.unwrap(
  Absurd.useSync((absurd) => Stream.fromPubSub(absurd.outcomes))
)

// --- internal

const setPaused = (queue: string | undefined, paused: boolean) =>
  Effect.flatMap(
    Absurd,
    ({ driver }) => Effect.flatMap(resolveQueue(queue), (queue) => driver.setPaused({ queue, paused }))
  )

interface Settings {
  readonly queues: ReadonlyMap<QueueName, number>
  readonly concurrency: number
  readonly taskConcurrency: ReadonlyMap<string, number>
  readonly lease: Duration.Duration
  readonly pollInterval: Duration.Duration
  readonly shutdownGrace: Duration.Duration
  readonly stallAfter: Duration.Duration
}

const checkOptions = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Settings, InvalidInput, Absurd> {
  return {
    queues: yield* checkQueues(options),
    concurrency: yield* Input.integer("concurrency", options.concurrency ?? 10, { minimum: 1, maximum: 10_000 }),
    taskConcurrency: new Map(
      yield* Effect.forEach(Object.entries(options.taskConcurrency ?? {}), ([task, limit]) =>
        Effect.map(
          Input.integer(`taskConcurrency.${task}`, limit, { minimum: 1, maximum: 10_000 }),
          (checked) => [task, checked] as const
        ))
    ),
    lease: yield* Input.duration("lease", options.lease ?? "1 minute", { minimum: "1 second", maximum: "24 hours" }),
    pollInterval: yield* Input.duration("pollInterval", options.pollInterval ?? "250 millis", { minimum: "10 millis" }),
    shutdownGrace: yield* Input.duration("shutdownGrace", options.shutdownGrace ?? "30 seconds"),
    stallAfter: yield* Input.duration("stallAfter", options.stallAfter ?? "10 seconds")
  }
})

const checkQueues = Effect.fnUntraced(function*({ queue, queues }: Options) {
  if (queues === undefined) return new Map([[yield* resolveQueue(queue), 1]])
  const entries = Object.entries(queues)
  if (queue !== undefined || entries.length === 0) {
    return yield* new InvalidInput({ field: "queues", problem: "name at least one queue, and leave out `queue`" })
  }
  return new Map(
    yield* Effect.forEach(entries, ([name, weight]) =>
      Effect.all([
        resolveQueue(name),
        Input.integer(`queues.${name}`, weight, { minimum: 1, maximum: 1000 })
      ]))
  )
})

interface Lane extends Rotation.Lane<QueueName> {
  /** How long it is left alone after it had no work, in milliseconds. */
  pause: number
  /** When it is asked again, in monotonic milliseconds. */
  until: number
  /** Whether there was a hint since it was asked last. */
  hinted: boolean
  /** Whether it has been asked, and has not answered yet. */
  asking: boolean
  /** How often in a row asking it failed. */
  failures: number
  /** Whether the log says that it fails. */
  told: boolean
}

interface Worker {
  readonly absurd: Absurd["Service"]
  readonly settings: Settings
  readonly crew: Crew.Crew
  readonly claimer: Claimer.Claimer
  readonly lanes: ReadonlyArray<Lane>
  readonly wake: Latch.Latch
}

const shortestPause = ({ pollInterval }: Settings) => Math.max(10, Duration.toMillis(pollInterval) / 16)

const poll = (worker: Worker): Effect.Effect<never> =>
  Effect.scoped(Effect.gen(function*() {
    const { absurd, crew, lanes, wake } = worker
    const asks = yield* FiberSet.make<void>()
    while (true) {
      yield* crew.vacancy
      yield* absurd.outage.up
      // What ends together is replaced together.
      yield* Effect.yieldNow
      if (crew.free() <= 0) continue
      wake.closeUnsafe()
      const now = yield* Heartbeat.monotonicMillis
      const idle = lanes.filter((lane) => !lane.asking)
      const ready = idle.filter((lane) => lane.until <= now)
      if (ready.length > 0) {
        const shares = Rotation.share(ready, crew.free())
        yield* askAll(worker, shares, asks)
        continue
      }
      const rest = Math.min(...idle.map((lane) => lane.until)) - now
      yield* Number.isFinite(rest) ? Effect.timeoutOption(wake.await, Duration.millis(rest)) : wake.await
    }
  }))

/**
 * Asks for all that have a share, side by side. One that is not answered soon, because somebody has its queue locked, is not
 * waited for: the others go on, also with the places that it was given.
 */
const askAll = (worker: Worker, shares: ReadonlyMap<Lane, number>, asks: FiberSet.FiberSet<void>) =>
  worker.lanes.length === 1
    ? Effect.forEach(shares, ([lane, places]) => ask(worker, lane, places), { discard: true })
    : Effect.gen(function*() {
      const fibers = yield* Effect.forEach(shares, ([lane, places]) => {
        lane.asking = true
        const asking = Effect.ensuring(
          ask(worker, lane, places),
          Effect.sync(() => {
            lane.asking = false
            worker.wake.openUnsafe()
          })
        )
        return FiberSet.run(asks, asking)
      })
      yield* Effect.timeoutOption(Fiber.awaitAll(fibers), Batch.patience)
    })

/** Claims for one lane, and decides when it is asked again. */
const ask = (worker: Worker, lane: Lane, places: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { claimer, crew, settings } = worker
    lane.hinted = false
    const askedAt = yield* Heartbeat.monotonicMillis
    const result = yield* Effect.result(claimer.claim(lane.queue, places, crew.full()))
    if (result._tag === "Failure") {
      Rotation.takeBack(lane, places)
      yield* excuse(worker, lane, result.failure)
      // While nobody could ask it, it saved nothing up.
      const now = yield* Heartbeat.monotonicMillis
      return Rotation.rejoin(lane, worker.lanes.filter((other) => other.until <= now))
    }
    if (lane.told) yield* Effect.logInfo(`Claiming from "${lane.queue}" works again`)
    lane.told = false
    lane.failures = 0
    Rotation.takeBack(lane, places - result.success)
    if (result.success > 0) lane.pause = shortestPause(settings)
    if (result.success === places) return
    const now = yield* Heartbeat.monotonicMillis
    // It may have looked before there was what a hint meanwhile was about.
    lane.until = lane.hinted ? now : now + restOf(lane.pause * (0.78 + 0.2 * (yield* Random.next)), now - askedAt)
    lane.pause = Math.min(lane.pause * 2, Duration.toMillis(settings.pollInterval))
    Rotation.rejoin(lane, worker.lanes.filter((other) => other.until <= now))
  })

/**
 * How long a lane is left alone after a claim that took `took`, so that what was due just too late for it is claimed no later
 * than `pause` after that: the next claim takes time too. A slow store is left alone for half of the pause all the same.
 */
const restOf = (pause: number, took: number) => Math.max(pause / 2, pause - 2 * took)

const excuse = (worker: Worker, lane: Lane, error: DriverError | NotFound) =>
  Effect.gen(function*() {
    const pause = yield* Claimer.pauseAfter(worker.absurd, error, lane.failures++)
    lane.until = (yield* Heartbeat.monotonicMillis) + pause
    if (lane.told || Outage.isPassing(error)) return
    lane.told = true
    yield* Effect.logError(`Claiming from "${lane.queue}" failed; trying on`, error)
  })

/** Hints may be missing altogether; polling does not depend on them. */
const heed = (
  hint: Driver.Signal,
  lanes: ReadonlyArray<Lane>,
  wake: Latch.Latch,
  heartbeat: Heartbeat.Heartbeat
): void => {
  if (hint._tag === "Ended") return heartbeat.askAbout(hint.queue, hint.taskId)
  for (const lane of lanes) {
    if ((hint._tag === "Work" && hint.queue !== lane.queue) || lane.failures > 0) continue
    lane.hinted = true
    lane.until = 0
    wake.openUnsafe()
  }
}

/**
 * How much of the grace time is for work, and how much for finalizers and handing back, which has to wait for the store. What
 * is left after both is for closing connections.
 */
const periods = (grace: Duration.Duration) => {
  const total = Math.max(1000, Duration.toMillis(grace))
  const reserve = Math.min(5000, Math.max(total / 4, Math.min(1500, total / 2)))
  return { patience: Duration.millis(total - reserve), limit: Duration.millis(reserve * 0.8) }
}

const shutDown = (
  { shutdownGrace }: Settings,
  polling: Fiber.Fiber<unknown>,
  crew: Crew.Crew,
  claimer: Claimer.Claimer
) =>
  Effect.gen(function*() {
    const { limit, patience } = periods(shutdownGrace)
    const startedAt = yield* Heartbeat.monotonicMillis
    yield* Effect.timeoutOption(Fiber.interrupt(polling), patience)
    const spent = (yield* Heartbeat.monotonicMillis) - startedAt
    yield* leave(crew, claimer, Duration.millis(Math.max(0, Duration.toMillis(patience) - spent)), limit)
  })

/** Each has all the time there is: neither code that does not end nor a store that is away may take the other's. */
const leave = (crew: Crew.Crew, claimer: Claimer.Claimer, patience: Duration.Duration, limit: Duration.Duration) =>
  Effect.all(
    [crew.disband(patience, limit), Effect.timeoutOption(claimer.settle, Duration.sum(patience, limit))],
    { concurrency: "unbounded", discard: true }
  )
