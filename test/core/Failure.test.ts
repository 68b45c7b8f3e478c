import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Schema } from "effect"
import * as Failure from "../../src/core/Failure.ts"
import * as Stored from "../../src/core/Stored.ts"

describe("Failure", () => {
  it.effect("describes anything at all, storably", () =>
    Effect.gen(function*() {
      const cyclic: Record<string, unknown> = {}
      cyclic["self"] = cyclic
      const hostile = new Proxy({}, {
        get: () => {
          throw new Error("no")
        }
      })
      const throwing = Object.defineProperty(new Error("x"), "stack", {
        get: () => {
          throw new Error("no stack")
        }
      })
      const huge = new Error("x".repeat(50_000_000))
      const things = [undefined, null, 1, 1n, Symbol("s"), "\u0000\uD800", cyclic, hostile, throwing, huge, () => 1]
      for (const thing of things) {
        const failure = Failure.toJson(Failure.fromUnknown(thing))
        yield* Stored.normalize("failure", failure)
      }
      assert.deepStrictEqual(Failure.fromUnknown("just a text"), {
        name: "Error",
        message: "just a text",
        stack: null
      })
    }))

  it.effect("carries the typed error beside the description", () =>
    Effect.gen(function*() {
      class Broken extends Schema.TaggedError<Broken>()("Broken", { part: Schema.String }) {}
      const codec = Stored.codec("error", Broken)
      const failure = yield* Failure.fromCause(Cause.fail(new Broken({ part: "axle" })), codec)
      assert.strictEqual(failure.name, "Broken")
      const typed = Failure.typedError(Failure.toJson(failure))
      assert.deepStrictEqual(yield* codec.decode(typed!), new Broken({ part: "axle" }))
      const other = yield* Failure.fromCause(Cause.die(new TypeError("oops")), codec)
      assert.deepStrictEqual([other.name, other.message, other.error], ["TypeError", "oops", undefined])
    }))
})
