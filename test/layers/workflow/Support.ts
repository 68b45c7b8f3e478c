/** Engines on queues of their own, and ways to see what became of executions. */
import { Context, Duration, Effect, Fiber, Layer, Option, Ref, type Scope } from "effect"
import { Absurd, type Errors } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { type Workflow, WorkflowEngine } from "effect/workflow"
import * as Fixture from "../../conformance/Fixture.ts"
import { TestTime } from "../../support/TestTime.ts"

export const makeQueue: Effect.Effect<string, unknown, Absurd.Absurd> = Effect.gen(function*() {
  const queue = Fixture.freshQueue()
  yield* Absurd.createQueue(queue)
  return queue
})

/** The lease is long, since on SQL a heartbeat is not answered while a test moves the time. */
export const options = (queue: string): AbsurdWorkflowEngine.Options => ({
  queue,
  lease: "24 hours",
  pollInterval: "1 second"
})

/** A process: an engine, and the workflows that it executes. It ends with the scope. */
export const makeProcess = <R = never>(
  options: AbsurdWorkflowEngine.Options,
  workflows: Layer.Layer<never, never, WorkflowEngine.WorkflowEngine | R> = Layer.empty
): Effect.Effect<
  WorkflowEngine.WorkflowEngine["Service"],
  Errors.InvalidInput,
  Absurd.Absurd | Scope.Scope | Exclude<R, WorkflowEngine.WorkflowEngine>
> =>
  Effect.map(
    Layer.build(Layer.provideMerge(workflows, AbsurdWorkflowEngine.layer(options))),
    Context.get(WorkflowEngine.WorkflowEngine)
  )

/** Runs the test in a process that executes `workflows` on a queue of its own. */
export const inProcess = <A, E, R>(
  workflows: Layer.Layer<never, never, WorkflowEngine.WorkflowEngine>,
  test: Effect.Effect<A, E, R>,
  overrides?: AbsurdWorkflowEngine.Options
) =>
  Effect.scoped(Effect.gen(function*() {
    const queue = yield* makeQueue
    const engine = yield* makeProcess({ ...options(queue), ...overrides }, workflows)
    return yield* Effect.provideService(test, WorkflowEngine.WorkflowEngine, engine)
  }))

/** Looks again and again, letting everything else go on in between, until there is something. */
export const eventually = <A, E, R>(look: Effect.Effect<Option.Option<A>, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Effect.repeat(Effect.andThen(Effect.yieldNow, look), { until: Option.isSome }),
    (found) => Effect.orDie(Effect.fromOption(found))
  )

export const untilTrue = <E, R>(look: Effect.Effect<boolean, E, R>) =>
  eventually(Effect.map(look, (yes) => yes ? Option.some(yes) : Option.none()))

/** The result of an execution as soon as it is suspended or has ended. */
export const settled = <S, E>(
  workflow: {
    readonly poll: (
      id: string
    ) => Effect.Effect<Option.Option<Workflow.Result<S, E>>, never, WorkflowEngine.WorkflowEngine>
  },
  executionId: string
) => eventually(workflow.poll(executionId))

/**
 * Moves the time in steps, so that no request of an engine seems to last longer than it may: it would be given up, and with
 * it the connection that holds the virtual time of a test.
 */
export const pass = (duration: Duration.Input): Effect.Effect<void, never, TestTime> =>
  Effect.gen(function*() {
    const { advance } = yield* TestTime
    const total = Duration.toMillis(duration)
    for (let passed = 0; passed < total; passed += 10_000) yield* advance(Math.min(10_000, total - passed))
  })

/** The fiber's result, while virtual time goes on for those who poll, but slower than a store that is busy. */
export const joinWhileTimePasses = <A, E>(
  fiber: Fiber.Fiber<A, E>,
  step: Duration.Input = "50 millis"
): Effect.Effect<A, E, TestTime> =>
  Effect.flatMap(TestTime, ({ advance }) =>
    Effect.andThen(
      untilTrue(Effect.map(advance(step), () => fiber.pollUnsafe() !== undefined)),
      Fiber.join(fiber)
    ))

/** A log of what happened. */
export const makeLog = Effect.map(Ref.make<ReadonlyArray<string>>([]), (ref) => ({
  add: (what: string) => Ref.update(ref, (all) => [...all, what]),
  all: Ref.get(ref)
}))
