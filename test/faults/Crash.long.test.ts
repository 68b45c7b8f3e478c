/**
 * Real worker processes on a real server, with everything between them that production has: workers are killed, and stopped
 * for longer than their leases and continued; the server is killed, and single sessions of it; connections are cut, and left
 * hanging. Each process writes down what it does; the verdict is read from that and from the store.
 *
 * `npm run test:crash` says how large it is.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Random, Redacted } from "effect"
import { Absurd, Doctor, Installation } from "effect-absurd"
import { SqlClient } from "effect/sql"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Client } from "pg"
import * as Server from "../support/Server.ts"
import * as Fleet from "./crash/Fleet.ts"
import * as Ledger from "./crash/Ledger.ts"
import * as Proxy from "./crash/Proxy.ts"
import * as Story from "./crash/Story.ts"

const tasks = Number(process.env["CRASH_TASKS"] ?? 500)
const kills = Number(process.env["CRASH_KILLS"] ?? 50)
const minutes = Number(process.env["CRASH_MINUTES"] ?? 8)
const seed = Number(process.env["CRASH_SEED"] ?? Date.now() % 1_000_000)

/** In seconds. */
const lease = 2
const grace = 3

/** What is done to the processes, and how often for each worker that is killed. */
const deeds = {
  kill: 1,
  /** Stops a worker for longer than its lease, and lets it go on as if nothing had been. */
  zombie: 1 / 5,
  /** Kills the postmaster; the server is started anew and recovers. */
  server: 1 / 12,
  /** Kills one session of the server, which makes it end all others and recover. */
  backend: 1 / 12,
  /** Ends the sessions of the workers in order. */
  terminate: 1 / 6,
  /** Resets all connections. */
  cut: 1 / 5,
  /** Leaves all connections hanging for longer than a lease. */
  stall: 1 / 12
} as const
type Deed = keyof typeof deeds

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
  Layer.provideMerge(
    Absurd.layerWith({ queue: Story.queue }),
    Layer.provideMerge(
      Installation.layer,
      PgClient.layer({ url: Redacted.make(url), maxConnections: 8 })
    )
  )

const pause = (millis: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, millis)))

/** What an administrator's session answers; undefined when there is no getting in. */
const query = (url: string, text: string) =>
  Effect.promise(async (): Promise<ReadonlyArray<Record<string, unknown>> | undefined> => {
    const client = new Client({ connectionString: url })
    client.on("error", () => {})
    try {
      await client.connect()
      return (await client.query(text)).rows
    } catch {
      return undefined
    } finally {
      await client.end().catch(() => {})
    }
  })

const sessions = "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"

interface World {
  /** Past the proxy. */
  readonly url: string
  readonly server: Server.Server
  readonly proxy: Proxy.Proxy
  readonly fleet: Fleet.Fleet
  /** When the server answered again after it was killed. */
  readonly recoveries: Array<number>
  /** How much of what is to be done to it has been done. */
  progress: number
}

/** Returns whether it could be done. */
const doDeed = ({ fleet, proxy, recoveries, server, url }: World, deed: Deed, worker: Fleet.Worker) =>
  Effect.gen(function*() {
    switch (deed) {
      case "kill":
        yield* Effect.promise(() => fleet.kill(worker))
        return true
      case "zombie": {
        worker.child.kill("SIGSTOP")
        yield* Effect.forkChild(Effect.gen(function*() {
          yield* pause(lease * 1500)
          worker.child.kill("SIGCONT")
          // Long enough to do what it should not.
          yield* pause(1000)
          worker.child.kill("SIGTERM")
        }))
        yield* Effect.promise(() => fleet.replace(worker))
        return true
      }
      case "server":
        yield* Effect.promise(server.crash)
        recoveries.push(Date.now())
        return true
      case "backend": {
        const found = yield* query(url, `select pid ${sessions} limit 1`)
        if (found?.[0] === undefined) return false
        process.kill(Number(found[0]["pid"]), "SIGKILL")
        return true
      }
      case "terminate":
        return ((yield* query(url, `select pg_terminate_backend(pid) ${sessions}`))?.length ?? 0) > 0
      case "cut":
        return proxy.cut() > 0
      case "stall":
        proxy.stall(lease * 1500)
        return true
    }
  })

