/** That every operation of the seam is in the alphabet, so that what is said of all of them is true. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import { QueueName } from "../../src/core/Identifiers.ts"
import * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"
import * as TestTime from "../support/TestTime.ts"
import { alphabet, operationOf, type Simple, type Tag } from "./Command.ts"
import * as Known from "./Known.ts"
import * as Names from "./Names.ts"
import type { Place } from "./Operation.ts"
import { perform, type PlaceOf } from "./Perform.ts"

/** What has no answer to compare. */
const exempt: ReadonlyArray<keyof Driver["Service"]> = [
  // Hints, which may be missed.
  "signals"
]

const recording = (driver: Driver["Service"], used: Set<PropertyKey>): Driver["Service"] =>
  new Proxy(driver, {
    get: (target, member): unknown => {
      used.add(member)
      return Reflect.get(target, member)
    }
  })

const nothing: Known.World = { queues: { a: Known.empty, b: undefined, c: undefined }, workflowRuns: [], schedules: [] }

const placeOn = (driver: Driver["Service"]): Place => {
  const names = new Names.Names()
  const queue = QueueName.make("a")
  const known = Known.make(nothing, names, TestTime.start, "a")
  return { driver, queue, queueOf: () => queue, known, names, start: TestTime.start, number: "0" }
}

const draw = (tag: Tag): Effect.Effect<ReadonlyArray<Simple>> => {
  const arbitrary = Arbitrary.schema(Schema.Struct(operationOf(tag).fields) as unknown as Schema.Codec<object>)
  return Effect.map(
    Effect.orDie(Arbitrary.sampleEffect(arbitrary, { count: 20, size: 20, seed: 1 })),
    (drawn) => drawn.map((fields) => ({ _tag: tag, queue: "a", ...fields }) as Simple)
  )
}

describe("the alphabet", () => {
  it.effect("has every operation of the seam", () =>
    Effect.gen(function*() {
      const { driver } = yield* MemoryDriver.make
      yield* driver.createQueue({ queue: QueueName.make("a"), storage: "unpartitioned" })
      const used = new Set<PropertyKey>()
      const place = placeOn(recording(driver, used))
      const placeOf: PlaceOf = () => place
      for (const tag of Object.keys(alphabet) as ReadonlyArray<Tag>) {
        for (const command of yield* draw(tag)) yield* Effect.exit(perform(placeOf, command))
      }
      for (const how of ["withTransaction", "exclusively"] as const) {
        yield* perform(placeOf, {
          _tag: "together",
          commands: [{ _tag: "listQueues", queue: "a" }],
          how,
          commit: true,
          nested: true
        })
      }
      const missing = Object.keys(driver).filter((member) => !used.has(member))
      assert.deepStrictEqual(missing.toSorted(), [...exempt])
    }))
})
