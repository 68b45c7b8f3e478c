/**
 * Every crash there can be.
 *
 * @since 0.1.0
 */
import { Data, type Duration, Effect, Equal, Exit, type Schema } from "effect"
import { Absurd } from "../../core/Absurd.ts"
import type { TaskResult } from "../../core/Driver.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import { isTerminal } from "../../core/Identifiers.ts"
import * as Invariants from "../../core/Invariants.ts"
import type { SpawnError } from "../../core/Spawning.ts"
import type { Task } from "../../core/Task.ts"
import * as Driving from "./Driving.ts"
import * as Fate from "./Fate.ts"
import { show } from "./Looking.ts"
import { Processes } from "./Processes.ts"
import * as TestStore from "./TestStore.ts"
import * as Trace from "./Trace.ts"

/**
 * A crash changed what a task does. `point` says when the process died.
 *
 * @since 0.1.0
 * @category errors
 */
export class CrashFound extends Data.TaggedError("CrashFound")<{
  readonly point: string
  readonly message: string
}> {}

/**
 * @since 0.1.0
 * @category models
 */
export interface CrashOptions<Idle = never, Before = never, After = never> {
  /**
   * What the world does whenever the task waits, for example emit the event that it waits for. Done as often as the task
   * waits, before time goes on.
   */
  readonly whenIdle?: Effect.Effect<unknown, unknown, Idle> | undefined
  /** Run in the empty store before the task is spawned, for example to reset what the steps write to. */
  readonly before?: Effect.Effect<unknown, unknown, Before> | undefined
  /** Run after the task has ended; what it dies or fails with is reported with the crash that led there. */
  readonly after?: Effect.Effect<unknown, unknown, After> | undefined
  /** How long a run stays claimed, and so how long after a crash it goes on; 1 minute by default. */
  readonly lease?: Duration.Input | undefined
  /** What of an outcome must be the same; state, result, and name and message of the failure by default. */
  readonly compare?: ((outcome: TaskResult) => unknown) | undefined
  /**
   * Which steps, by the names of their checkpoints, must be stored in each life or in none; all by default. Leave out those
   * of which chance decides, for example of a race.
   */
  readonly steps?: ((name: string) => boolean) | undefined
  /**
   * Which tasks beside this one, by name, must be there in each life: as often, with the same params and steps, and ended in
   * the same way; all by default.
   */
  readonly tasks?: ((name: string) => boolean) | undefined
  /** Which events, by full name, must be emitted in each life or in none; all by default. */
  readonly events?: ((name: string) => boolean) | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Explored {
  /** How the task ended, without any crash. */
  readonly outcome: TaskResult
  /** The points at which a process died, in order: `before claim`, `after claim`, `before setCheckpoints`, ... */
  readonly points: ReadonlyArray<string>
}

/**
 * Runs a task to its end once without a crash, and then once for each moment before and after each call of the store, at
 * which its process dies. Another process goes on, when the lease is over. Each time
 *
 * - the task must end in the same way,
 * - no step that was stored may begin again,
 * - the same steps must be stored, the same other tasks be there and have ended, and the same events be emitted,
 * - and the store must be sound.
 *
 * The values of steps may differ: a step whose process died before its value was stored runs again. Ids are not compared.
 *
 * Each of these runs has a store and a clock of its own, with the handlers of the test, and begins at the present of the
 * test, whose clock is not moved. It goes on until nothing is due any more, in the other tasks that were spawned too.
 * Runs that wait for the clock, in a step with a retry delay or a time limit, go on as time passes. A crash costs an attempt,
 * so once it has happened, tasks that it has hit may have one more than they say. What the test keeps outside of the store
 * is not reset; see `before`.
 *
 * Dies with {@link CrashFound}.
 *
 * @since 0.1.0
 * @category driving
 */
export const crashEverywhere = <
  Name extends string,
  P extends Schema.Constraint,
  S extends Schema.Constraint,
  E extends Schema.Constraint,
  Idle = never,
  Before = never,
  After = never
>(
  task: Task<Name, P, S, E>,
  params: P["Type"],
  options: CrashOptions<Idle, Before, After> = {}
): Effect.Effect<
  Explored,
  SpawnError | NotFound | DriverError,
  Absurd | TestStore.TestStore | Processes | P["EncodingServices"] | Idle | Before | After
> =>
  Effect.gen(function*() {
    const compare = options.compare ?? essence
    const normal = Fate.make()
    const first = yield* live(task, params, options, normal)
    yield* judge(first, normal, "without a crash")
    for (let dieAt = 0; dieAt < normal.points.length; dieAt++) {
      const fate = Fate.make(dieAt)
      const life = yield* live(task, params, options, fate)
      const point = `${normal.points[dieAt]} (point ${dieAt} of ${normal.points.length})`
      yield* judge(life, fate, point)
      if (!Equal.equals(compare(life.outcome), compare(first.outcome))) {
        yield* found(
          point,
          `the task ended with ${show(compare(life.outcome))} instead of ${show(compare(first.outcome))}`
        )
      }
      const difference = Trace.difference(life.trace, first.trace)
      if (difference !== undefined) yield* found(point, difference)
    }
    return { outcome: first.outcome, points: normal.points }
  })

// --- internal

interface Life {
  readonly outcome: TaskResult
  readonly trace: Trace.Trace
  readonly dumps: ReadonlyArray<Invariants.Dump>
  /** Whether other tasks went on without end. */
  readonly restless: boolean
  readonly after: Exit.Exit<unknown, unknown>
}

/** How often other tasks may become due after the task has ended. */
const mostStops = 1000

/** One life of the task in a store of its own, until nothing is due any more. */
const live = <
  Name extends string,
  P extends Schema.Constraint,
  S extends Schema.Constraint,
  E extends Schema.Constraint,
  Idle,
  Before,
  After
>(
  task: Task<Name, P, S, E>,
  params: P["Type"],
  options: CrashOptions<Idle, Before, After>,
  fate: Fate.Fate
) =>
  Effect.gen(function*() {
    const processes = yield* Processes
    const { driver } = yield* Absurd
    const { dump } = yield* TestStore.TestStore
    return yield* processes.isolated(Effect.gen(function*() {
      yield* Effect.orDie(options.before ?? Effect.void)
      const { queue, taskId } = yield* task.spawn(params)
      const work: Effect.Effect<
        unknown,
        DriverError | InvalidInput | NotFound,
        Absurd | TestStore.TestStore
      > = Effect.flatMap(
        processes.run(Driving.runToRest({ lease: options.lease ?? "1 minute" }), fate),
        // Where one process died another one goes on.
        (exit) => exit ?? work
      )
      const outcome = driver.results({ queue, taskIds: [taskId] }).pipe(Effect.map(([row]) => row!))
      const hasEnded = Effect.map(outcome, ({ state }) => isTerminal(state))
      let stops = 0
      for (let turns = 0; turns < 100_000 && stops <= mostStops; turns++) {
        yield* work
        if (!(yield* hasEnded)) {
          yield* Effect.orDie(options.whenIdle ?? Effect.void)
          yield* work
        }
        const next = yield* Driving.nextDueRun({})
        if (next === undefined) break
        if (yield* hasEnded) stops++
        yield* TestStore.setTime(next)
      }
      return {
        outcome: yield* outcome,
        trace: yield* Trace.read(taskId, options),
        dumps: yield* Effect.forEach(yield* TestStore.queues(undefined), dump),
        restless: stops > mostStops,
        after: yield* Effect.exit(options.after ?? Effect.void)
      } satisfies Life
    }))
  })

const judge = (life: Life, fate: Fate.Fate, point: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const violations = life.dumps.flatMap(Invariants.check)
    if (violations.length > 0) return found(point, Invariants.format(violations))
    const [step] = fate.repeated
    if (step !== undefined) return found(point, `the step "${step}" ran again although its result had been stored`)
    if (!isTerminal(life.outcome.state)) {
      return found(point, `the task did not end: it is ${life.outcome.state}, and nothing more will happen by itself`)
    }
    if (life.restless) return found(point, "after the task ended, its other tasks went on without an end")
    return Exit.isFailure(life.after) ? found(point, `the check afterwards failed: ${life.after}`) : Effect.void
  })

const found = (point: string, problem: string): Effect.Effect<never> =>
  Effect.die(new CrashFound({ point, message: `After a crash ${point}: ${problem}` }))

const essence = ({ failure, result, state }: TaskResult): unknown => ({
  state,
  result,
  failure: typeof failure === "object" && failure !== null
    ? { name: Reflect.get(failure, "name") as unknown, message: Reflect.get(failure, "message") as unknown }
    : failure
})
