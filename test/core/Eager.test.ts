import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import * as Eager from "../../src/core/Eager.ts"

const numbers = (length: number) => Array.from({ length }, (_, n) => n)

describe("Eager.forEach", () => {
  it.effect.each(
    [["at once", () => false], ["later", () => true], ["now and then later", (n: number) => n % 7 === 3]] as const
  )(
    "keeps the order of what is there %s, however much it is",
    ([, later]) =>
      Effect.gen(function*() {
        const use = (n: number, place: number) =>
          later(n) ? Effect.as(Effect.yieldNow, n + place) : Effect.succeed(n + place)
        assert.deepStrictEqual(yield* Eager.forEach(numbers(20_000), use), numbers(20_000).map((n) => n * 2))
      })
  )

  it.effect.each([["at once", Effect.void], ["later", Effect.yieldNow]] as const)(
    "ends with the first failure, that is there %s",
    ([, before]) =>
      Effect.gen(function*() {
        const seen: Array<number> = []
        const use = (n: number) => {
          seen.push(n)
          return n === 5 ? Effect.andThen(before, Effect.fail("five")) : Effect.succeed(n)
        }
        assert.deepStrictEqual(yield* Effect.exit(Eager.forEach(numbers(10), use)), Exit.fail("five"))
        assert.deepStrictEqual(seen, numbers(6))
      })
  )

  it.effect("what throws is a defect, and begins with each run", () =>
    Effect.gen(function*() {
      let runs = 0
      const effect = Eager.forEach(numbers(3), (n) => {
        if (n === 2 && ++runs === 1) throw new Error("once")
        return Effect.succeed(n)
      })
      assert.strictEqual(runs, 0)
      assert.isTrue(Exit.hasDies(yield* Effect.exit(effect)))
      assert.deepStrictEqual(yield* effect, [0, 1, 2])
      assert.deepStrictEqual(yield* effect, [0, 1, 2])
    }))

  it.effect("others have their turn in between", () =>
    Effect.gen(function*() {
      const turn = yield* Deferred.make<number>()
      let done = 0
      const other = yield* Effect.forkChild(
        Effect.andThen(Effect.yieldNow, Effect.suspend(() => Deferred.succeed(turn, done)))
      )
      yield* Eager.forEach(numbers(10_000), () => Effect.succeed(done++))
      yield* Fiber.join(other)
      assert.isBelow(yield* Deferred.await(turn), 10_000)
    }))
})
