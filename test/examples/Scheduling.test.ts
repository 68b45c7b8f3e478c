import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd, Cron, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as Fs from "node:fs"
import * as Nightly from "../../examples/scheduling/nightly.ts"
import * as Ledger from "../../examples/transactions/ledger.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const read = (path: string) => Fs.readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")

describe("docs", () => {
  it.each([
    ["docs/transactions.md", "examples/transactions/ledger.ts"],
    ["docs/scheduling.md", "examples/scheduling/nightly.ts"]
  ])("%s shows its example as it is", (page, example) => {
    assert.include(read(page), read(example))
  })
})

layer(Layer.provideMerge(Absurd.layer, TestPostgres.layer()))("docs/transactions.md", (it) => {
  it.effect("the transfer is booked once, with its receipt", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Absurd.createQueue("absurd_default")
      yield* sql`create table ledger (entry int generated always as identity, debit text, credit text, amount int)`
      const transfer = yield* Ledger.Transfer.spawn({ from: "a", to: "b", amount: 5 })
      yield* Effect.provide(Worker.runOnce({ concurrency: 1 }), Ledger.TransferLive)
      const entry = yield* transfer.await
      assert.deepStrictEqual(yield* sql`select * from ledger`, [{ entry, debit: "a", credit: "b", amount: 5 }])
      assert.deepStrictEqual((yield* Absurd.claimTask({})).map((run) => run.params), [{ entry }])
    }))
})

layer(Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))("docs/scheduling.md", (it) => {
  it.effect("the report is made the night it is due, when the figures are there and the service has time", () =>
    Effect.gen(function*() {
      const { advance } = yield* TestTime.TestTime
      const sales = new Nightly.Sales()
      yield* Absurd.createQueue("absurd_default")
      yield* Cron.declare(Nightly.Nightly)
      yield* advance("90 minutes")
      const [taskId] = yield* Cron.runDue
      yield* Effect.gen(function*() {
        assert.deepStrictEqual(yield* Worker.runOnce(), [{ _tag: "Suspended" }])
        sales.ready = true
        yield* advance("10 minutes")
        assert.deepStrictEqual(yield* Worker.runOnce(), [{ _tag: "Failed", final: false }])
        yield* advance("59 seconds")
        assert.deepStrictEqual(yield* Worker.runOnce(), [])
        yield* advance("1 second")
        assert.deepStrictEqual(yield* Worker.runOnce(), [{ _tag: "Completed" }])
        assert.strictEqual(yield* Absurd.awaitTaskResult(taskId!), "sales of 2026-01-05T01:30:00.000Z: 42")
      }).pipe(Effect.provide(Nightly.reportLive(sales)))
    }))
})
