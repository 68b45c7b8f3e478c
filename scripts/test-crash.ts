/**
 * The crash test: `npm run test:crash -- --tasks 3000 --kills 300 --minutes 45`; these are the defaults, and `--short` means
 * 500 tasks and 50 kills. `--seed` decides the order of what is done to the processes.
 *
 * For every five workers that are killed one is stopped for longer than its lease and continued, and the connections of all
 * are cut once; for every six the server ends their sessions, and for every twelve the server is killed, one of its sessions
 * is killed (which makes it end all others and recover), and all connections are left hanging. What is killed is replaced,
 * and the server is started anew. The verdict comes from what the processes wrote down and from the store; the figures are
 * printed.
 */
import { spawnSync } from "node:child_process"
import { parseArgs } from "node:util"

const { positionals, values: { short, ...numbers } } = parseArgs({
  // What follows the options is for the test runner: `-- --reporter=json`.
  allowPositionals: true,
  options: {
    short: { type: "boolean", default: false },
    tasks: { type: "string" },
    kills: { type: "string" },
    minutes: { type: "string" },
    seed: { type: "string" }
  }
})

const settings: Record<string, string | undefined> = short
  ? { tasks: "500", kills: "50", minutes: "8", ...numbers }
  : { tasks: "3000", kills: "300", minutes: "45", ...numbers }

const env = { ...process.env }
for (const [name, value] of Object.entries(settings)) {
  if (value === undefined) continue
  if (!/^[1-9]\d*$/.test(value)) throw new Error(`--${name} takes a positive whole number, not "${value}"`)
  env[`CRASH_${name.toUpperCase()}`] = value
}

const args = ["run", "--config", "vitest.long.config.ts", "test/faults/Crash.long.test.ts", ...positionals]
const { status } = spawnSync("vitest", args, { stdio: "inherit", env })
process.exitCode = status ?? 1
