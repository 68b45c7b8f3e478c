/** Many worker processes on one queue: every task and every step once, with nothing in the server's log. */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Array, Effect, Layer, Schedule } from "effect"
import { Absurd } from "effect-absurd"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { SqlClient } from "effect/sql"
import { fileURLToPath } from "node:url"
import * as TestPostgres from "../support/Postgres.ts"
import { ThreeSteps } from "./worker.ts"

const startWorker = (program: string, url: string) =>
  Effect.flatMap(ChildProcessSpawner.ChildProcessSpawner, (spawner) => {
    const path = fileURLToPath(new URL(program, import.meta.url))
    return spawner.spawn(ChildProcess.make(process.execPath, ["--conditions=source", path, url], {
      stdin: "ignore",
      stdout: "inherit",
      stderr: "inherit"
    }))
  })

const spawnTasks = (count: number) =>
  Effect.forEach(
    Array.chunksOf(Array.range(1, count), 1000),
    (numbers) => ThreeSteps.spawnMany(numbers.map((n) => ({ n })))
  )

/** Starts the workers, spawns the tasks, waits for the last one, and looks at every row. */
const drain = (count: number, programs: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const database = yield* TestPostgres.TestDatabase
    yield* Absurd.createQueue("load")
    // A checkpoint that is written twice ends in an error, which the log would show.
    yield* sql`create function refuse() returns trigger language plpgsql as
      'begin raise exception ''a checkpoint was written twice''; end'`
    yield* sql`create trigger once before update on absurd.c_load for each row execute function refuse()`
    yield* Effect.forEach(programs, (program) => startWorker(program, database.url))
    const spawned = yield* spawnTasks(count)
    assert.strictEqual(new Set(spawned.flat().map((task) => task.taskId)).size, count)
    const open = Effect.map(
      sql<{ readonly open: number }>`select count(*)::int as open from absurd.t_load where state <> 'completed'`,
      (rows) => rows[0]!.open
    )
    yield* open.pipe(Effect.repeat({ schedule: Schedule.spaced("250 millis"), until: (open) => open === 0 }))
    assert.deepStrictEqual(
      yield* sql`select
        (select count(*)::int from absurd.r_load) as runs,
        (select count(*)::int from absurd.c_load) as checkpoints,
        (select count(*)::int from absurd.t_load t
          where (completed_payload)::int = (params ->> 'n')::int + 3 and attempts = 1) as right`,
      [{ runs: count, checkpoints: 3 * count, right: count }]
    )
    assert.deepStrictEqual(yield* database.errors, [])
    return yield* sql<{ readonly bySdk: number; readonly byUs: number }>`select
      count(*) filter (where claimed_by like 'absurd-sdk%')::int as "bySdk",
      count(*) filter (where claimed_by not like 'absurd-sdk%')::int as "byUs" from absurd.r_load`
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(Absurd.layerWith({ queue: "load" }), TestPostgres.layer({ maxConnections: 4 })))
  )

layer(NodeServices.layer, { excludeTestServices: true })("worker processes", (it) => {
  it.effect(
    "ten complete 10,000 tasks of three steps, each task and each step once",
    () => drain(10_000, Array.replicate("worker.ts", 10)),
    180_000
  )

  it.effect(
    "two of absurd-sdk and two of ours complete 5,000 tasks from one queue, nothing lost or doubled",
    () =>
      Effect.gen(function*() {
        const [shares] = yield* drain(5000, ["sdk-worker.ts", "worker.ts", "sdk-worker.ts", "worker.ts"])
        assert.isAbove(shares!.bySdk, 0)
        assert.isAbove(shares!.byUs, 0)
      }),
    180_000
  )
})
