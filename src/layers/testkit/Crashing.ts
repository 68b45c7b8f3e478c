/**
 * Every crash there can be.
 *
 * @since 0.1.0
 */
import { Clock, Data, DateTime, type Duration, Effect, Equal, Exit, type Schema } from "effect"
import { Absurd } from "../../core/Absurd.ts"
import type { TaskResult } from "../../core/Driver.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import { isTerminal } from "../../core/Identifiers.ts"
import * as Invariants from "../../core/Invariants.ts"
import type { SpawnError } from "../../core/Spawning.ts"
import type { Task } from "../../core/Task.ts"
import * as Driving from "./Driving.ts"
import { show } from "./Looking.ts"
import { type Fate, Processes } from "./Processes.ts"
import * as TestStore from "./TestStore.ts"

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
 * which its process dies. Another process goes on, when the lease is over. Each time the task must end in the same way, no
 * step whose result was stored may be run again, and the store must be sound.
 *
 * Each of these runs has a store of its own, with the handlers of the test, and begins at the time at which this is called.
 * A crash costs an attempt, so tasks may have one more than they say. What the test keeps outside of the store is not reset;
 * see `before`.
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
    const begin = DateTime.makeUnsafe(yield* Clock.currentTimeMillis)
    const compare = options.compare ?? essence
    const normal: Fate = { dieAt: undefined, points: [], repeated: [] }
    const first = yield* live(task, params, options, normal, undefined)
    yield* judge(first, normal, "without a crash")
    const allowed = first.maxAttempts === null ? undefined : first.maxAttempts + 1
    for (let dieAt = 0; dieAt < normal.points.length; dieAt++) {
      yield* TestStore.setTime(begin)
      const fate: Fate = { dieAt, points: [], repeated: [] }
      const life = yield* live(task, params, options, fate, allowed)
      const point = `${normal.points[dieAt]} (point ${dieAt} of ${normal.points.length})`
      yield* judge(life, fate, point)
      if (!Equal.equals(compare(life.outcome), compare(first.outcome))) {
        yield* found(
          point,
          `the task ended with ${show(compare(life.outcome))} instead of ${show(compare(first.outcome))}`
        )
      }
    }
    return { outcome: first.outcome, points: normal.points }
  })

// --- internal

interface Life {
  readonly outcome: TaskResult
  readonly maxAttempts: number | null
  readonly dump: Invariants.Dump
  readonly after: Exit.Exit<unknown, unknown>
}

/** One life of the task in a store of its own, to its end or until nothing more will happen. */
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
  fate: Fate,
  maxAttempts: number | undefined
) =>
  Effect.gen(function*() {
    const processes = yield* Processes
    const { driver } = yield* Absurd
    return yield* processes.isolated(Effect.gen(function*() {
      yield* Effect.orDie(options.before ?? Effect.void)
      const { queue, taskId } = yield* task.spawn(params, { maxAttempts })
      const work: Effect.Effect<unknown, DriverError | InvalidInput | NotFound, Absurd> = Effect.flatMap(
        processes.run(Driving.runUntilIdle({ lease: options.lease ?? "1 minute" }), fate),
        // Where one process died another one goes on.
        (exit) => exit ?? work
      )
      const outcome = driver.results({ queue, taskIds: [taskId] }).pipe(Effect.map(([row]) => row!))
      for (let turns = 0; turns < 100_000; turns++) {
        yield* work
        if (isTerminal((yield* outcome).state)) break
        yield* Effect.orDie(options.whenIdle ?? Effect.void)
        yield* work
        const next = yield* Driving.nextDue()
        if (isTerminal((yield* outcome).state) || next === undefined) break
        yield* TestStore.setTime(next)
      }
      const row = yield* driver.getTask({ queue, taskId })
      return {
        outcome: yield* outcome,
        maxAttempts: row?.maxAttempts ?? null,
        dump: yield* (yield* TestStore.TestStore).dump(queue),
        after: yield* Effect.exit(options.after ?? Effect.void)
      } satisfies Life
    }))
  })

const judge = (life: Life, fate: Fate, point: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const violations = Invariants.check(life.dump)
    if (violations.length > 0) return found(point, Invariants.format(violations))
    const [step] = fate.repeated
    if (step !== undefined) return found(point, `the step "${step}" ran again although its result had been stored`)
    if (!isTerminal(life.outcome.state)) {
      return found(point, `the task did not end: it is ${life.outcome.state}, and nothing more will happen by itself`)
    }
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
