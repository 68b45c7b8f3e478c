/** What nobody should pass, by the kind of what it is passed for. */
import { DateTime, Duration, Option } from "effect"

/** What was passed, in words, and itself. */
export type Given = readonly [given: string, input: unknown]

const nested = (depth: number): unknown => {
  let value: unknown = 1
  for (let level = 0; level < depth; level++) value = [value]
  return value
}

const cyclic: Array<unknown> = []
cyclic.push(cyclic)

const throwing = Object.defineProperty({}, "a", {
  enumerable: true,
  get: () => {
    throw new Error("no")
  }
})

const proxied = new Proxy({}, {
  ownKeys: () => {
    throw new Error("no")
  }
})

/** A place that is deep inside of `a` is told by its beginning and its end. */
const deep = `${`.a${"[0]".repeat(40)}`.slice(0, 120)}...${"[0]".repeat(20)}`

/** No name, key or id is any of these; nor are texts of more than `bytes` bytes. */
export const names = (bytes: number): ReadonlyArray<Given> => [
  ["an empty text", ""],
  ["a blank text", " \t"],
  ["a text with NUL", "a\u0000b"],
  ["a text with a lone surrogate", "a\ud800"],
  ["one byte too many", "x".repeat(bytes + 1)],
  ["characters of many bytes", "🐘".repeat(Math.floor(bytes / 4) + 1)],
  ["a number", 5],
  ["an object", {}]
]

/** Names that no new queue may have. */
export const newQueues: ReadonlyArray<Given> = [
  ...names(57),
  ["a text with a space", "a b"],
  ["dots", ".."],
  ["a parameter", "$1"],
  ["a quote", "quo\"te"],
  ["an attack", "\"; drop table absurd.queues; --"],
  ["a digit first", "1st"],
  ["letters of other scripts", "队列"],
  ["the ending of a partition", "orders_d"],
  ["the ending of a numbered partition", "orders_123"],
  ...["_pkey", "_sai", "_ti", "_cei", "_eni", "_eai", "_cdi", "_fai", "_iki"].map(
    (ending): Given => [`the ending ${ending}`, `orders${ending}`]
  )
]

/** Names that only the library gives to checkpoints. */
export const steps: ReadonlyArray<Given> = [
  ...names(512),
  ["the name of a timeout", "$timeout:pay"],
  ["the name of a deadline", "$deadline:pay"],
  ["the name of a wait", "$awaitEvent:paid"],
  ["the name of a repeated step", "pay#2"]
]

export const ids: ReadonlyArray<Given> = [
  ["an empty text", ""],
  ["another text", "not an id"],
  ["an id in upper case", "01900000-0000-7000-8000-00000000000A"],
  ["an id and more", "01900000-0000-7000-8000-000000000001 "],
  ["a number", 5],
  ["null", null]
]

/** Values that are not JSON, or that no store can hold, and the place that is named. */
export const payloads: ReadonlyArray<readonly [given: string, input: unknown, place: string]> = [
  ["a number that is none", { a: NaN }, ".a"],
  ["an infinite number", [1, Infinity], "[1]"],
  ["a bigint", { a: { b: 1n } }, ".a.b"],
  ["a function", { toJSON: () => 1 }, ".toJSON"],
  ["a symbol", [Symbol("a")], "[0]"],
  ["undefined within an array", [undefined], "[0]"],
  ["a date", { a: new Date(0) }, ".a"],
  ["a map", { a: new Map() }, ".a"],
  ["bytes", { a: new Uint8Array(1) }, ".a"],
  ["an instance of a class", { a: new URL("https://example.com") }, ".a"],
  ["a text with NUL", { a: "x\u0000" }, ".a"],
  ["a key with NUL", { "x\u0000": 1 }, ".x\ufffd"],
  ["a text with a lone surrogate", { a: "\ud800" }, ".a"],
  ["a key with a lone surrogate", { "\udc00": 1 }, ".\ufffd"],
  ["a getter that throws", throwing, ".a"],
  ["a proxy that throws", proxied, ""],
  ["a text that is too long", { a: "x".repeat(2 * 1024 * 1024) }, ""],
  ["too many levels", { a: nested(20_000) }, deep],
  ["a cycle", { a: cyclic }, deep]
]

/** What no operation takes for a duration. */
export const durations: ReadonlyArray<Given> = [
  ["a number that is none", NaN],
  ["a part that is no number", { seconds: NaN }],
  ["a pair with a part that is no number", [NaN, 0]],
  ["an object without a unit", {}],
  ["a date", new Date(0)],
  ["an option", Option.some(5)],
  ["a text that is no duration", "garbage"],
  ["a text without a unit", "5"],
  ["a text of SQL", "1 mon"],
  ["a negative number", -1],
  ["a negative duration", Duration.seconds(-1)],
  ["an infinite number", Infinity],
  ["an infinite duration", Duration.infinity],
  ["the text of an infinite duration", "Infinity"],
  ["eleven years", "4015 days"],
  ["a number beyond all dates", 1e30]
]

/** Neither is a lease. */
export const leases: ReadonlyArray<Given> = [
  ...durations,
  ["nothing", 0],
  ["half a second", 500],
  ["more than a day", "25 hours"]
]

/** What no store can hold, and what is no instant. */
export const instants: ReadonlyArray<Given> = [
  ["a year before 4713 BC", DateTime.makeUnsafe(-8e15)],
  ["a year before 1970", DateTime.makeUnsafe(-1)],
  ["the year 10000", DateTime.makeUnsafe("+010000-01-01T00:00:00Z")],
  ["the last year of all dates", DateTime.makeUnsafe(8.64e15)],
  ["a date", new Date(0)],
  ["a text", "2026-01-01T00:00:00Z"],
  ["a number", 0],
  ["null", null]
]

/** What is no whole number from `minimum` (1 or 0) to `maximum`. */
export const integers = (minimum: number, maximum: number): ReadonlyArray<Given> => [
  ["too small a number", minimum - 1],
  ["too great a number", maximum + 1],
  ["a number beyond 32 bits", 3e9],
  ["a fraction", 2.5],
  ["a number that is none", NaN],
  ["an infinite number", Infinity],
  ["a text", "3"],
  ["a bigint", 3n]
]
