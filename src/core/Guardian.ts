/**
 * The handler of guardians: tasks that run the compensations of another task. See `Compensation`.
 *
 * @since 0.1.0
 */
import { Deferred, Duration, Effect, Fiber, Schema } from "effect"
import { Absurd } from "./Absurd.ts"
import * as Child from "./Child.ts"
import * as CurrentRun from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import { InvalidState } from "./Errors.ts"
import * as Failure from "./Failure.ts"
import type { Handler } from "./Handlers.ts"
import { CheckpointName, ClaimToken, EventName, type QueueName, RunId, TaskId } from "./Identifiers.ts"
import * as NameScope from "./NameScope.ts"
import { Replay } from "./Replay.ts"

/**
 * The handler of the guardians of one queue.
 *
 * @since 0.1.0
 * @category constructors
 */
export const handler = (absurd: Absurd["Service"], queue: QueueName, name: string): Handler => ({
  task: name,
  queue,
  execute: (params) =>
    Effect.gen(function*() {
      const run = yield* CurrentRun.CurrentRun
      const { taskId } = yield* Effect.orDie(decodeParams(params))
      // One that was deleted ended long ago.
      const ended = yield* Effect.catchTag(Child.awaitEnd(run, queue, taskId), "NotFound", () => Effect.undefined)
      if (ended === undefined || ended.state === "completed") return null
      const compensations = yield* collect(absurd, run, queue, taskId)
      for (const [place, { compensate, name }] of compensations.toReversed().entries()) {
        // Numbered by their order, which is the same in every execution: the history does not change any more.
        const branch = `${place + 1}`
        yield* NameScope.enter(
          run.named("done", (checkpoint): Effect.Effect<unknown, unknown, CurrentRun.CurrentRun> =>
            run.recall(checkpoint) !== undefined
              ? Effect.void
              : Effect.andThen(NameScope.enter(compensate, "steps"), run.remember(checkpoint, name))),
          branch
        )
      }
      return null
    }).pipe(Effect.provideService(Absurd, absurd)),
  // A compensation that fails is tried again, whatever it fails with.
  onFailure: ({ cause }) =>
    Effect.map(Failure.fromCause(cause, undescribed), (failure) => ({ failure, retry: { _tag: "Stored" } as const }))
})

// --- internal

interface Compensation {
  readonly name: string
  readonly compensate: Effect.Effect<unknown, unknown, CurrentRun.CurrentRun>
}

const decodeParams = Schema.decodeUnknownEffect(Schema.Struct({ taskId: TaskId }))

const historyEnds = CheckpointName.make("$end")
const neverEmitted = EventName.make("$never")

const undescribed = {
  encode: () => Effect.succeed(null),
  decode: Effect.succeed
}

/** Executes the handler of a task that has ended, to the end of what is stored of it. */
const collect = (
  absurd: Absurd["Service"],
  run: CurrentRun.CurrentRun["Service"],
  queue: QueueName,
  taskId: TaskId
): Effect.Effect<ReadonlyArray<Compensation>, unknown> =>
  Effect.scoped(Effect.gen(function*() {
    const { driver, outage } = absurd
    const task = yield* outage.persist(driver.getTask({ queue, taskId }))
    if (task === undefined) return []
    const handler = absurd.handlers.find(queue, task.name)
    if (handler === undefined) {
      return yield* new InvalidState({
        operation: "compensate",
        id: taskId,
        state: "unknown to this program",
        expected: `a program with the handler of "${task.name}"`
      })
    }
    const checkpoints = yield* outage.persist(
      driver.getCheckpoints({ queue, taskId, name: null, includePending: false })
    )
    const execution = yield* CurrentRun.make({
      driver: { ...driver, suspend: () => Effect.succeed({ outcome: "applied", suspended: true, waits: [] }) },
      coalesced: absurd.coalesced,
      outage,
      queue,
      claimed: claimedAs(task, checkpoints, yield* run.now),
      lease: Duration.seconds(30),
      // There is no claim, and so none that could be lost.
      claimedAt: Infinity,
      stallAfter: Duration.seconds(30)
    })
    const { service } = execution
    // Waits, so that the execution counts as suspended when nothing else goes on.
    const end = Effect.andThen(
      service.wait({ _tag: "Event", step: historyEnds, event: neverEmitted, timeout: null }),
      Effect.never
    )
    const found: Array<Compensation> = []
    const fiber = yield* Effect.forkChild(
      Effect.scoped(handler.execute(task.params)).pipe(
        Effect.provideService(CurrentRun.CurrentRun, {
          ...service,
          remember: () => end,
          transact: () => end,
          snooze: () => end,
          heartbeat: () => Effect.void
        }),
        Effect.provideService(Replay, { end, register: (name, compensate) => found.push({ name, compensate }) }),
        execution.supervise
      )
    )
    yield* Effect.raceFirst(Fiber.await(fiber), Deferred.await(execution.ended)).pipe(
      Effect.ensuring(Fiber.interrupt(fiber))
    )
    return found
  }))

const claimedAs = (
  task: Driver.TaskRow,
  checkpoints: ReadonlyArray<Driver.Checkpoint>,
  claimedAt: Driver.Claimed["claimedAt"]
): Driver.Claimed => ({
  runId: RunId.make(task.lastAttemptRun ?? "00000000-0000-7000-8000-000000000000"),
  taskId: task.taskId,
  token: ClaimToken.make("$guardian"),
  name: task.name,
  attempt: Math.max(1, task.attempts),
  params: task.params,
  headers: (task.headers ?? {}) as Driver.Claimed["headers"],
  retryStrategy: task.retryStrategy,
  maxAttempts: task.maxAttempts,
  wakeEvent: null,
  eventPayload: undefined,
  checkpoints: checkpoints.map(({ name, state }) => ({ name: CheckpointName.make(name), state })),
  claimedAt,
  elapsed: Duration.zero,
  waited: Duration.zero
})
