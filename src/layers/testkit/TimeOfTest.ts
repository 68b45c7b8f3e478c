/**
 * The clock of a test: a `TestClock` that can be asked who sleeps on it, and of which some fibers may have one of their own.
 *
 * Handlers keep the clock with which their layer was built, so both are decided by the fiber that uses the clock.
 *
 * @since 0.1.0
 */
import { Clock, Context, Duration, Effect, Fiber, Option, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import { CurrentRun } from "../../core/CurrentRun.ts"

/**
 * What goes on in the fibers of a worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Watch {
  /** Who sleeps on the clock. Those of the worker itself, for example its heart, belong to no run. */
  readonly sleepers: Set<{ readonly at: number; readonly ofRun: boolean }>
  /** How many calls of the store have no answer yet. */
  calls: number
  /** Counts up whenever something happens. */
  events: number
}

/**
 * Who watches the fiber.
 *
 * @since 0.1.0
 * @category references
 */
export const CurrentWatch = Context.Reference<Watch | undefined>("effect-absurd/AbsurdTest/Watch", {
  defaultValue: () => undefined
})

/**
 * The clock of the test, to be given to everything in it. A clock that is no test clock is returned as it is.
 *
 * @since 0.1.0
 * @category constructors
 */
export const watched: Effect.Effect<Clock.Clock> = Clock.clockWith((clock) =>
  Effect.succeed(isTestClock(clock) ? watch(clock) : clock)
)

/**
 * Runs an effect, and what it starts, with a clock of its own, which begins at the present.
 *
 * @since 0.1.0
 * @category combinators
 */
export const apart = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.scopedWith((scope) =>
    Effect.gen(function*() {
      const outer = yield* Clock.Clock
      // Only of the original is known what the real clock is.
      const original = originals.get(outer) ?? outer
      const clock = yield* TestClock.make().pipe(
        Effect.provideService(Clock.Clock, original),
        Scope.provide(scope)
      )
      yield* clock.setTime(outer.currentTimeMillisUnsafe())
      return yield* Effect.provideService(self, Own, clock)
    })
  )

/**
 * Whether a clock is under the control of a test.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTestClock = (clock: Clock.Clock): clock is TestClock.TestClock =>
  "setTime" in clock && "adjust" in clock && "withLive" in clock

// --- internal

const Own = Context.Reference<TestClock.TestClock | undefined>("effect-absurd/AbsurdTest/Clock", {
  defaultValue: () => undefined
})

const originals = new WeakMap<Clock.Clock, Clock.Clock>()

const watch = (original: TestClock.TestClock): TestClock.TestClock => {
  const here = (): TestClock.TestClock => Fiber.getCurrent()?.getRef(Own) ?? original
  const clock: TestClock.TestClock = {
    currentTimeMillisUnsafe: () => here().currentTimeMillisUnsafe(),
    currentTimeMillis: Effect.sync(() => here().currentTimeMillisUnsafe()),
    currentTimeNanosUnsafe: () => here().currentTimeNanosUnsafe(),
    currentTimeNanos: Effect.sync(() => here().currentTimeNanosUnsafe()),
    monotonicTimeNanosUnsafe: () => here().monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: Effect.sync(() => here().monotonicTimeNanosUnsafe()),
    adjust: (duration) => Effect.suspend(() => here().adjust(duration)),
    setTime: (timestamp) => Effect.suspend(() => here().setTime(timestamp)),
    withLive: (self) => original.withLive(self),
    sleep: (duration) => Effect.suspend(() => watchSleep(here(), duration))
  }
  originals.set(clock, original)
  return clock
}

const watchSleep = (clock: TestClock.TestClock, duration: Duration.Duration): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const watch = fiber.getRef(CurrentWatch)
    if (watch === undefined) return clock.sleep(duration)
    const sleeper = {
      at: clock.currentTimeMillisUnsafe() + Duration.toMillis(duration),
      // What a run does for itself, beside its handler, is logged with its id.
      ofRun: Option.isSome(Context.getOption(fiber.context, CurrentRun)) ||
        "runId" in fiber.getRef(References.CurrentLogAnnotations)
    }
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        watch.events++
        watch.sleepers.add(sleeper)
      }),
      () => clock.sleep(duration),
      () =>
        Effect.sync(() => {
          watch.events++
          watch.sleepers.delete(sleeper)
        })
    )
  })
