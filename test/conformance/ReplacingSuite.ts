/** A task that is spawned again before it has started, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, Schema } from "effect"
import { Absurd, Hooks, Task } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a burst of calls starts one task, after the last of them, with the last params", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const index = (version: number) =>
          Absurd.replaceTask("index", { version }, { queue, idempotencyKey: "page 1", delay: "5 seconds" })
        const first = yield* index(1)
        assert.deepStrictEqual([first.created, first.replaced], [true, false])
        for (const version of [2, 3]) {
          yield* advance("4 seconds")
          const next = yield* index(version)
          assert.deepStrictEqual([next.taskId, next.created, next.replaced], [first.taskId, false, true])
        }
        yield* advance("4999 millis")
        assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
        yield* advance("1 millis")
        const runs = yield* Absurd.claimTask({ queue, qty: 10 })
        assert.deepStrictEqual(runs.map((run) => run.params), [{ version: 3 }])
        // Started: the key belongs to what it was started with.
        assert.deepInclude(yield* index(3), { taskId: first.taskId, created: false, replaced: false })
        assert.deepInclude(yield* Effect.flip(index(4)), { _tag: "IdempotencyConflict", differs: "params" })
      }))

    it.effect("by its definition a task is replaced through the hooks of the program, with the trace it belongs to", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Index = Task.make("index", {
          queue,
          params: { page: Schema.String, version: Schema.FiniteFromString },
          idempotencyKey: ({ page }) => page
        })
        const tenant = Hooks.layerSpawn(({ tasks }, next) =>
          next(tasks.map((task) => ({ ...task, headers: { ...task.headers, tenant: "acme" } })))
        )
        const first = yield* Index.replace({ page: "1", version: 1 })
        const second = yield* Index.replace({ page: "1", version: 2 }).pipe(
          Effect.withSpan("caller"),
          Effect.provide(tenant)
        )
        assert.deepStrictEqual([first.replaced, second.replaced, second.created], [false, true, false])
        assert.strictEqual(second.taskId, first.taskId)
        const [run] = yield* Absurd.claimTask({ queue })
        assert.deepStrictEqual(run?.params, { page: "1", version: "2" })
        assert.strictEqual(run?.headers["tenant"], "acme")
        assert.isString(run?.headers["traceparent"])
        const Keyless = Task.make("keyless", { queue, params: {} })
        assert.deepInclude(yield* Effect.flip(Keyless.replace({})), { _tag: "InvalidInput", field: "idempotencyKey" })
      }))

    it.effect("calls at the same time make one task", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const all = yield* Effect.forEach(
          [1, 2, 3, 4, 5, 6],
          (n) => Absurd.replaceTask("index", n, { queue, idempotencyKey: "k", due: "keep" }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(all.map((one) => one.taskId)).size, 1)
        assert.lengthOf(all.filter((one) => one.created), 1)
        assert.lengthOf(all.filter((one) => one.replaced), 5)
      }))

    it.effect("a key of a task with another name is a typed conflict", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        yield* Absurd.spawnTask("one", 1, { queue, idempotencyKey: "k" })
        const error = yield* Effect.flip(Absurd.replaceTask("other", 1, { queue, idempotencyKey: "k" }))
        assert.deepInclude(error, { _tag: "IdempotencyConflict", differs: "name" })
      }))

    it.effect("a program that only produces needs neither handlers nor a worker", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = Task.make("job", { queue, params: { n: Schema.Int } })
        const spawned = yield* Job.spawnMany([{ n: 1 }, { n: 2 }])
        const { handlers } = yield* Absurd.Absurd
        assert.isUndefined(handlers.find(queue, "job"))
        assert.deepStrictEqual(
          (yield* Absurd.claimTask({ queue, qty: 10 })).map((run) => run.taskId).sort(),
          spawned.map((task) => task.taskId).sort()
        )
      }))
  })
