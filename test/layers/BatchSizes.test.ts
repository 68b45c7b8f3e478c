/** How much each request to the store carries, as the metrics tell it. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Metric, type Scope } from "effect"
import { Absurd, Event, RetryStrategy, Step, Task, Telemetry, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as FaultyStore from "../faults/FaultyStore.ts"

const queue = "orders"

/** How many requests of an operation there were, and how much they carried together. */
const sizes = (operation: string) =>
  Effect.map(Metric.value(Metric.withAttributes(Telemetry.batchSize, { operation })), ({ count, max, sum }) => ({
    requests: count,
    items: sum,
    most: count === 0 ? 0 : max
  }))

const requests = (faults: FaultyStore.Faults, operation: string) =>
  faults.log.filter((name) => name === operation).length

const none = { requests: 0, items: 0, most: 0 }

const inStore = <A, E>(
  body: (
    faults: FaultyStore.Faults
  ) => Effect.Effect<A, E, Layer.Success<ReturnType<typeof FaultyStore.make>["layer"]> | Scope.Scope>
) =>
  Effect.suspend(() => {
    const { faults, layer } = FaultyStore.make()
    return Effect.andThen(Absurd.createQueue(queue), Effect.scoped(body(faults))).pipe(
      Effect.provide(layer),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  })

const Go = Event.make("go", { queue })
const Job = Task.make("job", { queue, params: {}, retry: RetryStrategy.none })

describe("the sizes of batches", () => {
  it.effect("are those of spawns, claims, checkpoints and completions, exactly", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        yield* Job.spawnMany(Array.from({ length: 37 }, () => ({})))
        assert.deepStrictEqual(yield* sizes("spawn"), { requests: 1, items: 37, most: 37 })
        yield* Effect.forEach([1, 2, 3], () => Job.spawn({}), { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* sizes("spawn"), { requests: 2, items: 40, most: 37 })
        yield* Job.spawn({})
        assert.deepStrictEqual(yield* sizes("spawn"), { requests: 3, items: 41, most: 37 })

        yield* Worker.runOnce({ queue, concurrency: 40 })
        yield* Worker.runOnce({ queue, concurrency: 40 })
        // One that brings nothing is not counted.
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
        assert.deepStrictEqual(yield* sizes("claim"), { requests: 2, items: 41, most: 40 })
        for (const operation of ["setCheckpoints", "complete"]) {
          const { items, most, requests: counted } = yield* sizes(operation)
          assert.deepStrictEqual({ items, counted }, { items: 41, counted: requests(faults, operation) })
          // What all do at once travels together.
          assert.strictEqual(most, 40)
        }
        for (const operation of ["fail", "suspend", "release", "extend"]) {
          assert.deepStrictEqual(yield* sizes(operation), none, operation)
        }
      }).pipe(Effect.provide(Job.toLayer(() => Step.run("step", Effect.void))))
    ))

  it.effect("are those of heartbeats: all runs of a worker in one", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        yield* Effect.gen(function*() {
          yield* Job.spawnMany(Array.from({ length: 25 }, () => ({})))
          yield* Worker.make({ queue, concurrency: 25, lease: "30 seconds" })
          yield* TestClock.adjust("1 second")
          assert.strictEqual((yield* sizes("heartbeat")).requests, requests(faults, "extend"))
          yield* TestClock.adjust("29 seconds")
          const { items, most, requests: counted } = yield* sizes("heartbeat")
          assert.strictEqual(counted, requests(faults, "extend"))
          assert.isAtLeast(counted, 2)
          assert.deepStrictEqual({ items, most }, { items: 25 * counted, most: 25 })
          // A program's own extensions are another thing.
          assert.deepStrictEqual(yield* sizes("extend"), none)
          yield* Deferred.succeed(gate, undefined)
        }).pipe(Effect.provide(Job.toLayer(() => Deferred.await(gate))))
      })
    ))

  it.effect("are those of suspends, failures and what is handed back", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const Waits = Task.make("waits", { queue, params: {} })
        const Fails = Task.make("fails", { queue, params: {}, maxAttempts: 1 })
        const live = Layer.mergeAll(
          Waits.toLayer(() =>
            Effect.all([Step.sleep("nap", "1 hour"), Step.sleep("rest", "1 hour"), Go.wait("")], {
              concurrency: "unbounded",
              discard: true
            })
          ),
          Fails.toLayer(() => Effect.die("no"))
        )
        yield* Effect.gen(function*() {
          yield* Waits.spawn({})
          yield* Fails.spawnMany([{}, {}])
          yield* Absurd.spawnTask("unheard of", null, { queue })
          yield* Worker.runOnce({ queue })
          assert.deepStrictEqual(yield* sizes("suspend"), { requests: 1, items: 3, most: 3 })
          assert.deepStrictEqual(yield* sizes("fail"), { requests: requests(faults, "fail"), items: 2, most: 2 })
          assert.deepStrictEqual(yield* sizes("release"), { requests: 1, items: 1, most: 1 })
        }).pipe(Effect.provide(live))
      })
    ))

  it.effect("count a request again each time that it is sent, in a transaction too", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        yield* Job.spawn({})
        faults.decide = FaultyStore.first("complete", "lost")
        const worker = yield* Effect.forkChild(Worker.runOnce({ queue }))
        yield* TestClock.adjust("5 seconds")
        assert.isDefined(worker.pollUnsafe())
        assert.deepStrictEqual(yield* sizes("complete"), { requests: 2, items: 2, most: 1 })
        yield* Absurd.withTransaction(Effect.andThen(Job.spawn({}), Job.spawn({})))
        assert.deepStrictEqual(yield* sizes("spawn"), { requests: 3, items: 3, most: 1 })
      }).pipe(Effect.provide(Job.toLayer(() => Effect.void)))
    ))
})
