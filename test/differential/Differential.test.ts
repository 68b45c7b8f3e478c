import { assert, describe, layer } from "@effect/vitest"
import { Console, Effect, Layer } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import * as PostgresDriver from "../../src/drivers/postgres/PostgresDriver.ts"
import * as Sql from "../../src/layers/AbsurdTestSql.ts"
import type { TestStore } from "../../src/layers/testkit/TestStore.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as Differential from "./Differential.ts"
import * as Replay from "./Replay.ts"

const number = (name: string, otherwise: number) => Number(process.env[name] ?? otherwise)
// Where changes are judged the sequence is always the same; everywhere else it is a new one each time.
const inCi = process.env.CI !== undefined
const seed = number("DIFFERENTIAL_SEED", inCi ? 2076 : Math.floor(Math.random() * 2 ** 31))
const operations = number("DIFFERENTIAL_OPERATIONS", inCi ? 4000 : 1000)

const sql = Layer.merge(PostgresDriver.layer, Sql.layer)

const suite = (name: string, on: Layer.Layer<Driver | TestStore, unknown>, count: number) =>
  layer(on)(
    name,
    (it) =>
      it.effect(`gives the same answers and keeps the same rows as memory (seed ${seed})`, () =>
        Effect.gen(function*() {
          const done = yield* Differential.explore(yield* Replay.memory, yield* Replay.provided(name), {
            seed,
            operations: count
          })
          yield* Console.log(`${name}: ${done} operations, no difference, seed ${seed}`)
          assert.isAtLeast(done, count)
        }), 3_600_000)
  )

describe("differential", () => {
  suite("PostgreSQL", sql.pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 }))), operations)
  suite("the embedded store", sql.pipe(Layer.provide(EmbeddedStore.layer)), operations)
})
