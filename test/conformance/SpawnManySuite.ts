/** Many tasks of one definition, or of several, in one call, on any store. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, type Layer, Schema, SchemaGetter } from "effect"
import { Absurd, Limit, Stored, Task } from "effect-absurd"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

/** Encodes a text by what the program provides. */
class Cipher extends Context.Service<Cipher, {
  readonly shift: (text: string) => Effect.Effect<string>
}>()("test/Cipher") {}

const Secret = Schema.String.pipe(
  Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transformEffect((text: string) => Effect.succeed(text.slice(1))),
    encode: SchemaGetter.transformEffect((text: string) => Cipher.use(({ shift }) => shift(text)))
  })
)

/** Waits for another fiber, now and then. */
const cipher = Cipher.of({
  shift: (text) => text.length % 3 === 0 ? Effect.as(Effect.yieldNow, `!${text}`) : Effect.succeed(`?${text}`)
})

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const claimAll = Effect.fnUntraced(function*(queue: string) {
      const all: Array<Effect.Success<ReturnType<typeof Absurd.claimTask>>[number]> = []
      while (true) {
        const runs = yield* Absurd.claimTask({ queue, qty: 1000 })
        if (runs.length === 0) return all
        all.push(...runs)
      }
    })
    /** The runs of these tasks, in their order. */
    const claimInOrder = Effect.fnUntraced(function*(queue: string, tasks: ReadonlyArray<{ readonly taskId: string }>) {
      const runs = new Map((yield* claimAll(queue)).map((run) => [run.taskId as string, run]))
      assert.strictEqual(runs.size, tasks.length)
      return tasks.map(({ taskId }) => runs.get(taskId)!)
    })

    it.effect("as many as there are, in their order", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = Task.make("job", { queue, params: { n: Schema.Int } })
        assert.deepStrictEqual(yield* Job.spawnMany([]), [])
        const count = 1200
        const spawned = yield* Job.spawnMany(function*() {
          for (let n = 0; n < count; n++) yield { n }
        }())
        const runs = yield* claimInOrder(queue, spawned)
        assert.deepStrictEqual(runs.map(({ params }) => params), Array.from({ length: count }, (_, n) => ({ n })))
        assert.deepStrictEqual(runs.map(({ runId }) => runId), spawned.map(({ runId }) => runId))
        assert.isTrue(spawned.every(({ attempt, created }) => attempt === 1 && created))
        assert.isTrue(yield* spawned[7]!.cancel)
      }))

    it.effect("params that are encoded with the help of a service, some of them later", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = Task.make("job", { queue, params: { secret: Secret } })
        const texts = Array.from({ length: 40 }, (_, n) => "x".repeat(n))
        const spawned = yield* Effect.provideService(
          Job.spawnMany(texts.map((secret) => ({ secret }))),
          Cipher,
          cipher
        )
        assert.deepStrictEqual(
          (yield* claimInOrder(queue, spawned)).map(({ params }) => params),
          texts.map((text) => ({ secret: `${text.length % 3 === 0 ? "!" : "?"}${text}` }))
        )
      }))

    it.effect("keys and limits that come from the params are those of each", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = Task.make("job", {
          queue,
          params: { n: Schema.Int },
          idempotencyKey: ({ n }) => `n${n}`,
          limit: { with: Limit.make("per-parity", { concurrency: 10 }), key: ({ n }) => n % 2 === 0 ? "even" : "odd" }
        })
        const spawned = yield* Job.spawnMany([1, 2, 1, 3].map((n) => ({ n })))
        assert.deepStrictEqual(spawned.map(({ created }) => created), [true, true, false, true])
        assert.strictEqual(spawned[2]?.taskId, spawned[0]?.taskId)
        const runs = yield* claimAll(queue)
        assert.sameDeepMembers(
          runs.map(({ headers, params }) => [params, Reflect.get(headers["$limit"] as object, "key")]),
          [[{ n: 1 }, "odd"], [{ n: 2 }, "even"], [{ n: 3 }, "odd"]]
        )
      }))

    const bad = [
      ["does not fit", -1, "params of task \"job\""],
      ["cannot be stored", "\u0000", "params of task \"job\".value"],
      ["has a bad key", "no key", "idempotencyKey"]
    ] as const

    it.effect.each(bad)("nothing is stored when one in the middle %s", ([, value, field]) =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const asked: Array<unknown> = []
        const Job = Task.make("job", {
          queue,
          params: { value: Schema.Union([Schema.String, Schema.Natural]) },
          idempotencyKey: (params) => {
            asked.push(params.value)
            return params.value === "no key" ? "" : `${params.value}`
          }
        })
        const values = Array.from({ length: 21 }, (_, n) => ({ value: n === 10 ? value : n }))
        const error = yield* Effect.flip(Job.spawnMany(values))
        assert.deepInclude(error, { _tag: "InvalidInput", field })
        // What comes after it is not looked at.
        assert.lengthOf(asked, value === "no key" ? 11 : 10)
        assert.deepStrictEqual(yield* claimAll(queue), [])
      }))

    it.effect("the first thing that is wrong is told, of the params before the options", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = Task.make("job", { queue, params: { n: Schema.Natural } })
        const fieldOf = (ns: ReadonlyArray<number>, maxAttempts: number) =>
          Effect.flip(Job.spawnMany(ns.map((n) => ({ n })), { maxAttempts, delay: "-1 second" })).pipe(
            Effect.map((error) => error._tag === "InvalidInput" ? error.field : error._tag)
          )
        assert.deepStrictEqual(
          [yield* fieldOf([-1, 1], 0), yield* fieldOf([1, -1], 0), yield* fieldOf([1, -1], 3)],
          ["params of task \"job\"", "maxAttempts", "delay"]
        )
        // Without a task there is nothing that could be wrong.
        assert.deepStrictEqual(yield* Job.spawnMany([], { maxAttempts: 0 }), [])
      }))

    it.effect("how large values may be is what the program has provided", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = Task.make("job", { queue, params: { text: Schema.String } })
        const long = { text: "x".repeat(100) }
        const spawn = Effect.all([
          Effect.exit(Job.spawn(long)),
          Effect.exit(Job.spawnMany([{ text: "" }, long])),
          Effect.exit(Absurd.spawnTask("job", long, { queue })),
          Effect.exit(Absurd.spawnTasks([{ name: "job", params: "" }, { name: "job", params: long }], { queue })),
          Effect.exit(Job.spawnMany([{ text: "" }], { headers: long }))
        ])
        const small = yield* Effect.provideService(spawn, Stored.Limits, { maxLength: 50, maxDepth: 10 })
        assert.deepStrictEqual(small.map(({ _tag }) => _tag), Array(5).fill("Failure"))
        assert.deepStrictEqual(yield* claimAll(queue), [])
        const large = yield* spawn
        assert.deepStrictEqual(large.map(({ _tag }) => _tag), Array(5).fill("Success"))
      }))

    it.effect("by name, tasks of different kinds", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const spawned = yield* Absurd.spawnTasks(
          [
            { name: "a", params: 1, workflowRunId: "w" },
            { name: "b", params: [null], maxAttempts: 2 },
            { name: "a", params: 1, workflowRunId: "w" }
          ],
          { queue }
        )
        assert.deepStrictEqual(spawned.map(({ workflowRunId }) => workflowRunId), ["w", spawned[1]!.runId, "w"])
        assert.deepStrictEqual(
          (yield* claimInOrder(queue, spawned)).map((
            { headers, maxAttempts, name, params }
          ) => [name, params, maxAttempts, headers]),
          [["a", 1, 5, { workflowRunId: "w" }], ["b", [null], 2, {}], ["a", 1, 5, { workflowRunId: "w" }]]
        )
        const error = yield* Effect.flip(
          Absurd.spawnTasks([{ name: "a", params: 1 }, { name: "", params: 1 }, { name: "a", params: NaN }], { queue })
        )
        assert.deepInclude(error, { _tag: "InvalidInput", field: "task" })
        assert.deepStrictEqual(yield* claimAll(queue), [])
      }))
  })
