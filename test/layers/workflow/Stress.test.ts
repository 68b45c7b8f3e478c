/** A thousand races on a server, executed by two engines and completed by a third: no wake-up is lost, and none is late. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import * as TestPostgres from "../../support/Postgres.ts"
import * as Race from "./stress/Race.ts"

it.live(
  "a thousand races end once, and none waits for longer than a poll interval",
  () =>
    Effect.gen(function*() {
      const database = yield* TestPostgres.TestDatabase
      yield* Absurd.createQueue(Race.queue)
      yield* Race.createEnds
      const engine = AbsurdWorkflowEngine.layer({
        queue: Race.queue,
        pollInterval: Race.pollInterval,
        concurrency: 50
      })
      yield* Effect.replicateEffect(Layer.build(Layer.fresh(Layer.provide(Race.layer, engine))), 2)
      const told = yield* Effect.provide(Race.runAll(1000, 200), engine)
      yield* Race.judge(told)
      assert.deepStrictEqual(yield* database.errors, [])
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.provideMerge(Absurd.layer, TestPostgres.layer({ maxConnections: 10 })))
    ),
  120_000
)
