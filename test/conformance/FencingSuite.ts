/** Who holds a claim no longer changes nothing, through whichever operation of the client. */
import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, type Layer } from "effect"
import { Absurd } from "effect-absurd"
import { Dump } from "../support/Dump.ts"
import { TestTime } from "../support/TestTime.ts"
import { onRuns } from "./BadInputRows.ts"
import * as Fixture from "./Fixture.ts"

/** How the claim of a run is lost, and what its old holder is told then. */
const losses: ReadonlyArray<
  readonly [
    how: string,
    tag: string,
    lose: (run: Absurd.Claim) => Effect.Effect<unknown, unknown, Absurd.Absurd | TestTime>
  ]
> = [
  ["its lease ended and another worker took the task", "LeaseLost", ({ queue }) =>
    Effect.gen(function*() {
      yield* (yield* TestTime).advance("1 minute")
      const next = Fixture.only(yield* Absurd.claimTask({ queue, claimTimeout: "24 hours" }))
      assert.strictEqual(next.attempt, 2)
    })],
  ["it was handed back and claimed again", "LeaseLost", (run) =>
    Effect.gen(function*() {
      yield* Absurd.scheduleTask(run, DateTime.makeUnsafe(0))
      const next = Fixture.only(yield* Absurd.claimTask({ queue: run.queue, claimTimeout: "24 hours" }))
      assert.strictEqual(next.runId, run.runId)
    })],
  ["it sleeps", "LeaseLost", (run) => Effect.flip(Absurd.sleep(run, "1 day", { step: "a nap" }))],
  ["it is completed", "LeaseLost", (run) => Absurd.completeTask(run, "done")],
  ["it has failed", "LeaseLost", (run) => Absurd.failTask(run, "no")],
  ["its task was cancelled", "Cancelled", ({ queue, taskId }) => Absurd.cancelTask(taskId, { queue })]
]

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime | Dump, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.each(losses)("a run is left alone after %s", ([, tag, lose]) =>
      Effect.gen(function*() {
        const queue: string = Fixture.freshQueue()
        yield* Absurd.createQueue(queue)
        yield* Absurd.spawnTask("job", null, { queue, retryStrategy: { kind: "fixed", base_seconds: 0 } })
        const run = Fixture.only(yield* Absurd.claimTask({ queue }))
        yield* lose(run)
        const { all } = yield* Dump
        const before = yield* all
        const answers = yield* Effect.forEach(onRuns, ([operation, act]) =>
          Effect.map(
            Effect.flip(act({} as never, run as never)),
            (error) => [operation, error._tag]
          ))
        assert.deepStrictEqual(answers, onRuns.map(([operation]) => [operation, tag]))
        assert.isTrue(before === (yield* all), "something was stored")
      }))
  })
