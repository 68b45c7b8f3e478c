/**
 * Which checkpoint a name stands for.
 *
 * @since 0.1.0
 */
import { Effect, type Fiber } from "effect"
import type { CurrentRun } from "./CurrentRun.ts"
import { InvalidUse } from "./Errors.ts"
import { CheckpointName } from "./Identifiers.ts"
import * as NameScope from "./NameScope.ts"

/**
 * The names of one execution.
 *
 * @since 0.1.0
 * @category models
 */
export interface StepNames {
  readonly named: CurrentRun["Service"]["named"]
  readonly begin: CurrentRun["Service"]["begin"]
  /** How many names are in use: by steps, and by the waits themselves. */
  readonly inUse: () => number
}

/**
 * Starts with no name used.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (inTransaction: Effect.Effect<boolean>): StepNames => {
  const counts = new Map<string, number>()
  const active = new Set<string>()
  let begun: Map<string, Fiber.Fiber<unknown, unknown>> | undefined
  let groups = 0

  const take = (base: string, fiber: Fiber.Fiber<unknown, unknown>): CheckpointName | undefined => {
    const holder = begun?.get(base)
    // What the fiber itself has begun is no concurrent step, and a fiber that has ended completes none.
    const held = holder !== undefined && holder !== fiber && holder.pollUnsafe() === undefined
    if (active.has(base) || held) return undefined
    const count = (counts.get(base) ?? 0) + 1
    counts.set(base, count)
    return checked(count === 1 ? base : `${base}#${count}`)
  }

  /** Takes the next name for `own` where the calling fiber is. */
  const taken = <A, E, R>(
    own: string,
    use: (name: CheckpointName, base: string, fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const base = NameScope.within(fiber.getRef(NameScope.NameScope), own)
      return Effect.flatMap(inTransaction, (inside) => {
        if (inside) return refuse(base, undone)
        const name = take(base, fiber)
        return name === undefined ? refuse(base, twice) : use(name, base, fiber)
      })
    })

  const named: StepNames["named"] = (own, use, kind) =>
    taken(own, (name, base) => {
      active.add(base)
      if (kind === "group") groups++
      return Effect.onExitPrimitive(use(name), () => {
        active.delete(base)
        if (kind === "group") groups--
        return undefined
      })
    })

  const begin: StepNames["begin"] = (own) =>
    taken(own, (name, base, fiber) => {
      const held = begun ??= new Map()
      held.set(base, fiber)
      const free = Effect.sync(() => {
        if (held.get(base) === fiber) held.delete(base)
      })
      return Effect.succeed({ name, free })
    })

  return { named, begin, inUse: () => active.size - groups }
}

// --- internal

/** What it is made of was checked, so only long ones may be too long for a checkpoint. */
const checked = (name: string): CheckpointName => CheckpointName.make(name, { disableChecks: name.length <= 200 })

const twice = "this name is in use by a concurrent step of the same run; give each concurrent step its own name"

const undone =
  "it is inside a transaction of the program, which could undo it while this run goes on as if it were stored; " +
  "use Step.transaction, which is a step itself, or take it out of the transaction"

const refuse = (step: string, problem: string) => Effect.die(new InvalidUse({ step, problem }))
