/** Children that belong to their parents, and the first of several, on any store. */
import { assert, layer } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Option, Schema } from "effect"
import { Absurd, Hooks, Step, Task, TaskHandle, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { checkpointsOf, failureOf, makeLog, makeQueue, runUntilIdle } = Program

class Broken extends Schema.TaggedError<Broken>()("Broken", { part: Schema.Int }) {}

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const make = Effect.gen(function*() {
      const queue = yield* makeQueue
      const seen = yield* makeLog
      const { advance } = yield* TestTime
      const Child = Task.make("child", {
        queue,
        params: { n: Schema.Int },
        success: Schema.Int,
        error: Broken,
        maxAttempts: 1
      })
      const child = Child.toLayer(({ n }) => n < 0 ? Effect.fail(new Broken({ part: n })) : Effect.succeed(n))
      const Parent = Task.make("parent", { queue, params: {}, success: Schema.Int, maxAttempts: 1 })
      const stateOf = (handle: { readonly taskId: string }) =>
        Effect.map(Absurd.getTaskResult(handle.taskId, { queue }), ({ state }) => state)
      /** The states of the children that a parent has spawned. */
      const childrenOf = (parent: { readonly taskId: string }, step = "$spawn:child") =>
        Effect.flatMap(
          checkpointsOf(queue, parent.taskId),
          (stored) => Effect.forEach(stored[step] as unknown as ReadonlyArray<{ readonly taskId: string }>, stateOf)
        )
      return { queue, seen, advance, Child, child, Parent, stateOf, childrenOf }
    })

    it.effect("owned children are cancelled with their parent, and the others go on", () =>
      Effect.gen(function*() {
        const { Child, childrenOf, Parent, queue } = yield* make
        const live = Parent.toLayer(Effect.fn(function*() {
          yield* Child.spawnMany([{ n: 1 }, { n: 2 }, { n: 3 }], { owned: true, delay: "1 day" })
          yield* Child.spawn({ n: 4 }, { delay: "1 day" })
          yield* Step.sleep("long", "1 hour")
          return 0
        }))
        yield* Effect.gen(function*() {
          const parent = yield* Parent.spawn({})
          // Suspended, which cancels nothing.
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* childrenOf(parent), ["sleeping", "sleeping", "sleeping"])
          yield* parent.cancel
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* childrenOf(parent), ["cancelled", "cancelled", "cancelled"])
          assert.deepStrictEqual(yield* childrenOf(parent, "$spawn:child#2"), ["sleeping"])
        }).pipe(Effect.provide(live))
      }))

    it.effect.each(["fails", "completes"] as const)(
      "when their parent %s, they do as they should",
      (how) =>
        Effect.gen(function*() {
          const { Child, childrenOf, Parent, queue } = yield* make
          const Middle = Task.make("middle", { queue, params: {} })
          const live = Parent.toLayer(Effect.fn(function*() {
            yield* Child.spawn({ n: 1 }, { owned: true, delay: "1 day" })
            yield* Middle.spawn({}, { owned: true })
            yield* Step.sleep("a while", "1 minute")
            return how === "fails" ? yield* Effect.die("later") : 0
          }))
          const middle = Middle.toLayer(Effect.fn(function*() {
            yield* Child.spawn({ n: 2 }, { owned: true, delay: "1 day" })
            yield* Step.sleep("long", "2 days")
          }))
          yield* Effect.gen(function*() {
            const { advance } = yield* TestTime
            const parent = yield* Parent.spawn({})
            yield* runUntilIdle(queue)
            yield* advance("1 minute")
            yield* runUntilIdle(queue)
            const [own, middles] = [yield* childrenOf(parent), yield* childrenOf(parent, "$spawn:middle")]
            const spawned = (yield* checkpointsOf(queue, parent.taskId))["$spawn:middle"] as unknown as ReadonlyArray<
              { readonly taskId: string }
            >
            const state = how === "fails" ? "cancelled" : "sleeping"
            assert.deepStrictEqual([own, middles, yield* childrenOf(spawned[0]!)], [[state], [state], [state]])
          }).pipe(Effect.provide([live, middle]))
        })
    )

    it.effect("a child whose spawn arrives after its parent was cancelled is cancelled as well", () =>
      Effect.gen(function*() {
        const { advance, Child, Parent, queue, stateOf } = yield* make
        const late: Array<ReturnType<Hooks.AroundSpawn>> = []
        // On its way to the store, and no more.
        const delayed = Hooks.layerSpawn(({ tasks }, next) =>
          Effect.suspend(() => {
            late.push(next(tasks))
            return Effect.never
          })
        )
        const live = Parent.toLayer(() => Effect.as(Child.spawn({ n: 1 }, { owned: true, delay: "1 day" }), 0))
        const parent = yield* Parent.spawn({})
        yield* Effect.gen(function*() {
          const worker = yield* Effect.forkChild(Worker.runOnce({ queue }))
          yield* Program.until(Effect.sync(() => late.length > 0))
          yield* parent.cancel
          yield* Fiber.interrupt(worker)
          yield* runUntilIdle(queue)
          const [child] = yield* late[0]!
          assert.strictEqual(yield* stateOf(child!), "sleeping")
          yield* advance("1 minute")
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* stateOf(child!), "cancelled")
        }).pipe(Effect.provide(Layer.provide(live, delayed)))
      }))

    it.effect("a child with an idempotency key cannot be owned", () =>
      Effect.gen(function*() {
        const { Child, Parent, queue } = yield* make
        const live = Parent.toLayer(() => Effect.as(Child.spawn({ n: 1 }, { owned: true, idempotencyKey: "own" }), 0))
        yield* Effect.gen(function*() {
          const parent = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          assert.strictEqual((yield* failureOf(queue, parent.taskId)).name, "InvalidUse")
        }).pipe(Effect.provide(live))
      }))

    it.effect("the first of several children that completes is taken, in every execution", () =>
      Effect.gen(function*() {
        const { advance, Child, child, Parent, queue, seen } = yield* make
        const live = Parent.toLayer(Effect.fn(function*() {
          const children = [
            yield* Child.spawn({ n: 1 }, { delay: "1 hour" }),
            yield* Child.spawn({ n: -2 }),
            yield* Child.spawn({ n: 3 }, { delay: "1 minute" })
          ]
          const first = yield* Effect.orDie(TaskHandle.any(children))
          yield* seen.add(`${first}`)
          yield* Step.sleep("later", "2 hours")
          return first
        }))
        yield* Effect.gen(function*() {
          const parent = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* seen.all, [])
          for (const wait of ["1 minute", "1 hour", "1 hour"] as const) {
            yield* advance(wait)
            yield* runUntilIdle(queue)
          }
          assert.strictEqual(yield* parent.await, 3)
          assert.deepStrictEqual(yield* seen.all, ["3", "3"])
        }).pipe(Effect.provide([live, child]))
      }))

    it.effect(
      "ten thousand children join in one wait that holds no slot",
      () =>
        Effect.gen(function*() {
          const { Child, child, queue, seen } = yield* make
          const Sum = Task.make("sum", { queue, params: {}, success: Schema.Int })
          const live = Sum.toLayer(Effect.fn(function*() {
            yield* seen.add("execution")
            const children = yield* Child.spawnMany(Array.from({ length: 10_000 }, (_, n) => ({ n })))
            return (yield* Effect.orDie(TaskHandle.all(children))).reduce((sum, n) => sum + n, 0)
          }))
          yield* Effect.gen(function*() {
            const sum = yield* Sum.spawn({})
            assert.deepStrictEqual(yield* Worker.runOnce({ queue, concurrency: 1 }), [{ _tag: "Suspended" }])
            yield* Worker.runOnce({ queue, concurrency: 1000 }).pipe(
              Effect.repeat({ until: (results) => results.length === 0 })
            )
            assert.strictEqual(yield* sum.await, 9_999 * 5_000)
            // Once to spawn and wait, once to collect.
            assert.deepStrictEqual(yield* seen.all, ["execution", "execution"])
          }).pipe(Effect.provide([live, child]))
        }),
      120_000
    )

    it.effect("when none of them completes, all their failures are told, within a task and without", () =>
      Effect.gen(function*() {
        const { Child, child, Parent, queue } = yield* make
        const partsOf = <A, R>(
          self: Effect.Effect<A, TaskHandle.NoneCompleted<unknown> | { readonly _tag: string }, R>
        ) =>
          Effect.map(Effect.exit(self), (exit) =>
            Exit.isFailure(exit)
              ? Option.match(Cause.findErrorOption(exit.cause), {
                onNone: () => [],
                onSome: (error) =>
                  error instanceof TaskHandle.NoneCompleted
                    ? error.errors.map((one) => one instanceof Broken ? one.part : 0)
                    : []
              })
              : [])
        const live = Parent.toLayer(Effect.fn(function*() {
          const children = yield* Child.spawnMany([{ n: -1 }, { n: -2 }])
          const parts = yield* partsOf(TaskHandle.any(children))
          return parts.reduce((sum, part) => sum + part, 0)
        }))
        yield* Effect.gen(function*() {
          const parent = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* parent.await, -3)
          const others = yield* Child.spawnMany([{ n: -4 }, { n: -5 }])
          const mixed = yield* Child.spawnMany([{ n: -4 }, { n: 5 }])
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* partsOf(TaskHandle.any(others)), [-4, -5])
          assert.strictEqual(yield* TaskHandle.any(mixed), 5)
        }).pipe(Effect.provide([live, child]))
      }))
  })
