/**
 * Real worker processes on a real server, killed, stopped and continued, while sessions are cut and backends killed. Each
 * process writes to a ledger; the verdict is read from it and from the store.
 *
 * `CRASH_TASKS`, `CRASH_KILLS` and `CRASH_MINUTES` make it larger than it is in the whole suite; `npm run test:crash` does.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { Absurd, Installation } from "effect-absurd"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Client } from "pg"
import * as Server from "../support/Server.ts"
import * as Story from "./crash/Story.ts"

const tasks = Number(process.env["CRASH_TASKS"] ?? 30)
const kills = Number(process.env["CRASH_KILLS"] ?? 3)
const minutes = Number(process.env["CRASH_MINUTES"] ?? 4)

const serverOfItsOwn = Effect.acquireRelease(
  // What is acknowledged has to be on disk, for the server is killed as well.
  Effect.promise(() => Server.start({ fsync: "on", synchronous_commit: "on", full_page_writes: "on" })),
  (server) => Effect.promise(server.stop)
)

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "absurd-crash-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

const clientOf = (url: string) =>
  Absurd.layerWith({}).pipe(
    Layer.provide(Installation.layer),
    Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 8 }))
  )

const worker = (url: string, ledger: string) => {
  const child = spawn(
    process.execPath,
    ["--conditions=source", join(import.meta.dirname, "crash", "Process.ts"), url, ledger, "3 seconds"],
    { stdio: ["ignore", "ignore", "inherit"] }
  )
  return { child, ended: once(child, "exit") }
}

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** Waits until there is such a line in the ledger. */
const written = async (ledger: string, line: string) => {
  while (!Fs.existsSync(ledger) || !Fs.readFileSync(ledger, "utf8").includes(line)) await pause(20)
}

const query = async (url: string, text: string) => {
  const client = new Client({ connectionString: url })
  client.on("error", () => {})
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

/** Kills one backend of the server, which makes the server end all sessions and recover. */
const crashServer = async (url: string) => {
  const rows = await query(
    url,
    "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
  )
  if (rows[0] !== undefined) process.kill(Number(rows[0].pid), "SIGKILL")
}

interface Deeds {
  kills: number
  zombies: number
  crashes: number
  cuts: number
}

/** Does one bad thing after another until enough workers were killed. */
const torment = async (
  url: string,
  ledger: string,
  workers: Array<ReturnType<typeof worker>>,
  stopped: Set<number>
) => {
  const deeds: Deeds = { kills: 0, zombies: 0, crashes: 0, cuts: 0 }
  const resting: Array<Promise<void>> = []
  for (let turn = 0; deeds.kills < kills; turn++) {
    const slot = turn % workers.length
    const { child } = workers[slot]!
    await written(ledger, `start ${child.pid}\n`)
    if (turn % 5 === 3) {
      stopped.add(child.pid!)
      child.kill("SIGSTOP")
      deeds.zombies++
      // Longer than the lease of two seconds.
      resting.push(pause(3000).then(() => void child.kill("SIGCONT")))
      workers[slot] = worker(url, ledger)
      resting.push(written(ledger, `start ${workers[slot]!.child.pid}\n`))
      extra.push(child)
    } else if (turn % 5 === 1) {
      await crashServer(url).then(() => void deeds.crashes++, () => {})
    } else if (turn % 5 === 4) {
      const all =
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'"
      await query(url, all).then(() => void deeds.cuts++, () => {})
    } else {
      child.kill("SIGKILL")
      deeds.kills++
      workers[slot] = worker(url, ledger)
    }
    await pause(150)
  }
  await Promise.all(resting)
  return deeds
}

/** Processes that were stopped once; they go on beside those that took their places. */
const extra: Array<ChildProcess> = []

/** What the ledger says against the promise that no step begins after its checkpoint was acknowledged. */
const judge = (ledger: string) => {
  const done = new Set<string>()
  const got = new Map<string, Set<string>>()
  const begins = new Map<string, number>()
  const repeated: Array<{ readonly step: string; readonly pid: number }> = []
  for (const line of Fs.readFileSync(ledger, "utf8").split("\n")) {
    const [what, pid = "", n = "", detail = ""] = line.split(" ")
    const key = `${n} ${detail}`
    if (what === "begin") begins.set(key, (begins.get(key) ?? 0) + 1)
    if (what === "begin" && done.has(key)) repeated.push({ step: key, pid: Number(pid) })
    if (what === "done") done.add(key)
    if (what === "got") got.set(n, (got.get(n) ?? new Set()).add(detail))
  }
  return { done, got, repeated, begins: [...begins.values()].reduce((sum, count) => sum + count, 0) }
}

describe("crashes", () => {
  it.live("lose nothing, and repeat nothing that was acknowledged", () =>
    Effect.gen(function*() {
      const server = yield* serverOfItsOwn
      const url = Server.url(server.location, "postgres")
      const ledger = join(yield* folder, "ledger")
      const workers: Array<ReturnType<typeof worker>> = []
      const stopped = new Set<number>()
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => [...workers.map(({ child }) => child), ...extra].forEach((child) => child.kill("SIGKILL")))
      )
      const client = clientOf(url)
      yield* Effect.gen(function*() {
        const { outage } = yield* Absurd.Absurd
        yield* Absurd.createQueue(Story.queue)
        const handles = yield* Story.Journey.spawnMany(
          Array.from({ length: tasks }, (_, n) => ({ n, waits: n % 2 === 0 }))
        )
        for (let n = 0; n < 4; n++) workers.push(worker(url, ledger))
        const tormented = yield* Effect.forkChild(Effect.promise(() => torment(url, ledger, workers, stopped)))
        // The first payload is acknowledged, whatever happens to the connection; the second changes nothing.
        for (let n = 0; n < tasks; n += 2) {
          yield* outage.persist(Story.Go.emit(String(n), n + 1))
          yield* outage.persist(Story.Go.emit(String(n), -1))
        }
        const deeds = yield* Fiber.join(tormented)
        for (let n = 0; n < tasks; n++) assert.strictEqual(yield* handles[n]!.await, n)
        // Workers that are told to stop do so by themselves, with nothing left to do.
        for (const { child } of workers) child.kill("SIGTERM")
        yield* Effect.promise(() => Promise.all(workers.map(({ ended }) => ended)))

        const { begins, done, got, repeated } = judge(ledger)
        const attempts = yield* Effect.forEach(
          handles,
          ({ taskId }) => Effect.map(Absurd.getTaskStatus(taskId, { queue: Story.queue }), (task) => task.attempts)
        )
        const retried = attempts.filter((attempt) => attempt > 1).length
        yield* Effect.log(
          `${tasks} tasks, ${done.size} steps, ${begins} begun; ${deeds.kills} workers killed, ${deeds.zombies} stopped and ` +
            `continued, ${deeds.crashes} server crashes, ${deeds.cuts} times all sessions cut; ${retried} tasks needed more ` +
            `than one attempt; ${repeated.length} acknowledged steps begun again`
        )
        assert.strictEqual(done.size, tasks * 6)
        // Only a process that was stopped while its runs went on elsewhere may begin such a step; it cannot store it.
        assert.deepStrictEqual(repeated.filter(({ pid }) => !stopped.has(pid)), [])
        for (let n = 0; n < tasks; n += 2) assert.deepStrictEqual([...got.get(String(n)) ?? []], [String(n + 1)])
        const lost = deeds.kills + deeds.zombies
        assert.isAtMost(Math.max(...attempts), lost + 1)
      }).pipe(Effect.provide(client))
    }), minutes * 60_000)
})
