import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Exit, Schema } from "effect"
import * as Stored from "../../src/core/Stored.ts"

const refused = (value: unknown, field = "value") =>
  Effect.map(Effect.flip(Stored.normalize(field, value)), (error) => [error.field, error.problem])

const nested = (depth: number): Schema.Json => depth === 0 ? 1 : [nested(depth - 1)]

describe("Stored", () => {
  it.effect("brings a value into the order in which jsonb keeps it", () =>
    Effect.gen(function*() {
      const value = yield* Stored.normalize("value", { bb: 1, a: -0, ä: 2, c: undefined, "": [null, true] })
      assert.deepStrictEqual(JSON.stringify(value), "{\"\":[null,true],\"a\":0,\"bb\":1,\"ä\":2}")
    }))

  it.effect("keeps __proto__ as data", () =>
    Effect.gen(function*() {
      const value = yield* Stored.normalize("value", JSON.parse("{\"__proto__\":{\"admin\":true},\"a\":1}"))
      assert.deepStrictEqual(JSON.stringify(value), "{\"a\":1,\"__proto__\":{\"admin\":true}}")
      assert.isUndefined((value as { readonly admin?: unknown }).admin)
    }))

  it.effect("names the place of what cannot be stored", () =>
    Effect.gen(function*() {
      const cyclic: Array<unknown> = []
      cyclic.push(cyclic)
      const throwing = Object.defineProperty({}, "x", {
        enumerable: true,
        get: () => {
          throw new Error("no")
        }
      })
      const fields = (values: ReadonlyArray<unknown>) =>
        Effect.map(Effect.forEach(values, (value) => refused(value)), (all) => all.map(([field]) => field))
      assert.deepStrictEqual(
        yield* fields([{ a: [1, "\u0000"] }, "\uD800", { "\u0000": 1 }, [NaN], Infinity, 1n, () => 1, Symbol.iterator]),
        ["value.a[1]", "value", "value.\uFFFD", "value[0]", "value", "value", "value", "value"]
      )
      assert.deepStrictEqual(
        yield* fields([new Map(), new Date(), new Uint8Array(), throwing, { deep: cyclic }]),
        ["value", "value", "value", "value.x", `value.deep${"[0]".repeat(38)}[...${"[0]".repeat(20)}`]
      )
    }))

  it.effect("refuses what is too deep or too large, and takes what is just not", () =>
    Effect.gen(function*() {
      yield* Stored.normalize("value", nested(512))
      assert.include((yield* refused(nested(513)))[1], "512 levels")
      const long = "x".repeat(2 * 1024 * 1024)
      assert.deepStrictEqual((yield* refused({ a: long }))[0], "value")
      yield* Effect.provideService(Stored.normalize("value", { a: long }), Stored.Limits, {
        maxDepth: 2,
        maxLength: 3 * 1024 * 1024
      })
    }))

  it.effect.prop("whatever is normalized is a fixed point, equal to its round trip through JSON", {
    value: Arbitrary.schema(Schema.Json)
  }, ({ value }) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Stored.normalize("value", value))
      if (Exit.isFailure(exit)) return
      assert.deepStrictEqual(JSON.parse(JSON.stringify(exit.value)), exit.value)
      assert.strictEqual(JSON.stringify(yield* Stored.normalize("value", exit.value)), JSON.stringify(exit.value))
    }))

  it.effect("a codec gives back what went in, and says which slot does not fit", () =>
    Effect.gen(function*() {
      const codec = Stored.codec("result", Schema.Struct({ at: Schema.Date, n: Schema.Number }))
      const value = { at: new Date(5), n: NaN }
      assert.deepStrictEqual((yield* Stored.roundTrip(codec, value)).value, value)
      assert.strictEqual((yield* Effect.flip(codec.decode({ at: "x" }))).slot, "result")
    }))

  it("makes any text storable", () => {
    assert.strictEqual(Stored.storableText("a\u0000b\uD800"), "a\uFFFDb\uFFFD")
    assert.strictEqual(Stored.storableText("abc", 2), "ab...")
  })
})
