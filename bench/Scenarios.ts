/** What is measured. A scenario returns its figures, or nothing when the contestant lacks what it takes. */
import { concurrently, type Fill, type Job, parts, type Session } from "./Contestant.ts"
import { concurrency, megabytes, memory as memoryNow, quantile, seconds, sleep } from "./Measure.ts"
import { own } from "./scenarios/Own.ts"

export { concurrency } from "./Measure.ts"

export interface Settings {
  /** Tasks that 50 callers spawn, one call each. */
  readonly spawn: number
  /** Tasks that are spawned in bulk. */
  readonly bulk: number
  /** Tasks that a worker finds when it starts. */
  readonly drain: number
  /** The same for tasks with steps. */
  readonly steps: number
  /** Workflows of three activities that are executed. */
  readonly workflows: number
  /** After so many seconds a drain is broken off; what it has done until then counts. */
  readonly seconds: number
  readonly children: number
  /** Spawns into an idle queue. */
  readonly latencies: number
  /** How many tasks a queue holds when claims are measured, ascending. */
  readonly sizes: ReadonlyArray<number>
  /** Claims per size. */
  readonly claims: number
  readonly checkpoints: number
  readonly fibers: number
  /** Tasks that wait for one event. */
  readonly waiters: number
  /** Tasks that are suspended beside a worker whose memory is looked at. */
  readonly suspended: number
  /** Queues of one database. */
  readonly queues: number
  /** Ended tasks that one call deletes. */
  readonly deletes: number
  /** Tasks that have ended in the store in memory before its operations are timed. */
  readonly finished: number
}

/** By name, for example `p50`; a scenario with one figure calls it `value`. */
export type Figures = Readonly<Record<string, number>>

export interface Scenario {
  readonly name: string
  readonly title: string
  readonly unit: string
  readonly better: "higher" | "lower"
  /** For what takes long: it is run once, however often the others are, by everybody or by all but the first contestant. */
  readonly once?: "everybody" | "others"
  /** For what only the first of the contestants has: the others are not asked. */
  readonly alone?: true
  readonly run: (session: Session, settings: Settings, pause: () => Promise<void>) => Promise<Figures | undefined>
}

/** Concurrent callers of workflows, and those that an engine executes at once: as many as keep everybody busy. */
export const workflowConcurrency = 200

/** All scenarios, in the order in which they are run. `pause` lets the server settle what was written before. */
export const scenarios = (): ReadonlyArray<Scenario> => [
  {
    name: "spawn",
    title: "Spawn, 50 callers, one call each",
    unit: "tasks/s",
    better: "higher",
    run: async ({ spawn }, { spawn: count }) => {
      if (spawn === undefined) return undefined
      await concurrently(concurrency, concurrency, () => spawn("noop"))
      return { value: count / await seconds(() => concurrently(count, concurrency, () => spawn("noop"))) }
    }
  },
  {
    name: "bulk",
    title: "Bulk spawn",
    unit: "tasks/s",
    better: "higher",
    run: async ({ bulkSpawn }, { bulk }) => {
      if (bulkSpawn === undefined) return undefined
      await bulkSpawn(100, "noop")
      return { value: bulk / await seconds(() => bulkSpawn(bulk, "noop")) }
    }
  },
  drain("noop", "No-op tasks", (settings) => settings.drain),
  drain("steps", "Tasks of three steps", (settings) => settings.steps),
  {
    name: "workflow",
    title: "Workflows of three activities, 200 callers that wait for the results",
    unit: "executions/s",
    better: "higher",
    run: async ({ executeWorkflow }, settings) => {
      if (executeWorkflow === undefined) return undefined
      await concurrently(workflowConcurrency, workflowConcurrency, executeWorkflow)
      const callers = { count: settings.workflows, limit: settings.seconds, concurrency: workflowConcurrency }
      return { value: await executed(executeWorkflow, callers) }
    }
  },
  {
    name: "fanout",
    title: "Fan-out and join",
    unit: "tasks/s",
    better: "higher",
    run: async ({ fanOut }, { children }) =>
      fanOut && { value: children / await seconds(() => fanOut(children, concurrency)) }
  },
  {
    name: "latency",
    title: "Idle latency, spawn to start",
    unit: "ms",
    better: "lower",
    once: "others",
    run: latency
  },
  growth("backlog", "Claim and complete one of so many pending tasks", "pending"),
  growth("history", "Claim and complete one beside so many finished tasks", "finished"),
  growth("sleepers", "Claim and complete one beside so many sleeping tasks", "sleeping"),
  {
    name: "resume",
    title: "Resume a task with many checkpoints",
    unit: "ms",
    better: "lower",
    run: async ({ resume }, { checkpoints }) => resume && { value: await resume(checkpoints) }
  },
  {
    name: "memory",
    title: "Memory that running no-op tasks add",
    unit: "MB",
    better: "lower",
    run: memory
  },
  ...own
]

