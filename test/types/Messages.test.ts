/**
 * What the compiler says of the mistakes that a newcomer makes: each is found, once, where it was made, and the text names
 * what is wrong. The same program without the mistake compiles.
 */
import { assert, describe, it } from "@effect/vitest"
import { beforeAll } from "vitest"
import * as Compiler from "../support/Compiler.ts"

const prelude = `
import { Context, Effect, Layer, Schema } from "effect"
import { Absurd, Event, Mailbox, Step, Task, Worker } from "effect-absurd"

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<void> }>()("Mailer") {}
class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}
class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", {}) {}

const Order = Task.make("order", {
  params: { id: Schema.String },
  success: Schema.Struct({ tracking: Schema.String }),
  error: OutOfStock
})
const Paid = Event.make("paid", { payload: Schema.Struct({ cents: Schema.Int }) })
const Notes = Mailbox.make("notes", { payload: Schema.String })
`

interface Mistake {
  readonly program: string
  /** The line of the program that the compiler has to point at. */
  readonly at: string
  /** What it has to say there. */
  readonly says: ReadonlyArray<string>
  /** What has to be replaced, by what, to have a program that compiles. */
  readonly mend: readonly [string, string]
}

const mistakes: Record<string, Mistake> = {
  "a program that forgets a service of its handler": {
    program: `
const OrderLive = Order.toLayer(Effect.fn(function*({ id }) {
  yield* Step.run("mail", Mailer.use((mailer) => mailer.send))
  return { tracking: id }
}))
const Main = Worker.layer({ queue: "orders" }).pipe(Layer.provide([OrderLive]), Layer.provide(Absurd.layerMemory))
Effect.runFork(Layer.launch(Main))`,
    at: "Effect.runFork",
    says: ["Type 'Mailer' is not assignable to type 'never'."],
    mend: ["[OrderLive]", "OrderLive), Layer.provide(Layer.succeed(Mailer, { send: Effect.void })"]
  },
  "a program without a store": {
    program: `
const spawned = Effect.andThen(Order.spawn({ id: "1" }), Effect.void)
Effect.runFork(spawned)`,
    at: "Effect.runFork",
    says: ["Type 'Absurd' is not assignable to type 'never'."],
    mend: ["(spawned)", "(Effect.provide(spawned, Absurd.layerMemory))"]
  },
  "a store without a database": {
    program: `
const spawned = Effect.andThen(Order.spawn({ id: "1" }), Effect.void)
Effect.runFork(Effect.provide(spawned, Absurd.layer))`,
    at: "Effect.runFork",
    says: ["Type 'SqlClient' is not assignable to type 'never'."],
    mend: ["Absurd.layer", "Absurd.layerMemory"]
  },
  "a step outside of a task": {
    program: `
const step = Step.run("charge", Effect.succeed(1))
export const effect: Effect.Effect<number> = step`,
    at: "export const effect",
    says: ["Type 'CurrentRun' is not assignable to type 'never'."],
    mend: ["= step", "= Effect.succeed(1)"]
  },
  "a step whose value does not fit its schema": {
    program: `
export const charge = Step.run("charge", Effect.succeed({ id: 1 }), { success: Schema.Struct({ id: Schema.String }) })`,
    at: "export const charge",
    says: ["Types of property 'id' are incompatible.", "Type 'number' is not assignable to type 'string'."],
    mend: ["id: 1", `id: "1"`]
  },
  "a step whose error does not fit its schema": {
    program: `
export const reserve = Step.run("reserve", Effect.fail(new CardDeclined()), { success: Schema.Void, error: OutOfStock })`,
    at: "export const reserve",
    says: ["Property 'sku' is missing in type 'CardDeclined' but required in type 'OutOfStock'."],
    mend: ["error: OutOfStock", "error: CardDeclined"]
  },
  "a step whose value is no JSON and that has no schema": {
    program: `
export const charge = Step.run("charge", Effect.succeed({ at: new Date(0) }))`,
    at: "export const charge",
    says: ["this is not JSON; give the step a success schema"],
    mend: ["new Date(0)", "0"]
  },
  "a handler that fails with an error that no waiter could decode": {
    program: `
export const OrderLive = Order.toLayer(Effect.fn(function*({ id }) {
  if (id === "2") return yield* new CardDeclined()
  return { tracking: id }
}))`,
    at: "export const OrderLive",
    says: ["Type 'CardDeclined' is not assignable to type 'OutOfStock | Unhandled'"],
    mend: ["new CardDeclined()", `new OutOfStock({ sku: "1" })`]
  },
  "a handler that returns something else than its result": {
    program: `
export const OrderLive = Order.toLayer(Effect.fn(function*({ id }) {
  return { code: id }
}))`,
    at: "export const OrderLive",
    says: ["Property 'tracking' is missing in type '{ code: string; }'"],
    mend: ["code:", "tracking:"]
  },
  "a waiter that does not handle the error of the task": {
    program: `
const ours = ["TaskFailed", "Cancelled", "NotFound", "DecodeError", "DriverError"] as const
export const tracking = (order: Task.SpawnedTask<typeof Order.success, typeof Order.error>) => {
  const result = order.await.pipe(Effect.catchTag(ours, Effect.die), Effect.map((_) => _.tracking))
  const handled: Effect.Effect<string, never, Absurd.Absurd> = result
  return handled
}`,
    at: "  const handled",
    says: ["Type 'OutOfStock' is not assignable to type 'never'."],
    mend: ["= result", `= Effect.catchTag(result, "OutOfStock", ({ sku }) => Effect.succeed(sku))`]
  },
  "a spawn with a param of another name": {
    program: `
export const spawned = Order.spawn({ number: "1" })`,
    at: "export const spawned",
    says: ["'number' does not exist in type '{ readonly id: string; }'"],
    mend: ["number:", "id:"]
  },
  "an event with another payload": {
    program: `
export const emitted = Paid.emit("1", { cents: "5" })`,
    at: "export const emitted",
    says: ["Type 'string' is not assignable to type 'number'."],
    mend: [`"5"`, "5"]
  },
  "a message with another payload": {
    program: `
export const sent = Notes.send("01890000-0000-7000-8000-000000000000", 5)`,
    at: "export const sent",
    says: ["Argument of type 'number' is not assignable to parameter of type 'string'."],
    mend: [", 5)", `, "5")`]
  },
  "a policy that asks for what the error does not have": {
    program: `
export const Retried = Task.make("retried", {
  params: {},
  error: OutOfStock,
  isFinal: (error) => error.code === "sold out"
})`,
    at: "  isFinal",
    says: ["Property 'code' does not exist on type 'OutOfStock'."],
    mend: ["error.code", "error.sku"]
  }
}

