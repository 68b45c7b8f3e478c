/**
 * The quick start: an order that is fulfilled durably.
 *
 *     npm run quickstart                                 on an embedded PostgreSQL, kept in a folder
 *     npm run quickstart -- --crash                      its worker is killed between two steps, another one goes on
 *     npm run quickstart -- --memory                     on the store in memory
 *     npm run quickstart -- --url postgres://host/db     on a server
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, FileSystem, Layer, Option, Redacted } from "effect"
import { Absurd, Installation, Worker } from "effect-absurd"
import * as Embedded from "effect-absurd/Embedded"
import { Argument, Command, Flag } from "effect/cli"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { FulfilOrder, FulfilOrderLive, Packed } from "./Order.ts"
import * as Story from "./Story.ts"

const flags = {
  crash: Flag.Boolean("crash").pipe(
    Flag.withDescription("Kill the worker between two steps, and let another one go on"),
    Flag.withDefault(false)
  ),
  memory: Flag.Boolean("memory").pipe(
    Flag.withDescription("Use the store in memory"),
    Flag.withDefault(false)
  ),
  url: Flag.String("url").pipe(
    Flag.withDescription("Use the PostgreSQL server at this URL"),
    Flag.optional
  )
}

interface Setup {
  readonly folder: string
  readonly url: Option.Option<string>
  readonly memory: boolean
}

/** The one layer that differs between an embedded store, a server and memory. */
const store = ({ folder, memory, url }: Setup) => {
  if (memory) return Absurd.layerMemory
  const database: Layer.Layer<SqlClient, Embedded.EmbeddedError | SqlError> = Option.match(url, {
    onNone: () => Embedded.layer({ directory: `${folder}/store` }),
    onSome: (url) => PgClient.layer({ url: Redacted.make(url) })
  })
  return Absurd.layer.pipe(Layer.provide(Layer.provideMerge(Installation.layer, database)))
}

const program = (setup: Setup, crash: boolean) =>
  Worker.layer({ queue: "orders", lease: "2 seconds" }).pipe(
    Layer.provide([FulfilOrderLive, Absurd.layerQueue("orders")]),
    Layer.provideMerge(store(setup)),
    Layer.provideMerge(Story.layer({ ledger: `${setup.folder}/ledger`, crash }))
  )

/** The producer: places the order, packs it when everything waits for that, and waits for the result. */
const placeOrder = (orderId: string) =>
  Effect.gen(function*() {
    const { tell } = yield* Story.Story
    const order = yield* FulfilOrder.spawn({ orderId, sku: "widget", amount: 9999 })
    yield* tell("client", `${order.created ? "spawned" : "found"} task ${order.taskId}`)
    yield* Effect.forkChild(packWhenAwaited(orderId, order.taskId))
    const { tracking } = yield* order.await
    yield* tell("client", `the order is fulfilled, tracking ${tracking}`)
    yield* printRows(order.taskId)
  })

const packWhenAwaited = (orderId: string, taskId: string) =>
  Effect.gen(function*() {
    const { tell } = yield* Story.Story
    yield* Absurd.listWaits(taskId, { queue: "orders" }).pipe(
      Effect.delay("100 millis"),
      Effect.repeat({ until: (waits) => waits.length > 0 })
    )
    yield* tell("warehouse", "packed it: emitting shipment.packed")
    yield* Packed.emit(orderId, { tracking: "TRACK123" })
  })

const printRows = (taskId: string) =>
  Effect.gen(function*() {
    const task = yield* Absurd.getTaskStatus(taskId, { queue: "orders" })
    yield* Console.log(`\nIn the store now:\n  task ${task.name}: ${task.state}, attempts ${task.attempts}`)
    for (const run of yield* Absurd.listRuns(taskId, { queue: "orders" })) {
      yield* Console.log(
        `  run ${run.attempt}: ${run.state} ${JSON.stringify(run.result ?? failureName(run.failureReason))}`
      )
    }
    for (const checkpoint of yield* Absurd.getAllCheckpoints(taskId, { queue: "orders" })) {
      yield* Console.log(`  checkpoint ${checkpoint.name}: ${JSON.stringify(checkpoint.state)}`)
    }
  })

const failureName = (reason: unknown) =>
  typeof reason === "object" && reason !== null && "name" in reason ? reason.name : null

/** One process of the story: a worker and the client that placed the order. */
const inThisProcess = (setup: Setup, orderId: string, crash: boolean) =>
  placeOrder(orderId).pipe(Effect.provide(program(setup, crash)))

/** The same order in two processes, the first of which is killed. */
const withCrash = (setup: Setup, orderId: string) =>
  Effect.gen(function*() {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const files = yield* FileSystem.FileSystem
    const url = Option.match(setup.url, { onNone: () => [], onSome: (url) => ["--url", url] })
    const worker = (...more: ReadonlyArray<string>) =>
      spawner.exitCode(
        ChildProcess.make(
          process.execPath,
          [...process.execArgv, import.meta.filename, "worker", orderId, setup.folder, ...url, ...more],
          { stdout: "inherit", stderr: "inherit" }
        )
      )
    yield* Console.log("A first process:\n")
    yield* Effect.exit(worker("--crash"))
    yield* Console.log("\nIt is dead. A second process, which takes the run over when its lease of two seconds ends:\n")
    yield* worker()
    const ledger = (yield* files.readFileString(`${setup.folder}/ledger`)).trim().split("\n")
    yield* Console.log(`\nWhat the outside world saw, over both processes: ${ledger.join(", ")}. No step ran twice.`)
    if (new Set(ledger).size !== ledger.length) return yield* Effect.die("a step ran twice")
  })

const worker = Command.make("worker", {
  ...flags,
  orderId: Argument.String("order"),
  folder: Argument.String("folder")
}, ({ crash, folder, memory, orderId, url }) => inThisProcess({ folder, memory, url }, orderId, crash)).pipe(
  Command.withDescription("One process of the story (used by --crash)")
)

const quickstart = Command.make("quickstart", flags, ({ crash, memory, url }) =>
  Effect.gen(function*() {
    const files = yield* FileSystem.FileSystem
    const folder = yield* files.makeTempDirectoryScoped({ prefix: "effect-absurd-" })
    const setup = { folder, memory, url }
    const orderId = folder.slice(-6)
    if (crash && memory) return yield* Console.error("--crash needs a store that survives: leave --memory out")
    yield* crash ? withCrash(setup, orderId) : inThisProcess(setup, orderId, false)
  })).pipe(
    Command.withDescription("An order that is fulfilled durably"),
    Command.withSubcommands([worker])
  )

quickstart.pipe(
  Command.run({ version: "0.1.0" }),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
