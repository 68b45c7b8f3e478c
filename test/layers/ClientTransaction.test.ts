import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as ClientTransactionSuite from "../conformance/ClientTransactionSuite.ts"
import * as CheckedMemory from "../support/CheckedMemory.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"

const onPostgres = Layer.provideMerge(Absurd.layer, TestPostgres.layer())

ClientTransactionSuite.suite("transactions of the client on PostgreSQL", onPostgres)
ClientTransactionSuite.suite("transactions of the client in memory", CheckedMemory.layerAbsurd)
ClientTransactionSuite.suite(
  "transactions of the client on the embedded store",
  Layer.provide(Absurd.layer, EmbeddedStore.layer)
)

layer(onPostgres)("the SqlClient of the client", (it) => {
  it.effect("is in its transactions, and the client in those of the SqlClient", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Absurd.createQueue("joined")
      yield* sql`create table joined (entry text primary key)`
      const book = (entry: string) =>
        Effect.andThen(
          sql`insert into joined (entry) values (${entry})`,
          Absurd.spawnTask(entry, null, { queue: "joined" })
        )
      yield* Absurd.withTransaction(book("ours"))
      yield* Effect.exit(Absurd.withTransaction(Effect.andThen(book("ours, undone"), Effect.fail("no"))))
      yield* sql.withTransaction(Absurd.withTransaction(book("theirs")))
      yield* Effect.exit(
        sql.withTransaction(Effect.andThen(Absurd.withTransaction(book("theirs, undone")), Effect.fail("no")))
      )
      const rows = yield* sql<{ readonly entry: string }>`select entry from joined order by entry`
      assert.deepStrictEqual(rows.map((row) => row.entry), ["ours", "theirs"])
      const runs = yield* Absurd.claimTask({ queue: "joined", qty: 10 })
      assert.deepStrictEqual(runs.map((run) => run.name).toSorted(), ["ours", "theirs"])
    }))
})
