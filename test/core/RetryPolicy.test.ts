import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Schedule, Schema } from "effect"
import * as RetryPolicy from "../../src/core/RetryPolicy.ts"
import * as RetryStrategy from "../../src/core/RetryStrategy.ts"

const delays = <E>(policy: RetryPolicy.RetryPolicy<E>, attempts: number, error?: E, elapsed: Duration.Input = 0) =>
  Effect.forEach(
    Array.from({ length: attempts }, (_, index) => index + 1),
    (attempt) =>
      Effect.map(
        RetryPolicy.decide(policy, { attempt, elapsed: Duration.fromInputUnsafe(elapsed), error }),
        (retry) => retry._tag === "After" ? Duration.toSeconds(retry.delay) : retry._tag
      )
  )

describe("RetryPolicy", () => {
  it.effect("asks a schedule once for each attempt", () =>
    Effect.gen(function*() {
      const policy = Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 }))
      assert.deepStrictEqual(yield* delays(policy, 5), [1, 2, 4, "Never", "Never"])
    }))

  it.effect("shows a schedule the error and the elapsed time", () =>
    Effect.gen(function*() {
      const patient = Schedule.spaced("5 seconds").pipe(
        Schedule.setInputType<string>(),
        Schedule.while(({ input }) => Effect.succeed(input !== "final"))
      )
      assert.deepStrictEqual(yield* delays(patient, 2, "busy"), [5, 5])
      assert.deepStrictEqual(yield* delays(patient, 1, "final"), ["Never"])
      const brief = Schedule.spaced("5 seconds").pipe(Schedule.upTo({ duration: "1 minute" }))
      assert.deepStrictEqual(yield* delays(brief, 2, undefined, "59 seconds"), [5, 5])
      assert.deepStrictEqual((yield* delays(brief, 2, undefined, "61 seconds"))[1], "Never")
    }))

  it.effect("leaves a strategy to the store", () =>
    Effect.map(delays(RetryStrategy.fixed("1 second"), 1), (all) => assert.deepStrictEqual(all, ["Stored"])))

  it.effect.prop("a strategy's delay is never negative, never above ten years, and grows up to its maximum", {
    base: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000_000 })),
    factor: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1000 })),
    max: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000_000 })),
    attempt: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 }))
  }, ({ attempt, base, factor, max }) =>
    Effect.sync(() => {
      const strategy = RetryStrategy.exponential({ base: Duration.seconds(base), factor, max: Duration.seconds(max) })
      const delay = Duration.toSeconds(RetryStrategy.delayAfter(strategy, attempt))
      const next = Duration.toSeconds(RetryStrategy.delayAfter(strategy, attempt + 1))
      assert.isTrue(delay >= 0 && delay <= Math.min(max, 315_360_000) && next >= delay)
    }))

  it.effect("refuses numbers that no store could add to a date", () =>
    Effect.gen(function*() {
      const field = (strategy: RetryStrategy.RetryStrategy) =>
        Effect.map(Effect.flip(RetryStrategy.validate(strategy)), (error) => error.field)
      assert.deepStrictEqual(
        yield* Effect.all([
          field(RetryStrategy.fixed("11000 days")),
          field({ kind: "fixed", base_seconds: -1 }),
          field({ kind: "exponential", base_seconds: 1, factor: NaN }),
          field(RetryStrategy.exponential({ max: Duration.infinity }))
        ]),
        ["retry.base", "retry.base", "retry.factor", "retry.max"]
      )
    }))

  it.effect("a strategy as a schedule has its delays, and is stored as it", () =>
    Effect.gen(function*() {
      for (
        const strategy of [
          RetryStrategy.none,
          RetryStrategy.fixed("7 seconds"),
          RetryStrategy.exponential({ base: "2 seconds", factor: 3, max: "1 minute" })
        ]
      ) {
        const schedule = RetryPolicy.fromStrategy(strategy)
        assert.deepStrictEqual(RetryPolicy.stored(schedule), strategy)
        const expected = [1, 2, 3, 4, 5].map((n) => Duration.toSeconds(RetryStrategy.delayAfter(strategy, n)))
        assert.deepStrictEqual(yield* delays(schedule, 5), expected)
      }
    }))

  it("a strategy goes with the schedule that it was attached to, and with no other", () => {
    const plain = Schedule.fibonacci("2 seconds")
    const policy = RetryPolicy.storedAs(plain, RetryStrategy.fixed("1 second"))
    assert.deepStrictEqual(RetryPolicy.stored(policy), RetryStrategy.fixed("1 second"))
    assert.deepStrictEqual(RetryPolicy.stored(plain), RetryStrategy.standard)
    assert.deepStrictEqual(RetryPolicy.stored(Schedule.jittered(policy)), RetryStrategy.standard)
  })

  it("a schedule that has the delays of a strategy is stored as it", () => {
    const stored = <E>(schedule: Schedule.Schedule<unknown, E>) => RetryPolicy.stored(schedule)
    assert.deepStrictEqual(stored(Schedule.forever), RetryStrategy.none)
    assert.deepStrictEqual(stored(Schedule.spaced("10 seconds")), RetryStrategy.fixed("10 seconds"))
    assert.deepStrictEqual(stored(Schedule.recurs(5)), RetryStrategy.none)
    assert.deepStrictEqual(
      stored(Schedule.exponential("2 seconds", 1.5)),
      RetryStrategy.exponential({ base: "2 seconds", factor: 1.5 })
    )
    assert.deepStrictEqual(
      stored(Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 hour")])),
      RetryStrategy.exponential({ base: "1 second", factor: 2, max: "1 hour" })
    )
    assert.deepStrictEqual(
      stored(Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 6 }))),
      RetryStrategy.exponential({ base: "1 second", factor: 2 })
    )
  })

  it("a schedule that has delays of its own, or none that can be told, is not", () => {
    const asked: Array<unknown> = []
    const all: ReadonlyArray<Schedule.Schedule<unknown, { readonly wait: number }>> = [
      Schedule.exponential("1 second").pipe(Schedule.jittered),
      Schedule.fibonacci("1 second"),
      Schedule.fixed("1 hour"),
      Schedule.spaced("5 seconds").pipe(Schedule.upTo({ duration: "1 minute" })),
      Schedule.recurs(1),
      Schedule.spaced("5 seconds").pipe(
        Schedule.setInputType<{ readonly wait: number }>(),
        Schedule.modifyDelay(({ input }) => Effect.sync(() => Duration.seconds(asked.push(input.wait))))
      ),
      Schedule.spaced("5 seconds").pipe(
        Schedule.modifyDelay(() => Effect.as(Effect.sleep("1 day"), Duration.seconds(1)))
      )
    ]
    for (const schedule of all) assert.deepStrictEqual(RetryPolicy.stored(schedule), RetryStrategy.standard)
    assert.deepStrictEqual(asked, [])
  })

  it("a delay that cannot be stored is cut to one that can", () => {
    assert.deepStrictEqual(RetryPolicy.limit(-1), Duration.zero)
    assert.deepStrictEqual(RetryPolicy.limit(Number.NaN), Duration.zero)
    assert.deepStrictEqual(RetryPolicy.limit(Duration.infinity), RetryStrategy.maxDelay)
    assert.deepStrictEqual(RetryPolicy.limit("3 seconds"), Duration.seconds(3))
  })
})
