import { assert, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as TestPostgres from "../../../support/Postgres.ts"

const tenYears = 315_360_000

layer(TestPostgres.layer({ maxConnections: 1 }))("what is stored with a task, whatever it is,", (it) => {
  it.effect.prop(
    "gives a delay from 0 to ten years",
    {
      kind: Schema.Literals(["none", "fixed", "exponential", "other"]),
      base: Schema.Json,
      factor: Schema.Json,
      max: Schema.Json,
      attempt: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_000_000_000 }))
    },
    ({ attempt, base, factor, kind, max }) =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const strategy = JSON.stringify({ kind, base_seconds: base, factor, max_seconds: max })
        if (strategy.includes("\\u0000") || /\\ud[89a-f]/i.test(strategy)) return
        const [row] = yield* sql<{ readonly delay: number }>`
          select absurd_effect.retry_delay(${strategy}::jsonb, ${attempt}::int) as delay`
        assert.isAtLeast(row?.delay ?? -1, 0)
        assert.isAtMost(row?.delay ?? -1, tenYears)
      }),
    { arbitrary: { runs: 200 } }
  )

  const delays: ReadonlyArray<readonly [string, number, number]> = [
    ["null", 3, 0],
    ["[]", 3, 0],
    ["\"fixed\"", 3, 0],
    ["{\"kind\": \"none\"}", 3, 0],
    ["{\"kind\": \"fixed\"}", 3, 60],
    ["{\"kind\": \"fixed\", \"base_seconds\": 0.25, \"max_seconds\": 0.1}", 3, 0.25],
    ["{\"kind\": \"fixed\", \"base_seconds\": \"7\"}", 3, 7],
    ["{\"kind\": \"fixed\", \"base_seconds\": -7}", 3, 0],
    ["{\"kind\": \"fixed\", \"base_seconds\": 1e400}", 3, tenYears],
    ["{\"kind\": \"fixed\", \"base_seconds\": \"NaN\"}", 3, 60],
    ["{\"kind\": \"exponential\"}", 1, 30],
    ["{\"kind\": \"exponential\"}", 4, 240],
    ["{\"kind\": \"exponential\", \"max_seconds\": 100}", 4, 100],
    ["{\"kind\": \"exponential\", \"base_seconds\": 1, \"factor\": 0.5}", 3, 0.25],
    ["{\"kind\": \"exponential\", \"base_seconds\": 1, \"factor\": 1e300}", 1_000_000, tenYears],
    ["{\"kind\": \"exponential\", \"base_seconds\": 1, \"factor\": 0.001}", 1_000_000, 0],
    ["{\"kind\": \"exponential\", \"base_seconds\": \"abc\", \"factor\": []}", 2, 60]
  ]
  for (const [strategy, attempt, expected] of delays) {
    it.effect(`${strategy} waits ${expected} seconds after attempt ${attempt}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql<{ readonly delay: number }>`
          select absurd_effect.retry_delay(${strategy}::jsonb, ${attempt}::int) as delay`
        assert.closeTo(row?.delay ?? -1, expected, 1e-9)
      }))
  }

  const deadlines: ReadonlyArray<readonly [string, boolean, number | null]> = [
    ["{\"max_delay\": 5}", false, 5],
    ["{\"max_delay\": 5}", true, null],
    ["{\"max_duration\": 7}", false, null],
    ["{\"max_delay\": 5, \"max_duration\": 7}", true, 7],
    ["{\"max_delay\": \"5\"}", false, 5],
    ["{\"max_delay\": 0.5}", false, null],
    ["{\"max_delay\": -5}", false, null],
    ["{\"max_delay\": 1e300}", false, null],
    ["{\"max_delay\": \"soon\"}", false, null],
    ["{\"max_delay\": null}", false, null],
    ["[5]", false, null],
    ["5", false, null]
  ]
  for (const [policy, started, expected] of deadlines) {
    it.effect(`${policy} ends a task ${started ? "that was started" : "that waits"} after ${expected} seconds`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql<{ readonly seconds: number | null }>`
          select extract(epoch from absurd_effect.cancel_deadline(
            ${policy}::jsonb, to_timestamp(1000), case when ${started}::boolean then to_timestamp(2000) end
          ))::float8 - case when ${started}::boolean then 2000 else 1000 end as seconds`
        assert.strictEqual(row?.seconds, expected)
      }))
  }
})
