import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Json from "../../../src/drivers/memory/Json.ts"
import * as Fixture from "../../conformance/Fixture.ts"

describe("JSON in memory", () => {
  it.each([
    ["-0", -0, "0"],
    ["not a number", Number.NaN, "null"],
    ["infinity", [Infinity], "[null]"],
    ["undefined members", { a: undefined, b: 1 }, `{"b":1}`],
    ["undefined elements", [undefined, 1], "[null,1]"],
    ["long keys after short ones", { aaa: 1, bb: 2, c: 3 }, `{"c":3,"bb":2,"aaa":1}`],
    ["keys of one length by bytes", { b: 1, a: 2, B: 3 }, `{"B":3,"a":2,"b":1}`],
    ["the length of keys in bytes", { "ö": 1, "zz": 2, "a": 3, "€": 4 }, `{"a":3,"zz":2,"ö":1,"€":4}`],
    ["what is nested", [{ bb: 1, a: [{ dd: -0, c: null }] }], `[{"a":[{"c":null,"dd":0}],"bb":1}]`]
  ])("has a normal form for %s", (_, value, text) => {
    const normal = Json.normalize(value)
    assert.strictEqual(JSON.stringify(normal), text)
    assert.strictEqual(JSON.stringify(Json.copy(normal)), text)
    if (typeof normal === "number") assert.isFalse(Object.is(normal, -0))
  })

  it("keeps a member with the name of the prototype", () => {
    const value: unknown = JSON.parse(`{"__proto__":{"a":1}}`)
    const copied = Json.copy(Json.normalize(value))
    assert.strictEqual(JSON.stringify(copied), `{"__proto__":{"a":1}}`)
    assert.strictEqual(Object.getPrototypeOf(copied), Object.prototype)
  })

  it.effect.prop(
    "leaves storable values as they are, as copies",
    { value: Fixture.StorableJson },
    ({ value }) =>
      Effect.sync(() => {
        const normal = Json.normalize(value)
        assert.strictEqual(JSON.stringify(normal), JSON.stringify(value))
        assert.strictEqual(JSON.stringify(Json.copy(normal)), JSON.stringify(value))
        if (typeof value === "object" && value !== null) {
          assert.notStrictEqual(normal, value)
          assert.notStrictEqual(Json.copy(normal), normal)
        }
      })
  )

  it.effect.prop(
    "is equal exactly when the values are",
    { a: Fixture.StorableJson, b: Fixture.StorableJson },
    ({ a, b }) =>
      Effect.sync(() => {
        assert.isTrue(Json.equals(Json.normalize(a), Json.normalize(a)))
        assert.strictEqual(Json.equals(Json.normalize(a), Json.normalize(b)), JSON.stringify(a) === JSON.stringify(b))
      })
  )

  it("is equal whatever the order of the keys", () => {
    assert.isTrue(Json.equals(Json.normalize({ a: 1, bb: [2] }), Json.normalize({ bb: [2], a: 1 })))
    assert.isFalse(Json.equals(Json.normalize({ a: 1 }), Json.normalize({ a: "1" })))
  })

  it.each<readonly [Schema.Json, string | undefined]>([
    [{ k: "text" }, "text"],
    [{ k: 5 }, "5"],
    [{ k: null }, undefined],
    [{ other: 1 }, undefined],
    [[1], undefined],
    [null, undefined],
    ["k", undefined]
  ])("reads a member of %j as text", (value, text) => {
    assert.strictEqual(Json.textAt(value, "k"), text)
  })

  it("reads no member that was inherited", () => {
    assert.isUndefined(Json.textAt({}, "constructor"))
  })
})
