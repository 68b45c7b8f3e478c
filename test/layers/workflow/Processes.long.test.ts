/** Worker processes that are killed, told to stop, and stopped for longer than their leases, in the middle of everything. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, Random } from "effect"
import { Absurd, Doctor } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { SqlClient } from "effect/sql"
import { DurableDeferred } from "effect/workflow"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Fleet from "../../faults/crash/Fleet.ts"
import * as Ledger from "../../faults/crash/Ledger.ts"
import * as TestPostgres from "../../support/Postgres.ts"
import * as Story from "./processes/Story.ts"

const count = 90

/** In seconds. */
const [lease, grace] = [2, 3]

type Deed = "kill" | "zombie" | "relieve"
const deeds: ReadonlyArray<Deed> = [
  ...Array.from({ length: 8 }, (): Deed => "kill"),
  ...Array.from({ length: 3 }, (): Deed => "zombie"),
  ...Array.from({ length: 4 }, (): Deed => "relieve")
]

const program = join(import.meta.dirname, "processes/Process.ts")

const ledgerFile = Effect.acquireRelease(
  Effect.sync(() => join(Fs.mkdtempSync(join(tmpdir(), "absurd-workflows-")), "ledger")),
  (path) => Effect.sync(() => Fs.rmSync(join(path, ".."), { recursive: true, force: true }))
)

const inStore = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  test.pipe(
    Effect.scoped,
    Effect.provide(AbsurdWorkflowEngine.layer({ queue: Story.queue, pollInterval: "50 millis" })),
    Effect.provide(
      Layer.provideMerge(
        Absurd.layerQueue(Story.queue),
        Layer.provideMerge(Absurd.layer, TestPostgres.layer({ maxConnections: 4 }))
      )
    )
  )

const pause = (millis: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, millis)))

/** Those that go on after their lease is over have a second to do what they should not. */
const doDeed = (fleet: Fleet.Fleet, deed: Deed, worker: Fleet.Worker) =>
  Effect.gen(function*() {
    if (deed === "kill") return yield* Effect.promise(() => fleet.kill(worker))
    if (deed === "relieve") {
      return assert.isBelow(yield* Effect.promise(() => fleet.relieve(worker)), grace * 1000 + 1000)
    }
    worker.child.kill("SIGSTOP")
    yield* Effect.promise(() => fleet.replace(worker))
    yield* pause(lease * 1500)
    worker.child.kill("SIGCONT")
    yield* pause(1000)
    worker.child.kill("SIGTERM")
  })

const travel = Effect.fnUntraced(function*(n: number, arrivals: Queue.Queue<number>) {
  const executionId = yield* Story.Journey.executionId({ n })
  if (n % 2 === 0) {
    const token = DurableDeferred.tokenFromExecutionId(Story.Approval, { workflow: Story.Journey, executionId })
    const approve = Effect.andThen(
      DurableDeferred.succeed(Story.Approval, { token, value: n }),
      DurableDeferred.succeed(Story.Approval, { token, value: -n })
    )
    yield* Effect.forkChild(Effect.delay(approve, yield* Random.nextIntBetween(1, 1500)))
  }
  const result = yield* Story.Journey.execute({ n })
  yield* Queue.offer(arrivals, n)
  return result
})

describe("worker processes", () => {
  it.live(
    "that are killed, stopped and replaced end each execution once, and repeat nothing acknowledged",
    () =>
      inStore(Effect.gen(function*() {
        const database = yield* TestPostgres.TestDatabase
        const sql = yield* SqlClient.SqlClient
        const ledger = yield* ledgerFile
        const fleet = yield* Fleet.make({ program, url: database.url, ledger, size: 3, lease, grace })
        const arrivals = yield* Queue.unbounded<number>()
        const numbers = Array.from({ length: count }, (_, n) => n)
        const all = yield* Effect.forkChild(Effect.forEach(numbers, (n) => travel(n, arrivals), { concurrency: 20 }))
        // Spread over the work: one after every few executions that have ended.
        for (const deed of yield* Random.shuffle(deeds)) {
          yield* Queue.takeN(arrivals, Math.floor(count / (deeds.length + 1)))
          const worker = fleet.workers[yield* Random.nextIntBetween(0, fleet.workers.length - 1)]!
          yield* doDeed(fleet, deed, worker)
        }
        const results = yield* Fiber.join(all)
        const { begun, changed, repeated, values } = Ledger.judge(Ledger.read(ledger))
        results.forEach(({ approved, child, fast }, n) => {
          assert.deepStrictEqual({ n, approved, child }, { n, approved: n % 2 === 0, child: n * 2 })
          assert.include([values.get(`${n} fast`), values.get(`${n} slow`)], fast)
          for (const name of ["first", "child", "last"]) assert.isDefined(values.get(`${n} ${name}`), `${n} ${name}`)
        })
        assert.deepStrictEqual(repeated, [])
        assert.deepStrictEqual(changed, [])
        // Kills have met activities: some were begun again.
        assert.isAbove(begun, values.size)
        const [row] = yield* sql<{ readonly tasks: number; readonly ended: number }>`
        select count(*)::int as tasks, (count(*) filter (where state = 'completed'))::int as ended
        from absurd.t_crashes`
        assert.deepStrictEqual(row, { tasks: count * 2, ended: count * 2 })
        const [ends] = yield* sql<{ readonly twice: number }>`
        select count(*)::int as twice
        from (select from absurd.r_crashes where state = 'completed' group by task_id having count(*) > 1) more`
        assert.deepStrictEqual(ends, { twice: 0 })
        assert.deepStrictEqual(yield* Doctor.check({ queue: Story.queue }), [])
        assert.deepStrictEqual(fleet.deserters, [])
      })),
    300_000
  )

  it.live(
    "that are told to stop hand over at once, however long their leases are",
    () =>
      inStore(Effect.gen(function*() {
        const { url } = yield* TestPostgres.TestDatabase
        const sql = yield* SqlClient.SqlClient
        const ledger = yield* ledgerFile
        const fleet = yield* Fleet.make({ program, url, ledger, size: 1, lease: 3600, grace })
        for (let n = 0; n < 10; n++) yield* Story.Endless.execute({ n }, { discard: true })
        while (Ledger.read(ledger).length < 10) yield* pause(20)
        const toldAt = Date.now()
        yield* Effect.sync(() => Fs.writeFileSync(`${ledger}.last`, ""))
        assert.isBelow(yield* Effect.promise(() => fleet.relieve(fleet.workers[0]!)), grace * 1000 + 1000)
        const ends = yield* Effect.forEach([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], (n) => Story.Endless.execute({ n }), {
          concurrency: 10
        })
        assert.isTrue(ends.every((end) => end))
        assert.isBelow(Date.now() - toldAt, 30_000)
        // In the run that was handed over, at the cost of no attempt.
        const runs = yield* sql<{ readonly attempt: number }>`select attempt from absurd.r_crashes`
        assert.deepStrictEqual(runs, Array.from({ length: 10 }, () => ({ attempt: 1 })))
      })),
    120_000
  )
})
