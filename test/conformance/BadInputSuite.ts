/**
 * Whatever is passed to an operation and cannot be right is refused with the same error by every store, and nothing is
 * stored.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Predicate, Schema } from "effect"
import { Absurd, Task, Worker } from "effect-absurd"
import { Dump } from "../support/Dump.ts"
import type { TestTime } from "../support/TestTime.ts"
import { type Row, rows } from "./BadInputRows.ts"
import * as Operators from "./BadInputRowsOfOperators.ts"
import * as Programs from "./BadInputRowsOfPrograms.ts"
import * as BadInputWorld from "./BadInputWorld.ts"
import * as Fixture from "./Fixture.ts"

const operations = [
  ...Map.groupBy([...rows, ...Operators.rows, ...Programs.rows], (row) => row.operation)
]

const misuses = [...Map.groupBy(Programs.misuses, (misuse) => misuse.operation)]

/** What is wrong with the answer to a row; undefined when it is as it must be. */
const judge = (row: Row, world: BadInputWorld.World) =>
  Effect.map(Effect.exit(Effect.suspend(() => row.act(world))), (exit) => {
    if (exit._tag === "Success") return `${row.given}: accepted`
    const [reason] = exit.cause.reasons
    if (reason?._tag !== "Fail") return `${row.given}: ${exit.cause}`
    const error = reason.error as { readonly _tag: string; readonly field?: string }
    return error._tag === row.tag && (row.field === undefined || error.field === row.field)
      ? undefined
      : `${row.given}: ${error._tag} of ${error.field}, expected ${row.tag} of ${row.field}`
  })

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime | Dump, unknown>) =>
  layer(Layer.provideMerge(BadInputWorld.layer, subject), { concurrent: false })(name, (it) => {
    it.effect.each(operations)("%s", ([, rows]) =>
      Effect.gen(function*() {
        const world = yield* BadInputWorld.TheWorld
        const { all } = yield* Dump
        const before = yield* all
        const wrong = yield* Effect.forEach(rows, (row) => judge(row, world))
        assert.deepStrictEqual(wrong.filter((problem) => problem !== undefined), [])
        assert.isTrue(before === (yield* all), "something was stored")
      }))

    it.effect.each(misuses)("%s within a task", ([, misuses]) =>
      Effect.gen(function*() {
        const queue: string = Fixture.freshQueue()
        yield* Absurd.createQueue(queue)
        const Misuse = Task.make("misuse", { queue, params: Schema.Int, maxAttempts: 1 })
        const live = Misuse.toLayer((index) => Effect.orDie(Effect.asVoid(misuses[index]!.act)))
        yield* Effect.gen(function*() {
          const tasks = yield* Misuse.spawnMany(misuses.keys())
          yield* Effect.repeat(Worker.runOnce({ queue, concurrency: 50 }), { until: (results) => results.length === 0 })
          const wrong = yield* Effect.forEach(misuses, ({ field, given }, index) =>
            Effect.gen(function*() {
              const { taskId } = tasks[index]!
              const { failure, state } = yield* Absurd.getTaskResult(taskId, { queue })
              const checkpoints = yield* Absurd.getAllCheckpoints(taskId, { queue })
              return state === "failed" && Predicate.isObject(failure) && failure["name"] === "InvalidInput" &&
                  String(failure["message"]).startsWith(`Invalid ${field}: `) && checkpoints.length === 0
                ? undefined
                : `${given}: ${JSON.stringify({ state, failure, checkpoints })}`
            }))
          assert.deepStrictEqual(wrong.filter((problem) => problem !== undefined), [])
        }).pipe(Effect.provide(live))
      }))
  })