const all = Object.entries(mistakes)
const mended = all.map(([, { mend: [from, to], program }]) => program.replace(from, () => to))

describe("what the compiler says of", () => {
  let ofMistakes: ReadonlyArray<ReadonlyArray<string>> = []
  let ofMended: ReadonlyArray<ReadonlyArray<string>> = []
  beforeAll(async () => {
    const programs = [...all.map(([, { program }]) => program), ...mended]
    const said = await Compiler.compile(
      Object.fromEntries(programs.map((program, index) => [`program-${index}`, prelude + program]))
    )
    ofMistakes = said.slice(0, all.length)
    ofMended = said.slice(all.length)
  })

  it.each(all.map(([name, mistake], index) => ({ name, mistake, index })))("$name", ({ index, mistake }) => {
    const messages = ofMistakes[index]!
    assert.lengthOf(messages, 1, messages.join("\n"))
    const [message] = messages
    const [, line] = /^program-\d+\.ts\((\d+),/.exec(message!) ?? []
    assert.isTrue((prelude + mistake.program).split("\n")[Number(line) - 1]!.startsWith(mistake.at), message)
    for (const text of mistake.says) assert.include(message, text)
    // A few lines, and no type that the compiler had to cut short. What it says of its own settings is not ours.
    const text = message!.replaceAll(/ with 'exactOptionalPropertyTypes: true'\. Consider .* properties\./g, "")
    assert.isBelow(text.length, 650, text)
    assert.isAtMost(text.trimEnd().split("\n").length, 6, text)
    assert.notInclude(message, "...")
    assert.deepStrictEqual(ofMended[index], [], `mended: ${mended[index]}`)
  })
})
