/** Races and timeouts that end with a failure, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, Ref, Schema } from "effect"
import { type Absurd, Event, RetryStrategy, Step, Task, TaskHandle } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { checkpointsOf, makeLog, makeQueue, runUntilIdle } = Program

class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const make = Effect.gen(function*() {
      const queue = yield* makeQueue
      const seen = yield* makeLog
      const { advance } = yield* TestTime
      const Child = Task.make("child", { queue, params: {}, error: Broken, maxAttempts: 1 })
      const child = Child.toLayer(() => Effect.fail(new Broken()))
      const tagOf = <A, E extends { readonly _tag: string }, R>(self: Effect.Effect<A, E, R>) =>
        Effect.match(self, { onSuccess: () => "success", onFailure: (error) => error._tag })
      return { queue, seen, advance, Child, child, tagOf }
    })

    it.effect("a failure within a time limit stays that failure, also when the time is up since", () =>
      Effect.gen(function*() {
        const { advance, Child, child, queue, seen, tagOf } = yield* make
        const Parent = Task.make("parent", { queue, params: {} })
        const parent = Parent.toLayer(Effect.fn(function*() {
          const children = yield* Child.spawnMany([{}])
          yield* seen.add(yield* tagOf(TaskHandle.all(children).pipe(Step.timeout("limit", "1 hour"))))
          yield* Step.sleep("later", "2 hours")
        }))
        yield* Effect.gen(function*() {
          const task = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual((yield* checkpointsOf(queue, task.taskId))["limit"], { winner: "within" })
          yield* advance("2 hours")
          yield* runUntilIdle(queue)
          yield* task.await
          assert.deepStrictEqual(yield* seen.all, ["Broken", "Broken"])
        }).pipe(Effect.provide([parent, child]))
      }))

    it.effect("a branch that decided a race by its failure has decided it in every execution", () =>
      Effect.gen(function*() {
        const { advance, Child, child, queue, seen, tagOf } = yield* make
        const Parent = Task.make("parent", { queue, params: {} })
        const parent = Parent.toLayer(Effect.fn(function*() {
          const handle = yield* Child.spawn({})
          yield* seen.add(
            yield* tagOf(Step.race("first", { timer: Step.sleep("an hour", "1 hour"), child: handle.await }))
          )
          yield* Step.sleep("later", "2 hours")
        }))
        yield* Effect.gen(function*() {
          const task = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("2 hours")
          yield* runUntilIdle(queue)
          yield* task.await
          assert.deepStrictEqual(yield* seen.all, ["Broken", "Broken"])
        }).pipe(Effect.provide([parent, child]))
      }))

    it.effect("a failure that ends the attempt decides nothing: the next one is tried within what is left of the time", () =>
      Effect.gen(function*() {
        const { advance, queue, seen } = yield* make
        const tries = yield* Ref.make(0)
        const Never = Event.make("never", { queue })
        const Order = Task.make("order", { queue, params: {}, success: Schema.String, retry: RetryStrategy.none })
        const live = Order.toLayer(() =>
          Step.run(
            "call",
            Effect.flatMap(Ref.updateAndGet(tries, (n) => n + 1), (n) => n < 3 ? Effect.die("no") : seen.add("called"))
          )
            .pipe(
              Effect.andThen(Never.wait("it")),
              Effect.as("paid"),
              Step.timeout("limit", "1 hour"),
              Effect.catchTag("Timeout", () => Effect.succeed("too late"))
            )
        )
        yield* Effect.gen(function*() {
          const task = yield* Order.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("1 hour")
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, "too late")
          assert.deepStrictEqual(yield* seen.all, ["called"])
        }).pipe(Effect.provide(live))
      }))
  })
