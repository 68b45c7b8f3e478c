/** Tasks that spawn tasks and wait for them, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, type Layer, Ref, Schema } from "effect"
import { Absurd, Errors, RetryStrategy, Step, Task, TaskHandle, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { checkpointsOf, failureOf, makeLog, makeQueue, runUntilIdle } = Program

class Broken extends Schema.TaggedError<Broken>()("Broken", { part: Schema.Int }) {}

const range = (count: number) => Array.from({ length: count }, (_, index) => index)

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    /** A child that doubles its param, and fails with `Broken` for negative ones. */
    const makeChild = (queue: string) =>
      Effect.map(makeLog, (runs) => {
        const Child = Task.make("child", {
          queue,
          params: { n: Schema.Int },
          success: Schema.Int,
          error: Broken,
          maxAttempts: 1
        })
        const live = Child.toLayer(({ n }) =>
          Effect.andThen(runs.add(`${n}`), n < 0 ? Effect.fail(new Broken({ part: n })) : Effect.succeed(2 * n))
        )
        return { Child, live, runs }
      })

    it.effect("a child exists once over all executions, and its parent waits without holding a worker", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Child, live, runs } = yield* makeChild(queue)
        const crashes = yield* Ref.make(0)
        const created = yield* makeLog
        const Parent = Task.make("parent", { queue, params: {}, success: Schema.Int, retry: RetryStrategy.none })
        const parent = Parent.toLayer(Effect.fn(function*() {
          const child = yield* Child.spawn({ n: 4 })
          yield* created.add(child.taskId)
          if ((yield* Ref.getAndUpdate(crashes, (n) => n + 1)) === 0) return yield* Effect.die("crash")
          return yield* Effect.orDie(child.await)
        }))
        yield* Effect.gen(function*() {
          const task = yield* Parent.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: false }])
          // One worker for both: had the parent kept it, the child would never run.
          const states: Array<string> = []
          while ((yield* Absurd.getTaskStatus(task.taskId, { queue })).state !== "completed") {
            states.push(...(yield* Worker.runOnce({ queue, concurrency: 1 })).map((_) => _._tag))
            assert.isBelow(states.length, 10)
          }
          assert.strictEqual(yield* task.await, 8)
          assert.strictEqual(new Set(yield* created.all).size, 1)
          assert.deepStrictEqual(yield* runs.all, ["4"])
          const [childId] = yield* created.all
          const stored = yield* checkpointsOf(queue, task.taskId)
          assert.deepStrictEqual(stored[`$awaitTaskResult:${childId}`], { state: "completed", result: 8 })
        }).pipe(Effect.provide([parent, live]))
      }))

    it.effect("what a parent has seen of a child stays, even when the child is revived", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const fails = yield* Ref.make(true)
        const seen = yield* makeLog
        const Child = Task.make("child", { queue, params: {}, success: Schema.Int, error: Broken, maxAttempts: 1 })
        const child = Child.toLayer(() =>
          Effect.flatMap(Ref.get(fails), (fail) => fail ? Effect.fail(new Broken({ part: 1 })) : Effect.succeed(1))
        )
        const Parent = Task.make("parent", { queue, params: {} })
        const parent = Parent.toLayer(Effect.fn(function*() {
          const handle = yield* Child.spawn({})
          const exit = yield* Effect.exit(handle.await)
          yield* seen.add(exit._tag === "Success" ? "completed" : "failed")
          yield* Step.sleep("a while", "1 minute")
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          const [checkpoint] = Object.keys(yield* checkpointsOf(queue, task.taskId)).filter((_) =>
            _.startsWith("$await")
          )
          yield* Ref.set(fails, false)
          yield* Absurd.retryTask(checkpoint!.slice("$awaitTaskResult:".length), { queue })
          yield* runUntilIdle(queue)
          yield* advance("1 minute")
          yield* runUntilIdle(queue)
          yield* task.await
          assert.deepStrictEqual(yield* seen.all, ["failed", "failed"])
        }).pipe(Effect.provide([parent, child]))
      }))

    it.effect("failures, cancellations and timeouts of children reach the parent as what they are", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Child, live } = yield* makeChild(queue)
        const Parent = Task.make("parent", { queue, params: {}, success: Schema.Array(Schema.String) })
        const parent = Parent.toLayer(Effect.fn(function*() {
          const broken = yield* Child.spawn({ n: -1 })
          const late = yield* Child.spawn({ n: 1 }, { delay: "1 hour" })
          const cancelled = yield* Child.spawn({ n: 2 }, { delay: "1 hour" })
          yield* Effect.orDie(cancelled.cancel)
          const tagOf = <A, E extends { readonly _tag: string }, R>(self: Effect.Effect<A, E, R>) =>
            Effect.match(self, { onSuccess: () => "success", onFailure: (error) => error._tag })
          return yield* Effect.all([tagOf(broken.await), tagOf(late.awaitFor("10 minutes")), tagOf(cancelled.await)], {
            concurrency: "unbounded"
          })
        }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("10 minutes")
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, ["Broken", "Timeout", "Cancelled"])
        }).pipe(Effect.provide([parent, live]))
      }))

    it.effect(
      "many children join in one wait; the first failure ends it, unless all are to settle",
      () =>
        Effect.gen(function*() {
          const queue = yield* makeQueue
          const { Child, live } = yield* makeChild(queue)
          const executions = yield* makeLog
          const Sum = Task.make("sum", { queue, params: { from: Schema.Int }, success: Schema.Int, error: Broken })
          const sum = Sum.toLayer(Effect.fn(function*({ from }) {
            yield* executions.add(`${from}`)
            const children = yield* Child.spawnMany(range(300).map((n) => ({ n: n + from })))
            if (from === 0) return (yield* TaskHandle.all(children)).reduce((sum, n) => sum + n, 0)
            const settled = yield* TaskHandle.allSettled(children)
            return settled.filter(Exit.isSuccess).length
          }))
          yield* Effect.gen(function*() {
            const all = yield* Sum.spawn({ from: 0 })
            yield* runUntilIdle(queue)
            assert.strictEqual(yield* all.await, 300 * 299)
            // Once to spawn and wait, once to collect.
            assert.deepStrictEqual(yield* executions.all, ["0", "0"])
            const settled = yield* Sum.spawn({ from: -1 })
            yield* runUntilIdle(queue)
            assert.strictEqual(yield* settled.await, 299)
            assert.deepStrictEqual(yield* executions.all, ["0", "0", "-1", "-1"])
          }).pipe(Effect.provide([sum, live]))
        }),
      60_000
    )

    it.effect("a join fails with the first failure while other children still work", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Child, live } = yield* makeChild(queue)
        const Both = Task.make("both", { queue, params: {}, error: Broken, maxAttempts: 1 })
        const both = Both.toLayer(Effect.fn(function*() {
          const slow = yield* Child.spawn({ n: 1 }, { delay: "1 day" })
          const broken = yield* Child.spawn({ n: -7 })
          yield* TaskHandle.all([slow, broken])
        }))
        yield* Effect.gen(function*() {
          const task = yield* Both.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* Effect.exit(task.await), Exit.fail(new Broken({ part: -7 })))
        }).pipe(Effect.provide([both, live]))
      }))

    it.effect("the first of several children wins a durable race", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Child, live } = yield* makeChild(queue)
        const First = Task.make("first", { queue, params: {}, success: Schema.Int })
        const first = First.toLayer(Effect.fn(function*() {
          const [slow, quick] = yield* Effect.all([Child.spawn({ n: 1 }, { delay: "1 day" }), Child.spawn({ n: 2 })])
          return yield* Effect.orDie(Step.race("first", { slow: slow.await, quick: quick.await }))
        }))
        yield* Effect.gen(function*() {
          const task = yield* First.spawn({})
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, 4)
        }).pipe(Effect.provide([first, live]))
      }))

    it.effect("a child in another queue is waited for as well", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const other = yield* makeQueue
        const { Child, live } = yield* makeChild(other)
        const Parent = Task.make("parent", { queue, params: {}, success: Schema.Int })
        const parent = Parent.toLayer(() =>
          Effect.orDie(Effect.flatMap(Child.spawn({ n: 21 }), (child) => child.await))
        )
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Parent.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Suspended" }])
          yield* runUntilIdle(other)
          yield* advance("1 second")
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, 42)
        }).pipe(Effect.provide([parent, live]))
      }))

    it.effect("children of one name at once, and another number of children than before, are wrong use", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Child, live } = yield* makeChild(queue)
        const crashes = yield* Ref.make(0)
        const Twice = Task.make("twice", { queue, params: {} })
        const twice = Twice.toLayer(() =>
          Effect.all([Child.spawn({ n: 1 }), Child.spawn({ n: 2 })], { concurrency: "unbounded", discard: true })
        )
        const Grows = Task.make("grows", { queue, params: {}, retry: RetryStrategy.none })
        const grows = Grows.toLayer(Effect.fn(function*() {
          const count = yield* Ref.updateAndGet(crashes, (n) => n + 1)
          yield* Child.spawnMany(range(count).map((n) => ({ n })))
          if (count === 1) yield* Effect.die("crash")
        }))
        yield* Effect.gen(function*() {
          const tasks = [yield* Twice.spawn({}), yield* Grows.spawn({})]
          yield* runUntilIdle(queue)
          for (const { taskId } of tasks) {
            const failure = yield* failureOf(queue, taskId)
            assert.strictEqual(failure.name, "InvalidUse")
            assert.include(failure.message, "$spawn:child")
          }
        }).pipe(Effect.provide([twice, grows, live]))
      }))

    it.effect("waiting for a task that does not exist is NotFound", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Child } = yield* makeChild(queue)
        const Lost = Task.make("lost", { queue, params: {}, success: Schema.String })
        const lost = Lost.toLayer(() =>
          Effect.flatMap(Child.handle("01900000-0000-7000-8000-000000000002"), (handle) => handle.await).pipe(
            Effect.as("found"),
            Effect.catchTag("NotFound", (error: Errors.NotFound) => Effect.succeed(error.kind as string)),
            Effect.orDie
          )
        )
        yield* Effect.gen(function*() {
          const task = yield* Lost.spawn({})
          yield* runUntilIdle(queue)
          assert.strictEqual(yield* task.await, "task")
        }).pipe(Effect.provide(lost))
      }))
  })
