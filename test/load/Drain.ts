/** Worker processes on one queue, and a look at everything that they left behind. */
import { assert } from "@effect/vitest"
import { Array, Effect, Layer, Schedule } from "effect"
import { Absurd } from "effect-absurd"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { SqlClient } from "effect/sql"
import { fileURLToPath } from "node:url"
import * as Interop from "../interop/support/Interop.ts"
import * as Mixed from "../interop/support/Mixed.ts"
import * as TestPostgres from "../support/Postgres.ts"
import { ThreeSteps } from "./worker.ts"

const queue = "load"

const startWorker = (program: string, url: string) =>
  Effect.flatMap(ChildProcessSpawner.ChildProcessSpawner, (spawner) => {
    const path = fileURLToPath(new URL(program, import.meta.url))
    return spawner.spawn(ChildProcess.make(process.execPath, ["--conditions=source", path, url], {
      stdin: "ignore",
      stdout: "inherit",
      stderr: "inherit"
    }))
  })

const untilDrained = Effect.repeat(Mixed.left(queue), {
  schedule: Schedule.spaced("250 millis"),
  until: (left) => left === 0
})

const environment = Layer.provideMerge(Absurd.layerWith({ queue }), TestPostgres.layer({ maxConnections: 4 }))

/** So many processes of ours drain so many tasks of three steps: each task, step and step body once. */
export const threeSteps = (count: number, workers: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const database = yield* TestPostgres.TestDatabase
    yield* Absurd.createQueue(queue)
    yield* Mixed.watch(queue)
    yield* Effect.forEach(Array.range(1, workers), () => startWorker("worker.ts", database.url))
    const spawned = yield* Effect.forEach(
      Array.chunksOf(Array.range(1, count), 1000),
      (numbers) => ThreeSteps.spawnMany(numbers.map((n) => ({ n })))
    )
    assert.strictEqual(new Set(spawned.flat().map((task) => task.taskId)).size, count)
    yield* untilDrained
    assert.deepStrictEqual(
      yield* sql`select
        (select count(*)::int from absurd.r_load) as runs,
        (select count(*)::int from absurd.c_load) as checkpoints,
        (select count(*)::int from public.written where what = 'checkpoint') as attempts,
        (select count(*)::int from public.written where what = 'end') as ends,
        (select count(*)::int from public.bodies) as bodies,
        (select count(*)::int from (select distinct task, step from public.bodies) as b) as distinct_bodies,
        (select count(*)::int from absurd.t_load t
          where (completed_payload)::int = (params ->> 'n')::int + 3 and attempts = 1) as right`,
      [{
        runs: count,
        checkpoints: 3 * count,
        attempts: 3 * count,
        ends: count,
        bodies: 3 * count,
        distinct_bodies: 3 * count,
        right: count
      }]
    )
    assert.deepStrictEqual(yield* database.errors, [])
  }).pipe(Effect.scoped, Effect.provide(environment))

/** Processes of both sides drain mixed tasks that both sides spawned: each task, step and step body once, by both. */
export const mixed = (perKind: number, pairs: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const database = yield* TestPostgres.TestDatabase
    const pool = yield* Interop.makePool({ ...database.pgConfig, max: 5 })
    const { sdk } = Interop.makeClient(pool, queue)
    yield* Absurd.createQueue(queue)
    yield* Mixed.watch(queue)
    for (const program of Array.replicate(["mixed-sdk-worker.ts", "mixed-worker.ts"], pairs).flat()) {
      yield* startWorker(program, database.url)
    }
    yield* Mixed.spawnAll(queue, sdk, perKind)
    yield* Mixed.emitAll(queue, sdk, perKind)
    yield* untilDrained
    yield* Mixed.assertDrained(queue, perKind)
    yield* Mixed.assertBodies(perKind)
    const [shares] = yield* sql<{ readonly bySdk: number; readonly byUs: number }>`select
      count(*) filter (where claimed_by like 'absurd-sdk%')::int as "bySdk",
      count(*) filter (where claimed_by not like 'absurd-sdk%')::int as "byUs" from absurd.r_load`
    assert.isAbove(shares!.bySdk, 0)
    assert.isAbove(shares!.byUs, 0)
    assert.deepStrictEqual(yield* database.errors, [])
  }).pipe(Effect.scoped, Effect.provide(environment))
