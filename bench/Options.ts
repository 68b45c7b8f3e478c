/** What the command line asks for. */
import { parseArgs } from "node:util"
import { contestants } from "./contestants/All.ts"
import { variants } from "./contestants/Variants.ts"
import { scenarios, type Settings } from "./Scenarios.ts"

export interface Options {
  readonly scenarios: ReadonlyArray<string>
  readonly contestants: ReadonlyArray<string>
  readonly runs: number
  readonly out: string
  readonly settings: Settings
}

const help = `npm run bench -- [options]

  --only <names>       scenarios, separated by commas: ${scenarios().map(({ name }) => name).join(", ")}
  --peers <names>      contestants beside ours, by any part of their names: ${
  contestants.slice(1).map(({ name }) => name).join(", ")
}; none; and only when asked for: ${variants.map(({ name }) => name).join(", ")}
  --runs <count>       runs of which the median counts, 3 by default; what takes long is run once
  --n <count>          the most of anything below that is not given itself
  --spawn <count>      tasks that are spawned one by one, 10000 by default
  --bulk <count>       tasks that are spawned in bulk, 100000
  --drain <count>      tasks that a worker finds, 100000
  --steps <count>      tasks of three steps that a worker finds, 25000
  --workflows <count>  workflows of three activities that are executed, 10000
  --seconds <count>    after which a drain is broken off, 6
  --children <count>   of the fan-out, 10000
  --latencies <count>  spawns into an idle queue, 100
  --sizes <counts>     of the queues whose growth is measured, 0,100000,1000000
  --claims <count>     per size, 200
  --checkpoints <n>    of the task that is resumed, 1000
  --fibers <count>     of the busy worker, 10000
  --waiters <count>    of one event, 10000
  --suspended <count>  tasks beside a worker whose memory is looked at, 100000
  --queues <count>     of one database, 1000
  --deletes <count>    ended tasks that one call deletes, 10000
  --finished <count>   tasks in the store in memory behind which it is timed, 100000
  --out <file>         where the figures go, bench/results/latest.json
`

/** Prints a help text and exits when asked to. */
export const parse = (): Options => {
  const text = { type: "string" } as const
  const { values } = parseArgs({
    options: {
      help: { type: "boolean" },
      only: text,
      peers: text,
      runs: text,
      n: text,
      spawn: text,
      bulk: text,
      drain: text,
      steps: text,
      workflows: text,
      seconds: text,
      children: text,
      latencies: text,
      sizes: text,
      claims: text,
      checkpoints: text,
      fibers: text,
      waiters: text,
      suspended: text,
      queues: text,
      deletes: text,
      finished: text,
      out: text
    }
  })
  if (values.help === true) {
    console.log(help)
    process.exit(0)
  }
  const limit = whole("n", values.n, Number.MAX_SAFE_INTEGER)
  const count = (name: Exclude<keyof typeof values, "help">, normal: number) =>
    whole(name, values[name], Math.min(limit, normal))
  return {
    scenarios: pick("scenario", scenarios().map(({ name }) => name), values.only),
    contestants: [
      contestants[0]!.name,
      ...pick(
        "peer",
        (values.peers === undefined ? contestants : [...contestants, ...variants]).slice(1).map(({ name }) => name),
        values.peers
      )
    ],
    runs: whole("runs", values.runs, 3),
    out: values.out ?? "bench/results/latest.json",
    settings: {
      spawn: count("spawn", 10_000),
      bulk: count("bulk", 100_000),
      drain: count("drain", 100_000),
      steps: count("steps", 25_000),
      workflows: count("workflows", 10_000),
      seconds: whole("seconds", values.seconds, 6),
      children: count("children", 10_000),
      latencies: count("latencies", 100),
      sizes: sizes(values.sizes ?? `0,${Math.min(limit, 100_000)},${Math.min(limit, 1_000_000)}`),
      claims: count("claims", 200),
      checkpoints: count("checkpoints", 1000),
      fibers: count("fibers", 10_000),
      waiters: count("waiters", 10_000),
      suspended: count("suspended", 100_000),
      queues: count("queues", 1000),
      deletes: count("deletes", 10_000),
      finished: count("finished", 100_000)
    }
  }
}

// --- internal

const whole = (name: string, value: string | undefined, normal: number): number => {
  const number = value === undefined ? normal : Number(value)
  if (!Number.isSafeInteger(number) || number < 1) throw new Error(`--${name} must be a whole number from 1`)
  return number
}

const sizes = (list: string): ReadonlyArray<number> => {
  const numbers = list.split(",").map(Number)
  if (numbers.some((number) => !Number.isSafeInteger(number) || number < 0)) {
    throw new Error("--sizes must be whole numbers, separated by commas")
  }
  return [...new Set(numbers)].toSorted((a, b) => a - b)
}

const pick = (what: string, names: ReadonlyArray<string>, wanted: string | undefined): ReadonlyArray<string> => {
  if (wanted === undefined) return names
  if (wanted === "none") return []
  const found = wanted.split(",").map((part) => {
    const matches = names.filter((name) => name === part)
    const near = matches.length > 0 ? matches : names.filter((name) => name.toLowerCase().includes(part.toLowerCase()))
    if (near.length === 0) throw new Error(`There is no ${what} "${part}"; there are ${names.join(", ")}`)
    return near
  })
  return names.filter((name) => found.flat().includes(name))
}
