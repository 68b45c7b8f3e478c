/** Compares the store of a layer with the one in memory. */
import { assert, layer } from "@effect/vitest"
import { Console, Effect, Layer } from "effect"
import type { SqlClient } from "effect/sql"
import * as PostgresDriver from "../../src/drivers/postgres/PostgresDriver.ts"
import * as Sql from "../../src/layers/AbsurdTestSql.ts"
import * as Budget from "./Budget.ts"
import * as Differential from "./Differential.ts"
import * as Replay from "./Replay.ts"

export const suite = (name: string, on: Layer.Layer<SqlClient.SqlClient, unknown>) =>
  layer(Layer.merge(PostgresDriver.layer, Sql.layer).pipe(Layer.provideMerge(on)), { concurrent: false })(
    name,
    (it) => {
      for (const { operations, seed, timeout } of Budget.parts) {
        it.effect(
          `gives the same answers and keeps the same rows as memory (seed ${seed})`,
          () =>
            Effect.gen(function*() {
              const options = { seed, operations }
              const done = yield* Differential.explore(yield* Replay.memory, yield* Replay.provided(name), options)
              yield* Console.log(`${name}: ${done} operations, no difference, seed ${seed}`)
              assert.isAtLeast(done, operations)
            }),
          timeout
        )
      }
    }
  )
