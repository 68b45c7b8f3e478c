/** The goals of this library's speed, as data, and what the results of a benchmark say about each. */
import { format, type Results, table } from "./Report.ts"
import type { Settings } from "./Scenarios.ts"

/** What is wanted of one measured number. */
export interface Check {
  readonly what: string
  readonly bound: "at least" | "at most"
  readonly limit: number
  /** Of the limit and of what is measured; `×` for ratios. */
  readonly unit: string
  /** The number out of the results; undefined when what it takes was not measured. */
  readonly measure: (results: Results) => number | undefined
}

export interface Goal {
  readonly number: number
  readonly title: string
  readonly checks: ReadonlyArray<Check>
}

/** A check with what came of it; `measured` is undefined when its scenario, or the one it is compared with, did not run. */
export interface Verdict {
  readonly goal: number
  readonly title: string
  readonly what: string
  readonly wanted: string
  readonly measured: number | undefined
  readonly unit: string
  readonly state: "reached" | "not reached" | "not measured"
}

/** How often ours is as good as the best of the contestants whose names begin like that, in a scenario of rates. */
const beside = (scenario: string, peer: string, times: number): Check => ({
  what: `beside ${peer}`,
  bound: "at least",
  limit: times,
  unit: "×",
  measure: (results) => {
    const ours = ourFigure(results, scenario, "value")
    const theirs = figuresOf(results, scenario)
      .flatMap(([name, figures]) => name.startsWith(peer) ? [figures["value"]] : [])
      .filter((value) => value !== undefined)
    return ours === undefined || theirs.length === 0 ? undefined : ours / Math.max(...theirs)
  }
})

/** How many times what it costs at the smallest size it costs at `size`, of the contestant that is ours. */
const growth = (scenario: string, what: string, size: number): Check => ({
  what,
  bound: "at most",
  limit: 1.2,
  unit: "×",
  measure: (results) => {
    const smallest = Math.min(...Object.keys(oursIn(results, scenario) ?? {}).map(Number))
    const [least, most] = [smallest, size].map((key) => ourFigure(results, scenario, String(key)))
    return least === undefined || most === undefined || smallest >= size ? undefined : most / least
  }
})

/** A figure of ours. Of a run that was smaller than `least` in the setting it says nothing. */
const figure = (
  check: Omit<Check, "measure"> & { readonly scenario: string; readonly key: string },
  setting?: keyof Settings,
  least = 0
): Check => ({
  ...check,
  measure: (results) =>
    setting === undefined || Number(results.settings[setting]) >= least
      ? ourFigure(results, check.scenario, check.key)
      : undefined
})

const million = 1_000_000

