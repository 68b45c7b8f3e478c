/**
 * The store in memory: everything that the store on PostgreSQL guarantees, for as long as its layer lives.
 *
 * For tests, and for programs that need no durability. Time is Effect's `Clock` and chance Effect's `Random`, both read from
 * the calling fiber, so a test moves it with `TestClock`. While a transaction is open, everything outside it waits.
 *
 * @since 0.1.0
 */
import { Clock, Context, DateTime, Effect, type Fiber, Layer, PubSub, Random, Result, Semaphore, Stream } from "effect"
import { Driver, type Signal } from "../../core/Driver.ts"
import type { NotFound } from "../../core/Errors.ts"
import type { QueueName } from "../../core/Identifiers.ts"
import * as Cancelling from "./Cancelling.ts"
import * as Claiming from "./Claiming.ts"
import * as Cleaning from "./Cleaning.ts"
import * as Emitting from "./Emitting.ts"
import * as Finishing from "./Finishing.ts"
import * as Limits from "./Limits.ts"
import * as Listing from "./Listing.ts"
import * as Queues from "./Queues.ts"
import * as Reading from "./Reading.ts"
import * as Schedules from "./Schedules.ts"
import * as Spawning from "./Spawning.ts"
import * as Suspending from "./Suspending.ts"
import { Journal, Table } from "./Table.ts"
import { Call, type Queue } from "./Tables.ts"
import * as Transactions from "./Transactions.ts"
import * as Upkeep from "./Upkeep.ts"
import * as Uuid from "./Uuid.ts"
import * as WorkflowRuns from "./WorkflowRuns.ts"

export type { Dump } from "./Reading.ts"

/**
 * What is in the store, for assertions.
 *
 * @since 0.1.0
 * @category services
 */
export class MemoryStore extends Context.Service<MemoryStore, {
  /** Everything in a queue, as copies; inside a transaction what the transaction sees. */
  readonly dump: (queue: QueueName) => Effect.Effect<Reading.Dump, NotFound>
  /** How often something was written in a queue, or undone. As long as that stays the same, so does its dump. */
  readonly writes: (queue: QueueName) => Effect.Effect<number, NotFound>
  /**
   * The first instant after now at which the queue has something to do by itself; null for never. Costs nothing that grows
   * with what is stored, unless something is due already.
   */
  readonly nextDue: (queue: QueueName) => Effect.Effect<DateTime.Utc | null, NotFound>
}>()("effect-absurd/drivers/memory/MemoryStore") {}

/**
 * A store, what is in it, and what only crash tests do with it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Made {
  readonly driver: Driver["Service"]
  readonly store: MemoryStore["Service"]
  /** Allows one attempt more to each task of the queue that is running: the one that a crash costs. */
  readonly forgiveAttempts: (queue: QueueName) => Effect.Effect<void, NotFound>
}

