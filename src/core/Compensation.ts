/**
 * Compensations: what undoes the steps of a task that has failed for good or was cancelled.
 *
 * They are carried out by a task of their own, the guardian of the task. It is spawned before the first step that has a
 * compensation, and sleeps until the task has ended, whoever ended it. If the task has not completed, the guardian executes
 * its handler once more, as far as it is stored, to find the compensations again; those that the log of the task names (see
 * `SagaLog`) are then run in reverse, as steps of the guardian.
 *
 * @since 0.1.0
 */
import { Context, Effect, Metric, Scope } from "effect"
import { dual } from "effect/Function"
import { Absurd } from "./Absurd.ts"
import { CurrentRun } from "./CurrentRun.ts"
import type * as Driver from "./Driver.ts"
import * as Family from "./Family.ts"
import { CheckpointName, IdempotencyKey, StepName, TaskName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as NameScope from "./NameScope.ts"
import { Replay } from "./Replay.ts"
import * as RetryStrategy from "./RetryStrategy.ts"
import * as SagaLog from "./SagaLog.ts"

/**
 * Registers what undoes a step, once the step has been stored. When the task has failed for good or was cancelled, by
 * whomever, the compensations of all its stored steps run, each with the value of its step, in the reverse of the order in
 * which the steps were completed; also those of branches that lost a race or ran out of time. One that fails is tried again,
 * with growing pauses of up to a minute, until it succeeds; those that have succeeded are not run again, and a crash changes
 * nothing about that. Within a compensation steps and waits are durable.
 *
 * It is known by its name, like a step: one after the other a name may be used again, and concurrent steps need different
 * ones or branches of their own (`Step.scoped`).
 *
 * They run in a task of their own in the same queue, so whoever waits for the task may see its end before they have run. A
 * step whose effect has been carried out but which was not stored, because the worker died in between, is not compensated:
 * give it an idempotency key, so that the next attempt meets what it did.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Step } from "effect-absurd"
 *
 * const book = Step.run("book", Effect.succeed("seat 12")).pipe(
 *   Step.withCompensation("release", (seat) => Effect.logInfo(`releasing ${seat}`))
 * )
 * ```
 *
 * @since 0.1.0
 * @category compensations
 */
export const withCompensation: {
  <A, E2, R2>(
    name: string,
    compensate: (value: A) => Effect.Effect<unknown, E2, R2>
  ): <E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R | R2 | CurrentRun | Absurd>
  <A, E, R, E2, R2>(
    self: Effect.Effect<A, E, R>,
    name: string,
    compensate: (value: A) => Effect.Effect<unknown, E2, R2>
  ): Effect.Effect<A, E, R | R2 | CurrentRun | Absurd>
} = dual(
  3,
  <A, E, R, E2, R2>(
    self: Effect.Effect<A, E, R>,
    name: string,
    compensate: (value: A) => Effect.Effect<unknown, E2, R2>
  ): Effect.Effect<A, E, R | R2 | CurrentRun | Absurd> =>
    Effect.gen(function*() {
      const run = yield* CurrentRun
      const replay = yield* Replay
      const base = yield* Effect.orDie(checkName(name))
      return yield* run.named(`${SagaLog.prefix}${base}`, (entry): Effect.Effect<A, E, R | R2 | Absurd> =>
        replay === undefined
          ? logged(run, entry, self)
          : Effect.tap(self, (value) =>
            Effect.map(Effect.context<R2>(), (context) =>
              replay.register(entry, inContext(compensate(value), context)))), "group")
    })
)

/**
 * The name of the guardians' tasks.
 *
 * @since 0.1.0
 * @category models
 */
export const guardian: TaskName = TaskName.make("$guardian")

/**
 * Sees to it that the task has a guardian. Its key makes it one of a kind; the checkpoint only spares later executions the
 * question.
 *
 * @since 0.1.0
 * @category combinators
 */
export const ensureGuardian = (run: CurrentRun["Service"]): Effect.Effect<void, never, Absurd> =>
  Effect.gen(function*() {
    if (run.recall(checkpoint) !== undefined) return
    const { coalesced, outage } = yield* Absurd
    const { taskId } = yield* Effect.orDie(outage.persist(coalesced.spawn(run.queue, item(run))))
    yield* run.remember(checkpoint, taskId)
  })

// --- internal

const checkName = Input.check("compensation", StepName)

/** Tells the log that the step is complete; and before, when the failures by which the task came here are not stored. */
const logged = <A, E, R>(run: CurrentRun["Service"], entry: CheckpointName, self: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    yield* ensureGuardian(run)
    if (run.recall(entry) !== undefined) return yield* self
    const begin = SagaLog.beginOf(entry)
    if (run.saga.hasFailures() && run.recall(begin) === undefined) {
      yield* run.remember(begin, yield* run.saga.begin(yield* run.now))
    }
    const value = yield* self
    yield* run.remember(entry, yield* run.saga.entry(yield* run.now))
    return value
  })

/** With the services of the handler, but as part of the run that executes it. */
const inContext = <A, E, R>(self: Effect.Effect<A, E, R>, context: Context.Context<R>): Effect.Effect<A, E> =>
  Effect.withFiber((fiber) =>
    Effect.provideContext(
      self,
      Context.omit(CurrentRun, Scope.Scope)(context).pipe(
        Context.add(Replay, undefined),
        Context.add(NameScope.NameScope, fiber.getRef(NameScope.NameScope)),
        Context.add(Metric.FiberRuntimeMetrics, fiber.getRef(Metric.FiberRuntimeMetrics)),
        Context.add(Family.Current, fiber.getRef(Family.Current))
      ) as Context.Context<R>
    )
  )

const checkpoint = CheckpointName.make("$guardian")

const item = ({ taskId }: CurrentRun["Service"]): Driver.SpawnItem => ({
  name: guardian,
  params: { taskId },
  headers: null,
  retryStrategy: RetryStrategy.exponential({ base: "1 second", max: "1 minute" }),
  maxAttempts: null,
  cancellation: null,
  idempotencyKey: IdempotencyKey.make(`$guardian:${taskId}`),
  delay: null
})
