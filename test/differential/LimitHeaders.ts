/** Limits of tasks, in symbols, and what they become in a header. */
import { Schema } from "effect"
import { type LimitFigures, limitHeader, type SpawnItem, TaskLimit } from "../../src/core/Driver.ts"
import { LimitKey, LimitName } from "../../src/core/Identifiers.ts"
import type { Dump } from "../../src/core/Invariants.ts"
import * as Drawn from "./Drawn.ts"
import type { Chance } from "./Operation.ts"

const rate = (limit: number, seconds: number, burst = 1): LimitFigures["rate"] => ({ limit, seconds, burst })

/** Rates whose starts are so far apart that something happens between them, and some that are no whole milliseconds apart. */
const figures = {
  one: { concurrency: 1, rate: null },
  two: { concurrency: 2, rate: null },
  three: { concurrency: 3, rate: null },
  slow: { concurrency: null, rate: rate(1, 60) },
  burst: { concurrency: null, rate: rate(4, 3, 3) },
  odd: { concurrency: null, rate: rate(3, 0.7) },
  both: { concurrency: 1, rate: rate(2, 1) },
  wide: { concurrency: 2, rate: rate(3, 5, 2) },
  none: { concurrency: null, rate: null }
} as const satisfies { readonly [name: string]: LimitFigures }

type FiguresName = keyof typeof figures
const often = (count: number, name: FiguresName) => Array.from({ length: count }, () => name)
const some: ReadonlyArray<FiguresName> = ["two", "two", "three", "burst", "burst", "odd", "wide", "wide", "none"]

export const Figures: Schema.Codec<FiguresName> = Drawn.oneOf<FiguresName>([
  ...often(10, "one"),
  ...often(4, "slow"),
  ...often(3, "both"),
  ...some
])

/** What other programs may have stored; none of it is a limit. */
const broken = {
  nothing: null,
  text: "x",
  list: [{ name: "x", key: "p", concurrency: 1, rate: null }],
  halves: { name: "x", key: "p", concurrency: 1.5, rate: null },
  zero: { name: "x", key: "p", concurrency: 0, rate: null },
  short: { name: "x", key: "p", concurrency: 1 },
  keyless: { name: "x", concurrency: 1, rate: null },
  blank: { name: " ", key: "p", concurrency: 1, rate: null },
  long: { name: "x", key: "p".repeat(257), concurrency: 1, rate: null },
  wide: { name: "x", key: "p", concurrency: null, rate: { limit: 1, seconds: 1, burst: 2 } },
  instant: { name: "x", key: "p", concurrency: null, rate: { limit: 1, seconds: 0, burst: 1 } },
  numeric: { name: "x", key: "p", concurrency: "1", rate: null }
} as const satisfies { readonly [name: string]: Schema.Json }

export const limitNames = ["x", "y"] as const
const limitKeys = ["p", "q", ""] as const

const Fields = TaskLimit.mapFields(({ concurrency: _concurrency, rate: _rate, ...fields }) => ({
  ...fields,
  name: Drawn.oneOf(["x", "x", "x", "x", "y"]),
  key: Drawn.oneOf([...limitKeys, "p", "p"]),
  figures: Figures
}))

/** Half of the tasks have a limit, and of some of these it is none. */
export const Limit = Schema.Union([
  Schema.Null,
  Schema.Null,
  Schema.Null,
  Schema.Null,
  Fields,
  Fields,
  Fields,
  Schema.Literals(Object.keys(broken) as ReadonlyArray<keyof typeof broken>)
])
export type Limit = typeof Limit.Type

export const figuresOf = (name: FiguresName): LimitFigures => figures[name]

export const headersOf = (limit: Limit): NonNullable<SpawnItem["headers"]> => {
  if (limit === null) return {}
  if (typeof limit === "string") return { [limitHeader]: broken[limit] }
  const { figures: symbol, key, name } = limit
  return { [limitHeader]: { name: LimitName.make(name), key: LimitKey.make(key), ...figures[symbol] } }
}

const isTaskLimit = Schema.is(TaskLimit)

/** The limit of another task that has started, so that there is somebody to wait for. */
export const joining = (limit: Limit, { limitedRuns }: Dump, chance: Chance): Limit => {
  const other = chance.pick(limitedRuns.filter(({ state }) => state === "running"))
  const name = limitNames.find((name) => name === other?.name)
  const key = limitKeys.find((key) => key === other?.key)
  if (name === undefined || key === undefined || chance.happens(0.3)) return limit
  return { name, key, figures: limit === null || typeof limit === "string" ? "one" : limit.figures }
}

/** What counts together with a task, undefined when it has no limit. */
export const lineOf = ({ headers }: Dump["tasks"][number]): string | undefined => {
  const limit = typeof headers === "object" && headers !== null
    ? Reflect.get(headers, limitHeader) as unknown
    : undefined
  return isTaskLimit(limit) ? JSON.stringify([limit.name, limit.key]) : undefined
}
