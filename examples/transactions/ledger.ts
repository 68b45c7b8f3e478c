import { Effect, Schema } from "effect"
import { Step, Task } from "effect-absurd"
import { SqlClient } from "effect/sql"

export const Transfer = Task.make("transfer", {
  params: { from: Schema.String, to: Schema.String, amount: Schema.Int },
  success: Schema.Int
})

export const Receipt = Task.make("receipt", { params: { entry: Schema.Int } })

export const TransferLive = Transfer.toLayer(Effect.fn(function*({ amount, from, to }) {
  const sql = yield* SqlClient.SqlClient
  // The row, the receipt's task and the step are one commit: none of them, or all of them once.
  return yield* Step.transaction(
    "book",
    Effect.gen(function*() {
      const [row] = yield* Effect.orDie(sql<{ readonly entry: number }>`
        insert into ledger (debit, credit, amount) values (${from}, ${to}, ${amount}) returning entry`)
      const entry = row!.entry
      yield* Receipt.spawn({ entry })
      return entry
    })
  )
}))
