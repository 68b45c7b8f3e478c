/** A worker whose store takes no writes for a while, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema } from "effect"
import { Absurd, Task, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as FaultyStore from "../faults/FaultyStore.ts"

const queues = ["a", "b", "c"]
const reads = new Set(["listQueues", "getRun", "results", "readEvents", "findTask", "listWaits", "claimedWith"])

describe("a store that takes no writes", () => {
  it.effect("is waited for, however well it answers reads, by one request at a time, and two lines are logged", () =>
    Effect.suspend(() => {
      const { faults, layer } = FaultyStore.make()
      const lines: Array<unknown> = []
      const logger = Logger.layer([
        Logger.make(({ message }) => lines.push(Array.isArray(message) ? message[0] : message))
      ])
      const tasks = queues.map((queue) => Task.make("quick", { queue, params: {}, success: Schema.Int }))
      const live = Layer.mergeAll(...tasks.map((task) => task.toLayer(() => Effect.succeed(1))) as [Layer.Layer<never>])
      return Effect.gen(function*() {
        yield* Effect.forEach(queues, (queue) => Absurd.createQueue(queue))
        const handles = yield* Effect.forEach(tasks, (task) => task.spawn({}, { delay: "5 seconds" }))
        yield* Worker.make({ queues: Object.fromEntries(queues.map((queue) => [queue, 1])) })
        yield* TestClock.adjust("1 second")
        faults.decide = (operation) => reads.has(operation) ? undefined : "readOnly"
        // What was asked of it before it became read-only is answered first.
        yield* TestClock.adjust("1 second")
        faults.log.length = 0
        for (let n = 0; n < 600; n++) yield* TestClock.adjust("100 millis")
        const asked = faults.log.filter((operation) => operation === "probe").length
        assert.isAtMost(asked, 120)
        assert.isAtLeast(asked, 20)
        assert.deepStrictEqual(faults.log.filter((operation) => operation !== "probe"), [])
        assert.deepStrictEqual(lines, ["The store takes no writes; trying again until it does"])
        faults.decide = () => undefined
        for (let n = 0; n < 30; n++) yield* TestClock.adjust("100 millis")
        for (const handle of handles) assert.strictEqual(yield* handle.await, 1)
        assert.deepStrictEqual(lines.slice(1), ["The store answers again"])
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Layer.provideMerge(live, layer), logger)))
    }))

  it.effect("is an error of its own to whoever only spawns, which says what to do", () =>
    Effect.suspend(() => {
      const { faults, layer } = FaultyStore.make()
      return Effect.gen(function*() {
        yield* Absurd.createQueue("a")
        faults.decide = FaultyStore.first("spawn", "readOnly")
        faults.log.length = 0
        const error = yield* Effect.flip(Absurd.spawnTask("quick", null, { queue: "a" }))
        assert.isTrue(error._tag === "DriverError" && error.reason._tag === "ReadOnly" && error.isRetryable)
        assert.include(error.message, "default_transaction_read_only")
        yield* TestClock.adjust("1 second")
        // The store was asked, so that it gives up the connection that took no writes.
        assert.deepStrictEqual(faults.log, ["spawn", "probe"])
        yield* Absurd.spawnTask("quick", null, { queue: "a" })
      }).pipe(Effect.scoped, Effect.provide(layer))
    }))
})
