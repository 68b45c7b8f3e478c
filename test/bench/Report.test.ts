import { assert, describe, it } from "@effect/vitest"
import { draw } from "../../bench/Drawing.ts"
import { type Measured, medians, type Results, tables } from "../../bench/Report.ts"
import type { Settings } from "../../bench/Scenarios.ts"

const results = (...scenarios: ReadonlyArray<Measured>): Results => ({
  date: "2026-01-01",
  commit: "0",
  machine: { cpu: "", cores: 2, memoryGB: 8, system: "" },
  versions: {},
  runs: 3,
  settings: {} as Settings,
  contestants: ["ours", "a <b>", "c"].map((name) => ({ name, about: "" })),
  scenarios
})

const rates: Measured = {
  name: "rates",
  title: "Rates",
  unit: "tasks/s",
  better: "higher",
  figures: { ours: { value: 3000 }, "a <b>": { value: 1500 } }
}
const growth: Measured = {
  name: "growth",
  title: "Growth",
  unit: "ms",
  better: "lower",
  figures: { ours: { 0: 2, 1_000_000: 3 }, "a <b>": { 0: 2, 1_000_000: 200 } }
}
const alone: Measured = { ...rates, title: "Alone", figures: { ours: { emit: 1.5, all: 20 } } }
const withoutUs: Measured = { ...rates, title: "Others", figures: { "a <b>": { value: 5 }, c: { value: 1 } } }
const failed: Measured = { ...rates, title: "Failed", figures: {} }

const lines = (measured: Measured) => tables(results(measured)).split("\n").map((line) => line.replaceAll(/ +/g, " "))

describe("the report of the benchmark", () => {
  it("rates have ratios, growth is told from the smallest size to the largest", () => {
    assert.deepStrictEqual(lines(rates).slice(2), [
      "| | tasks/s | ours is better by |",
      "| ----- | ------: | ----------------: |",
      "| ours | 3,000 | |",
      "| a <b> | 1,500 | 2.00× |"
    ])
    assert.deepStrictEqual(lines(growth).slice(4), [
      "| ours | 2.00 | 3.00 | 1.50× |",
      "| a <b> | 2.00 | 200 | 100× |"
    ])
  })

  it("who is alone is compared with nobody, and what nobody did is left out", () => {
    assert.deepStrictEqual(lines(alone).slice(2), [
      "| | emit, tasks/s | all, tasks/s |",
      "| ---- | ------------: | -----------: |",
      "| ours | 1.50 | 20.0 |"
    ])
    assert.strictEqual(tables(results(failed)), "")
  })

  it("the median of each figure is its own", () => {
    assert.deepStrictEqual(medians([{ a: 1, b: 9 }, { a: 3, b: 1 }, { a: 2, b: 5 }]), { a: 2, b: 5 })
    assert.deepStrictEqual(medians([{ a: 1 }, { a: 2 }]), { a: 1.5 })
  })

  it("the picture has a bar for everybody, those of the largest size where there are sizes, and marks ours alone", () => {
    const image = draw(results(rates, growth, alone, withoutUs, failed))
    assert.strictEqual(image.match(/<rect class="ours"/g)?.length, 2)
    assert.strictEqual(image.match(/<rect class="other"/g)?.length, 4)
    assert.include(image, "Growth (at 1,000,000, ms, lower is better)")
    assert.include(image, ">a &lt;b><")
    for (const title of ["Alone", "Failed"]) assert.notInclude(image, title)
  })
})
