/**
 * A queue of its own for one test or one evaluation of a property, and short ways to use it.
 */
import { assert } from "@effect/vitest"
import { Arbitrary, Context, DateTime, Duration, Effect, Exit, Result, Schema } from "effect"
import * as Absurd from "../../src/core/Absurd.ts"
import {
  type Claimed,
  Driver,
  type FailItem,
  type Held,
  type Outcome,
  type Retry,
  type Spawned,
  type SpawnItem,
  type StorageMode,
  type Wait
} from "../../src/core/Driver.ts"
import {
  CheckpointName,
  ClaimToken,
  EventName,
  IdempotencyKey,
  QueueName,
  RunId,
  TaskId,
  TaskName
} from "../../src/core/Identifiers.ts"
import * as Stored from "../../src/core/Stored.ts"
import { TestTime } from "../support/TestTime.ts"

export const seconds = Duration.seconds
export const task = (text: string): TaskName => TaskName.make(text)
export const step = (text: string): CheckpointName => CheckpointName.make(text)
export const event = (text: string): EventName => EventName.make(text)
export const key = (text: string): IdempotencyKey => IdempotencyKey.make(text)

/** Ids that no store hands out. */
export const unknownRun: RunId = RunId.make("01900000-0000-7000-8000-000000000001")
export const unknownTask: TaskId = TaskId.make("01900000-0000-7000-8000-000000000002")

export const Retries = {
  stored: { _tag: "Stored" } as Retry,
  never: { _tag: "Never" } as Retry,
  after: (delay: Duration.Duration): Retry => ({ _tag: "After", delay }),
  at: (instant: DateTime.Utc): Retry => ({ _tag: "At", instant })
}

export const Waits = {
  timer: (name: string, until: Duration.Duration | DateTime.Utc): Wait => ({ _tag: "Timer", step: step(name), until }),
  event: (name: string, awaited: string, timeout: Duration.Duration | null = null): Wait => ({
    _tag: "Event",
    step: step(name),
    event: event(awaited),
    timeout
  })
}

export const waiting = { _tag: "Waiting" as const }
export const due = { _tag: "Due" as const }
export const timedOut = { _tag: "TimedOut" as const }
export const emitted = (payload: Schema.Json) => ({ _tag: "Emitted" as const, payload })

/** JSON in the form in which every store gives it back. */
export const StorableJson: Arbitrary.Arbitrary<Schema.Json> = Arbitrary.filterMap(
  Arbitrary.schema(Schema.Json),
  (value) => Result.fromOption(Exit.getSuccess(Effect.runSyncExit(Stored.normalize("value", value))), () => value)
)

export const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/** What is compared before and after: plain data, instants as text. */
export const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

const bareItem: SpawnItem = {
  name: task("job"),
  params: null,
  headers: null,
  retryStrategy: null,
  maxAttempts: null,
  cancellation: null,
  idempotencyKey: null,
  delay: null
}

export const item = (overrides?: Partial<SpawnItem>): SpawnItem => ({ ...bareItem, ...overrides })

let counter = 0
/** A number that no other evaluation gets. */
export const fresh = (): number => ++counter
export const freshToken = (): ClaimToken => ClaimToken.make(`token-${fresh()}`)
export const freshQueue = (): QueueName => QueueName.make(`queue${fresh()}q`)

/** A queue that has just been made by the client in context. */
export const makeQueue = Effect.gen(function*() {
  const queue = freshQueue()
  yield* Absurd.createQueue(queue)
  return queue
})

export type Fixture = Effect.Success<typeof make>

export const holding = (run: Claimed): Held => ({ runId: run.runId, token: run.token })

export const only = <A>(items: ReadonlyArray<A>): A => {
  const [first, ...rest] = items
  if (first === undefined || rest.length > 0) assert.fail(`expected exactly one, got ${items.length}`)
  return first
}

/** How the queues of {@link make} are stored. */
export const Storage = Context.Reference<StorageMode>("test/conformance/Storage", {
  defaultValue: () => "unpartitioned"
})

/** A fresh queue with the operations on it. Operations for many answer for one here. */
export const make = Effect.gen(function*() {
  const driver = yield* Driver
  const time = yield* TestTime
  const queue = freshQueue()
  yield* driver.createQueue({ queue, storage: yield* Storage })
  return over(driver, time, queue)
})

