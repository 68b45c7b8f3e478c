import { assert, describe, it } from "@effect/vitest"
import { Effect, Random, Schema } from "effect"
import { TaskId } from "../../../src/core/Identifiers.ts"
import * as Uuid from "../../../src/drivers/memory/Uuid.ts"
import * as Fixture from "../../conformance/Fixture.ts"

const constant = (value: number): Random.Random => ({ nextIntUnsafe: () => value, nextDoubleUnsafe: () => 0 })

describe("ids", () => {
  it.effect.prop(
    "are UUIDv7s in the order in which they are made, whatever the clock does",
    { moves: Schema.Array(Fixture.between(-2, 3)).check(Schema.isMaxLength(50)), seed: Schema.Int },
    ({ moves, seed }) =>
      Effect.gen(function*() {
        const random = yield* Random.Random
        const ids = new Uuid.Generator()
        let now = 1_767_571_200_000
        const made = moves.map((move) => ids.next(now += move, random))
        assert.deepStrictEqual(made.toSorted(), made)
        assert.strictEqual(new Set(made).size, made.length)
        for (const id of made) {
          assert.isTrue(Schema.is(TaskId)(id))
          assert.match(id, /^.{14}7.{4}[89ab]/)
        }
      }).pipe(Random.withSeed(seed))
  )

  it("begin with the milliseconds of the clock", () => {
    const id = new Uuid.Generator().next(0x0123_4567_89ab, constant(0))
    assert.strictEqual(id, "01234567-89ab-7000-8000-000000000000")
  })

  it("keep their order when the lower part of the counter is full", () => {
    const ids = new Uuid.Generator()
    assert.strictEqual(ids.next(5, constant(0xffff)), "00000000-0005-7003-bfff-ffff0000ffff")
    assert.strictEqual(ids.next(5, constant(0)), "00000000-0005-7004-8000-000000000000")
  })

  it("differ between stores that share a clock", () => {
    const random = constant(1)
    const other = constant(2)
    assert.notStrictEqual(new Uuid.Generator().next(5, random), new Uuid.Generator().next(5, other))
  })
})
