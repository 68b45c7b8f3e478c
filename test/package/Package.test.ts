/**
 * What is published, used as a user would: packed, unpacked into an empty project, imported by Node and by the compiler.
 * The peers are linked from this project's own packages, which needs no network and gives one instance of each.
 */
import { execFile } from "node:child_process"
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")
const bin = (name: string): string => join(root, "node_modules/.bin", name)
const run = promisify(execFile)

/** Runs a program; its output is part of the error when it fails. */
const output = async (directory: string, file: string, ...parameters: ReadonlyArray<string>): Promise<string> => {
  try {
    // The conditions under which these tests run must not reach it.
    const env = { ...process.env, NODE_OPTIONS: "", NO_COLOR: "1" }
    return (await run(file, parameters, { cwd: directory, env, maxBuffer: 64 * 1024 * 1024 })).stdout
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { readonly stdout?: string; readonly stderr?: string }
    throw new Error(`${file} ${parameters.join(" ")} failed\n${stdout}\n${stderr}`, { cause: error })
  }
}

let scratch: string
let tarball: string
let files: ReadonlyArray<string>

const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
  readonly version: string
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
}
const entryPoints = Object.keys(manifest.exports).filter((path) => path !== "./package.json")
const specifierOf = (path: string): string => `effect-absurd${path.slice(1)}`

/** An empty project with the package and these of its peers. */
const project = async (name: string, peers: ReadonlyArray<string>): Promise<string> => {
  const directory = join(scratch, name)
  await mkdir(directory)
  await writeFile(join(directory, "package.json"), JSON.stringify({ name, private: true, type: "module" }))
  const install = ["install", "--offline", "--legacy-peer-deps", "--no-audit", "--no-fund", "--silent"]
  await output(directory, "npm", ...install, tarball)
  for (const peer of peers) {
    const link = join(directory, "node_modules", peer)
    await mkdir(join(link, ".."), { recursive: true })
    await symlink(join(root, "node_modules", peer), link, "junction")
  }
  return directory
}

const evaluate = (directory: string, program: string): Promise<string> =>
  output(directory, process.execPath, "--input-type=module", "--eval", program)

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "effect-absurd-package-"))
  const packed = JSON.parse(
    await output(root, "npm", "pack", "--json", "--pack-destination", scratch)
  ) as ReadonlyArray<{
    readonly filename: string
    readonly files: ReadonlyArray<{ readonly path: string }>
  }>
  assert(packed[0] !== undefined)
  tarball = join(scratch, packed[0].filename)
  files = packed[0].files.map(({ path }) => path)
}, 60_000)

afterAll(() => rm(scratch, { recursive: true, force: true }))

describe("the package", () => {
  it("holds the sources, what is built of them, the documents, and the examples they link to", () => {
    const others = files.filter((path) => !/^(?:src|dist|docs|examples)\//.test(path))
    assert.deepStrictEqual([...others].sort(), ["CHANGELOG.md", "LICENSE", "README.md", "package.json"])
    const sources = files.filter((path) => path.startsWith("src/") && path.endsWith(".ts"))
    assert.include(sources, "src/index.ts")
    for (const source of sources) {
      const built = `dist/${source.slice("src/".length, -".ts".length)}`
      for (const extension of [".js", ".d.ts", ".js.map", ".d.ts.map"]) assert.include(files, built + extension)
    }
    const built = files.filter((path) => path.startsWith("dist/") && path.endsWith(".js"))
    assert.lengthOf(built, sources.length)
  })

  it("is described rightly for every way to resolve it", async () => {
    await output(root, process.execPath, bin("publint"), tarball, "--strict")
    await output(root, process.execPath, bin("attw"), tarball, "--profile", "esm-only", "--no-emoji")
  }, 60_000)

  it("needs none of its optional peers to be imported", async () => {
    const directory = await project("bare", ["effect"])
    const names = await evaluate(
      directory,
      `console.log(Object.keys(await import("effect-absurd")).join())`
    )
    assert.include(names.trim().split(","), "Absurd")
  }, 60_000)

  it("says which package the embedded store lacks", async () => {
    const directory = await project("lacking", ["effect", "@effect/sql-pg"])
    const message = await evaluate(
      directory,
      `import * as Embedded from "effect-absurd/Embedded"
       import { Effect, Layer } from "effect"
       const error = await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(Embedded.layer()))))
       console.log(error._tag, error.reason._tag, error.message)`
    )
    assert.strictEqual(
      message.trim(),
      "EmbeddedError PackageMissing The embedded store needs the package @electric-sql/pglite; " +
        "install it with: npm install @electric-sql/pglite"
    )
  }, 60_000)

  describe("with all peers", () => {
    let directory: string
    beforeAll(async () => {
      directory = await project("whole", ["effect", "@effect/sql-pg", "@electric-sql/pglite", "@types/node"])
    }, 60_000)

    it("can be imported at every entry point", async () => {
      const program = entryPoints.map((path) => `await import(${JSON.stringify(specifierOf(path))})`).join("\n")
      await evaluate(directory, `${program}\nconsole.log("imported")`)
    }, 60_000)

    it("opens an embedded store", async () => {
      const printed = await evaluate(
        directory,
        `import * as Embedded from "effect-absurd/Embedded"
         import { Effect } from "effect"
         import { SqlClient } from "effect/sql"
         const program = SqlClient.SqlClient.use((sql) => sql\`SELECT 1 + 1 AS two\`)
         console.log(JSON.stringify(await Effect.runPromise(Effect.provide(program, Embedded.layer()))))`
      )
      assert.strictEqual(printed.trim(), `[{"two":2}]`)
    }, 60_000)

    it("has types that hold for a strict program", async () => {
      const imports = entryPoints.map((path, index) =>
        `import * as entry${index} from ${JSON.stringify(specifierOf(path))}\nexport { entry${index} }`
      )
      await writeFile(
        join(directory, "program.ts"),
        `${imports.join("\n")}
import * as Embedded from "effect-absurd/Embedded"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
export const program: Effect.Effect<ReadonlyArray<object>, unknown> = SqlClient.SqlClient.use((sql) =>
  sql\`SELECT 1\`).pipe(Effect.provide(Embedded.layer({ directory: "data" })))
// @ts-expect-error A directory is text.
Embedded.layer({ directory: 1 })
`
      )
      const configuration = {
        compilerOptions: {
          target: "ES2024",
          lib: ["ES2024", "ESNext.Disposable", "DOM"],
          module: "NodeNext",
          types: ["node"],
          strict: true,
          exactOptionalPropertyTypes: true,
          skipLibCheck: false,
          noEmit: true
        },
        files: ["program.ts"]
      }
      await writeFile(join(directory, "tsconfig.json"), JSON.stringify(configuration))
      await output(directory, bin("tsc"), "--noEmit", "-p", "tsconfig.json")
    }, 60_000)
  })
})
