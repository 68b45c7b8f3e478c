/** All that a store holds, as plain data, to be compared before and after. */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Driver } from "../../src/core/Driver.ts"
import { QueueName } from "../../src/core/Identifiers.ts"
import * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"

export class Dump extends Context.Service<Dump, { readonly all: Effect.Effect<unknown> }>()("test/support/Dump") {}

/** The driver in memory with its dump. */
export const layerMemory: Layer.Layer<Driver | MemoryDriver.MemoryStore | Dump> = Layer.effect(
  Dump,
  Effect.gen(function*() {
    const driver = yield* Driver
    const store = yield* MemoryDriver.MemoryStore
    const ofQueue = (name: string) => {
      const queue = QueueName.make(name)
      return Effect.all({
        rows: store.dump(queue),
        policy: driver.getQueuePolicy(queue),
        load: driver.queueLoad(queue)
      })
    }
    const all = Effect.gen(function*() {
      const queues = yield* driver.listQueues
      const workflowRuns = yield* driver.listWorkflowRuns({
        name: null,
        version: null,
        status: null,
        tag: null,
        createdFrom: null,
        createdBefore: null,
        after: null,
        limit: 1000
      })
      return JSON.stringify({ queues, contents: yield* Effect.forEach(queues, ofQueue), workflowRuns })
    })
    return Dump.of({ all: Effect.orDie(all) })
  })
).pipe(Layer.provideMerge(MemoryDriver.layer))

/** Every row of every table of both schemas. */
export const layerSql: Layer.Layer<Dump, never, SqlClient.SqlClient> = Layer.effect(
  Dump,
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const all = Effect.gen(function*() {
      const tables = yield* sql<{ readonly name: string }>`
        select format('%I.%I', table_schema, table_name) as name from information_schema.tables
        where table_schema in ('absurd', 'absurd_effect') and table_type = 'BASE TABLE' order by 1`
      const each = tables.map(({ name }) =>
        `select '${name.replaceAll("'", "''")}' as name, array_agg(r order by r)::text as rows ` +
        // A wait for an event that has not been emitted locks it by a row that no operation tells of.
        `from (select to_jsonb(t)::text as r from ${name} t where to_jsonb(t) ->> 'emitted_at' is null ` +
        `or (to_jsonb(t) ->> 'emitted_at')::timestamptz > 'epoch') rows`
      )
      const contents = yield* sql.unsafe<{ readonly name: string }>(each.join(" union all "))
      return JSON.stringify(contents.toSorted((a, b) => a.name < b.name ? -1 : 1))
    })
    return Dump.of({ all: Effect.orDie(all) })
  })
)
