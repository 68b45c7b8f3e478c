/**
 * The handler of guardians: tasks that run the compensations of another task. See `Compensation`.
 *
 * @since 0.1.0
 */
import { Context, Duration, Effect, Schema } from "effect"
import { Absurd } from "./Absurd.ts"
import * as Child from "./Child.ts"
import { CurrentRun } from "./CurrentRun.ts"
import { InvalidState } from "./Errors.ts"
import * as Failure from "./Failure.ts"
import type { Handler } from "./Handlers.ts"
import * as History from "./History.ts"
import { CheckpointName, IdempotencyKey, type QueueName, TaskId } from "./Identifiers.ts"
import * as NameScope from "./NameScope.ts"
import * as SagaLog from "./SagaLog.ts"

/**
 * The handler of the guardians of one queue.
 *
 * @since 0.1.0
 * @category constructors
 */
export const handler = (absurd: Absurd["Service"], queue: QueueName, name: string): Handler => ({
  task: name,
  queue,
  context: Context.make(Absurd, absurd) as Context.Context<never>,
  execute: (params) =>
    Effect.gen(function*() {
      const run = yield* CurrentRun
      const { taskId } = yield* Effect.orDie(decodeParams(params))
      // One that was deleted ended long ago.
      const ended = yield* Effect.catchTag(Child.awaitEnd(run, queue, taskId), "NotFound", () => Effect.undefined)
      if (ended === undefined || ended.state === "completed") return null
      const history = yield* History.read(absurd, queue, taskId)
      if (history === undefined) return null
      const log = SagaLog.read(history.checkpoints)
      const find = yield* Effect.cached(History.compensations(absurd, history, log))
      const plan = yield* makePlan(run, log, find)
      // Numbered by their places in the plan, which is the same in every execution.
      for (const [place, name] of [...plan.entries()].toReversed()) {
        yield* NameScope.enter(
          run.named("done", (checkpoint): Effect.Effect<unknown, unknown, CurrentRun> =>
            run.recall(checkpoint) !== undefined
              ? Effect.void
              : Effect.andThen(
                NameScope.enter(
                  undo(
                    absurd,
                    taskId,
                    log.find((entry) =>
                      entry.name === name
                    ),
                    name,
                    find
                  ),
                  "steps"
                ),
                run.remember(checkpoint, name)
              )),
          `${place + 1}`
        )
      }
      return null
    }).pipe(Effect.provideService(Absurd, absurd)),
  // A compensation that fails is tried again, whatever it fails with.
  onFailure: ({ cause }) =>
    Effect.map(Failure.fromCause(cause, undescribed), (failure) => ({ failure, retry: { _tag: "Stored" } as const }))
})

// --- internal

const decodeParams = Schema.decodeUnknownEffect(Schema.Struct({ taskId: TaskId }))
const decodePlan = Schema.decodeUnknownEffect(Schema.Array(CheckpointName))

const planned = CheckpointName.make("$plan")

const undescribed = {
  encode: () => Effect.succeed(null),
  decode: Effect.succeed
}

type Found = Effect.Effect<History.Compensations, unknown>

/**
 * The names of the compensations in the order of their steps, as of the first time they were all looked for: those in the
 * log, and after them those of steps that were stored without a word in the log, because the worker was stopped in between.
 */
const makePlan = (
  run: CurrentRun["Service"],
  log: ReadonlyArray<SagaLog.Named>,
  find: Found
): Effect.Effect<ReadonlyArray<CheckpointName>, unknown> =>
  Effect.suspend(() => {
    const stored = run.recall(planned)
    if (stored !== undefined) return Effect.orDie(decodePlan(stored))
    const logged = log.filter(({ place }) => place > 0).map(({ name }) => name)
    return Effect.flatMap(find, (found) => {
      const known = new Set(logged)
      return decodePlanned(run.remember(planned, [...logged, ...[...found.keys()].filter((name) => !known.has(name))]))
    })
  })

const decodePlanned = (stored: Effect.Effect<Schema.Json>) =>
  Effect.flatMap(stored, (plan) => Effect.orDie(decodePlan(plan)))

const undo = (
  absurd: Absurd["Service"],
  taskId: TaskId,
  entry: SagaLog.Named | undefined,
  name: CheckpointName,
  find: Found
): Effect.Effect<unknown, unknown, CurrentRun> =>
  entry?.children !== undefined ?
    cancelAll(absurd, entry.children) :
    Effect.flatMap(find, (found) =>
      found.get(name) ?? Effect.fail(
        new InvalidState({
          operation: "compensate",
          id: taskId,
          state: `at a loss for "${name}"`,
          expected:
            "a handler that comes to this compensation when it meets the stored steps, as it did when it stored them"
        })
      ))

/**
 * The spawn is on its way, perhaps, while the task is cancelled: when a child does not exist, it is looked for once more a
 * while later.
 */
const cancelAll = (absurd: Absurd["Service"], children: SagaLog.Children) =>
  Effect.gen(function*() {
    if (yield* cancelChildren(absurd, children)) return
    const run = yield* CurrentRun
    yield* run.named("$spawning", (step) => run.wait({ _tag: "Timer", step, until: Duration.minutes(1) }))
    yield* cancelChildren(absurd, children)
  })

/** Returns whether all of them exist. */
const cancelChildren = ({ driver, outage }: Absurd["Service"], { count, keys, queue }: SagaLog.Children) =>
  Effect.map(
    Effect.forEach(
      Array.from({ length: count }, (_, index) => IdempotencyKey.make(`${keys}${index}`)),
      (idempotencyKey) =>
        Effect.gen(function*() {
          const taskId = yield* outage.persist(driver.findTask({ queue, idempotencyKey }))
          if (taskId === undefined) return false
          yield* Effect.catchTag(outage.persist(driver.cancelTask({ queue, taskId })), "NotFound", () => Effect.void)
          return true
        }),
      { concurrency: 16 }
    ),
    (found) => found.every((exists) => exists)
  )
