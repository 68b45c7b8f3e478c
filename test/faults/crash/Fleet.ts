/**
 * Worker processes, each with a spare one that has loaded its code already. Like any supervisor of processes it replaces those
 * that end.
 */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"

export interface Worker {
  readonly child: ChildProcess
  readonly pid: number
  readonly ended: Promise<unknown>
  /** It was told to end. */
  doomed: boolean
  /** What it has said. */
  said: string
}

export interface Options {
  /** What the processes execute; `Process.ts` by default. */
  readonly program?: string | undefined
  readonly url: string
  readonly ledger: string
  readonly size: number
  /** In seconds. */
  readonly lease: number
  /** In seconds. */
  readonly grace: number
}

export interface Fleet {
  /** Those that work, as many as there should be. */
  readonly workers: ReadonlyArray<Worker>
  /** Takes a worker out of the fleet and puts another one in its place, which works when this returns. */
  readonly replace: (worker: Worker) => Promise<void>
  /** Kills a worker; another one is put in its place. */
  readonly kill: (worker: Worker) => Promise<void>
  /** Tells a worker to stop while another one takes its place; returns how long it took, in milliseconds. */
  readonly relieve: (worker: Worker) => Promise<number>
  /** Who was killed, and when. */
  readonly deaths: ReadonlyArray<{ readonly pid: number; readonly at: number }>
  /** Who was relieved, and when it was told to stop. */
  readonly reliefs: ReadonlyArray<{ readonly pid: number; readonly at: number }>
  /** The last words of those that ended although nobody had told them to, after they had begun to work. */
  readonly deserters: ReadonlyArray<string>
  /** Tells all that work to stop; returns how long the slowest took, in milliseconds. */
  readonly stop: () => Promise<number>
}

export const make = (options: Options): Effect.Effect<Fleet, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => assemble(options)),
    ({ all }) => Effect.sync(() => all.forEach(({ child }) => child.kill("SIGKILL")))
  )

const assemble = async ({ grace, lease, ledger, program, size, url }: Options) => {
  const all = new Set<Worker>()
  const workers: Array<Worker> = []
  const deaths: Array<{ pid: number; at: number }> = []
  const reliefs: Array<{ pid: number; at: number }> = []
  const deserters: Array<string> = []
  let disbanded = false

  const load = (): Worker => {
    const main = program ?? join(import.meta.dirname, "Process.ts")
    const args = ["--conditions=source", main, url, ledger, String(lease), String(grace)]
    const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] })
    child.stdin!.on("error", () => {})
    const worker: Worker = { child, pid: child.pid!, ended: once(child, "exit"), doomed: false, said: "" }
    child.stdout!.on("data", (chunk) => worker.said += String(chunk))
    all.add(worker)
    void worker.ended.then(() => all.delete(worker))
    return worker
  }

  const spares = Array.from({ length: size }, load)

  /** One that works. A process that ends before it does (the server may be away) is followed by another one. */
  const engage = async (): Promise<Worker> => {
    for (;;) {
      const worker = spares.shift() ?? load()
      spares.push(load())
      worker.child.stdin!.write("go\n")
      const started = new Promise<boolean>((resolve) =>
        worker.child.stdout!.on("data", () => worker.said.includes("started") && resolve(true))
      )
      if (!(await Promise.race([started, worker.ended.then(() => false)]))) continue
      void worker.ended.then(() => {
        if (worker.doomed) return
        deserters.push(`${worker.child.exitCode ?? worker.child.signalCode}: ${worker.said.slice(-2000)}`)
        return replace(worker)
      })
      return worker
    }
  }

  const replace = async (worker: Worker) => {
    worker.doomed = true
    if (disbanded) return
    const next = await engage()
    workers[workers.indexOf(worker)] = next
  }

  const terminate = async (worker: Worker) => {
    worker.doomed = true
    worker.child.kill("SIGTERM")
    const toldAt = performance.now()
    await worker.ended
    return performance.now() - toldAt
  }

  workers.push(...await Promise.all(Array.from({ length: size }, engage)))

  return {
    all,
    workers,
    deaths,
    reliefs,
    replace,
    kill: async (worker: Worker) => {
      worker.doomed = true
      worker.child.kill("SIGKILL")
      deaths.push({ pid: worker.pid, at: Date.now() })
      await replace(worker)
    },
    relieve: async (worker: Worker) => {
      reliefs.push({ pid: worker.pid, at: Date.now() })
      return (await Promise.all([terminate(worker), replace(worker)]))[0]
    },
    deserters,
    stop: async () => {
      disbanded = true
      spares.forEach(({ child }) => child.stdin!.end())
      return Math.max(...await Promise.all(workers.map(terminate)))
    }
  }
}
