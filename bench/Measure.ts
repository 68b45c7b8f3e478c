/** How times and memory are taken. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** Concurrent callers of spawn, and tasks that a worker runs at once. */
export const concurrency = 50

/** How long it took. */
export const seconds = async (use: () => Promise<unknown>): Promise<number> => {
  const startedAt = performance.now()
  await use()
  return (performance.now() - startedAt) / 1000
}

export const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** The value below which the share `q` of the samples lies, by nearest rank. */
export const quantile = (samples: ReadonlyArray<number>, q: number): number =>
  samples.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(q * samples.length) - 1)]!

export interface Memory {
  readonly heap: number
  readonly rss: number
}

/** What this process holds after garbage collection, in bytes. */
export const memory = async (): Promise<Memory> => {
  setFlagsFromString("--expose-gc")
  const collect: () => void = runInNewContext("gc")
  await sleep(100)
  collect()
  const { arrayBuffers, heapUsed, rss } = process.memoryUsage()
  return { heap: heapUsed + arrayBuffers, rss }
}

/** What it holds more than before, in megabytes. */
export const megabytes = (before: Memory, after: Memory) => ({
  heap: (after.heap - before.heap) / 1e6,
  rss: (after.rss - before.rss) / 1e6
})
