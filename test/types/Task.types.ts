/** What does not compile, and what does: checked by `npm run check`. */
import { Context, Effect, Layer, Schema } from "effect"
import { Absurd, Event, Limit, Step, Task } from "effect-absurd"

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<void> }>()("test/types/Mailer") {}
class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", {}) {}
class Unrelated extends Schema.TaggedError<Unrelated>()("Unrelated", {}) {}

const Order = Task.make("order", {
  params: { id: Schema.String },
  success: Schema.Int,
  error: OutOfStock
})

// Params are those of the schema.
Order.spawn({ id: "1" })
// @ts-expect-error a missing param
Order.spawn({})
// @ts-expect-error a param of another type
Order.spawn({ id: 1 })

// The key of a limit is made of the params.
const PerTenant = Limit.make("per-tenant", { concurrency: 1 })
Task.make("limited", { params: { tenant: Schema.String }, limit: { with: PerTenant, key: ({ tenant }) => tenant } })
Task.make("limited", { params: {}, limit: { with: PerTenant } })
// @ts-expect-error there is no such param
Task.make("limited", { params: { tenant: Schema.String }, limit: { with: PerTenant, key: ({ user }) => user } })
// @ts-expect-error a key is a text
Task.make("limited", { params: { tenant: Schema.Int }, limit: { with: PerTenant, key: ({ tenant }) => tenant } })

// A handler returns the result and fails with the task's error, or the library's.
Order.toLayer(() => Effect.succeed(1))
Order.toLayer(() => Effect.fail(new OutOfStock()))
Order.toLayer(() => Effect.as(Event.make("e").wait("k", { timeout: "1 day" }), 1))
// @ts-expect-error another result
Order.toLayer(() => Effect.succeed("1"))
// @ts-expect-error an error that no waiter could decode
Order.toLayer(() => Effect.fail(new Unrelated()))

// A handler's services are the layer's requirements; the run itself is not one of them.
const live = Order.toLayer(() => Effect.andThen(Mailer.use((_) => _.send), Step.run("n", Effect.succeed(1))))
const served = Layer.launch(Layer.provide(live, Absurd.layerMemory))
Effect.runFork(Effect.provideService(served, Mailer, { send: Effect.void }))
// @ts-expect-error the mailer is missing
Effect.runFork(served)

// A waiter gets the typed result and must deal with the typed error.
const waiter = Effect.flatMap(Order.spawn({ id: "1" }), (order) => order.await)
type Handled = Effect.Effect<number, Exclude<Effect.Error<typeof waiter>, OutOfStock>, Absurd.Absurd>
export const handled: Handled = waiter.pipe(Effect.catchTag("OutOfStock", () => Effect.succeed(0)))
// @ts-expect-error OutOfStock is not handled
export const unhandled: Handled = waiter

// What a step returns must be JSON or fit the schema.
Step.run("json", Effect.succeed({ a: [1, "b", null] }))
Step.run("nothing", Effect.void)
Step.run("date", Effect.succeed(new Date(0)), { success: Schema.Date })
// @ts-expect-error a date is not JSON
Step.run("date", Effect.succeed(new Date(0)))
// @ts-expect-error the schema is for another type
Step.run("date", Effect.succeed("now"), { success: Schema.Date })

// A step needs a run around it.
// @ts-expect-error CurrentRun is missing
Effect.runFork(Step.run("alone", Effect.void))
