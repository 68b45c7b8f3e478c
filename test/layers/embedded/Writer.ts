/**
 * A program of its own that opens the store in the directory it is given, and then writes pairs of rows for ever. It
 * prints `open`, and the number of every pair once it is committed.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { writeSync } from "node:fs"
import * as Embedded from "../../../src/layers/Embedded.ts"

const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE IF NOT EXISTS pairs (number int, half int)`
  writeSync(1, "open\n")
  for (let number = 1;; number++) {
    yield* sql.withTransaction(Effect.andThen(
      sql`INSERT INTO pairs VALUES (${number}, 1)`,
      sql`INSERT INTO pairs VALUES (${number}, 2)`
    ))
    writeSync(1, `${number}\n`)
  }
})

await Effect.runPromise(Effect.provide(program, Embedded.layer({ directory: process.argv[2] })))
