/** The results of a benchmark: their form in the file, and as tables. */
import type { Figures, Settings } from "./Scenarios.ts"

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGB: number
  readonly system: string
}

export interface Results {
  readonly date: string
  /** The commit that was measured, with a `+` when the working tree differed from it. */
  readonly commit: string
  readonly machine: Machine
  /** Of Node.js, PostgreSQL and the packages. */
  readonly versions: Readonly<Record<string, string>>
  readonly runs: number
  readonly settings: Settings
  readonly contestants: ReadonlyArray<{ readonly name: string; readonly about: string }>
  readonly scenarios: ReadonlyArray<Measured>
}

/** A scenario with the figures of everybody who took part in it, each the median of the runs. */
export interface Measured {
  readonly name: string
  readonly title: string
  readonly unit: string
  readonly better: "higher" | "lower"
  readonly figures: Readonly<Record<string, Figures>>
}

/** The middle one, or the mean of the two in the middle. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2
}

/** The median of each figure. */
export const medians = (runs: ReadonlyArray<Figures>): Figures =>
  Object.fromEntries(Object.keys(runs[0] ?? {}).map((key) => [key, median(runs.map((figures) => figures[key]!))]))

/**
 * A heading and a table per scenario, as Markdown. A ratio to ours above 1 says that ours is so many times better. Where
 * the figures go by size, the ratio is that of the largest size to the smallest.
 */
export const tables = (results: Results): string =>
  results.scenarios
    .filter(({ figures }) => Object.keys(figures).length > 0)
    .map((scenario) => `### ${scenario.title}\n\n${tableOf(results, scenario)}`)
    .join("\n\n")

/** With about three digits that count. */
export const format = (value: number): string =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3)

/** A Markdown table, of which the first row is the head. */
export const table = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = rows[0]!.map((_, column) => Math.max(3, ...rows.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) =>
    `| ${
      row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join(" | ")
    } |`
  const rule = widths.map((width, column) => column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)
  return [line(rows[0]!), line(rule), ...rows.slice(1).map(line)].join("\n")
}

// --- internal

const tableOf = ({ contestants }: Results, { better, figures, unit }: Measured): string => {
  const rows = contestants.flatMap(({ name }) => figures[name] === undefined ? [] : [{ name, own: figures[name] }])
  const keys = [...new Set(rows.flatMap(({ own }) => Object.keys(own)))]
  if (keys.every((key) => /^\d+$/.test(key))) {
    return table([
      ["", ...keys.map((key) => `${Number(key).toLocaleString("en")}, ${unit}`), "growth"],
      ...rows.map(({ name, own }) => [
        name,
        ...keys.map((key) => format(own[key]!)),
        `${format(own[keys.at(-1)!]! / own[keys[0]!]!)}×`
      ])
    ])
  }
  const ours = figures[contestants[0]!.name]
  if (rows.length === 1 && ours !== undefined) {
    return table([
      ["", ...keys.map((key) => key === "value" ? unit : `${key}, ${unit}`)],
      [rows[0]!.name, ...keys.map((key) => format(ours[key]!))]
    ])
  }
  const ratio = (own: Figures, key: string) => {
    if (ours === undefined || own === ours) return ""
    return `${format(better === "higher" ? ours[key]! / own[key]! : own[key]! / ours[key]!)}×`
  }
  return table([
    ["", ...keys.flatMap((key) => [key === "value" ? unit : `${key}, ${unit}`, "ours is better by"])],
    ...rows.map(({ name, own }) => [name, ...keys.flatMap((key) => [format(own[key]!), ratio(own, key)])])
  ])
}
