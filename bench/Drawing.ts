/** The picture of a benchmark's results: bars for every scenario in which others take part too. */
import { format, type Measured, type Results } from "./Report.ts"

const [width, labels, bar, gap] = [860, 230, 18, 6]

/**
 * A panel of bars for each scenario, as an SVG. Where the figures go by size, the bars are those of the largest one. It has
 * a background of its own, since a page may be dark where the system is light.
 */
export const draw = ({ contestants, scenarios }: Results): string => {
  const panels: Array<string> = []
  let top = 16
  for (const scenario of scenarios) {
    const largest = largestOf(scenario)
    const rows = contestants.flatMap(({ name }, index) => {
      const own = scenario.figures[name]
      const value = own?.["value"] ?? own?.["p50"] ?? own?.[largest]
      return value === undefined ? [] : [{ name, value, isOurs: index === 0 }]
    })
    if (rows.length < 2) continue
    panels.push(`<g transform="translate(16 ${top})">${panel(scenario, rows)}</g>`)
    top += 34 + rows.length * (bar + gap)
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" font-family="sans-serif" font-size="13">
<style>.page{fill:#fff}text{fill:#333}.title{font-weight:bold}.ours{fill:#5b4bdb}.other{fill:#b8bcc8}
@media (prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#ddd}.ours{fill:#9d92ff}.other{fill:#5c6170}}</style>
<rect class="page" width="${width}" height="${top}" rx="6"/>
${panels.join("\n")}
</svg>
`
}

// --- internal

/** The largest size that there are figures for, as it is written in them. */
const largestOf = ({ figures }: Measured): string =>
  Object.values(figures).flatMap((own) => Object.keys(own).filter((key) => /^\d+$/.test(key)))
    .toSorted((a, b) => Number(b) - Number(a))[0] ?? ""

interface Row {
  readonly name: string
  readonly value: number
  readonly isOurs: boolean
}

const panel = (scenario: Measured, rows: ReadonlyArray<Row>): string => {
  const { better, figures, title, unit } = scenario
  const most = Math.max(...rows.map(({ value }) => value))
  const size = largestOf(scenario)
  const what = Object.values(figures).some((own) => "p50" in own)
    ? `median, ${unit}`
    : size === ""
    ? unit
    : `at ${Number(size).toLocaleString("en")}, ${unit}`
  const bars = rows.map(({ isOurs, name, value }, index) => {
    const y = 16 + index * (bar + gap)
    const length = Math.max(1, Math.round(value / most * (width - labels - 110)))
    return `<text x="0" y="${y + 13}">${escape(name)}</text>`
      + `<rect class="${isOurs ? "ours" : "other"}" x="${labels}" y="${y}" width="${length}" height="${bar}"/>`
      + `<text x="${labels + length + 6}" y="${y + 13}">${format(value)}</text>`
  })
  return `<text class="title" x="0" y="6">${escape(title)} (${what}, ${better} is better)</text>\n${bars.join("\n")}`
}

const escape = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")
