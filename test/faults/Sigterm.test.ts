/** What a deployment does: worker processes are told to stop, and others take their places. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd } from "effect-absurd"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import * as TestPostgres from "../support/Postgres.ts"
import { Forever } from "./forever.ts"

const main = fileURLToPath(new URL("forever.ts", import.meta.url))

/** A worker process that has begun to work, and is gone when the scope ends, whatever it does. */
const worker = (url: string, grace: number) =>
  Effect.gen(function*() {
    const process = yield* Effect.acquireRelease(start(url, grace), ({ child }) =>
      Effect.sync(() => child.kill("SIGKILL")))
    yield* says(process, "begun")
    return process
  })

const start = (url: string, grace: number) =>
  Effect.sync(() => {
    const child = spawn(process.execPath, ["--conditions=source", main, url, String(grace)], {
      stdio: ["ignore", "pipe", "inherit"]
    })
    let output = ""
    child.stdout.on("data", (chunk) => output += String(chunk))
    return { child, output: () => output, ended: once(child, "close") }
  })

type Process = Effect.Success<ReturnType<typeof start>>

const says = ({ child, output }: Process, word: string) =>
  Effect.promise(async () => {
    while (!output().includes(word)) await once(child.stdout, "data")
  })

const terminate = ({ child }: Process) =>
  Effect.sync(() => {
    child.kill("SIGTERM")
    return performance.now()
  })

/** Ended by itself, in time, and after the finalizers of its work. */
const endedWithin = Effect.fnUntraced(function*(process: Process, toldAt: number, seconds: number) {
  const [, signal] = yield* Effect.promise(() => process.ended)
  assert.isNull(signal)
  assert.isBelow(performance.now() - toldAt, seconds * 1000)
  assert.include(process.output(), "finalized")
})

/** There is one run, its first; nothing of it failed, and whoever asks gets it. */
const isClaimable = Effect.fnUntraced(function*(taskId: string) {
  const runs = yield* Absurd.listRuns(taskId, { queue: "deploy" })
  assert.deepStrictEqual(
    runs.map(({ attempt, claimedBy, failureReason }) => ({ attempt, claimedBy, failureReason })),
    [{ attempt: 1, claimedBy: null, failureReason: null }]
  )
  const claims = yield* Absurd.claimTask({ queue: "deploy" })
  assert.deepStrictEqual(claims.map(({ attempt, runId }) => ({ attempt, runId })), [{
    attempt: 1,
    runId: runs[0]!.runId
  }])
})

const client = () => Layer.provideMerge(Absurd.layer, TestPostgres.layer())

layer(client(), { excludeTestServices: true })("a worker process that gets SIGTERM", (it) => {
  it.effect(
    "hands back what it cannot finish, in time and at no cost, and the next one takes it up",
    () =>
      Effect.gen(function*() {
        const { url } = yield* TestPostgres.TestDatabase
        yield* Absurd.createQueue("deploy")
        const { taskId } = yield* Forever.spawn(null)
        for (let turn = 1; turn <= 2; turn++) {
          const process = yield* worker(url, 3)
          yield* endedWithin(process, yield* terminate(process), 3)
        }
        yield* isClaimable(taskId)
      }),
    60_000
  )
})

layer(client(), { excludeTestServices: true })("a worker process that gets SIGTERM when the store is slow", (it) => {
  it.effect("takes what is left of its grace time to hand its work back", () =>
    Effect.gen(function*() {
      const database = yield* TestPostgres.TestDatabase
      const session = yield* TestPostgres.session(database)
      yield* Absurd.createQueue("deploy")
      const { taskId } = yield* Forever.spawn(null)
      const process = yield* worker(database.url, 12)
      yield* Effect.promise(async () => {
        await session.query("begin")
        await session.query("select from absurd.r_deploy for update")
      })
      const toldAt = yield* terminate(process)
      yield* says(process, "finalized")
      // From here on only the hand-back is missing.
      yield* Effect.promise(async () => {
        await session.query("select pg_sleep(1.4)")
        await session.query("commit")
      })
      yield* endedWithin(process, toldAt, 12)
      yield* isClaimable(taskId)
    }), 60_000)
})