/** One worker process, durable defaults, all within one run of the benchmark. */
export const goals: ReadonlyArray<Goal> = [
  {
    number: 1,
    title: "No-op tasks a second",
    checks: [
      beside("noop", "graphile-worker (local queue)", 1),
      beside("noop", "absurd-sdk", 20),
      beside("noop", "limit", 0.8)
    ]
  },
  {
    number: 2,
    title: "Tasks of three steps a second",
    checks: [beside("steps", "absurd-sdk", 10), beside("steps", "DBOS", 15)]
  },
  {
    number: 3,
    title: "Spawns a second",
    checks: [
      { ...beside("spawn", "absurd-sdk", 5), what: "one call each, beside absurd-sdk" },
      { ...beside("bulk", "graphile-worker", 1), what: "in bulk, beside graphile-worker" }
    ]
  },
  {
    number: 4,
    title: "Idle latency from spawn to start",
    checks: [
      figure({ scenario: "latency", key: "p50", bound: "at most", limit: 3, unit: "ms", what: "p50 with LISTEN" }),
      figure({ scenario: "latency", key: "p99", bound: "at most", limit: 10, unit: "ms", what: "p99 with LISTEN" }),
      {
        what: "p99 without, in poll intervals",
        bound: "at most",
        limit: 1,
        unit: "×",
        measure: (results) => {
          const [p99, interval] = ["p99", "interval"].map((key) => ourFigure(results, "poll", key))
          return p99 === undefined || interval === undefined ? undefined : p99 / interval
        }
      }
    ]
  },
  {
    number: 5,
    title: "Flat costs",
    checks: [
      growth("backlog", "claim and complete at 1,000,000 pending, to empty", million),
      growth("history", "claim and complete at 1,000,000 finished, to empty", million),
      growth("sleepers", "claim and complete at 1,000,000 sleeping, to empty", million),
      growth("cleanup", "deleting some of 1,000,000, to deleting all there are", million)
    ]
  },
  {
    number: 6,
    title: "What waits or resumes",
    checks: [
      figure(
        {
          scenario: "reads",
          key: "value",
          bound: "at most",
          limit: 1,
          unit: "",
          what: "calls of the store to resume a task with 1,000 checkpoints"
        },
        "checkpoints",
        1000
      ),
      figure(
        {
          scenario: "suspended",
          key: "heap",
          bound: "at most",
          limit: 10,
          unit: "MB",
          what: "memory that 100,000 suspended tasks leave in a worker"
        },
        "suspended",
        100_000
      ),
      figure(
        {
          scenario: "memory",
          key: "rss",
          bound: "at most",
          limit: 150,
          unit: "MB",
          what: "memory that 10,000 running no-op fibers add"
        },
        "fibers",
        10_000
      )
    ]
  },
  {
    number: 7,
    title: "The store in memory",
    checks: [
      figure({
        scenario: "operations",
        key: "empty",
        bound: "at least",
        limit: 100_000,
        unit: "/s",
        what: "operations a second of one core"
      }),
      figure(
        {
          scenario: "operations",
          key: "history",
          bound: "at least",
          limit: 100_000,
          unit: "/s",
          what: "the same behind 100,000 finished tasks"
        },
        "finished",
        100_000
      )
    ]
  },
  {
    number: 8,
    title: "The embedded store",
    checks: [
      figure({
        scenario: "quickstart",
        key: "value",
        bound: "at most",
        limit: 10,
        unit: "s",
        what: "the quick start in an empty folder, to its result"
      })
    ]
  },
  {
    number: 9,
    title: "Workflows of Effect a second",
    checks: [beside("workflow", "Effect cluster", 10)]
  }
]

/** What the results say about every check, in order. */
export const evaluate = (results: Results): ReadonlyArray<Verdict> =>
  goals.flatMap(({ checks, number, title }) =>
    checks.map((check): Verdict => {
      const { bound, limit, unit, what } = check
      const measured = check.measure(results)
      const isReached = measured !== undefined && (bound === "at least" ? measured >= limit : measured <= limit)
      return {
        goal: number,
        title,
        what,
        wanted: `${bound} ${withUnit(limit.toLocaleString("en"), unit)}`,
        measured,
        unit,
        state: measured === undefined ? "not measured" : isReached ? "reached" : "not reached"
      }
    })
  )

/** A Markdown table of them. */
export const goalTable = (verdicts: ReadonlyArray<Verdict>): string =>
  table([
    ["goal", "wanted", "measured", "state"],
    ...verdicts.map(({ goal, measured, state, title, unit, wanted, what }) => [
      `${goal}. ${title}: ${what}`,
      wanted,
      measured === undefined ? "" : withUnit(format(measured), unit),
      state === "not reached" ? "**not reached**" : state
    ])
  ])

// --- internal

const withUnit = (value: string, unit: string) => /^[a-z]/i.test(unit) ? `${value} ${unit}` : `${value}${unit}`

const figuresOf = (results: Results, scenario: string) =>
  Object.entries(results.scenarios.find(({ name }) => name === scenario)?.figures ?? {})

/** Ours is the first of the contestants. */
const oursIn = ({ contestants, scenarios }: Results, scenario: string) =>
  scenarios.find(({ name }) => name === scenario)?.figures[contestants[0]!.name]

const ourFigure = (results: Results, scenario: string, key: string): number | undefined =>
  oursIn(results, scenario)?.[key]
