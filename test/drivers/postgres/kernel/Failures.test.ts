import { assert, describe, it, layer } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { Driver } from "../../../../src/core/Driver.ts"
import { DriverError } from "../../../../src/core/Errors.ts"
import {
  CheckpointName,
  ClaimToken,
  EventName,
  IdempotencyKey,
  QueueName,
  RunId,
  TaskName
} from "../../../../src/core/Identifiers.ts"
import * as PostgresDriver from "../../../../src/drivers/postgres/PostgresDriver.ts"
import * as SqlFailure from "../../../../src/drivers/postgres/SqlFailure.ts"
import * as TestPostgres from "../../../support/Postgres.ts"

const queue = QueueName.make("failures")
const event = EventName.make("event")
const runId = RunId.make("00000000-0000-7000-8000-000000000000")
const token = ClaimToken.make("token")

const task = (params: string, idempotencyKey: IdempotencyKey | null = null) => ({
  name: TaskName.make("task"),
  params,
  headers: null,
  retryStrategy: null,
  maxAttempts: null,
  cancellation: null,
  idempotencyKey,
  delay: null
})

const reason = <A, R>(self: Effect.Effect<A, unknown, R>) =>
  Effect.map(Effect.flip(self), (error) => error instanceof DriverError ? error.reason._tag : error)

const tagged = <A, R>(self: Effect.Effect<A, { readonly _tag: string }, R>) =>
  Effect.map(Effect.flip(self), (error) => error._tag)

const server = PostgresDriver.layer.pipe(Layer.provideMerge(TestPostgres.layer({ maxConnections: 4 })))

layer(server, { concurrent: false })("a driver on PostgreSQL", (it) => {
  it.effect("says which queue does not exist", () =>
    Effect.gen(function*() {
      const driver = yield* Driver
      const missing = QueueName.make("missing")
      const held = { runId, token }
      const calls: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
        driver.spawn({ queue: missing, tasks: [task("x")] }),
        driver.spawn({ queue: missing, tasks: [task("x", IdempotencyKey.make("key"))] }),
        driver.claim({ queue: missing, token, lease: Duration.minutes(1), limit: 1 }),
        driver.complete({ queue: missing, runs: [{ ...held, result: 1 }] }),
        driver.emit({ queue: missing, event, payload: 1 }),
        driver.cancelRun({ queue: missing, runId }),
        driver.getRun({ queue: missing, runId })
      ]
      for (const call of calls) assert.strictEqual(yield* tagged(call), "NotFound")
    }))

  it.effect("refuses to wait, emit or spawn with a key where a wake-up could be lost", () =>
    Effect.gen(function*() {
      const driver = yield* Driver
      const sql = yield* SqlClient.SqlClient
      yield* driver.createQueue({ queue, storage: "unpartitioned" })
      const repeatable = <A, E>(self: Effect.Effect<A, E>) =>
        sql.withTransaction(self).pipe(
          Effect.provideService(SqlClient.BeginTransaction, "BEGIN ISOLATION LEVEL REPEATABLE READ")
        )
      const waits = [{ _tag: "Event" as const, step: CheckpointName.make("step"), event, timeout: null }]
      const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        driver.emit({ queue, event, payload: 1 }),
        driver.suspend({ queue, runId, token, waits }),
        driver.spawn({ queue, tasks: [task("x", IdempotencyKey.make("key"))] })
      ]
      for (const call of calls) assert.strictEqual(yield* reason(repeatable(call)), "UnsupportedIsolation")
      assert.strictEqual((yield* repeatable(driver.spawn({ queue, tasks: [task("x")] }))).length, 1)
    }))

  it.effect("opens its own transactions at READ COMMITTED, whatever the default", () =>
    Effect.gen(function*() {
      const driver = yield* Driver
      const sql = yield* SqlClient.SqlClient
      const isolation = yield* driver.withTransaction(sql<{ readonly level: string }>`
        select current_setting('transaction_isolation') as level`)
      assert.strictEqual(isolation[0]?.level, "read committed")
      const emitted = yield* driver.withTransaction(driver.emit({ queue, event: EventName.make("own"), payload: 1 }))
      assert.deepStrictEqual(emitted, { emitted: true, woken: 0 })
    }).pipe(Effect.provide(Layer.fresh(PostgresDriver.layer.pipe(
      Layer.provideMerge(TestPostgres.layerClient({
        startupParameters: { default_transaction_isolation: "repeatable read" }
      }))
    )))))

  it.effect("quotes no stored value in its errors", () =>
    Effect.gen(function*() {
      const driver = yield* Driver
      const sql = yield* SqlClient.SqlClient
      yield* sql`alter table absurd.t_failures add constraint refused check (params::text not like '%s3cret%')`
      const error = yield* Effect.flip(driver.spawn({ queue, tasks: [task("s3cret")] }))
      assert.strictEqual(error._tag, "DriverError")
      const text = JSON.stringify(error, (_key, value: unknown) =>
        value instanceof Error
          ? { ...value, message: value.message, stack: value.stack, cause: value.cause }
          : value)
      assert.notInclude(text, "s3cret")
      assert.include(text, "refused")
    }))

  it.effect("repeats a statement that lost a deadlock, but not in a transaction of the caller", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      let count = 0
      const collides = (times: number) =>
        Effect.suspend(() =>
          ++count <= times
            ? sql`do $$ begin raise exception 'collision' using errcode = '40P01'; end $$`
            : sql`select 1 as n`
        )
      assert.strictEqual((yield* SqlFailure.run(sql, "test", "q", "write", collides(1))).length, 1)
      assert.strictEqual(count, 2)
      count = 0
      const joined = sql.withTransaction(SqlFailure.run(sql, "test", "q", "write", collides(1)))
      assert.strictEqual(yield* reason(joined), "Conflict")
      assert.strictEqual(count, 1)
    }))
})

layer(TestPostgres.layerEmpty())("without the schema", (it) => {
  it.effect("a driver does not start, and says what to do", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Layer.build(PostgresDriver.layer))
      assert.strictEqual(error.reason._tag, "SchemaMismatch")
      assert.include(error.message, "Installation.layer")
    }))

  it.effect("a driver that has started says so, with the remedy", () =>
    Effect.gen(function*() {
      const driver = yield* PostgresDriver.make()
      assert.strictEqual(yield* reason(driver.emit({ queue, event, payload: 1 })), "SchemaMismatch")
      assert.strictEqual(yield* reason(driver.listQueues), "SchemaMismatch")
    }))
})

describe("a lost connection", () => {
  const lost = (operation: string) =>
    new SqlError.SqlError({
      reason: new SqlError.ConnectionError({ cause: new Error("gone"), message: "gone", operation })
    })

  it("leaves the outcome of a write unknown, unless it was never made", () => {
    assert.strictEqual(SqlFailure.toDriverError("x", "write", lost("query")).reason._tag, "OutcomeUnknown")
    assert.strictEqual(SqlFailure.toDriverError("x", "write", lost("connect")).reason._tag, "Unavailable")
    assert.strictEqual(SqlFailure.toDriverError("x", "read", lost("query")).reason._tag, "Unavailable")
  })
})