/** The same on a queue that exists. */
export const over = (driver: Driver["Service"], time: TestTime["Service"], queue: QueueName) => {
  const spawn = (overrides?: Partial<SpawnItem>): Effect.Effect<Spawned, unknown> =>
    Effect.map(driver.spawn({ queue, tasks: [item(overrides)] }), only)

  const claim = (options?: {
    readonly limit?: number
    readonly lease?: Duration.Duration
    readonly token?: ClaimToken
  }) =>
    driver.claim({
      queue,
      token: options?.token ?? freshToken(),
      lease: options?.lease ?? seconds(30),
      limit: options?.limit ?? 10
    })

  const claimOne = (options?: { readonly lease?: Duration.Duration; readonly token?: ClaimToken }) =>
    Effect.map(claim(options), only)

  /** A task whose only run is claimed. */
  const start = (overrides?: Partial<SpawnItem>, lease?: Duration.Duration) =>
    Effect.gen(function*() {
      const { taskId } = yield* spawn(overrides)
      const runs = yield* claim({ limit: 100, ...(lease === undefined ? {} : { lease }) })
      return only(runs.filter((run) => run.taskId === taskId))
    })

  const complete = (held: Held, result: Schema.Json = null): Effect.Effect<Outcome, unknown> =>
    Effect.map(driver.complete({ queue, runs: [{ runId: held.runId, token: held.token, result }] }), only)

  const fail = (held: Held, retry: Retry = Retries.stored, reason: Schema.Json = { message: "no" }) => {
    const run: typeof FailItem.Type = { runId: held.runId, token: held.token, reason, retry }
    return Effect.map(driver.fail({ queue, runs: [run] }), only)
  }

  const checkpoint = (held: Held, name: string, state: Schema.Json, extendBy: Duration.Duration | null = null) =>
    Effect.map(
      driver.setCheckpoints({
        queue,
        checkpoints: [{ runId: held.runId, token: held.token, name: step(name), state, extendBy }]
      }),
      only
    )

  const extend = (held: Held, lease: Duration.Duration) =>
    Effect.map(driver.extend({ queue, runs: [{ runId: held.runId, token: held.token, lease }] }), only)

  const release = (held: Held, until: Duration.Duration | DateTime.Utc = Duration.zero) =>
    Effect.map(driver.release({ queue, runs: [{ runId: held.runId, token: held.token, until }] }), only)

  const suspend = (held: Held, waits: ReadonlyArray<Wait>) =>
    driver.suspend({ queue, runId: held.runId, token: held.token, waits })

  const emit = (name: string, payload: Schema.Json = null) => driver.emit({ queue, event: event(name), payload })

  const getTask = (taskId: TaskId) =>
    Effect.map(driver.getTask({ queue, taskId }), (row) => row ?? assert.fail(`no task ${taskId}`))
  const getRun = (runId: RunId) =>
    Effect.map(driver.getRun({ queue, runId }), (row) => row ?? assert.fail(`no run ${runId}`))
  const checkpoints = (taskId: TaskId) => driver.getCheckpoints({ queue, taskId, name: null, includePending: false })
  const result = (taskId: TaskId) => Effect.map(driver.results({ queue, taskIds: [taskId] }), only)

  /** The states of the task and of its runs by attempt, for example `["pending", "failed", "pending"]`. */
  const states = (taskId: TaskId) =>
    Effect.gen(function*() {
      const row = yield* getTask(taskId)
      const runs = yield* driver.listRuns({ queue, taskId })
      return [row.state, ...runs.map((run) => run.state)]
    })

  /** Everything that is stored of a task, as plain data. */
  const snapshot = (taskId: TaskId) =>
    Effect.gen(function*() {
      return plain({
        task: yield* driver.getTask({ queue, taskId }),
        runs: yield* driver.listRuns({ queue, taskId }),
        waits: yield* driver.listWaits({ queue, taskId }),
        checkpoints: yield* driver.getCheckpoints({ queue, taskId, name: null, includePending: true })
      })
    })

  return {
    driver,
    time,
    queue,
    spawn,
    claim,
    claimOne,
    start,
    complete,
    fail,
    checkpoint,
    extend,
    release,
    suspend,
    emit,
    getTask,
    getRun,
    checkpoints,
    result,
    states,
    snapshot
  }
}
