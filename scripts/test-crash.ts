/**
 * The crash test at full size: `npm run test:crash -- --tasks 3000 --kills 60 --minutes 60`. These are the defaults.
 *
 * A process that is killed again and again writes to a ledger; the verdict comes from it and from the store, and the figures
 * are printed. Of five deeds two kill a worker, one stops a worker for longer than its lease and lets it go on, one kills a
 * backend of the server with SIGKILL (which makes PostgreSQL end all sessions and recover), and one cuts all sessions.
 */
import { spawnSync } from "node:child_process"
import { parseArgs } from "node:util"

const { values } = parseArgs({
  options: {
    tasks: { type: "string", default: "3000" },
    kills: { type: "string", default: "60" },
    minutes: { type: "string", default: "60" }
  }
})

for (const [name, value] of Object.entries(values)) {
  if (!/^[1-9]\d*$/.test(value)) throw new Error(`--${name} takes a positive whole number, not "${value}"`)
}

const { status } = spawnSync("vitest", ["run", "test/faults/Crash.test.ts"], {
  stdio: "inherit",
  env: { ...process.env, CRASH_TASKS: values.tasks, CRASH_KILLS: values.kills, CRASH_MINUTES: values.minutes }
})
process.exitCode = status ?? 1
