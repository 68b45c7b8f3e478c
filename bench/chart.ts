/**
 * Puts the figures of a benchmark into `docs/performance.md`, between its markers, and draws `docs/performance.svg`:
 * `node bench/chart.ts [results]`, by default from `bench/results/latest.json`.
 */
import * as Fs from "node:fs/promises"
import { format, type Measured, type Results, tables } from "./Report.ts"

const page = "docs/performance.md"
const image = "docs/performance.svg"
const [begin, end] = ["<!-- figures -->", "<!-- end of figures -->"]

const main = async () => {
  const results: Results = JSON.parse(await Fs.readFile(process.argv[2] ?? "bench/results/latest.json", "utf8"))
  const text = await Fs.readFile(page, "utf8")
  const [before, rest] = text.split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined) throw new Error(`${page} lacks its markers`)
  await Fs.writeFile(page, `${before}${begin}\n\n${figures(results)}\n\n${end}${after}`)
  await Fs.writeFile(image, chart(results))
}

// --- internal

const figures = (results: Results): string => {
  const { commit, contestants, date, machine, runs, settings, versions } = results
  const all = Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")
  return [
    `Measured on ${date} at commit ${commit}, on ${machine.cores} cores of ${machine.cpu} with ${machine.memoryGB} GB of`
    + ` memory, ${machine.system}; ${runs === 1 ? "one run" : `medians of ${runs} runs`}.`,
    `Versions: ${all}.`,
    `Sizes: ${Object.entries(settings).map(([name, value]) => `${name} ${[value].flat().join("/")}`).join(", ")}.`,
    contestants.map(({ about, name }) => `- **${name}**: ${about}`).join("\n"),
    "![Throughput and latency beside other systems](performance.svg)",
    tables(results)
  ].join("\n\n")
}

const [width, labels, bar, gap] = [860, 230, 18, 6]

/** A panel of bars for each scenario whose figures are not by size. */
const chart = ({ contestants, scenarios }: Results): string => {
  const panels: Array<string> = []
  let top = 16
  for (const scenario of scenarios) {
    const rows = contestants.flatMap(({ name }) => {
      const value = scenario.figures[name]?.["value"] ?? scenario.figures[name]?.["p50"]
      return value === undefined ? [] : [{ name, value }]
    })
    if (rows.length < 2) continue
    panels.push(`<g transform="translate(16 ${top})">${panel(scenario, rows)}</g>`)
    top += 34 + rows.length * (bar + gap)
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" font-family="sans-serif" font-size="13">
<style>text{fill:#333}.title{font-weight:bold}.ours{fill:#5b4bdb}.other{fill:#b8bcc8}
@media (prefers-color-scheme:dark){text{fill:#ddd}.ours{fill:#9d92ff}.other{fill:#5c6170}}</style>
${panels.join("\n")}
</svg>
`
}

const panel = (
  { better, figures, title, unit }: Measured,
  rows: ReadonlyArray<{ readonly name: string; readonly value: number }>
): string => {
  const most = Math.max(...rows.map(({ value }) => value))
  const what = Object.values(figures).some((own) => "p50" in own) ? `median, ${unit}` : unit
  const bars = rows.map(({ name, value }, index) => {
    const y = 16 + index * (bar + gap)
    const length = Math.max(1, Math.round(value / most * (width - labels - 110)))
    return `<text x="0" y="${y + 13}">${name}</text>`
      + `<rect class="${index === 0 ? "ours" : "other"}" x="${labels}" y="${y}" width="${length}" height="${bar}"/>`
      + `<text x="${labels + length + 6}" y="${y + 13}">${format(value)}</text>`
  })
  return `<text class="title" x="0" y="6">${title} (${what}, ${better} is better)</text>\n${bars.join("\n")}`
}

await main()
