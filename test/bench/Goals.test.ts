import { assert, describe, it } from "@effect/vitest"
import { evaluate, goals, goalTable, type Verdict } from "../../bench/Goals.ts"
import type { Results } from "../../bench/Report.ts"
import type { Figures, Settings } from "../../bench/Scenarios.ts"

const ours = "effect-absurd"

/** Those that goals look at. */
const settings = { checkpoints: 1000, fibers: 10_000, suspended: 100_000, finished: 100_000 } as Settings

const results = (
  scenarios: Readonly<Record<string, Readonly<Record<string, Figures>>>>,
  own: Partial<Settings> = {}
): Results => ({
  date: "2026-01-01",
  commit: "0",
  machine: { cpu: "", cores: 2, memoryGB: 8, system: "" },
  versions: {},
  runs: 1,
  settings: { ...settings, ...own },
  contestants: [{ name: ours, about: "" }],
  scenarios: Object.entries(scenarios).map(([name, figures]) => ({
    name,
    title: name,
    unit: "",
    better: "higher",
    figures
  }))
})

const verdict = (verdicts: ReadonlyArray<Verdict>, goal: number, what: string): Verdict => {
  const found = verdicts.filter((one) => one.goal === goal && one.what.includes(what))
  assert.strictEqual(found.length, 1, `one check of goal ${goal} is about ${what}`)
  return found[0]!
}

describe("goals of the benchmark", () => {
  it("they are numbered from 1 on, and each is checked", () => {
    assert.deepStrictEqual(goals.map((goal) => goal.number), goals.map((_, index) => index + 1))
    for (const goal of goals) assert.isNotEmpty(goal.checks)
  })

  it("none is measured when nothing ran, or when only others took part", () => {
    for (const nothing of [results({}), results({ noop: { limit: { value: 5 } }, resume: {} })]) {
      for (const { measured, state, what } of evaluate(nothing)) {
        assert.strictEqual(state, "not measured", what)
        assert.isUndefined(measured, what)
      }
    }
  })

  it("rates are compared with the best of the contestants that are meant, to the limit itself", () => {
    const verdicts = evaluate(results({
      noop: {
        [ours]: { value: 2000 },
        limit: { value: 2500 },
        "absurd-sdk (on this schema)": { value: 101 },
        "graphile-worker (plain)": { value: 9000 }
      },
      steps: { [ours]: { value: 1500 }, "DBOS (direct)": { value: 10 }, "DBOS (queue)": { value: 100 } }
    }))
    assert.include(verdict(verdicts, 1, "limit"), { measured: 0.8, state: "reached", wanted: "at least 0.8×" })
    assert.include(verdict(verdicts, 1, "absurd-sdk"), { measured: 2000 / 101, state: "not reached" })
    // Its other mode did run.
    assert.include(verdict(verdicts, 1, "local queue"), { measured: undefined, state: "not measured" })
    assert.include(verdict(verdicts, 2, "DBOS"), { measured: 15, state: "reached" })
    assert.include(verdict(verdicts, 2, "absurd-sdk"), { state: "not measured" })
  })

  it("figures are compared with their limits, latency without hints with the interval of polls", () => {
    const verdicts = evaluate(results({
      latency: { [ours]: { p50: 3, p99: 10.1 } },
      poll: { [ours]: { p50: 120, p99: 250, interval: 250 } },
      quickstart: { [ours]: { value: 4.2 } }
    }))
    assert.include(verdict(verdicts, 4, "p50"), { measured: 3, state: "reached", wanted: "at most 3 ms" })
    assert.include(verdict(verdicts, 4, "p99 with LISTEN"), { measured: 10.1, state: "not reached" })
    assert.include(verdict(verdicts, 4, "without"), { measured: 1, state: "reached" })
    assert.include(verdict(verdicts, 8, "quick start"), { measured: 4.2, state: "reached" })
  })

  it("growth is that from the smallest size to a million, and not measured up to less", () => {
    const verdicts = evaluate(results({
      backlog: { [ours]: { 0: 2, 100_000: 9, 1_000_000: 2.4 } },
      history: { [ours]: { 0: 2, 1_000_000: 2.5 } },
      sleepers: { [ours]: { 0: 2, 100_000: 2 } },
      cleanup: { [ours]: { 1_000_000: 2 } }
    }))
    assert.include(verdict(verdicts, 5, "pending"), { measured: 1.2, state: "reached" })
    assert.include(verdict(verdicts, 5, "1,000,000 finished"), { measured: 1.25, state: "not reached" })
    assert.include(verdict(verdicts, 5, "sleeping"), { state: "not measured" })
    assert.include(verdict(verdicts, 5, "deleting"), { state: "not measured" })
  })

  it("a smaller run than the goal is about measures nothing", () => {
    const scenarios = {
      memory: { [ours]: { heap: 1, rss: 2 } },
      suspended: { [ours]: { heap: 1, rss: 2 } },
      reads: { [ours]: { value: 1 } }
    }
    for (const { state } of evaluate(results(scenarios)).filter(({ goal }) => goal === 6)) {
      assert.strictEqual(state, "reached")
    }
    const small = results(scenarios, { fibers: 9999, suspended: 99_999, checkpoints: 999 })
    for (const { state } of evaluate(small).filter(({ goal }) => goal === 6)) {
      assert.strictEqual(state, "not measured")
    }
  })

  it("the table has a row for each check", () => {
    const rows = goalTable(evaluate(results({ quickstart: { [ours]: { value: 12 } } }))).split("\n")
    assert.strictEqual(rows.length, 2 + goals.reduce((sum, { checks }) => sum + checks.length, 0))
    assert.match(rows.at(-2)!, /^\| 8\. .* \| +at most 10 s \| +12\.0 s \| +\*\*not reached\*\* \|$/)
    assert.match(rows[2]!, /^\| 1\. .* \| +at least 1× \| +\| +not measured \|$/)
  })
})
