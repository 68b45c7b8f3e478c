import { layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"

const Greet = Task.make("greet", {
  params: { name: Schema.String },
  success: Schema.String
})

const GreetLive = Greet.toLayer(Effect.fn(function*({ name }) {
  yield* Step.sleep("think", "30 days")
  return yield* Step.run("greeting", Effect.succeed(`Hello, ${name}!`))
}))

const TestLive = GreetLive.pipe(Layer.provideMerge(AbsurdTest.layer))

layer(TestLive)("greet", (it) => {
  it.effect("greets after a month", () =>
    Effect.gen(function*() {
      const task = yield* Greet.spawn({ name: "Ada" })
      yield* AbsurdTest.advance("30 days")
      yield* AbsurdTest.expectCompleted(task, "Hello, Ada!")
    }))
})
