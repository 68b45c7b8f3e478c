/** `npm run quickstart` as a newcomer runs it: no server, no flags, nothing but a folder for temporary files. */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** The arguments that the script gives to Node. */
const script = (): ReadonlyArray<string> => {
  const { scripts } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8"))
  const [program, ...args] = String(scripts.quickstart).split(" ")
  assert.strictEqual(program, "node")
  return args.map((arg) => arg.startsWith("-") ? arg : Path.join(root, arg))
}

/** Loaded before the program, and before each process that it starts: no socket may be connected to anything. */
const offline = `data:text/javascript,${
  encodeURIComponent(
    `import { Socket } from "node:net"; Socket.prototype.connect = () => { throw new Error("no network here") }`
  )
}`

/** The process in a folder of its own, which is also where its temporary files go. */
const inFolder = (folder: string, args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const handle = yield* spawner.spawn(
      ChildProcess.make(process.execPath, ["--import", offline, ...args], {
        cwd: folder,
        env: { TMPDIR: folder },
        extendEnv: true
      })
    )
    const [output, exitCode] = yield* Effect.all([
      Stream.mkString(Stream.decodeText(handle.all)),
      handle.exitCode
    ], { concurrency: "unbounded" })
    return { output, exitCode: Number(exitCode) }
  })

const quickstart = (...flags: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const files = yield* FileSystem.FileSystem
    const folder = yield* files.makeTempDirectoryScoped({ prefix: "absurd-quickstart-" })
    const { exitCode, output } = yield* inFolder(folder, [...script(), ...flags])
    assert.strictEqual(exitCode, 0, output)
    // What it stored goes with it.
    assert.deepStrictEqual(yield* files.readDirectory(folder), [])
    return output
  })

const found = (output: string, pattern: RegExp) => [...output.matchAll(pattern)].map((match) => match[1])

/** What every way through the story tells. */
const assertStory = (output: string) => {
  assert.deepStrictEqual(found(output, / step +(\w+):/g), ["charge", "reserve", "notify"], "no step runs twice")
  assert.deepStrictEqual(found(output, /suspended the run for the (\w+ [\w.-]+)/g), [
    "sleep cool-off",
    "event shipment.packed"
  ])
  assert.include(output, "the order is fulfilled, tracking TRACK123")
  const rows = output.slice(output.indexOf("In the store now:"))
  assert.deepStrictEqual(found(rows, /^ {2}checkpoint ([^:$]+):/gm), ["charge", "reserve", "cool-off", "notify"])
  assert.match(rows, /^ {2}checkpoint \$awaitEvent:shipment\.packed:\w+: \{"tracking":"TRACK123"\}$/m)
}

layer(NodeServices.layer, { excludeTestServices: true })("quick start without a server", (it) => {
  it.effect("tells the story of an order, with its suspensions and its rows", () =>
    Effect.gen(function*() {
      const output = yield* quickstart()
      assertStory(output)
      assert.include(output, "task order-fulfilment: completed, attempts 1")
      assert.deepStrictEqual(found(output, /^ {2}(run \d+: .*)$/gm), [`run 1: completed {"tracking":"TRACK123"}`])
    }), 120_000)

  it.effect(
    "goes on in a second process where the first was killed, with what that one had stored",
    () =>
      Effect.gen(function*() {
        const output = yield* quickstart("--crash")
        assertStory(output)
        assert.include(output, "task order-fulfilment: completed, attempts 2")
        assert.deepStrictEqual(found(output, /^ {2}(run \d+: .*)$/gm), [
          `run 1: failed "$ClaimTimeout"`,
          `run 2: completed {"tracking":"TRACK123"}`
        ])
        const [first, second] = output.split("It is dead. A second process")
        assert.deepStrictEqual(found(first!, / step +(\w+):/g), ["charge"])
        assert.deepStrictEqual(found(second!, / step +(\w+):/g), ["reserve", "notify"])
        assert.include(
          output,
          "What the outside world saw, over both processes: charge, reserve, notify. No step ran twice."
        )
      }),
    120_000
  )

  it.effect("what keeps these processes from the network does keep them from it", () =>
    Effect.gen(function*() {
      const program = `require("node:net").connect(1).on("error", () => process.exit(0))`
      const { exitCode, output } = yield* inFolder(process.cwd(), ["--eval", program])
      assert.notStrictEqual(exitCode, 0)
      assert.include(output, "no network here")
    }), 60_000)
})