/**
 * An empty store.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Made> = Effect
  .gen(function*() {
    const signals = yield* PubSub.dropping<Signal>(1024)
    const journal = new Journal()
    const queues: Queues.Queues = new Table<string, Queue>(journal)
    const ids = new Uuid.Generator()
    const runs = new WorkflowRuns.WorkflowRuns(journal)
    const schedules = new Schedules.Schedules(journal)
    const upkeep = Semaphore.makeUnsafe(1)
    const outbox: Array<Signal> = []
    const transactions = Transactions.make({
      journal,
      pending: () => outbox.length,
      discard: (count) => {
        outbox.length = count
      },
      deliver: () => {
        if (outbox.length === 0) return
        for (const signal of outbox) PubSub.publishUnsafe(signals, signal)
        outbox.length = 0
      }
    })

    const nowOf = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()

    const callOn = (fiber: Fiber.Fiber<unknown, unknown>, { name, tables }: Queue): Call =>
      new Call(
        name,
        tables,
        nowOf(fiber),
        fiber.getRef(Random.Random),
        ids,
        outbox,
        (queue) => queues.get(queue)?.tables
      )

    /** An operation on a queue that may refuse. */
    const refusing =
      <Request, A, E>(operation: (call: Call, request: Request) => Result.Result<A, E>) =>
      (request: Request & { readonly queue: QueueName }): Effect.Effect<A, E | NotFound> =>
        transactions.run((fiber): Result.Result<A, E | NotFound> => {
          const queue = Queues.find(queues, request.queue)
          return Result.isFailure(queue)
            ? Result.fail(queue.failure)
            : operation(callOn(fiber, queue.success), request)
        })

    /** An operation on a queue that always has an answer. */
    const answering = <Request, A>(operation: (call: Call, request: Request) => A) =>
      refusing<Request, A, never>((call, request) => Result.succeed(operation(call, request)))

    const extend = answering(Claiming.extend)

    const countTasks = answering(Listing.countTasks)
    const listLimits = answering(Limits.list)
    const load = answering((call: Call) => Reading.load(call, queues.get(call.queue)?.paused === true))
    const driver = Driver.of({
      createQueue: (request) => transactions.run(() => Queues.create(queues, journal, request)),
      dropQueue: (queue) => transactions.run(() => Result.succeed(queues.delete(queue))),
      listQueues: transactions.run(() => Result.succeed(Queues.list(queues))),
      getQueuePolicy: (queue) =>
        Effect.map(transactions.run(() => Queues.find(queues, queue)), (found) => ({ ...found.policy })),
      setQueuePolicy: (queue, update) =>
        transactions.run(() =>
          Result.flatMap(Queues.find(queues, queue), (found) => Queues.setPolicy(queues, found, update))
        ),

      spawn: refusing(Spawning.spawn),
      revisePending: answering(Spawning.revisePending),
      findTask: answering(Spawning.findTask),
      claim: answering((call, request) => Claiming.claim(call, request, queues.get(call.queue)?.paused === true)),
      claimedWith: answering(Claiming.claimedWith),
      extend,
      // A transaction of this store keeps everything else waiting, heartbeats too.
      heartbeats: Effect.succeed({ extend }),
      probe: () => Effect.void,
      release: answering(Claiming.release),
      setCheckpoints: answering(Claiming.setCheckpoints),
      complete: answering(Finishing.complete),
      fail: answering(Finishing.fail),
      suspend: refusing(Suspending.suspend),
      emit: answering(Emitting.emit),
      readEvent: answering(Emitting.readEvent),
      readEvents: answering(Emitting.readEvents),
      cancelTask: refusing(Cancelling.cancelTask),
      cancelRun: refusing(Cancelling.cancelRun),
      retryTask: refusing(Cancelling.retryTask),
      results: answering(Reading.results),
      getTask: answering(Reading.getTask),
      getRun: answering(Reading.getRun),
      listRuns: answering(Reading.listRuns),
      listWaits: answering(Reading.listWaits),
      getCheckpoints: answering(Reading.getCheckpoints),
      listTasks: answering(Listing.listTasks),
      countTasks: (queue) => countTasks({ queue }),
      listLimits: (queue) => listLimits({ queue }),
      listLimitKeys: answering(Limits.listKeys),
      overrideLimit: refusing(Limits.override),
      cleanupTasks: answering(Cleaning.cleanupTasks),
      cleanupEvents: answering(Cleaning.cleanupEvents),

      setPaused: answering((call, { paused }) => {
        const queue = queues.get(call.queue)
        const changed = queue !== undefined && Queues.setPaused(queues, queue, paused)
        if (changed && !paused) call.signalWork()
        return changed
      }),
      queueLoad: (queue) => load({ queue }),

      createWorkflowRun: (run) => transactions.run((fiber) => WorkflowRuns.create(runs, nowOf(fiber), run)),
      updateWorkflowRun: (update) => transactions.run((fiber) => WorkflowRuns.update(runs, nowOf(fiber), update)),
      getWorkflowRun: (id) => transactions.run(() => Result.succeed(WorkflowRuns.get(runs, id))),
      listWorkflowRuns: (filter) => transactions.run(() => Result.succeed(WorkflowRuns.list(runs, filter))),
      cleanupWorkflowRuns: (request) =>
        transactions.run((fiber) => Result.succeed(WorkflowRuns.cleanup(runs, nowOf(fiber), request))),

      ensurePartitions: (queue) => transactions.run(() => Upkeep.nothing(queues, queue, undefined)),
      listDetachCandidates: (queue) => transactions.run(() => Upkeep.nothing(queues, queue, [])),
      detachPartition: () => Effect.succeed(false),
      cleanupAll: (queue) =>
        transactions.run((fiber) => Upkeep.cleanupAll(queues, queue, (found) => callOn(fiber, found))),
      enableCron: () => transactions.run(() => Upkeep.withoutCron("enableCron")),
      disableCron: () => transactions.run(() => Upkeep.withoutCron("disableCron")),
      exclusively: (self) => upkeep.withPermitsIfAvailable(1)(transactions.withTransaction(self)),

      putSchedule: (request) => transactions.run((fiber) => Result.succeed(schedules.put(nowOf(fiber), request))),
      pauseSchedule: (request) => transactions.run((fiber) => Result.succeed(schedules.pause(nowOf(fiber), request))),
      deleteSchedule: (name) => transactions.run(() => Result.succeed(schedules.remove(name))),
      listSchedules: transactions.run(() => Result.succeed(schedules.list())),
      dueSchedules: transactions.run((fiber) => Result.succeed(schedules.due(nowOf(fiber)))),
      advanceSchedule: (request) => transactions.run(() => Result.succeed(schedules.advance(request))),

      withTransaction: transactions.withTransaction,
      inTransaction: transactions.inTransaction,
      signals: Stream.fromPubSub(signals)
    })
    const dump = answering(Reading.dump)
    const writes = answering(({ tables }: Call) => tables.writes)
    const nextDue = answering(Reading.nextDue)
    const forgive = answering(Claiming.forgiveAttempts)
    const store = MemoryStore.of({
      dump: (queue) => dump({ queue }),
      writes: (queue) => writes({ queue }),
      nextDue: (queue) =>
        Effect.map(nextDue({ queue }), (millis) => millis === null ? null : DateTime.makeUnsafe(millis))
    })
    return { driver, store, forgiveAttempts: (queue) => forgive({ queue }) }
  })

/**
 * A store of its own for each time the layer is built.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Driver | MemoryStore> = Layer.effectContext(
  Effect.map(make, ({ driver, store }) => Context.make(Driver, driver).pipe(Context.add(MemoryStore, store)))
)
