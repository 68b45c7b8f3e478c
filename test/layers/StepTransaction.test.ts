import { assert, layer as tests } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Absurd, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as StepTransactionSuite from "../conformance/StepTransactionSuite.ts"
import * as CheckedMemory from "../support/CheckedMemory.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

StepTransactionSuite.suite(
  "transactions of steps on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)

StepTransactionSuite.suite(
  "transactions of steps in memory",
  Layer.mergeAll(CheckedMemory.layerAbsurd, TestTime.layerMemory)
)

StepTransactionSuite.suite(
  "transactions of steps on the embedded store",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(EmbeddedStore.layer))
)

tests(Layer.provideMerge(Absurd.layer, TestPostgres.layer()))("the program's own tables", (it) => {
  const make = (name: string) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const queue = `${name}_queue`
      yield* Absurd.createQueue(queue)
      yield* sql`create table ${sql(name)} (entry text primary key)`
      const entries = Effect.map(
        sql<{ readonly entry: string }>`select entry from ${sql(name)} order by entry`,
        (rows) => rows.map((row) => row.entry)
      )
      const book = (entry: string) => sql`insert into ${sql(name)} (entry) values (${entry})`
      return { sql, queue, entries, book }
    })

  it.effect("a row and the checkpoint are one commit, over three attempts", () =>
    Effect.gen(function*() {
      const { book, entries, queue } = yield* make("once")
      let attempts = 0
      const Book = Task.make("book", { queue, params: {}, success: Schema.Int, retry: RetryStrategy.none })
      const live = Book.toLayer(Effect.fn(function*() {
        // A second insert of the same key would fail.
        yield* Step.transaction("book", Effect.asVoid(Effect.orDie(book("a"))))
        yield* Step.transaction("other", Effect.asVoid(Effect.orDie(book(`other of attempt ${attempts}`))))
        if (++attempts < 3) return yield* Effect.die("once more")
        return attempts
      }))
      yield* Effect.gen(function*() {
        const task = yield* Book.spawn({})
        yield* Worker.runOnce({ queue }).pipe(Effect.repeat({ until: (results) => results.length === 0 }))
        assert.strictEqual(yield* task.await, 3)
        assert.deepStrictEqual(yield* entries, ["a", "other of attempt 0"])
      }).pipe(Effect.provide(live))
    }))

  it.effect("a failed statement that was caught spoils the transaction, which then is a failed attempt", () =>
    Effect.gen(function*() {
      const { book, entries, queue } = yield* make("spoilt")
      const Book = Task.make("book", { queue, params: {}, maxAttempts: 1 })
      const live = Book.toLayer(() =>
        Step.transaction(
          "book",
          Effect.orDie(book("a")).pipe(Effect.andThen(Effect.ignore(book("a"))), Effect.asVoid)
        )
      )
      yield* Effect.gen(function*() {
        yield* Book.spawn({})
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
        assert.deepStrictEqual(yield* entries, [])
      }).pipe(Effect.provide(live))
    }))

  it.effect("a constraint that is checked at the commit is a failed attempt", () =>
    Effect.gen(function*() {
      const { entries, queue, sql } = yield* make("deferred")
      yield* sql`create table deferred_part (entry text references deferred deferrable initially deferred)`
      const Book = Task.make("book", { queue, params: {}, maxAttempts: 1 })
      const live = Book.toLayer(() =>
        Step.transaction("book", Effect.asVoid(Effect.orDie(sql`insert into deferred_part values ('none')`)))
      )
      yield* Effect.gen(function*() {
        yield* Book.spawn({})
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
        assert.deepStrictEqual(yield* entries, [])
      }).pipe(Effect.provide(live))
    }))

  it.effect("rows, spawned tasks, events and completions of one sql.withTransaction stand or fall together", () =>
    Effect.gen(function*() {
      const { book, entries, queue, sql } = yield* make("together")
      const act = (entry: string, held: Effect.Success<ReturnType<typeof Absurd.claimTask>>[number]) =>
        sql.withTransaction(Effect.gen(function*() {
          yield* book(entry)
          yield* Absurd.emitEvent("done", entry, { queue })
          yield* Absurd.completeTask(held, entry)
          const { taskId } = yield* Absurd.spawnTask("job", entry, { queue })
          if (entry === "undone") return yield* Effect.fail(taskId)
          return taskId
        }))
      const { taskId } = yield* Absurd.spawnTask("by hand", null, { queue })
      const [held] = yield* Absurd.claimTask({ queue })
      yield* Effect.flip(act("undone", held!))
      assert.deepStrictEqual(yield* entries, [])
      assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue })).state, "running")
      assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
      yield* act("kept", held!)
      assert.deepStrictEqual(yield* entries, ["kept"])
      assert.strictEqual(yield* Absurd.awaitTaskResult(taskId, { queue }), "kept")
      assert.isFalse(yield* Absurd.emitEvent("done", null, { queue }))
      assert.deepStrictEqual((yield* Absurd.claimTask({ queue })).map((_) => _.params), ["kept"])
    }))
})
