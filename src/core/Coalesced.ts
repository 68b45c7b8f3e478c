/**
 * The operations of the driver that many fibers call at once, one item at a time for the caller and many at a time for
 * the store.
 *
 * @since 0.1.0
 */
import { Effect, Metric, type Scope } from "effect"
import * as Batch from "./Batch.ts"
import type * as Driver from "./Driver.ts"
import type { DriverError, IdempotencyConflict, NotFound } from "./Errors.ts"
import type { EventName, QueueName, TaskId } from "./Identifiers.ts"
import * as Outage from "./Outage.ts"
import * as Telemetry from "./Telemetry.ts"

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
 * @since 0.1.0
 * @category constructors
 */
export const make = (driver: Driver.Driver["Service"]): Effect.Effect<Coalesced, never, Scope.Scope> => {
  const coalesce = <A, Out, E extends { readonly _tag: string }>(
    operation: string,
    send: (queue: QueueName, items: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<Out>, E>
  ) => {
    const size = Metric.withAttributes(Telemetry.batchSize, { operation })
    // One load at a time: a load that never returns would hold up all others.
    const sendInTime = (queue: QueueName, items: ReadonlyArray<A>) =>
      Effect.andThen(
        Metric.update(size, items.length),
        Outage.answerWithin(send(queue, items), operation, Outage.answerLimit)
      )
    const all = (items: ReadonlyArray<Addressed<A>>) =>
      items.every((item) => item.queue === items[0]!.queue)
        ? sendInTime(items[0]!.queue, items.map((item) => item.item))
        : byQueue(items, sendInTime)
    return Effect.map(
      Batch.make({ send: all }),
      (batched) => (queue: QueueName, item: A) =>
        Effect.flatMap(driver.inTransaction, (inTransaction) =>
          inTransaction
            ? Effect.map(send(queue, [item]), (answers) => answers[0]!)
            : batched({ queue, item }))
    )
  }
  return Effect.all({
    spawn: coalesce("spawn", (queue, tasks: ReadonlyArray<Driver.SpawnItem>) => driver.spawn({ queue, tasks })),
    complete: coalesce(
      "complete",
      (queue, runs: ReadonlyArray<Item<typeof Driver.CompleteItem>>) => driver.complete({ queue, runs })
    ),
    fail: coalesce("fail", (queue, runs: ReadonlyArray<Item<typeof Driver.FailItem>>) => driver.fail({ queue, runs })),
    setCheckpoint: coalesce(
      "setCheckpoint",
      (queue, checkpoints: ReadonlyArray<Item<typeof Driver.CheckpointItem>>) =>
        driver.setCheckpoints({ queue, checkpoints })
    ),
    extend: coalesce(
      "extend",
      (queue, runs: ReadonlyArray<Item<typeof Driver.ExtendItem>>) => driver.extend({ queue, runs })
    ),
    release: coalesce(
      "release",
      (queue, runs: ReadonlyArray<Item<typeof Driver.ReleaseItem>>) => driver.release({ queue, runs })
    ),
    result: coalesce(
      "result",
      (queue, taskIds: ReadonlyArray<TaskId>) =>
        Effect.map(driver.results({ queue, taskIds }), (rows) => {
          const found = new Map(rows.map((row) => [row.taskId, row]))
          return taskIds.map((taskId) => found.get(taskId))
        })
    ),
    readEvent: coalesce(
      "readEvents",
      (queue, events: ReadonlyArray<EventName>) =>
        Effect.map(driver.readEvents({ queue, events }), (rows) => {
          const found = new Map<string, Driver.StoredEvent>(rows.map((row) => [row.name, row]))
          return events.map((event) => found.get(event))
        })
    )
  })
}

// --- internal

interface Addressed<A> {
  readonly queue: QueueName
  readonly item: A
}

const byQueue = <A, Out, E>(
  items: ReadonlyArray<Addressed<A>>,
  send: (queue: QueueName, items: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<Out>, E>
): Effect.Effect<ReadonlyArray<Out>, E> => {
  const groups = new Map<QueueName, Array<number>>()
  items.forEach((item, index) => {
    const group = groups.get(item.queue)
    if (group === undefined) groups.set(item.queue, [index])
    else group.push(index)
  })
  const answers: Array<Out> = Array.from({ length: items.length })
  return Effect.as(
    Effect.forEach(
      groups,
      ([queue, indexes]) =>
        Effect.map(send(queue, indexes.map((index) => items[index]!.item)), (outs) => {
          indexes.forEach((index, position) => {
            answers[index] = outs[position]!
          })
        }),
      { discard: true, concurrency: "unbounded" }
    ),
    answers
  )
}
