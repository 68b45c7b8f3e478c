import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import * as Identifiers from "../../src/core/Identifiers.ts"

const accepts = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, values: ReadonlyArray<string>) =>
  Effect.forEach(values, (value) => Effect.map(Effect.exit(Schema.decodeUnknownEffect(schema)(value)), Exit.isSuccess))

const bytes = (count: number) => "x".repeat(count)

/** What each kind of name takes and refuses, of the catalogue of bad input. */
const catalogue: ReadonlyArray<{
  readonly name: string
  readonly schema: Schema.ConstraintDecoder<unknown>
  readonly good: ReadonlyArray<string>
  readonly bad: ReadonlyArray<string>
}> = [
  {
    name: "an existing queue",
    schema: Identifiers.QueueName,
    good: ["orders", "Mixed Case", "with \"quotes\"; and more", bytes(57), "ä"],
    bad: ["", " ", "\t", bytes(58), "🙂".repeat(15), "a\u0000", "a\uD800"]
  },
  {
    name: "a new queue",
    schema: Identifiers.NewQueueName,
    good: ["orders", "Orders-2", "_x", "orders_default", bytes(57), "tid", "orders_12", "orders_1234"],
    bad: [
      "",
      " ",
      "a b",
      "..",
      "$1",
      "1st",
      "a\"b",
      "\"; drop table absurd.queues; --",
      "ä",
      bytes(58),
      "a.b",
      "orders_d",
      "orders_sai",
      "orders_ti",
      "orders_cei",
      "orders_eni",
      "orders_eai",
      "orders_pkey",
      "orders_646"
    ]
  },
  {
    name: "a task",
    schema: Identifiers.TaskName,
    good: ["order-fulfilment", "$x", "a#2", bytes(256)],
    bad: ["", " \n", bytes(257), "a\u0000"]
  },
  {
    name: "a step",
    schema: Identifiers.StepName,
    good: ["charge", "charge #two", "a#", "#1a", bytes(512)],
    bad: ["", " ", "$charge", "charge#2", "#2", bytes(513), "a\u0000", "\uDC00"]
  },
  {
    name: "an event",
    schema: Identifiers.EventName,
    good: ["shipment.packed:42", bytes(512)],
    bad: ["", "  ", bytes(513), "\u0000"]
  },
  {
    name: "an idempotency key",
    schema: Identifiers.IdempotencyKey,
    good: ["42", bytes(512)],
    bad: ["", " ", bytes(513), "\u0000", "\uD800"]
  },
  {
    name: "a worker",
    schema: Identifiers.WorkerId,
    good: ["host:123", bytes(128)],
    bad: ["", bytes(129), "a\u0000"]
  },
  {
    name: "an id",
    schema: Identifiers.TaskId,
    good: ["01900000-0000-7000-8000-000000000001"],
    bad: ["", "x", "01900000-0000-7000-8000-00000000000", "01900000-0000-7000-8000-00000000000G", " ".repeat(36)]
  }
]

describe("Identifiers", () => {
  it.effect.each(catalogue)("$name", ({ bad, good, schema }) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* accepts(schema, good), good.map(() => true))
      assert.deepStrictEqual(yield* accepts(schema, bad), bad.map(() => false))
    }))

  it.effect.prop(
    "no name of a program equals one that the library makes",
    {
      base: Schema.String,
      count: Schema.Int.check(Schema.isBetween({ minimum: 2, maximum: 1000 }))
    },
    ({ base, count }) =>
      Effect.map(
        accepts(Identifiers.StepName, [`${base}#${count}`, `$deadline:${base}`, `$awaitEvent:${base}`]),
        (all) => assert.deepStrictEqual(all, [false, false, false])
      )
  )
})
