/**
 * The operations of the driver that many fibers call at once, one item at a time for the caller and many at a time for
 * the store.
 *
 * @since 0.1.0
 */
import { Effect, type Schema, type Scope } from "effect"
import * as Batch from "./Batch.ts"
import type * as Driver from "./Driver.ts"
import type { DriverError, IdempotencyConflict, NotFound } from "./Errors.ts"
import type { EventName, QueueName, TaskId } from "./Identifiers.ts"
import * as Outage from "./Outage.ts"

type Fails = DriverError | NotFound
type Item<S extends { readonly Type: unknown }> = S["Type"]

/**
 * Single-item forms of the driver's set-based operations.
 *
 * @since 0.1.0
 * @category models
 */
export interface Coalesced {
  readonly spawn: (
    queue: QueueName,
    item: Driver.SpawnItem
  ) => Effect.Effect<Driver.Spawned, Fails | IdempotencyConflict>
  readonly complete: (queue: QueueName, item: Item<typeof Driver.CompleteItem>) => Effect.Effect<Driver.Outcome, Fails>
  readonly fail: (queue: QueueName, item: Item<typeof Driver.FailItem>) => Effect.Effect<Driver.Failed, Fails>
  readonly setCheckpoint: (
    queue: QueueName,
    item: Item<typeof Driver.CheckpointItem>
  ) => Effect.Effect<Driver.CheckpointSet, Fails>
  readonly extend: (queue: QueueName, item: Item<typeof Driver.ExtendItem>) => Effect.Effect<Driver.Outcome, Fails>
  readonly release: (queue: QueueName, item: Item<typeof Driver.ReleaseItem>) => Effect.Effect<Driver.Outcome, Fails>
  /** Undefined for an unknown task. */
  readonly result: (queue: QueueName, taskId: TaskId) => Effect.Effect<Driver.TaskResult | undefined, Fails>
  /** Undefined for an event that has not been emitted. */
  readonly readEvent: (queue: QueueName, event: EventName) => Effect.Effect<Driver.StoredEvent | undefined, Fails>
}

/**
 * Puts the batches in front of `driver`. A caller inside a transaction of the store is not batched: its request must not
 * leave its fiber.
 *
 * Queues do not wait for each other, and neither do tasks without an idempotency key for tasks that have one, whose key may
 * be in a transaction that is open. A request that waits for locks holds up those behind it for a moment only.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (driver: Driver.Driver["Service"]): Effect.Effect<Coalesced, never, Scope.Scope> => {
  const coalesce = coalesceOn(driver)
  return Effect.all({
    spawn: coalesce({
      operation: "spawn",
      kindOf: (task: Driver.SpawnItem) => task.idempotencyKey === null ? "plain" : "keyed",
      lengthOf: ({ headers, params }) => lengthOf(params) + lengthOf(headers),
      send: (queue, tasks) => driver.spawn({ queue, tasks })
    }),
    complete: coalesce({
      operation: "complete",
      lengthOf: ({ result }: Item<typeof Driver.CompleteItem>) => lengthOf(result),
      send: (queue, runs) => driver.complete({ queue, runs })
    }),
    fail: coalesce({
      operation: "fail",
      lengthOf: ({ reason }: Item<typeof Driver.FailItem>) => lengthOf(reason),
      send: (queue, runs) => driver.fail({ queue, runs })
    }),
    setCheckpoint: coalesce({
      operation: "setCheckpoint",
      lengthOf: ({ state }: Item<typeof Driver.CheckpointItem>) => lengthOf(state),
      send: (queue, checkpoints) => driver.setCheckpoints({ queue, checkpoints })
    }),
    extend: coalesce({
      operation: "extend",
      send: (queue, runs: ReadonlyArray<Item<typeof Driver.ExtendItem>>) => driver.extend({ queue, runs })
    }),
    release: coalesce({
      operation: "release",
      send: (queue, runs: ReadonlyArray<Item<typeof Driver.ReleaseItem>>) => driver.release({ queue, runs })
    }),
    result: coalesce({
      operation: "result",
      send: (queue, taskIds: ReadonlyArray<TaskId>) =>
        Effect.map(driver.results({ queue, taskIds }), (rows) => {
          const found = new Map(rows.map((row) => [row.taskId, row]))
          return taskIds.map((taskId) => found.get(taskId))
        })
    }),
    readEvent: coalesce({
      operation: "readEvents",
      send: (queue, events: ReadonlyArray<EventName>) =>
        Effect.map(driver.readEvents({ queue, events }), (rows) => {
          const found = new Map<string, Driver.StoredEvent>(rows.map((row) => [row.name, row]))
          return events.map((event) => found.get(event))
        })
    })
  })
}

// --- internal

interface Addressed<A> {
  readonly queue: QueueName
  readonly item: A
}

interface Operation<A, Out, E> {
  readonly operation: string
  /** Items of one queue, but of different kinds, do not travel together. A word; there is one kind by default. */
  readonly kindOf?: ((item: A) => string) | undefined
  readonly lengthOf?: (item: A) => number
  readonly send: (queue: QueueName, items: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<Out>, E>
}

/** So many connections a queue may keep busy with one operation, when transactions of programs hold its loads up. */
const lanes = 4

const coalesceOn = (driver: Driver.Driver["Service"]) =>
<A, Out, E extends { readonly _tag: string }>(
  { kindOf, lengthOf, operation, send }: Operation<A, Out, E>
) => {
  const batch = Batch.make({
    lanes,
    lineOf: ({ item, queue }: Addressed<A>) => kindOf === undefined ? queue : `${kindOf(item)} ${queue}`,
    lengthOf: lengthOf === undefined ? undefined : ({ item }) => lengthOf(item),
    // A load that never returned would keep its lane for ever.
    send: (items) =>
      Outage.answerWithin(
        send(items[0]!.queue, items.map(({ item }) => item)),
        operation,
        Outage.answerLimit
      )
  })
  return Effect.map(
    batch,
    (batched) => (queue: QueueName, item: A): Effect.Effect<Out, E | DriverError> =>
      Effect.flatMap(driver.inTransaction, (inTransaction) =>
        inTransaction
          ? Effect.map(send(queue, [item]), (answers) => answers[0]!)
          : batched({ queue, item }))
  )
}

/** About how many characters a value is as JSON. */
const lengthOf = (value: Schema.Json): number => {
  if (typeof value === "string") return value.length + 3
  if (typeof value !== "object" || value === null) return 8
  let length = 2
  if (Array.isArray(value)) {
    for (const member of value) length += lengthOf(member)
    return length
  }
  for (const [key, member] of Object.entries(value)) length += key.length + 4 + lengthOf(member)
  return length
}
