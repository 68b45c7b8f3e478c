/** An agent: a model that asks for tools until it has an answer. Every answer of the model and of a tool is kept. */
import { Context, Effect, Schema } from "effect"
import { Step, Task } from "effect-absurd"

export const Move = Schema.Union([
  Schema.TaggedStruct("Use", { tool: Schema.String, input: Schema.Int }),
  Schema.TaggedStruct("Answer", { text: Schema.String })
])
export type Move = typeof Move.Type

export class ModelDown extends Schema.TaggedError<ModelDown>()("ModelDown", {}) {}

export class World extends Context.Service<World, {
  readonly think: (history: ReadonlyArray<string>) => Effect.Effect<Move, ModelDown>
  readonly use: (tool: string, input: number) => Effect.Effect<number>
}>()("examples/testing/World") {}

export const Agent = Task.make("agent", {
  params: { question: Schema.String, maxTurns: Schema.Int },
  success: Schema.Struct({ answer: Schema.NullOr(Schema.String), turns: Schema.Int }),
  error: ModelDown,
  maxAttempts: 20
})

export const AgentLive = Agent.toLayer(Effect.fn(function*({ maxTurns, question }) {
  const world = yield* World
  const history = [question]
  for (let turn = 1; turn <= maxTurns; turn++) {
    const move = yield* Step.run("think", world.think(history), { success: Move })
    if (move._tag === "Answer") return { answer: move.text, turns: turn }
    const result = yield* Step.run(`use ${move.tool}`, world.use(move.tool, move.input), { success: Schema.Int })
    history.push(`${move.tool}(${move.input}) = ${result}`)
  }
  return { answer: null, turns: maxTurns }
}))
