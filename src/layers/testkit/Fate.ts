/**
 * What a process does to its store, watched call by call, and how it dies.
 *
 * @since 0.1.0
 */
import { Deferred, Effect } from "effect"
import { CurrentRun, modified } from "../../core/CurrentRun.ts"
import type { Checkpoint, Driver } from "../../core/Driver.ts"
import * as Hooks from "../../core/Hooks.ts"

/**
 * What a process did to the store, and where it is to die. A point is the moment before or after a call.
 *
 * @since 0.1.0
 * @category models
 */
export interface Fate {
  /** The point, counted from 0 over all processes with this fate, at which the process dies; undefined for never. */
  readonly dieAt: number | undefined
  /** What each point that was reached is: `before complete`, `after complete`. */
  readonly points: Array<string>
  /** Steps that began or were stored again although they had been stored. */
  readonly repeated: Array<string>
}

/**
 * A fate that has not begun.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (dieAt?: number): Fate => ({ dieAt, points: [], repeated: [] })

/**
 * The driver as one process sees it, until it dies.
 *
 * @since 0.1.0
 * @category constructors
 */
export const mortal = (driver: Driver["Service"], fate: Fate, died: Deferred.Deferred<void>): Driver["Service"] => {
  const point = (what: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (Deferred.isDoneUnsafe(died)) return halt
      fate.points.push(what)
      if (fate.points.length - 1 !== fate.dieAt) return Effect.void
      Deferred.doneUnsafe(died, Effect.void)
      return halt
    })
  const around = (name: string, call: Call): Call =>
    Effect.andThen(
      point(`before ${name}`),
      Effect.flatMap(Effect.exit(call), (exit) => Effect.andThen(point(`after ${name}`), exit))
    )
  const watched: Driver["Service"] = {
    ...driver,
    setCheckpoints: (request) =>
      Effect.tap(
        driver.setCheckpoints(request),
        (answers) =>
          Effect.sync(() =>
            answers.forEach(({ existing }, place) => {
              const name = request.checkpoints[place]?.name
              if (existing !== undefined && name !== undefined) fate.repeated.push(name)
            })
          )
      )
  }
  return new Proxy(watched, {
    get: (target, key): unknown => {
      const member: unknown = Reflect.get(target, key)
      if (typeof key !== "string" || passed.has(key)) return member
      if (typeof member !== "function") return Effect.isEffect(member) ? around(key, member) : member
      return (...parameters: ReadonlyArray<unknown>) => around(key, Reflect.apply(member, target, parameters) as Call)
    }
  })
}

/**
 * Runs the workers of an effect so that a step which begins although it is among `stored` is noticed, whatever becomes of it
 * then. See {@link keyOf}.
 *
 * @since 0.1.0
 * @category combinators
 */
export const watched = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  fate: Fate,
  stored: ReadonlySet<string>
): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const outer = yield* Hooks.Execution
    const around: Hooks.AroundExecution = (handler, run) =>
      outer(
        Effect.provideService(
          handler,
          CurrentRun,
          modified(run, {
            recall: (name) => {
              const state = run.recall(name)
              if (state === undefined && stored.has(keyOf({ taskId: run.taskId, name }))) fate.repeated.push(name)
              return state
            }
          })
        ),
        run
      )
    return yield* Effect.provideService(self, Hooks.Execution, around)
  })

/**
 * Names a checkpoint of a task among those of all.
 *
 * @since 0.1.0
 * @category constructors
 */
export const keyOf = ({ name, taskId }: Pick<Checkpoint, "name" | "taskId">): string => taskId + name

// --- internal

/** Never goes on, but lets go of the fiber when the process is swept away, in a finalizer as well. */
const halt: Effect.Effect<never> = Effect.interruptible(Effect.never)

// Who drives a process asks for queues and schedules, and these say nothing about a run.
const passed: ReadonlySet<string> = new Set([
  "inTransaction",
  "signals",
  "heartbeats",
  "probe",
  "listQueues",
  "listSchedules"
])

type Call = Effect.Effect<unknown, unknown, unknown>
