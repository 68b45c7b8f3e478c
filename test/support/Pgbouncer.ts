/**
 * PgBouncer in front of the PostgreSQL server of the test run, in transaction mode: each transaction may have another session.
 *
 * It has to be installed; a test that needs it fails where it is not.
 */
import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import type * as Server from "./Server.ts"

export interface Pgbouncer {
  readonly host: string
  readonly port: number
  /** Everything that it logs. */
  readonly log: Effect.Effect<string>
}

/** Starts it, with so many sessions per database, until the scope closes. */
export const start = (
  { host, port, username }: Server.Location,
  options: { readonly sessions: number }
): Effect.Effect<Pgbouncer, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const program = await binary()
        // It refuses to run as root.
        const identity = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
        const folder = await Fs.mkdtemp(Path.join(Os.tmpdir(), "absurd-pgbouncer-"))
        const own = await freePort()
        const file = (name: string) => Path.join(folder, name)
        await Fs.writeFile(file("users.txt"), `"${username}" ""\n`)
        await Fs.writeFile(
          file("pgbouncer.ini"),
          `
[databases]
* = host=${host} port=${port} user=${username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${own}
unix_socket_dir =
auth_type = trust
auth_file = ${file("users.txt")}
pool_mode = transaction
default_pool_size = ${options.sessions}
max_client_conn = 500
logfile = ${file("log")}
`
        )
        if (identity.uid !== undefined) await Fs.chown(folder, identity.uid, identity.gid)
        await Fs.chmod(folder, 0o755)
        const child = spawn(program, ["-q", file("pgbouncer.ini")], { ...identity, cwd: folder, stdio: "ignore" })
        const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
        const log = () => Fs.readFile(file("log"), "utf8").catch(() => "")
        await ready(own, () => child.exitCode !== null).catch(async (cause: unknown) => {
          throw new Error(`PgBouncer did not start:\n${await log()}`, { cause })
        })
        const stop = async () => {
          child.kill("SIGKILL")
          await ended
          await Fs.rm(folder, { recursive: true, force: true })
        }
        return { port: own, log, stop }
      }),
      ({ stop }) => Effect.promise(stop)
    ),
    ({ log, port }) => ({ host: "127.0.0.1", port, log: Effect.promise(log) })
  )

// --- internal

const binary = async (): Promise<string> => {
  const named = process.env["ABSURD_TEST_PGBOUNCER"]
  // Debian keeps it where only root's path leads.
  const folders = [...(process.env["PATH"] ?? "").split(Path.delimiter), "/usr/sbin", "/usr/local/sbin"]
  const places = named === undefined ? folders.map((folder) => Path.join(folder, "pgbouncer")) : [named]
  for (const place of places) {
    if (await Fs.access(place, Fs.constants.X_OK).then(() => true, () => false)) return place
  }
  throw new Error(
    "The tests of poolers need PgBouncer. Install it (on Debian: apt-get install pgbouncer), or let ABSURD_TEST_PGBOUNCER " +
      "name the program"
  )
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = Net.createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => typeof address === "object" && address !== null ? resolve(address.port) : reject(address))
    })
  })

const ready = async (port: number, isOver: () => boolean): Promise<void> => {
  const deadline = Date.now() + 10_000
  for (;;) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = Net.connect({ host: "127.0.0.1", port })
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false))
      socket.once("connect", () => socket.destroy())
    })
    if (connected) return
    if (isOver() || Date.now() > deadline) throw new Error("nobody listens")
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