/** Does one thing after another, in an order that the seed decides, until each was done as often as it should be. */
const torment = (world: World) =>
  Effect.gen(function*() {
    const done = Object.fromEntries(Object.keys(deeds).map((deed) => [deed, 0])) as Record<Deed, number>
    const plan = Object.entries(deeds).flatMap(([deed, share]) =>
      Array.from({ length: Math.ceil(kills * share) }, () => deed as Deed)
    )
    for (const [turn, deed] of (yield* Random.shuffle(plan)).entries()) {
      world.progress = turn / plan.length
      const worker = world.fleet.workers[yield* Random.nextIntBetween(0, world.fleet.workers.length - 1)]!
      while (!(yield* doDeed(world, deed, worker))) yield* pause(100)
      done[deed]++
      yield* pause(-250 * Math.log(1 - (yield* Random.next)))
    }
    world.progress = 1
    return done
  }).pipe(Random.withSeed(seed))

/** Spawns the tasks and emits their events a little at a time, as long as the torment lasts. */
const produce = Effect.fnUntraced(function*(world: World) {
  const { outage } = yield* Absurd.Absurd
  return yield* Effect.forEach(Array.from({ length: tasks }, (_, n) => n), (n) =>
    Effect.gen(function*() {
      while (n > world.progress * tasks) yield* pause(20)
      const handle = yield* outage.persist(Story.Journey.spawn({ n, waits: n % 2 === 0 }))
      if (n % 2 === 0) {
        // The first payload is acknowledged, whatever happens to the connection; the second changes nothing.
        yield* outage.persist(Story.Go.emit(String(n), n + 1))
        yield* outage.persist(Story.Go.emit(String(n), -1))
      }
      return handle
    }))
})

/** What the server may have logged as errors: that sessions were ended, and that there was none to be had. */
const expected = [
  /terminating connection due to administrator command/,
  /terminating connection because of crash of another server process/,
  /terminating connection due to unexpected postmaster exit/,
  /the database system is (starting up|in recovery mode|not yet accepting connections|shutting down)/,
  /pre-existing shared memory block .* is still in use/,
  /connection to client lost/
]

const unexpectedErrors = (log: string) =>
  log.split("\n").filter((line) =>
    /\b(ERROR|FATAL|PANIC):/.test(line) && !expected.some((pattern) => pattern.test(line))
  )

