/**
 * A worker of a test that has claimed once, and whether what it does waits for nothing but the clock.
 *
 * @since 0.1.0
 */
import { Clock, Effect, type Exit, Fiber } from "effect"
import { Absurd } from "../../core/Absurd.ts"
import type { Result } from "../../core/Engine.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import * as Worker from "../../core/Worker.ts"
import * as TimeOfTest from "./TimeOfTest.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Shift {
  readonly fiber: Fiber.Fiber<ReadonlyArray<Result>, Failure>
  readonly watch: TimeOfTest.Watch
}

type Failure = InvalidInput | NotFound | DriverError

/**
 * Starts a worker that claims once. It is not interrupted with the fiber that starts it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const start = (options: Worker.Options): Effect.Effect<Shift, never, Absurd> =>
  Effect.gen(function*() {
    const absurd = yield* Absurd
    const watch: TimeOfTest.Watch = { sleepers: new Set(), calls: 0, events: 0 }
    const fiber = yield* Worker.runOnce(options).pipe(
      Effect.provideService(Absurd, {
        ...absurd,
        driver: counted(absurd.driver, watch),
        coalesced: counted(absurd.coalesced, watch)
      }),
      Effect.provideService(TimeOfTest.CurrentWatch, watch),
      Effect.forkDetach
    )
    return { fiber, watch }
  })

/**
 * How a shift has ended, or undefined when it goes on only when the clock does. Whatever else its runs wait for is waited
 * for. `settle` returns when the store has answered whatever it was asked before.
 *
 * @since 0.1.0
 * @category combinators
 */
export const rest = (
  { fiber, watch }: Shift,
  settle: Effect.Effect<void>
): Effect.Effect<Exit.Exit<ReadonlyArray<Result>, Failure> | undefined> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    for (let quiet = 0, pause = 1; fiber.pollUnsafe() === undefined;) {
      const { events } = watch
      for (let turns = 0; turns < 25 && fiber.pollUnsafe() === undefined; turns++) yield* Effect.yieldNow
      if (fiber.pollUnsafe() !== undefined) break
      if (watch.events !== events) {
        quiet = 0
        pause = 1
      } else if (!waitsForClock(watch)) {
        // Waits for the store, or for what is outside of the test's control.
        if (!TimeOfTest.isTestClock(clock)) return yield* Fiber.await(fiber)
        yield* clock.withLive(Effect.timeoutOption(Fiber.await(fiber), pause))
        pause = Math.min(pause * 2, 8)
      } else if (++quiet > 2) return undefined
      else yield* settle
    }
    return yield* Fiber.await(fiber)
  })

/**
 * When the first sleeper of these shifts wakes.
 *
 * @since 0.1.0
 * @category combinators
 */
export const nextWake = (shifts: Iterable<Shift>): number | undefined => {
  let first: number | undefined
  for (const { watch } of shifts) {
    for (const { at } of watch.sleepers) {
      if (at !== Infinity && (first === undefined || at < first)) first = at
    }
  }
  return first
}

// --- internal

const waitsForClock = ({ calls, sleepers }: TimeOfTest.Watch): boolean => {
  if (calls > 0) return false
  for (const { ofRun } of sleepers) if (ofRun) return true
  return false
}

// What goes on for as long as what is run inside of it.
const lasting: ReadonlySet<PropertyKey> = new Set(["withTransaction", "exclusively", "heartbeats", "signals"])

/** A service each of whose calls is counted from when it begins to when it has an answer. */
const counted = <S extends object>(service: S, watch: TimeOfTest.Watch): S => {
  const count = (call: Effect.Effect<unknown, unknown, unknown>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        watch.events++
        watch.calls++
      }),
      () => call,
      () =>
        Effect.sync(() => {
          watch.events++
          watch.calls--
        })
    )
  return new Proxy(service, {
    get: (target, key): unknown => {
      const member: unknown = Reflect.get(target, key)
      if (lasting.has(key)) return member
      if (typeof member !== "function") return Effect.isEffect(member) ? count(member) : member
      return (...parameters: ReadonlyArray<unknown>) => {
        const answer: unknown = Reflect.apply(member, target, parameters)
        return Effect.isEffect(answer) ? count(answer) : answer
      }
    }
  })
}
