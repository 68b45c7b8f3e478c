/** What was measured, where, and on which server. */
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs/promises"
import { createRequire } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"

/** The settings of the server: PostgreSQL's own durable defaults, which tests switch off. */
export const durable = {
  fsync: "on",
  full_page_writes: "on",
  synchronous_commit: "on",
  shared_buffers: "128MB",
  max_connections: "100"
}

/** When, of what and where something is measured; `packages` are those whose versions are told beside ours. */
export const surroundings = async (postgres: string, packages: ReadonlyArray<string>) => {
  const [cpu] = Os.cpus()
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: git("rev-parse", "--short=12", "HEAD") + (git("status", "--porcelain", "--", "src") === "" ? "" : "+"),
    machine: {
      cpu: cpu?.model ?? "unknown",
      cores: Os.cpus().length,
      memoryGB: Math.round(Os.totalmem() / 1e9),
      system: `${Os.type()} ${Os.release()} ${Os.arch()}`
    },
    versions: {
      node: process.versions.node,
      postgresql: postgres,
      ...Object.fromEntries(
        await Promise.all(
          ["effect", "@effect/sql-pg", ...new Set(packages)].map(async (name) => [name, await versionOf(name)])
        )
      )
    }
  }
}

// --- internal

const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { encoding: "utf8" }).trim()

/** Not every package lets its package.json be imported. */
const versionOf = async (name: string): Promise<string> => {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? []
  for (const folder of folders) {
    const text = await Fs.readFile(Path.join(folder, name, "package.json"), "utf8").catch(() => undefined)
    if (text !== undefined) return String((JSON.parse(text) as { readonly version: unknown }).version)
  }
  return "unknown"
}
