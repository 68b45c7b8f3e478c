/**
 * Operations per second of processor time of the store in memory, one call each, in an empty queue and behind 100,000 finished tasks.
 *
 *     npx --no-install node --conditions=source bench/memory.ts
 */
import { Console, Duration, Effect } from "effect"
import { Driver, Identifiers, MemoryDriver } from "effect-absurd"

const { ClaimToken, CheckpointName, QueueName, TaskName } = Identifiers
type Claimed = typeof Driver.Claimed.Type

const count = 20_000
const history = 100_000
const samplesOf = 5
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

type Rates = Effect.Success<ReturnType<typeof measure>>

const mean = (rates: ReadonlyArray<number>) =>
  Math.round(rates.length / rates.reduce((seconds, perSecond) => seconds + 1 / perSecond, 0))

const median = (rates: ReadonlyArray<number>) => rates.toSorted((a, b) => a - b)[rates.length >> 1] ?? 0

const report = (title: string, samples: ReadonlyArray<Rates>) => {
  const rates = (["spawn", "claim", "checkpoint", "complete"] as const).map((operation) =>
    [operation, median(samples.map((sample) => sample[operation]))] as const
  )
  return Console.log(
    [
      title,
      ...rates.map(([operation, perSecond]) => `${operation} ${perSecond}/s`),
      // As many of each: what a task with one step takes.
      `in the mean ${mean(rates.map(([, perSecond]) => perSecond))}/s`
    ].join("\n  ")
  )
}

/** Medians of as many rounds, each with a queue of its own behind which `finished` tasks have ended. */
const rounds = (finished: number) =>
  Effect.gen(function*() {
    const driver = yield* Driver.Driver
    const samples: Array<Rates> = []
    for (let round = 0; round < samplesOf; round++) {
      yield* driver.createQueue({ queue, storage: "unpartitioned" })
      yield* measure(finished)
      samples.push(yield* measure(count))
      yield* driver.dropQueue(queue)
    }
    return samples
  })

const main = Effect.gen(function*() {
  // Lets the compiler see the code first.
  yield* rounds(count)
  yield* report("empty queue", yield* rounds(0))
  yield* report(`${history} finished tasks`, yield* rounds(history))
})

await Effect.runPromise(main.pipe(Effect.provide(MemoryDriver.layer)))
