/**
 * The part of the seam that is for workers: keeping leases alive when all else is busy, finding out whether the store is back,
 * pausing, and how much there is to do.
 *
 * @since 0.1.0
 */
import type { Duration, Effect, Scope } from "effect"
import type { Extend, Outcome } from "./Driver.ts"
import type { DriverError, NotFound } from "./Errors.ts"
import type { QueueName } from "./Identifiers.ts"

/**
 * How much there is to do in a queue. The figures are exact, but a store may stop counting at 100,000, and they are what was
 * stored last: a claim that is made next may begin with cancelling what is overdue and failing what has lost its lease.
 *
 * @since 0.1.0
 */
export interface QueueLoad {
  readonly paused: boolean
  /** Runs that could be claimed now, were the queue not paused. */
  readonly due: number
  /** Runs that become due at some later time or with some event. */
  readonly later: number
  /** Runs under a claim. One without end, which other software can make, a store may leave out. */
  readonly running: number
  /** For how long the run that has waited longest is due; null when none is. */
  readonly oldest: Duration.Duration | null
}

/**
 * What a store must do for workers. `NotFound` is about the queue.
 *
 * @since 0.1.0
 */
export interface WorkerStore {
  /**
   * The same as `extend` of the driver, for the heart of a worker, in the scope: it goes on when everything else of the
   * store is busy, where the store can arrange that. It never waits for a run that another transaction has locked: what
   * becomes of that one is `busy`, and nothing has changed. When all of the queue is locked, all are.
   */
  readonly heartbeats: Effect.Effect<
    {
      readonly extend: (
        request: typeof Extend.Type
      ) => Effect.Effect<ReadonlyArray<Outcome | "busy">, DriverError | NotFound>
    },
    never,
    Scope.Scope
  >
  /**
   * Asks whether the store takes requests again, writes too, after one failed with `after`; when it does not, with whatever
   * is the matter now. A store that has been replaced is met anew: connections to one that only answers reads are given up,
   * as far as nobody uses them.
   */
  readonly probe: (after: DriverError) => Effect.Effect<void, DriverError>
  /** From a paused queue nothing is claimed, until it is resumed. Returns whether this changed something. */
  readonly setPaused: (request: {
    readonly queue: QueueName
    readonly paused: boolean
  }) => Effect.Effect<boolean, DriverError | NotFound>
  readonly queueLoad: (queue: QueueName) => Effect.Effect<QueueLoad, DriverError | NotFound>
}