// --- internal

/** From the start of a worker until the last result is stored; or the same number of tasks executed without a queue. */
function drain(job: Job, title: string, countOf: (settings: Settings) => number): Scenario {
  return {
    name: job,
    title,
    unit: "tasks/s",
    better: "higher",
    run: async (session, settings, pause) => {
      const count = countOf(settings)
      const { execute, startWorker } = session
      if (job === "steps" && !session.hasSteps) return undefined
      if (execute !== undefined) {
        await concurrently(concurrency, concurrency, () => execute(job))
        return { value: await executed(() => execute(job), { count, limit: settings.seconds, concurrency }) }
      }
      if (startWorker === undefined) return undefined
      // Who has to be given tasks one by one works on them one by one too, and would never see the end of all.
      const found = session.bulkSpawn === undefined ? Math.min(count, settings.seconds * 2500) : count
      await preload(session, found, job)
      await pause()
      return { value: await drained(session, startWorker, found, settings.seconds) }
    }
  }
}

const preload = ({ bulkSpawn, spawn }: Session, count: number, job: Job) =>
  bulkSpawn?.(count, job) ?? concurrently(count, concurrency, () => existing(spawn)(job))

/** An operation without which nobody who got here takes part. */
const existing = <A>(operation: A | undefined): A => {
  if (operation === undefined) throw new Error("A session that can start a worker can also spawn and count")
  return operation
}

const executed = async (
  execute: () => Promise<unknown>,
  { concurrency, count, limit }: { readonly count: number; readonly limit: number; readonly concurrency: number }
) => {
  const startedAt = performance.now()
  let done = 0
  await concurrently(count, concurrency, async () => {
    if (performance.now() - startedAt > limit * 1000) return
    await execute()
    done++
  })
  return done * 1000 / (performance.now() - startedAt)
}

/** The tables are looked at only once all tasks have started, so that looking costs nothing that is measured. */
const drained = async (
  session: Session,
  startWorker: NonNullable<Session["startWorker"]>,
  count: number,
  limit: number
) => {
  let started = 0
  const { promise: allStarted, resolve } = Promise.withResolvers<boolean>()
  const startedAt = performance.now()
  const onTask = () => {
    if (++started === count) resolve(true)
  }
  const stop = await startWorker({ concurrency, onTask })
  const timer = setTimeout(resolve, limit * 1000, false)
  const isEnding = await allStarted
  clearTimeout(timer)
  const unfinished = existing(session.unfinished)
  const left = isEnding ? await untilNone(unfinished) : await unfinished()
  const rate = (count - left) * 1000 / (performance.now() - startedAt)
  await stop()
  return rate
}

const untilNone = async (unfinished: () => Promise<number>): Promise<0> => {
  while (await unfinished() > 0) await sleep(2)
  return 0
}

/** The pauses are of many lengths, so that spawns meet a poll at any time of its interval. */
async function latency({ spawn, startWorker }: Session, { latencies }: Settings): Promise<Figures | undefined> {
  if (startWorker === undefined || spawn === undefined) return undefined
  let started = Promise.withResolvers<number>()
  const stop = await startWorker({ concurrency, onTask: () => started.resolve(performance.now()) })
  const samples: Array<number> = []
  for (let index = -5; index < latencies; index++) {
    await sleep(Math.random() * 300)
    started = Promise.withResolvers()
    const sentAt = performance.now()
    await spawn("noop")
    const took = await started.promise - sentAt
    if (index >= 0) samples.push(took)
  }
  await stop()
  return { p50: quantile(samples, 0.5), p99: quantile(samples, 0.99) }
}

/** The median of claiming and completing one task, by how many others there are. One is added before each claim. */
function growth(name: string, title: string, kind: Fill): Scenario {
  return {
    name,
    title,
    unit: "ms",
    better: "lower",
    once: "everybody",
    run: async ({ claimAndComplete, fill, spawn }, { claims, sizes }, pause) => {
      if (claimAndComplete === undefined || fill === undefined || spawn === undefined) return undefined
      const figures: Record<string, number> = {}
      let filled = 0
      for (const size of sizes) {
        for (const part of parts(size - filled, 100_000)) await fill(kind, part)
        filled = size
        await pause()
        const samples: Array<number> = []
        for (let index = -20; index < claims; index++) {
          await spawn("noop")
          const took = await seconds(claimAndComplete) * 1000
          if (index >= 0) samples.push(took)
        }
        figures[size] = quantile(samples, 0.5)
      }
      return figures
    }
  }
}

async function memory({ hold }: Session, { fibers }: Settings): Promise<Figures | undefined> {
  if (hold === undefined) return undefined
  const release = await hold(10)
  await release()
  const before = await memoryNow()
  const end = await hold(fibers)
  const after = await memoryNow()
  await end()
  return megabytes(before, after)
}
