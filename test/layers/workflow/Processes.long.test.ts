import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Queue, Random } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { SqlClient } from "effect/sql"
import { DurableDeferred } from "effect/workflow"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as TestPostgres from "../../support/Postgres.ts"
import { Approval, Crashed } from "./Crashed.ts"

const queue = "crashes"
const count = 30
const kills = 6

const store = Layer.provideMerge(Absurd.layer, TestPostgres.layer({ maxConnections: 4 }))

const program = new URL("./WorkerProcess.ts", import.meta.url).pathname

const start = (url: string) =>
  Effect.sync(() =>
    spawn(process.execPath, ["--conditions=source", program, url, queue], { stdio: ["ignore", "inherit", "inherit"] })
  )

const kill = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, "exit")
    child.kill("SIGKILL")
    await exited
  })

it.live(
  "three processes that are killed again and again lose nothing and end everything once",
  () =>
    Effect.gen(function*() {
      const { url } = yield* TestPostgres.TestDatabase
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table acts (execution text, name text)`
      const workers = yield* Effect.acquireRelease(
        Effect.map(Effect.all([start(url), start(url), start(url)]), (started) => [...started]),
        (workers) => Effect.forEach(workers, kill, { discard: true })
      )
      const completed = yield* Queue.unbounded<number>()
      const one = Effect.fnUntraced(function*(number: number) {
        const executionId = yield* Crashed.executionId({ number })
        if (number % 2 === 0) {
          const token = DurableDeferred.tokenFromExecutionId(Approval, { workflow: Crashed, executionId })
          yield* DurableDeferred.succeed(Approval, { token, value: number })
        }
        const result = yield* Crashed.execute({ number })
        yield* Queue.offer(completed, number)
        return result
      })
      const all = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: count }, (_, number) => number), one, { concurrency: 20 })
      )
      // Kills are spread over the work: one after every few executions that have ended.
      for (let killed = 0; killed < kills; killed++) {
        yield* Queue.takeN(completed, Math.floor(count / (kills + 1)))
        const victim = yield* Random.nextIntBetween(0, workers.length - 1)
        yield* kill(workers[victim]!)
        workers[victim] = yield* start(url)
      }
      const results = yield* Fiber.join(all)
      assert.deepStrictEqual(
        results.map(({ child, number }) => [number, child]),
        Array.from({ length: count }, (_, number) => [number, number * 2])
      )
      results.forEach(({ approved, number }) => number % 2 === 0 ? assert.isTrue(approved) : assert.isFalse(approved))
      // What is told twice is told the same.
      for (const number of [0, 1]) {
        const polled = yield* Crashed.poll(yield* Crashed.executionId({ number }))
        assert.isTrue(Option.isSome(polled) && polled.value._tag === "Complete")
      }
      const acts = yield* sql`select distinct execution, name from acts`
      assert.strictEqual(acts.length, count * 3)
      const [row] = yield* sql<{ tasks: number; ended: number }>`
      select count(*)::int as tasks, (count(*) filter (where state = 'completed'))::int as ended from absurd.t_crashes`
      assert.deepStrictEqual(row, { tasks: count * 2, ended: count * 2 })
    }).pipe(
      Effect.scoped,
      Effect.provide(AbsurdWorkflowEngine.layer({ queue, pollInterval: "50 millis" })),
      Effect.provide(Layer.provideMerge(Absurd.layerQueue(queue), store))
    ),
  120_000
)
