/**
 * The client: everything a program asks of Absurd outside of a task.
 *
 * The typed way in is `Task` and `Event`; the operations here are what they are made of, and what tools need.
 *
 * @since 0.1.0
 */
import { Context, Duration, Effect, Latch, Layer, PubSub, Schedule, type Schema, type Scope } from "effect"
import * as Coalesced from "./Coalesced.ts"
import * as Driver from "./Driver.ts"
import type { Outcome } from "./Engine.ts"
import {
  Cancelled,
  type DriverError,
  type InvalidInput,
  type InvalidState,
  NotFound,
  TaskFailed,
  Timeout
} from "./Errors.ts"
import * as Handlers from "./Handlers.ts"
import { EventName, isTerminal, NewQueueName, QueueName, TaskId, WorkerId } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Metered from "./Metered.ts"
import * as Outage from "./Outage.ts"
import * as Replay from "./Replay.ts"
import * as Signals from "./Signals.ts"
import * as Stored from "./Stored.ts"

/**
 * The client service.
 *
 * @since 0.1.0
 * @category services
 */
export class Absurd extends Context.Service<Absurd, {
  readonly driver: Driver.Driver["Service"]
  readonly coalesced: Coalesced.Coalesced
  readonly handlers: Handlers.Handlers
  /** How this client goes through outages of the store. */
  readonly outage: Outage.Outage
  /** The hints of the store. */
  readonly signals: Signals.Signals
  /** What came of the executions of this client's workers. See `Worker.outcomes`. */
  readonly outcomes: PubSub.PubSub<Outcome>
  /** The queue of tasks, events and workers that name none. */
  readonly defaultQueue: QueueName
  /** What claims of this process are stored under. */
  readonly workerId: WorkerId
}>()("effect-absurd/core/Absurd") {}

/**
 * How to make a client.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The queue of tasks, events and workers that name none; `absurd_default` by default. */
  readonly queue?: string | undefined
  /** The name under which claims of this process are stored; `worker` by default. */
  readonly workerId?: string | undefined
}

/**
 * A client over a driver.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<Absurd["Service"], InvalidInput, Driver.Driver | Scope.Scope> {
  const store = Metered.make(yield* Driver.Driver)
  const outage = yield* Outage.make(store)
  // A program that only spawns and emits hears of it, but what it is connected to has to be given up for the sake of its next
  // request.
  const guarded = Replay.guard((error) => {
    if (Outage.isReadOnly(error)) outage.report(error)
  })
  const driver = Replay.guardWrites(store, guarded)
  const coalesced = yield* Coalesced.make(store)
  return Absurd.of({
    driver,
    coalesced: {
      ...coalesced,
      spawn: (queue, item) => guarded(coalesced.spawn(queue, item))
    },
    handlers: Handlers.make(),
    outage,
    signals: yield* Signals.make(driver, outage),
    outcomes: yield* PubSub.sliding<Outcome>(4096),
    defaultQueue: yield* checkQueue(options?.queue ?? "absurd_default"),
    workerId: yield* checkWorkerId(options?.workerId ?? "worker")
  })
})

/**
 * A client over a driver, as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerDriver = (options?: Options): Layer.Layer<Absurd, InvalidInput, Driver.Driver> =>
  Layer.effect(Absurd, make(options))

/**
 * The checked name of a queue, which is the client's own queue when none is given.
 *
 * @since 0.1.0
 * @category queues
 */
export const resolveQueue = (queue: string | undefined): Effect.Effect<QueueName, InvalidInput, Absurd> =>
  queue === undefined ? Absurd.useSync((_) => _.defaultQueue) : checkQueue(queue)

// --- queues

/**
 * Creates a queue, unless it exists. `InvalidState` when it exists in the other storage mode.
 *
 * @since 0.1.0
 * @category queues
 */
export const createQueue = Effect.fn("Absurd.createQueue")(function*(
  name: string,
  options?: { readonly storage?: Driver.StorageMode | undefined }
): Effect.fn.Return<void, InvalidInput | InvalidState | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const queue = yield* checkNewQueue(name)
  yield* driver.createQueue({ queue, storage: yield* checkStorage(options?.storage ?? "unpartitioned") })
})

/**
 * Creates a queue when the layer is built, unless it exists: a layer to put under the workers of a program.
 *
 * @since 0.1.0
 * @category queues
 */
export const layerQueue = (
  name: string,
  options?: { readonly storage?: Driver.StorageMode | undefined }
): Layer.Layer<never, InvalidInput | InvalidState | DriverError, Absurd> =>
  Layer.effectDiscard(createQueue(name, options))

/**
 * Removes a queue with everything in it. Nothing happens when there is none.
 *
 * @since 0.1.0
 * @category queues
 */
export const dropQueue = Effect.fn("Absurd.dropQueue")(function*(
  name: string
): Effect.fn.Return<void, InvalidInput | DriverError, Absurd> {
  const { driver } = yield* Absurd
  yield* driver.dropQueue(yield* checkQueue(name))
})

/**
 * The names of all queues, sorted.
 *
 * @since 0.1.0
 * @category queues
 */
export const listQueues: Effect.Effect<ReadonlyArray<string>, DriverError, Absurd> = Absurd.use((_) =>
  _.driver.listQueues
)

// --- events

