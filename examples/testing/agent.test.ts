import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import { Agent, AgentLive, ModelDown, type Move, World } from "./agent.ts"

/** A model that uses these inputs one after the other and answers with the last result, and how often it is down. */
class Script extends Context.Service<Script, { inputs: ReadonlyArray<number>; downs: number; uses: number }>()(
  "examples/testing/Script"
) {}

const WorldLive = Layer.effect(
  World,
  Effect.map(Script, (script) => ({
    think: (history) =>
      Effect.suspend((): Effect.Effect<Move, ModelDown> => {
        if (script.downs-- > 0) return Effect.fail(new ModelDown())
        const input = script.inputs[history.length - 1]
        return Effect.succeed(
          input === undefined ? { _tag: "Answer", text: history.at(-1) ?? "" } : { _tag: "Use", tool: "double", input }
        )
      }),
    use: (_, input) =>
      Effect.sync(() => {
        script.uses++
        return input * 2
      })
  }))
)

const TestLive = AgentLive.pipe(
  Layer.provideMerge(WorldLive),
  Layer.provideMerge(Layer.sync(Script, () => ({ inputs: [], downs: 0, uses: 0 })))
)

const perform = (inputs: ReadonlyArray<number>, downs: number) =>
  Script.useSync((script) => {
    script.inputs = inputs
    script.downs = downs
    script.uses = 0
  })

const Input = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))
const Inputs = Schema.Array(Input).check(Schema.isMaxLength(6))
const last = (inputs: ReadonlyArray<number>) =>
  inputs.length === 0 ? "?" : `double(${inputs.at(-1)}) = ${inputs.at(-1)! * 2}`

const params = { inputs: Inputs, downs: Schema.Literals([0, 1, 5]), maxTurns: Schema.Literals([3, 10]) }

/** How it must end. */
const expected = (inputs: ReadonlyArray<number>, maxTurns: number) => {
  const enough = inputs.length < maxTurns
  return { answer: enough ? last(inputs) : null, turns: enough ? inputs.length + 1 : maxTurns }
}

/** Runs on any store. */
export const suite = (
  store: string,
  storeLive: Layer.Layer<Absurd.Absurd | AbsurdTest.TestStore, unknown>,
  runs = 50
) =>
  layer(TestLive.pipe(Layer.provideMerge(storeLive)), { concurrent: false })(`an agent, ${store}`, (it) => {
    it.effect.prop("answers whatever the model does, and uses each tool once", params, ({ downs, inputs, maxTurns }) =>
      Effect.gen(function*() {
        yield* perform(inputs, downs)
        const task = yield* Agent.spawn({ question: "?", maxTurns })
        yield* AbsurdTest.advance("1 day")
        yield* AbsurdTest.expectCompleted(task, expected(inputs, maxTurns))
        assert.strictEqual((yield* Script).uses, Math.min(inputs.length, maxTurns))
        assert.strictEqual((yield* AbsurdTest.inspect(task)).attempts, downs + 1)
      }), { arbitrary: { runs } })
  })

suite("in memory", AbsurdTest.layer)

layer(TestLive.pipe(Layer.provideMerge(AbsurdTest.layer)), { concurrent: false })("an agent that crashes", (it) => {
  it.effect.prop("answers whatever the model does", params, ({ downs, inputs, maxTurns }) =>
    Effect.gen(function*() {
      const { outcome } = yield* AbsurdTest.crashEverywhere(Agent, { question: "?", maxTurns }, {
        before: perform(inputs, downs),
        // The use that was on its way when the process died is made again, and no other.
        after: Script.useSync(({ uses }) => assert.isAtMost(uses, Math.min(inputs.length, maxTurns) + 1))
      })
      assert.deepStrictEqual(outcome.result, expected(inputs, maxTurns))
    }), { arbitrary: { runs: 5 } })
})
