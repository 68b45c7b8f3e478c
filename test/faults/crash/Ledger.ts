/** What processes wrote down while they could: a file that is only ever appended to, with a line for each act. */
import { appendFileSync, existsSync, readFileSync } from "node:fs"

export interface Line {
  /** Milliseconds of the wall clock. */
  readonly at: number
  readonly pid: number
  /**
   * `enter`, `leave`: an execution of the task begins, is over. `begin`: a step begins. `done`: its checkpoint is
   * acknowledged; the detail has its value. `got`: a wait is over; the detail is the payload.
   * `probe`: a probe is executed.
   */
  readonly what: "enter" | "leave" | "begin" | "done" | "got" | "probe"
  /** The task, by its number. */
  readonly n: number
  readonly detail: string
}

export const append = (path: string, { at, detail, n, pid, what }: Line): void =>
  appendFileSync(path, `${at} ${pid} ${what} ${n} ${detail}\n`)

export const read = (path: string): ReadonlyArray<Line> =>
  !existsSync(path) ? [] : readFileSync(path, "utf8").split("\n").slice(0, -1).map((text) => {
    const [at, pid, what, n, detail = ""] = text.split(" ")
    return { at: Number(at), pid: Number(pid), what: what as Line["what"], n: Number(n), detail }
  })

/**
 * What the lines say about what was promised, in the order in which things happened: a process that is stopped while it writes
 * a line adds it when it goes on.
 */
export const judge = (written: ReadonlyArray<Line>) => {
  const lines = written.toSorted((a, b) => a.at - b.at)
  const values = new Map<string, string>()
  const payloads = new Map<number, Set<string>>()
  const repeated: Array<Line> = []
  const changed: Array<Line> = []
  let begun = 0
  for (const line of lines) {
    const { detail, n, what } = line
    if (what === "begin") {
      begun++
      if (values.has(`${n} ${detail}`)) repeated.push(line)
    }
    if (what === "done") {
      const [step, value = ""] = detail.split("=")
      const known = values.get(`${n} ${step}`)
      if (known === undefined) values.set(`${n} ${step}`, value)
      else if (known !== value) changed.push(line)
    }
    if (what === "got") payloads.set(n, (payloads.get(n) ?? new Set()).add(detail))
  }
  return {
    begun,
    /** The acknowledged value of each step, by `n step`. */
    values,
    payloads,
    /** Beginnings of steps after their checkpoint was acknowledged. */
    repeated,
    /** Acknowledgements of another value than the first one. */
    changed
  }
}

/** The tasks that a process executed at a time. */
export const inHand = (
  lines: ReadonlyArray<Line>,
  process: { readonly pid: number; readonly at: number }
): ReadonlySet<number> => {
  const tasks = new Set<number>()
  for (const { at, n, pid, what } of lines) {
    if (pid !== process.pid || at > process.at) continue
    if (what === "enter") tasks.add(n)
    if (what === "leave") tasks.delete(n)
  }
  return tasks
}

/** How long what a process had in hand when it died was in nobody's hand, in milliseconds. */
export const takeovers = (
  lines: ReadonlyArray<Line>,
  deaths: ReadonlyArray<{ readonly pid: number; readonly at: number }>
): ReadonlyArray<number> =>
  deaths.flatMap((death) => {
    return [...inHand(lines, death)].flatMap((n) => {
      const next = lines.find((line) =>
        line.n === n && line.what === "enter" && line.pid !== death.pid && line.at >= death.at
      )
      return next === undefined ? [] : [next.at - death.at]
    })
  })

/** The value below which `part` of the numbers are; infinite when there are none, so that no bound holds by accident. */
export const quantile = (numbers: ReadonlyArray<number>, part: number): number =>
  [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(part * numbers.length))] ?? Infinity
