/** What operations are about, in symbols: which run, not whose id. */
import { DateTime, Duration, Schema } from "effect"
import type { Held } from "../../src/core/Driver.ts"
import { ClaimToken, RunId, TaskId } from "../../src/core/Identifiers.ts"
import * as Fixture from "../conformance/Fixture.ts"
import { type KnownTask, queueRefs } from "./Known.ts"
import type { Instant, Place } from "./Operation.ts"

/** One of these, as often as it is named. */
export const oneOf = <const Value extends string | number | null>(
  values: ReadonlyArray<Value>
): Schema.Codec<Value> =>
  Schema.Union(values.map((value) => value === null ? Schema.Null : Schema.Literal(value))) as unknown as Schema.Codec<
    Value
  >

/** Null now and then. */
export const mostly = <S extends Schema.Constraint>(schema: S) =>
  Schema.Union([schema, schema, schema, schema, schema, schema, schema, Schema.Null])

const small = Fixture.between(0, 9)

/** A run: one that is running, one that is not, or one that does not exist. Half of them fit an operation under a claim. */
export const Run = Schema.Struct({
  pick: Schema.Literals(["held", "held", "held", "held", "held", "held", "other", "other", "unknown"]),
  n: small,
  /** Whether it comes with the token that it is held under. */
  token: Schema.Literals(["right", "right", "right", "right", "right", "right", "wrong"])
})

/** A task: one that has not ended, that failed, any, or one that does not exist. */
export const Task = Schema.Struct({
  pick: Schema.Literals(["open", "open", "open", "any", "any", "unknown"]),
  n: small
})
export const FailedTask = Schema.Struct({
  pick: Schema.Literals(["failed", "failed", "failed", "any", "any", "unknown"]),
  n: small
})

export const Queue = Schema.Literals(queueRefs)
/** Mostly so short that leases last, sometimes longer than any of them. */
export const Millis = Schema.Literals([0, 1, 1, 250, 250, 1000, 1001, 5000, 60_000, 3_600_000])
export const Until = Schema.Struct({ at: Schema.Boolean, millis: Millis })
export const Lease = Schema.Literals([1000, 1001, 5000, 60_000, 60_000, 60_000])
export const Step = Schema.Literals(["a", "b", "c"])
export const eventNames = ["e", "f", "g", "h", "i", "j", "k", "l"] as const
export const Event = Schema.Literals(eventNames)
export const keyNames = ["k", "l", "m"] as const
export const Key = Schema.Literals(keyNames)
export const Json = Schema.Literals([
  "null",
  "1",
  "true",
  "\"x\"",
  "{\"b\":1,\"a\":[null,-0.5]}",
  "[]",
  "{\"long\":{\"z\":\"\\u00fc\"}}",
  "{\"outcome\":\"good\"}",
  "{\"outcome\":{\"a\":1}}"
])

export const json = (text: string): Schema.Json => JSON.parse(text) as Schema.Json

export const held = ({ known, names }: Place, ref: typeof Run.Type): typeof Held.Type => {
  const others = known.runs.filter(({ row }) => row.state !== "running")
  const found = ref.pick === "unknown" ? undefined : pickOf(ref.pick === "held" ? known.held : others, ref.n)
  return {
    runId: RunId.make(found === undefined ? Fixture.unknownRun : names.idOf(found.name) ?? Fixture.unknownRun),
    // A run that has ended keeps its token.
    token: ClaimToken.make((ref.token === "right" ? found?.row.claimedBy : undefined) ?? "nobody's")
  }
}

export const task = (
  { known, names }: Pick<Place, "known" | "names">,
  ref: { readonly pick: "open" | "failed" | "any" | "unknown"; readonly n: number }
): TaskId => {
  const among: { readonly [P in typeof ref.pick]: () => ReadonlyArray<KnownTask> } = {
    open: () => known.open,
    failed: () => known.tasks.filter(({ row }) => row.state === "failed"),
    any: () => known.tasks,
    unknown: () => []
  }
  const found = pickOf(among[ref.pick](), ref.n)
  return TaskId.make(found === undefined ? Fixture.unknownTask : names.idOf(found.name) ?? Fixture.unknownTask)
}

export const until = ({ start }: Place, { at, millis }: typeof Until.Type): Instant =>
  at ? DateTime.addDuration(start, Duration.millis(millis)) : Duration.millis(millis)

export const instant = ({ start }: Place, millis: number): DateTime.Utc =>
  DateTime.addDuration(start, Duration.millis(millis))

// --- internal

const pickOf = <A>(all: ReadonlyArray<A>, n: number): A | undefined => all[n % Math.max(1, all.length)]
