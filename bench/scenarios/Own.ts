/** What only this library takes part in. */
import { parts } from "../Contestant.ts"
import { concurrency, megabytes, memory, quantile, seconds, sleep } from "../Measure.ts"
import type { Scenario } from "../Scenarios.ts"

/** How often one call is timed of which each does much. */
const calls = 5

/** In the order in which they are run. */
export const own: ReadonlyArray<Scenario> = [
  {
    name: "poll",
    title: "Idle latency without notifications, spawn to start",
    unit: "ms",
    better: "lower",
    alone: true,
    once: "everybody",
    run: async ({ own, spawn }, { latencies }) => {
      if (own === undefined || spawn === undefined) return undefined
      let started = Promise.withResolvers<number>()
      const { interval, stop } = await own.startPolling(() => started.resolve(performance.now()))
      const samples: Array<number> = []
      for (let index = 0; index < latencies; index += 2) {
        // So long that the worker no longer looks as often as after work, and then any time of the interval.
        await sleep(interval * (2 + Math.random()))
        started = Promise.withResolvers()
        const sentAt = performance.now()
        await spawn("noop")
        samples.push(await started.promise - sentAt)
      }
      await stop()
      return { p50: quantile(samples, 0.5), p99: quantile(samples, 0.99), interval }
    }
  },
  {
    name: "children",
    title: "A task that spawns children and joins them",
    unit: "children/s",
    better: "higher",
    alone: true,
    run: async ({ own }, { children }) => own && { value: children / await own.joinChildren(children, concurrency) }
  },
  {
    name: "waiters",
    title: "An event that many tasks wait for",
    unit: "ms",
    better: "lower",
    alone: true,
    run: async ({ own }, { waiters }) => own && { ...await own.emit(waiters, concurrency) }
  },
  {
    name: "reads",
    title: "Calls of the store to resume a task with many checkpoints",
    unit: "calls",
    better: "lower",
    alone: true,
    once: "everybody",
    run: async ({ own }, { checkpoints }) => own && { value: await own.reads(checkpoints) }
  },
  {
    name: "suspended",
    title: "Memory that suspended tasks leave in their worker",
    unit: "MB",
    better: "lower",
    alone: true,
    once: "everybody",
    run: async ({ own }, { suspended }) => {
      if (own === undefined) return undefined
      const { add, stop } = await own.suspend(concurrency)
      // As much work of the same kind before: what it leaves behind once is not what each task costs.
      await add(Math.ceil(suspended / 4))
      const before = await memory()
      await add(suspended)
      const after = await memory()
      await stop()
      return megabytes(before, after)
    }
  },
  {
    name: "cleanup",
    title: "Delete some of so many finished tasks",
    unit: "ms",
    better: "lower",
    alone: true,
    once: "everybody",
    run: async ({ fill, own }, { deletes, sizes }, pause) => {
      if (own === undefined || fill === undefined) return undefined
      const figures: Record<string, number> = {}
      // As many as are deleted, and as many as there may be.
      for (const size of new Set([deletes * calls, Math.max(deletes * calls, ...sizes)])) {
        for (const part of parts(size, 100_000)) await fill("finished", part)
        await pause()
        const samples: Array<number> = []
        for (let index = 0; index < calls; index++) {
          samples.push(await seconds(() => own.cleanup(deletes)) * 1000)
        }
        figures[size] = quantile(samples, 0.5)
        while (await own.cleanup(100_000) > 0);
      }
      return figures
    }
  },
  {
    name: "queues",
    title: "Spawn, claim and complete one in one of so many queues",
    unit: "ms",
    better: "lower",
    alone: true,
    once: "everybody",
    run: async ({ own }, { claims, queues }, pause) => {
      if (own === undefined) return undefined
      const figures: Record<string, number> = {}
      for (const size of [1, queues]) {
        const claim = await own.claimBeside(size)
        await pause()
        const samples: Array<number> = []
        for (let index = -20; index < claims; index++) {
          const took = await seconds(claim) * 1000
          if (index >= 0) samples.push(took)
        }
        figures[size] = quantile(samples, 0.5)
      }
      return figures
    }
  },
  {
    name: "operations",
    title: "Operations of the store in memory on one core",
    unit: "operations/s",
    better: "higher",
    alone: true,
    run: async ({ own }, { finished }) => {
      if (own === undefined) return undefined
      const { mean, ...each } = await own.operations(0)
      return { ...each, empty: mean, history: (await own.operations(finished)).mean }
    }
  },
  {
    name: "quickstart",
    title: "The quick start, with a new embedded store",
    unit: "s",
    better: "lower",
    alone: true,
    run: async ({ own }) => own && { value: await seconds(own.quickStart) }
  }
]
