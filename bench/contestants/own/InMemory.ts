/** The store in memory. */
import { Duration, Effect } from "effect"
import { Driver, Identifiers, MemoryDriver } from "effect-absurd"
import { median } from "../../Report.ts"
import type { Own } from "./Own.ts"

const { ClaimToken, CheckpointName, QueueName, TaskName } = Identifiers
type Claimed = typeof Driver.Claimed.Type

const count = 20_000
const rounds = 3
const queue = QueueName.make("bench")
// One for each claim, as workers do.
const tokenOf = (place: number) => ClaimToken.make(`worker:${place}`)
const name = CheckpointName.make("step")
const task: typeof Driver.SpawnItem.Type = {
  name: TaskName.make("job"),
  params: { order: 42, sku: "widget" },
  headers: null,
  retryStrategy: null,
  maxAttempts: 5,
  cancellation: null,
  idempotencyKey: null,
  delay: null
}

/** The operations per second of processor time, of `times` calls. Other programs on the machine do not count. */
const rate = <E>(times: number, call: (place: number) => Effect.Effect<unknown, E>) =>
  Effect.gen(function*() {
    const begin = process.cpuUsage()
    for (let place = 0; place < times; place++) yield* call(place)
    const { system, user } = process.cpuUsage(begin)
    return Math.round(times / ((system + user) / 1e6))
  })

const measure = (tasks: number) =>
  Effect.gen(function*() {
    const driver = yield* Driver.Driver
    const runs: Array<Claimed> = []
    const held = (place: number) => ({ runId: runs[place]!.runId, token: runs[place]!.token })
    const lease = Duration.minutes(1)
    return {
      spawn: yield* rate(tasks, () => driver.spawn({ queue, tasks: [task] })),
      claim: yield* rate(tasks, (place) =>
        Effect.map(driver.claim({ queue, token: tokenOf(place), lease, limit: 1 }), (claimed) => {
          runs.push(...claimed)
        })),
      checkpoint: yield* rate(tasks, (place) =>
        driver.setCheckpoints({
          queue,
          checkpoints: [{ ...held(place), name, state: { paid: true }, extendBy: lease }]
        })),
      complete: yield* rate(tasks, (place) =>
        driver.complete({ queue, runs: [{ ...held(place), result: { tracking: "TRACK123" } }] }))
    }
  })

/** Operations of one kind a second, and all four in the mean when there are as many of each: what a task with one step takes. */
export interface Rates extends Effect.Success<ReturnType<typeof measure>> {
  readonly mean: number
}

const operationNames = ["spawn", "claim", "checkpoint", "complete"] as const

const round = (finished: number) =>
  Effect.gen(function*() {
    const driver = yield* Driver.Driver
    yield* driver.createQueue({ queue, storage: "unpartitioned" })
    if (finished > 0) yield* measure(finished)
    const rates = yield* measure(count)
    yield* driver.dropQueue(queue)
    return rates
  })

/** Medians of rounds, each with a queue of its own behind which `finished` tasks have ended. One call each. */
const main = (finished: number) =>
  Effect.gen(function*() {
    // Lets the compiler see the code first.
    yield* round(0)
    const samples = yield* Effect.forEach(Array.from({ length: rounds }), () => round(finished))
    const [spawn, claim, checkpoint, complete] = operationNames.map((name) =>
      median(samples.map((sample) => sample[name]))
    )
    const rates = { spawn: spawn!, claim: claim!, checkpoint: checkpoint!, complete: complete! }
    return { ...rates, mean: 4 / Object.values(rates).reduce((seconds, perSecond) => seconds + 1 / perSecond, 0) }
  })

export const operations: Own["operations"] = (finished) =>
  Effect.runPromise(Effect.provide(main(finished), MemoryDriver.layer))