describe("worker processes", () => {
  it.live("lose nothing in crashes, and repeat nothing that was acknowledged", () =>
    Effect.gen(function*() {
      const server = yield* serverOfItsOwn
      const proxy = yield* Proxy.make(server.location)
      const direct = Server.url(server.location, "postgres")
      const url = Server.url({ ...server.location, port: proxy.port }, "postgres")
      const ledger = join(yield* folder, "ledger")
      yield* Effect.gen(function*() {
        const { outage } = yield* Absurd.Absurd
        const sql = yield* SqlClient.SqlClient
        yield* Absurd.createQueue(Story.queue)
        yield* sql.unsafe(Story.createBooks)
        const fleet = yield* Fleet.make({ url, ledger, size: 4, lease, grace })
        const world: World = { url: direct, server, proxy, fleet, recoveries: [], progress: 0 }
        yield* Effect.log(`seed ${seed}`)
        const tormented = yield* Effect.forkChild(torment(world))
        const handles = yield* produce(world)
        const done = yield* Fiber.join(tormented)
        const results = yield* Effect.forEach(handles, (handle) => handle.await)
        const stopped = yield* Effect.promise(fleet.stop)

        const lines = Ledger.read(ledger)
        const { begun, changed, payloads, repeated, values } = Ledger.judge(lines)
        const takeovers = Ledger.takeovers(lines, fleet.deaths)
        const resumed = world.recoveries.map((at) => (lines.find((line) => line.what === "enter" && line.at >= at)?.at ?? Infinity) - at)
        const attempts = (yield* outage.persist(Effect.forEach(
          handles,
          ({ taskId }) => Absurd.getTaskStatus(taskId)
        ))).map((task) => task.attempts)
        const figures = {
          seed,
          tasks,
          acknowledgedSteps: values.size,
          begunSteps: begun,
          ...done,
          tasksWithFurtherAttempts: attempts.filter((attempt) => attempt > 1).length,
          takeoverMillis: { p50: Ledger.quantile(takeovers, 0.5), p99: Ledger.quantile(takeovers, 0.99) },
          firstLineAfterServerMillis: resumed,
          stoppedMillis: Math.round(stopped)
        }
        yield* Effect.log(JSON.stringify(figures))

        // Nothing that was acknowledged is lost, and nothing is there that nobody asked for.
        assert.deepStrictEqual(results, handles.map((_, n) => n))
        assert.deepStrictEqual(
          (yield* sql`select count(*)::int as count from ${sql(`absurd.t_${Story.queue}`)}`)[0],
          { count: tasks }
        )
        assert.strictEqual(values.size, tasks * Story.steps.length)
        assert.deepStrictEqual(repeated, [])
        // All executions, and the store, have the same value of a step.
        assert.deepStrictEqual(changed, [])
        const checkpoints = yield* Effect.forEach(handles, ({ taskId }) => Absurd.getAllCheckpoints(taskId))
        checkpoints.forEach((rows, n) => {
          for (const step of Story.steps) {
            assert.strictEqual(rows.find(({ name }) => name === step)?.state, values.get(`${n} ${step}`))
          }
        })
        assert.deepStrictEqual(
          yield* sql`select n from books group by n having count(*) <> 1`,
          []
        )
        assert.deepStrictEqual(yield* sql`select count(*)::int as count from books`, [{ count: tasks }])
        for (let n = 0; n < tasks; n += 2) assert.deepStrictEqual([...payloads.get(n) ?? []], [String(n + 1)])
        assert.isAtMost(Math.max(...attempts), 1 + Object.values(done).reduce((sum, count) => sum + count, 0))
        assert.deepStrictEqual(fleet.deserters, [])
        assert.isBelow(stopped, grace * 1000)
        assert.deepStrictEqual(yield* Doctor.check({ queue: Story.queue }), [])
        assert.deepStrictEqual(unexpectedErrors(Fs.readFileSync(server.location.logPath, "utf8")), [])
        assert.isBelow(Ledger.quantile(takeovers, 0.5), lease * 1000 + 1000)
        assert.isBelow(Ledger.quantile(resumed, 0.5), 2000)
      }).pipe(Effect.provide(clientOf(url)))
    }), minutes * 60_000)

  it.live(
    "of nobody: a deployment under load burns no attempt and repeats no committed step",
    () =>
      Effect.gen(function*() {
        const server = yield* serverOfItsOwn
        const url = Server.url(server.location, "postgres")
        const ledger = join(yield* folder, "ledger")
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* Absurd.createQueue(Story.queue)
          yield* sql.unsafe(Story.createBooks)
          const fleet = yield* Fleet.make({ url, ledger, size: 2, lease, grace })
          const deployments = 5
          const stops: Array<number> = []
          const handles: Array<Effect.Success<ReturnType<typeof Story.Journey.spawn>>> = []
          for (let turn = 0; turn < deployments; turn++) {
            for (let n = turn * 100; n < (turn + 1) * 100; n++) {
              handles.push(yield* Story.Journey.spawn({ n, waits: false }))
            }
            stops.push(...yield* Effect.promise(() => Promise.all([...fleet.workers].map(fleet.relieve))))
          }
          assert.deepStrictEqual(
            yield* Effect.forEach(handles, (handle) => handle.await),
            handles.map((_, n) => n)
          )
          stops.push(yield* Effect.promise(fleet.stop))
          const { begun, repeated, values } = Ledger.judge(Ledger.read(ledger))
          yield* Effect.log(JSON.stringify({
            tasks: handles.length,
            deployments,
            acknowledgedSteps: values.size,
            begunSteps: begun,
            slowestStopMillis: Math.round(Math.max(...stops))
          }))
          const rows = yield* Effect.forEach(handles, ({ taskId }) => Absurd.getTaskStatus(taskId))
          assert.deepStrictEqual(rows.filter(({ attempts }) => attempts !== 1), [])
          assert.deepStrictEqual(repeated, [])
          assert.strictEqual(values.size, handles.length * Story.steps.length)
          assert.isBelow(Math.max(...stops), grace * 1000)
          assert.deepStrictEqual(fleet.deserters, [])
          assert.deepStrictEqual(yield* Doctor.check({ queue: Story.queue }), [])
          assert.deepStrictEqual(unexpectedErrors(Fs.readFileSync(server.location.logPath, "utf8")), [])
        }).pipe(Effect.provide(clientOf(url)))
      }),
    120_000
  )
})
