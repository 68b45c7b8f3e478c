/** One test on every store: only the layer changes. */
import { PgClient } from "@effect/sql-pg"
import { layer } from "@effect/vitest"
import { Config, Effect, Layer, Schema } from "effect"
import { Absurd, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import * as AbsurdTestSql from "effect-absurd/AbsurdTestSql"
import * as Embedded from "effect-absurd/Embedded"

const Greet = Task.make("greet", { params: { name: Schema.String }, success: Schema.String })

const GreetLive = Greet.toLayer(Effect.fn(function*({ name }) {
  yield* Step.sleep("think", "30 days")
  return yield* Step.run("greeting", Effect.succeed(`Hello, ${name}!`))
}))

const suite = (name: string, store: Layer.Layer<Absurd.Absurd | AbsurdTest.TestStore, unknown>) =>
  layer(GreetLive.pipe(Layer.provideMerge(store)))(`greet, ${name}`, (it) => {
    it.effect("greets after a month", () =>
      Effect.gen(function*() {
        const task = yield* Greet.spawn({ name: "Ada" })
        yield* AbsurdTest.advance("30 days")
        yield* AbsurdTest.expectCompleted(task, "Hello, Ada!")
      }))
  })

suite("in memory", AbsurdTest.layer)

suite("on the embedded store", AbsurdTestSql.layerOn(Embedded.layer()))

suite(
  "on a server",
  AbsurdTestSql.layerOn(PgClient.layerConfig({
    url: Config.Redacted("DATABASE_URL"),
    maxConnections: Config.succeed(1)
  }))
)
