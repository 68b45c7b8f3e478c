/**
 * A store that looks after itself while a program runs: partitions in time, and nothing kept for longer than it should be.
 *
 * @since 0.1.0
 */
import { type Duration, Effect, Option, Schedule, type Scope } from "effect"
import { Absurd } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import type { DriverError, InvalidInput, NotFound } from "./Errors.ts"
import { QueueName } from "./Identifiers.ts"
import * as Input from "./Input.ts"

/**
 * What maintenance does, and when.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** When rounds begin, after the first, which begins at once; about every hour by default. */
  readonly schedule?: Schedule.Schedule<unknown> | undefined
  /** How long workflow runs are kept after they ended; 30 days by default. */
  readonly workflowRunTtl?: Duration.Input | undefined
}

/**
 * What a round did.
 *
 * @since 0.1.0
 * @category models
 */
export interface Report {
  /** How many ended tasks were deleted. */
  readonly tasks: number
  /** How many events were deleted. */
  readonly events: number
  /** How many workflow runs were deleted. */
  readonly workflowRuns: number
  /** The partitions that were removed. */
  readonly detached: ReadonlyArray<Driver.Partition>
}

/**
 * One round: provides partitions, deletes what is too old by each queue's policy, all of it and in batches, deletes old
 * workflow runs, and removes the partitions that policies give up. Each batch is a transaction of its own.
 *
 * Of all processes one at a time does this. When another one is at it, the round ends with what it has done so far. Whatever
 * fails about a queue is logged as a warning and keeps neither the rest of that queue nor any other queue from its turn.
 *
 * Queues are cleaned in turns of at most a hundred batches, and at most ten thousand in a round, so that one where things end
 * as fast as they are deleted does not keep the others waiting. What is left is for the next round.
 *
 * @since 0.1.0
 * @category running
 */
export const runOnce = Effect.fn("Maintenance.runOnce")(function*(
  options?: Pick<Options, "workflowRunTtl">
): Effect.fn.Return<Report, InvalidInput | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const ttl = yield* Input.duration("workflowRunTtl", options?.workflowRunTtl ?? "30 days")
  const round = new Round(driver)
  // Queues of other programs need not keep the rules for new names.
  const queues = (yield* driver.listQueues).map((name) => QueueName.make(name, { disableChecks: true }))
  let unfinished: Array<QueueName> = []
  for (const queue of queues) {
    yield* round.partitions(queue)
    if (yield* round.clean(queue)) unfinished.push(queue)
    yield* round.detach(queue)
  }
  yield* round.workflowRuns(ttl)
  for (let turn = 2; turn <= turns && unfinished.length > 0; turn++) {
    const rest: Array<QueueName> = []
    for (const queue of unfinished) {
      if (yield* round.clean(queue)) rest.push(queue)
    }
    unfinished = rest
  }
  return round.report
})

/**
 * Runs rounds until the scope closes. A round that fails is logged, and the next one comes as scheduled.
 *
 * @since 0.1.0
 * @category running
 */
export const make = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<void, InvalidInput, Absurd | Scope.Scope> {
  yield* Input.duration("workflowRunTtl", options?.workflowRunTtl ?? "30 days")
  yield* runOnce(options).pipe(
    Effect.tap((report) => Effect.logDebug("Maintenance has been done", report)),
    Effect.catchCause((cause) => Effect.logWarning("Maintenance failed", cause)),
    Effect.repeat(options?.schedule ?? hourly),
    Effect.annotateLogs({ module: "Maintenance" }),
    Effect.forkScoped
  )
})

// --- internal

// Apart, so that processes that were started together do not come together every time.
const hourly = Schedule.spaced("1 hour").pipe(Schedule.jittered)

const workflowRunBatch = 1000

// A turn of a queue is so many batches, and it has so many turns in a round.
const batchesPerTurn = 100
const turns = 100

class Round {
  private tasks = 0
  private events = 0
  private runs = 0
  private readonly detached: Array<Driver.Partition> = []
  private readonly driver: Absurd["Service"]["driver"]
  /** Whether another process has taken over. */
  private over = false

  constructor(driver: Absurd["Service"]["driver"]) {
    this.driver = driver
  }

  get report(): Report {
    return { tasks: this.tasks, events: this.events, workflowRuns: this.runs, detached: this.detached }
  }

  /** Provides partitions. */
  partitions(queue: QueueName): Effect.Effect<void> {
    return this.part(queue, "Providing partitions", this.alone(this.driver.ensurePartitions(queue)))
  }

  /** Deletes what is too old, for one turn; whether there was more than that. */
  clean(queue: QueueName): Effect.Effect<boolean> {
    return this.batch(queue).pipe(
      Effect.repeat({ until: (isClean) => isClean || this.over, times: batchesPerTurn - 1 }),
      Effect.map((isClean) => !isClean && !this.over),
      (self) => this.part(queue, "Cleaning", self),
      Effect.map((isMore) => isMore === true)
    )
  }

  /** Removes the partitions that are given up. */
  detach(queue: QueueName): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (const partition of this.over ? [] : yield* this.driver.listDetachCandidates(queue)) {
        yield* this.part(
          queue,
          `Removing the partition ${partition.partition}`,
          Effect.map(this.alone(this.driver.detachPartition(partition)), (done) => {
            if (done === true) this.detached.push(partition)
          })
        )
      }
    }).pipe((self) => this.part(queue, "Looking for partitions to remove", self))
  }

  workflowRuns(ttl: Duration.Duration): Effect.Effect<void, DriverError> {
    return this.alone(this.driver.cleanupWorkflowRuns({ ttl, limit: workflowRunBatch })).pipe(
      Effect.tap((count = 0) => Effect.sync(() => this.runs += count)),
      Effect.repeat({ while: (count) => count === workflowRunBatch, times: batchesPerTurn * turns - 1 }),
      Effect.catchTag("NotFound", Effect.die),
      Effect.asVoid
    )
  }

  /** Deletes a batch; whether there was nothing to delete. */
  private batch(queue: QueueName) {
    return Effect.map(this.alone(this.driver.cleanupAll(queue)), (cleaned = []) => {
      for (const { events, tasks } of cleaned) {
        this.tasks += tasks
        this.events += events
      }
      return cleaned.every(({ events, tasks }) => tasks === 0 && events === 0)
    })
  }

  /** One thing that is done for a queue. When it fails, the others are done all the same. */
  private part<A>(queue: QueueName, what: string, self: Effect.Effect<A, DriverError | NotFound>) {
    return self.pipe(
      // A queue that was dropped in the meantime needs nothing.
      Effect.catchTag("NotFound", () => Effect.undefined),
      Effect.catchTag(
        "DriverError",
        (error) => Effect.as(Effect.logWarning(`${what} failed for queue "${queue}"`, error), undefined)
      )
    )
  }

  /** The only one that does maintenance does this now; undefined when somebody else is the one. */
  private alone<A>(self: Effect.Effect<A, DriverError | NotFound>) {
    return this.over ? Effect.undefined : Effect.map(this.driver.exclusively(self), (done) => {
      this.over = Option.isNone(done)
      return Option.getOrUndefined(done)
    })
  }
}
