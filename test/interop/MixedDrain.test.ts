/** One queue, a worker of each side, real time: every task once, every step once, no complaint of the server. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { Absurd, Worker } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as ForeignPostgres from "../support/ForeignPostgres.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as Interop from "./support/Interop.ts"
import * as Mixed from "./support/Mixed.ts"

const queue = "mixed"
const perKind = 60

/** What happened in this process, whichever side it happened on. */
const makeWitness = () => {
  const bodies = new Map<string, number>()
  const failed = new Set<number>()
  const sides = new Set<string>()
  const both = Promise.withResolvers<void>()
  const witness: Mixed.Witness = {
    step: async (task, step) => {
      const key = `${task} ${step}`
      bodies.set(key, (bodies.get(key) ?? 0) + 1)
    },
    failsNow: async (n) => !failed.has(n) && failed.add(n) !== undefined,
    // Neither side goes on before both have begun, so that neither does all the work.
    meet: (side) => {
      sides.add(side)
      if (sides.size === 2) both.resolve()
      return both.promise
    }
  }
  return { bodies, witness }
}

const databases = {
  "our installation": TestPostgres.layer({ maxConnections: 5 }),
  "another installation": Layer.orDie(ForeignPostgres.layer({ maxConnections: 5 }))
}

const drain = (storage: "unpartitioned" | "partitioned", where: keyof typeof databases) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const database = yield* TestPostgres.TestDatabase
    const pool = yield* Interop.makePool({ ...database.pgConfig, max: 5 })
    const { log, sdk } = Interop.makeClient(pool, queue)
    const { bodies, witness } = makeWitness()
    yield* Absurd.createQueue(queue, { storage })
    yield* Mixed.watch(queue)
    Mixed.registerTheirs(witness, sdk)
    yield* Layer.build(
      Layer.provideMerge(
        Worker.layer({ queue, concurrency: 8, pollInterval: "10 millis" }),
        Mixed.ourHandlers(queue, witness)
      )
    )
    yield* Effect.acquireRelease(
      Effect.promise(() => sdk.startWorker({ concurrency: 8, pollInterval: 0.01, workerId: "the SDK" })),
      (worker) => Effect.promise(() => worker.close())
    )
    yield* Mixed.spawnAll(queue, sdk, perKind)
    yield* Mixed.emitAll(queue, sdk, perKind)
    yield* Effect.repeat(Mixed.left(queue), {
      schedule: Schedule.spaced("20 millis"),
      until: (left) => left === 0
    })

    yield* Mixed.assertDrained(queue, perKind)
    assert.strictEqual(bodies.size, Mixed.kinds.length * perKind * 3)
    assert.deepStrictEqual([...bodies].filter(([, times]) => times > 1), [])
    const sides = yield* sql`
      select distinct case when claimed_by = 'the SDK' then 'the SDK' else split_part(claimed_by, ':', 1) end as side
      from absurd.r_mixed where state = 'completed' order by 1`
    assert.deepStrictEqual(sides, [{ side: "effect" }, { side: "the SDK" }])
    assert.deepStrictEqual(log.filter((line) => !line.includes("as planned")), [])
    assert.deepStrictEqual(yield* database.errors, [])
  }).pipe(
    // The workers end before the client that they work with.
    Effect.scoped,
    Effect.provide(
      Absurd.layerWith({ queue, workerId: "effect" }).pipe(
        Layer.provideMerge(databases[where])
      )
    )
  )

for (
  const [storage, where] of [
    ["unpartitioned", "our installation"],
    ["partitioned", "our installation"],
    ["unpartitioned", "another installation"]
  ] as const
) {
  it.live(
    `300 mixed tasks of one ${storage} queue of ${where} are completed once each by a worker of each side`,
    () => drain(storage, where),
    60_000
  )
}
