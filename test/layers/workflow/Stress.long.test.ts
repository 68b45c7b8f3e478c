/** Ten thousand races in three worker processes, completed from a fourth one: no wake-up is lost, and none is late. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as TestPostgres from "../../support/Postgres.ts"
import * as Race from "./stress/Race.ts"

const program = fileURLToPath(new URL("stress/Worker.ts", import.meta.url))

const startWorker = (url: string, how: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--conditions=source", program, url, how], { stdio: ["ignore", "inherit", "inherit"] })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

const store = Layer.provideMerge(Absurd.layer, TestPostgres.layer({ maxConnections: 10 }))

it.live.each([{ how: "hints", count: 10_000 }, { how: "polling", count: 2000 }])(
  "$count races in three processes that work by $how end once, and none waits for longer than a poll interval",
  ({ count, how }) =>
    Effect.gen(function*() {
      const database = yield* TestPostgres.TestDatabase
      yield* Absurd.createQueue(Race.queue)
      yield* Race.createEnds
      yield* Effect.replicateEffect(startWorker(database.url, how), 3)
      const told = yield* Effect.provide(
        Race.runAll(count, 50),
        AbsurdWorkflowEngine.layer({ queue: Race.queue, pollInterval: Race.pollInterval })
      )
      const waits = yield* Race.judge(told)
      yield* Effect.logInfo(`Waits of ${count} races by ${how}, in milliseconds`, waits)
      assert.deepStrictEqual(yield* database.errors, [])
    }).pipe(Effect.scoped, Effect.provide(store)),
  600_000
)
