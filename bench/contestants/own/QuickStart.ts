import { spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type { Own } from "./Own.ts"

const root = fileURLToPath(new URL("../../../", import.meta.url))

/** The command of the README, in a process of its own, with a store that does not exist yet. */
export const quickStart: Own["quickStart"] = async () => {
  const folder = await Fs.mkdtemp(Path.join(Os.tmpdir(), "bench-quickstart-"))
  try {
    await toldResult(folder)
  } finally {
    await Fs.rm(folder, { recursive: true, force: true })
  }
}

const toldResult = (folder: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn("npm", ["run", "--silent", "quickstart"], {
      cwd: root,
      env: { ...process.env, TMPDIR: folder },
      stdio: ["ignore", "pipe", "inherit"]
    })
    let told = ""
    child.stdout.on("data", (text: Buffer) => {
      told += text.toString()
    })
    child.once("error", reject)
    child.once("exit", (code) => {
      if (code === 0 && told.includes("the order is fulfilled")) resolve()
      else reject(new Error(`The quick start ended with code ${code} after telling: ${told}`))
    })
  })
