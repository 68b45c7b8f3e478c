/**
 * Operations with symbolic arguments: which run, not whose id, so that a sequence means the same to every store. Most of them
 * are about a run that is held, and as many are about one that is not.
 */
import { Arbitrary, Schema } from "effect"
import * as Fixture from "../conformance/Fixture.ts"

const small = (maximum: number) => Fixture.between(0, maximum)

/** A run: one that is running, any, or one that does not exist. */
const Run = Schema.Struct({
  pick: Schema.Literals(["held", "held", "held", "any", "unknown"]),
  n: small(9),
  /** Whether it comes with the token that it is held under. */
  token: Schema.Literals(["right", "right", "right", "wrong"])
})
const Task = Schema.Struct({ pick: Schema.Literals(["any", "any", "failed", "unknown"]), n: small(9) })

const Millis = Schema.Literals([0, 1, 250, 1000, 1001, 5000, 60_000, 3_600_000])
/** So long after now, or then (relative to the start of the sequence). */
const Until = Schema.Struct({ at: Schema.Boolean, millis: Millis })
const Lease = Schema.Literals([1000, 1001, 5000, 60_000])
const Step = Schema.Literals(["a", "b", "c"])
const Event = Schema.Literals(["e", "f", "g"])
const Key = Schema.Literals(["k", "l"])
const Json = Schema.Literals([
  "null",
  "1",
  "true",
  "\"x\"",
  "{\"b\":1,\"a\":[null,-0.5]}",
  "[]",
  "{\"long\":{\"z\":\"\\u00fc\"}}"
])

const variants = {
  advance: Schema.TaggedStruct("advance", { millis: Millis }),
  spawn: Schema.TaggedStruct("spawn", {
    tasks: Schema.Array(Schema.Struct({
      name: Schema.Literals(["one", "two"]),
      params: Json,
      headers: Schema.Boolean,
      retry: Schema.NullOr(Schema.Literals(["none", "fixed", "exponential", "capped"])),
      maxAttempts: Schema.NullOr(Schema.Literals([1, 2, 3])),
      cancellation: Schema.NullOr(Schema.Literals(["delay", "duration", "both"])),
      key: Schema.NullOr(Key),
      delay: Schema.NullOr(Until)
    })).check(Schema.isMaxLength(3))
  }),
  claim: Schema.TaggedStruct("claim", { lease: Lease, limit: Schema.Literals([0, 1, 2, 50]) }),
  claimedWith: Schema.TaggedStruct("claimedWith", { run: Run }),
  complete: Schema.TaggedStruct("complete", { runs: Schema.Array(Run).check(Schema.isMaxLength(2)), result: Json }),
  fail: Schema.TaggedStruct("fail", {
    runs: Schema.Array(Run).check(Schema.isMaxLength(2)),
    reason: Json,
    retry: Schema.Literals(["Stored", "After", "At", "Never"]),
    millis: Millis
  }),
  checkpoint: Schema.TaggedStruct("checkpoint", {
    items: Schema.Array(Schema.Struct({ run: Run, step: Step, state: Json })).check(Schema.isMaxLength(3)),
    extendBy: Schema.NullOr(Lease)
  }),
  extend: Schema.TaggedStruct("extend", { run: Run, lease: Lease }),
  release: Schema.TaggedStruct("release", { run: Run, until: Until }),
  suspend: Schema.TaggedStruct("suspend", {
    run: Run,
    // Names of waits are unique in a run.
    waits: Schema.Struct({
      timer: Schema.NullOr(Until),
      first: Schema.NullOr(Schema.Struct({ event: Event, timeout: Schema.NullOr(Millis) })),
      second: Schema.NullOr(Schema.Struct({ event: Event, timeout: Schema.NullOr(Millis) }))
    })
  }),
  emit: Schema.TaggedStruct("emit", { event: Event, payload: Json }),
  readEvent: Schema.TaggedStruct("readEvent", { event: Event }),
  cancelTask: Schema.TaggedStruct("cancelTask", { task: Task }),
  cancelRun: Schema.TaggedStruct("cancelRun", { run: Run }),
  retryTask: Schema.TaggedStruct("retryTask", {
    task: Task,
    maxAttempts: Schema.NullOr(Schema.Literals([1, 3, 9])),
    spawnNew: Schema.Boolean
  }),
  read: Schema.TaggedStruct("read", { task: Task, run: Run, step: Schema.NullOr(Step), key: Key }),
  cleanup: Schema.TaggedStruct("cleanup", {
    what: Schema.Literals(["tasks", "events"]),
    millis: Millis,
    one: Schema.Boolean
  }),
  elsewhere: Schema.TaggedStruct("elsewhere", {
    what: Schema.Literals(["claim", "spawn", "emit", "cancel", "results"])
  })
}

/** One operation. */
export const Simple = Schema.Union(Object.values(variants))
export type Simple = typeof Simple.Type
/** Several operations that commit or do not, with a nested transaction of the last one that does not when `nested`. */
export const Together = Schema.TaggedStruct("together", {
  commands: Schema.Array(Simple),
  commit: Schema.Boolean,
  nested: Schema.Boolean
})
export type Command = Simple | typeof Together.Type

/** How often each occurs. */
const weights: { readonly [Name in keyof typeof variants]: number } = {
  advance: 5,
  spawn: 6,
  claim: 9,
  claimedWith: 1,
  complete: 3,
  fail: 4,
  checkpoint: 4,
  extend: 2,
  release: 2,
  suspend: 7,
  emit: 4,
  readEvent: 1,
  cancelTask: 1,
  cancelRun: 1,
  retryTask: 2,
  read: 2,
  cleanup: 1,
  elsewhere: 1
}

const chance: ReadonlyArray<keyof typeof variants> = (Object.keys(weights) as Array<keyof typeof variants>)
  .flatMap((name) => Array.from({ length: weights[name] }, () => name))

const simple: Arbitrary.Arbitrary<Simple> = Arbitrary.flatMap(
  Arbitrary.schema(small(chance.length - 1)),
  (place): Arbitrary.Arbitrary<Simple> => Arbitrary.schema<Schema.Codec<Simple>>(variants[chance[place]!])
)

const together: Arbitrary.Arbitrary<Command> = Arbitrary.map(
  Arbitrary.all({
    commands: Arbitrary.array(simple, { minLength: 1, maxLength: 4 }),
    commit: Arbitrary.schema(Schema.Boolean),
    nested: Arbitrary.schema(Schema.Boolean)
  }),
  (fields) => ({ _tag: "together", ...fields })
)

const command: Arbitrary.Arbitrary<Command> = Arbitrary.flatMap(
  Arbitrary.schema(small(19)),
  (n): Arbitrary.Arbitrary<Command> => n === 19 ? together : simple
)

/** Sequences of operations. */
export const sequence = (maxLength: number): Arbitrary.Arbitrary<ReadonlyArray<Command>> =>
  Arbitrary.array(command, { minLength: 1, maxLength })
