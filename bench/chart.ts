/**
 * Puts the goals and the figures of a benchmark into `docs/performance.md`, between their markers, and draws
 * `docs/performance.svg`: `npm run bench:chart`, by default from `bench/results/latest.json`.
 */
import * as Fs from "node:fs/promises"
import * as Drawing from "./Drawing.ts"
import { evaluate, goalTable } from "./Goals.ts"
import { type Results, tables } from "./Report.ts"

const page = "docs/performance.md"
const image = "docs/performance.svg"

const main = async () => {
  const results: Results = JSON.parse(await Fs.readFile(process.argv[2] ?? "bench/results/latest.json", "utf8"))
  const text = await Fs.readFile(page, "utf8")
  await Fs.writeFile(page, put(put(text, "goals", goalTable(evaluate(results))), "figures", figures(results)))
  await Fs.writeFile(image, Drawing.draw(results))
}

// --- internal

/** Replaces what is between the markers of that name. */
const put = (text: string, name: string, content: string): string => {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`]
  const [before, rest] = text.split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined) throw new Error(`${page} lacks its markers ${begin} and ${end}`)
  return `${before}${begin}\n\n${content}\n\n${end}${after}`
}

const figures = (results: Results): string => {
  const { commit, contestants, date, machine, runs, settings, versions } = results
  const all = Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")
  return [
    `Measured on ${date} at commit ${commit}, on ${machine.cores} cores of ${machine.cpu} with ${machine.memoryGB} GB of`
    + ` memory, ${machine.system}; ${runs === 1 ? "one run" : `medians of ${runs} runs, long scenarios once`}.`,
    `Versions: ${all}.`,
    `Sizes: ${Object.entries(settings).map(([name, value]) => `${name} ${[value].flat().join("/")}`).join(", ")}.`,
    contestants.map(({ about, name }) => `- **${name}**: ${about}`).join("\n"),
    "![Throughput and latency beside other systems](performance.svg)",
    tables(results)
  ].join("\n\n")
}

await main()
