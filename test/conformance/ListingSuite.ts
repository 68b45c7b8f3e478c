import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, type Schema } from "effect"
import type { Driver, ListTasks } from "../../src/core/Driver.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const make = Effect.map(Fixture.make, (q) => ({
      ...q,
      list: (filter: Partial<ListTasks> = {}) =>
        Effect.map(
          q.driver.listTasks({
            queue: q.queue,
            name: null,
            states: null,
            outcome: null,
            before: null,
            limit: 100,
            ...filter
          }),
          (rows) => rows.map((row) => row.taskId)
        ),
      end: (result: Schema.Json) =>
        Effect.gen(function*() {
          const run = yield* q.start()
          assert.strictEqual(yield* q.complete(run, result), "applied")
          return run.taskId
        })
    }))

    it.effect("tasks are listed newest first, page by page, whole", () =>
      Effect.gen(function*() {
        const q = yield* make
        assert.deepStrictEqual(yield* q.list(), [])
        const ids: Array<string> = []
        for (let n = 0; n < 5; n++) {
          ids.unshift((yield* q.spawn({ params: n })).taskId)
          yield* q.time.advance("1 second")
        }
        assert.deepStrictEqual(yield* q.list(), ids)
        const page = yield* q.list({ limit: 2 })
        assert.deepStrictEqual(page, ids.slice(0, 2))
        assert.deepStrictEqual(yield* q.list({ limit: 2, before: page[1]! }), ids.slice(2, 4))
        assert.deepStrictEqual(yield* q.list({ before: ids[4] as typeof page[number] }), [])
        const [row] = yield* q.driver.listTasks({
          queue: q.queue,
          name: null,
          states: null,
          outcome: null,
          before: null,
          limit: 1
        })
        assert.deepStrictEqual(
          Fixture.plain(row),
          Fixture.plain(yield* q.driver.getTask({ queue: q.queue, taskId: row!.taskId }))
        )
      }))

    it.effect("an outcome is a text, and what is none is no outcome", () =>
      Effect.gen(function*() {
        const q = yield* make
        yield* Effect.forEach([{ outcome: { a: 1 } }, { outcome: [1] }, { outcome: 1 }, { outcome: true }], q.end)
        const counts = yield* q.driver.countTasks(q.queue)
        assert.deepStrictEqual(counts, [{ name: "job", state: "completed", outcome: null, tasks: 4 }])
        for (const outcome of ["{\"a\":1}", "{\"a\": 1}", "[1]", "1", "true"]) {
          assert.deepStrictEqual(yield* q.list({ outcome }), [])
        }
      }))

    it.effect("tasks are found, and counted, by state and by the outcome that their result tells", () =>
      Effect.gen(function*() {
        const q = yield* make
        const good = yield* q.end({ outcome: "good", more: 1 })
        const bad = yield* q.end({ outcome: "bad" })
        const others = yield* Effect.forEach([null, "bad", ["bad"], { outcome: null }, {}], q.end)
        const { taskId: pending } = yield* q.spawn({})
        const { taskId: cancelled } = yield* q.spawn({})
        yield* q.driver.cancelTask({ queue: q.queue, taskId: cancelled })
        assert.deepStrictEqual(yield* q.list({ outcome: "good" }), [good])
        assert.deepStrictEqual(yield* q.list({ outcome: "bad" }), [bad])
        assert.deepStrictEqual(yield* q.list({ outcome: "none" }), [])
        assert.deepStrictEqual(yield* q.list({ states: ["pending"] }), [pending])
        assert.deepStrictEqual(
          [...yield* q.list({ states: ["pending", "cancelled"] })].sort(),
          [pending, cancelled].sort()
        )
        assert.deepStrictEqual(yield* q.list({ states: ["pending"], outcome: "good" }), [])
        assert.deepStrictEqual(yield* q.list({ name: "nobody" }), [])
        const counts = yield* q.driver.countTasks(q.queue)
        const told = counts.map(({ outcome, state, tasks }) => `${state} ${outcome} ${tasks}`).sort()
        assert.deepStrictEqual(told, [
          "cancelled null 1",
          "completed bad 1",
          "completed good 1",
          `completed null ${others.length}`,
          "pending null 1"
        ])
      }))
  })