/**
 * Emits an event by its full name. The first payload stays: returns false, and changes nothing, when the event had been
 * emitted before. Every run that waits for it is woken in the same commit.
 *
 * @since 0.1.0
 * @category events
 */
export const emitEvent = Effect.fn("Absurd.emitEvent")(function*(
  event: string,
  payload?: Schema.Json,
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<boolean, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const { emitted } = yield* driver.emit({
    queue: yield* resolveQueue(options?.queue),
    event: yield* checkEvent(event),
    payload: yield* Stored.normalize("payload", payload ?? null)
  })
  return emitted
})

// --- transactions

/**
 * Runs an effect in a transaction of the store: everything that the client does inside, spawned tasks, emitted events and
 * whatever else, commits together when the effect succeeds. A failure, a defect and an interruption undo all of it; the
 * failure comes out as it was.
 *
 * Within another transaction it is a part of that one: what fails and is caught is undone alone, and what succeeded is
 * undone with the whole.
 *
 * On PostgreSQL this is a transaction of the `SqlClient` that the client was made with, at READ COMMITTED, and statements of
 * that `SqlClient` are in it; so are operations inside its own `sql.withTransaction`. In memory, everything else that is
 * asked of the store waits until the transaction has ended.
 *
 * In the code of a task use `Step.transaction`, which stores the step in the same commit.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Absurd } from "effect-absurd"
 *
 * const announce = Absurd.withTransaction(
 *   Effect.andThen(Absurd.emitEvent("closed", 1), Absurd.emitEvent("reported", 1))
 * )
 * ```
 *
 * @since 0.1.0
 * @category transactions
 */
export const withTransaction = <A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E | DriverError, R | Absurd> => Effect.flatMap(Absurd, ({ driver }) => driver.withTransaction(self))

// --- tasks

/**
 * The state of a task with its encoded result or failure. `NotFound` when there is no such task.
 *
 * @since 0.1.0
 * @category tasks
 */
export const getTaskResult = Effect.fnUntraced(function*(
  taskId: string,
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<Driver.TaskResult, InvalidInput | NotFound | DriverError, Absurd> {
  const { coalesced } = yield* Absurd
  const id = yield* checkTaskId(taskId)
  const result = yield* coalesced.result(yield* resolveQueue(options?.queue), id)
  return result ?? (yield* new NotFound({ kind: "task", id }))
})

/**
 * Waits until a task has ended and returns its encoded result. Fails with `TaskFailed` or `Cancelled` when it ended
 * otherwise, and with `Timeout` when it has not ended after `timeout` (no limit by default).
 *
 * Outside of tasks: a task that waits for another task holds its slot while it is in here.
 *
 * @since 0.1.0
 * @category tasks
 */
export const awaitTaskResult = Effect.fnUntraced(function*(
  taskId: string,
  options?: { readonly queue?: string | undefined; readonly timeout?: Duration.Input | undefined }
): Effect.fn.Return<
  Schema.Json,
  InvalidInput | NotFound | DriverError | TaskFailed | Cancelled | Timeout,
  Absurd
> {
  const timeout = options?.timeout
  const finished = untilEnded(taskId, options).pipe(
    Effect.retry({ schedule: pollBackoff, while: (error) => error._tag === "DriverError" && error.isRetryable })
  )
  const result = timeout === undefined ? yield* finished : yield* Effect.timeoutOrElse(finished, {
    duration: yield* Input.duration("timeout", timeout),
    orElse: () => Effect.fail(new Timeout({ subject: `task "${taskId}"` }))
  })
  if (result.state === "completed") return result.result
  return yield* result.state === "cancelled"
    ? new Cancelled({ taskId: result.taskId })
    : new TaskFailed({ taskId: result.taskId, failure: result.failure })
})

/**
 * Cancels a task, whatever it is doing, unless it has ended: returns whether this call cancelled it. `NotFound` when there
 * is no such task.
 *
 * @since 0.1.0
 * @category tasks
 */
export const cancelTask = Effect.fn("Absurd.cancelTask")(function*(
  taskId: string,
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<boolean, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const { cancelled } = yield* driver.cancelTask({
    queue: yield* resolveQueue(options?.queue),
    taskId: yield* checkTaskId(taskId)
  })
  return cancelled
})

// --- internal

const checkQueue = Input.check("queue", QueueName)
const checkNewQueue = Input.check("queue", NewQueueName)
const checkStorage = Input.check("storage", Driver.StorageMode)
const checkWorkerId = Input.check("workerId", WorkerId)
const checkEvent = Input.check("event", EventName)
const checkTaskId = Input.check("taskId", TaskId)

/** Looks at once when the store hints at the end of the task, and from time to time without a hint. */
const untilEnded = (taskId: string, options: { readonly queue?: string | undefined } | undefined) =>
  Effect.scoped(Effect.gen(function*() {
    const { signals } = yield* Absurd
    const hinted = Latch.makeUnsafe(false)
    yield* signals.subscribeEnd(taskId, () => hinted.openUnsafe())
    for (let pause = 50;; pause = Math.min(1000, pause * 2)) {
      hinted.closeUnsafe()
      const result = yield* getTaskResult(taskId, options)
      if (isTerminal(result.state)) return result
      yield* Effect.timeoutOption(hinted.await, Duration.millis(pause))
    }
  }))

/** From 50 ms to one second. */
const pollBackoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])
