/** Every feature that composes durable work, with a crash between any two calls of the store. */
import { assert, describe, layer } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Schema } from "effect"
import { type Absurd, CurrentRun, Event, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}

const Trip = Task.make("trip", { params: {}, success: Schema.Json, error: Full, maxAttempts: 3 })
const Leg = Task.make("leg", { params: { to: Schema.String }, success: Schema.String })
const Answered = Event.make("answered", { payload: Schema.String })

const LegLive = Leg.toLayer(Effect.fn(function*({ to }) {
  yield* Step.sleep("travel", "1 hour")
  return yield* Step.run("arrive", Effect.succeed(`in ${to}`))
}))

/** What was done to the world. */
const acts: Array<string> = []
const act = (what: string) => Effect.sync(() => (acts.push(what), what))
/** How often it was done; once, or once more when the process died before that was stored. */
const times = (what: string) => acts.filter((done) => done === what).length

type Handler = Parameters<typeof Trip.toLayer<CurrentRun | Absurd.Absurd>>[0]

const explore = (
  name: string,
  handler: Handler,
  expected: { readonly result: Schema.Json } | { readonly state: "failed" },
  options: AbsurdTest.CrashOptions<Absurd.Absurd, never, Absurd.Absurd | AbsurdTest.TestStore> = {}
) =>
  layer(Layer.merge(Trip.toLayer(handler), LegLive).pipe(Layer.provideMerge(AbsurdTest.layer)))((it) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(
          AbsurdTest.crashEverywhere(Trip, {}, { before: Effect.sync(() => (acts.length = 0)), ...options })
        )
        if (Exit.isFailure(exit)) return assert.fail(String(Cause.squash(exit.cause)))
        assert.deepInclude(exit.value.outcome, expected)
        assert.isAbove(exit.value.points.length, 4)
      }), 60_000)
  )

describe("after a crash anywhere", () => {
  explore("parallel steps are each stored once", () =>
    Effect.all([
      Step.run("a", act("a")),
      Step.run("b", act("b")),
      Effect.andThen(Step.sleep("pause", "1 minute"), Step.run("c", act("c")))
    ], { concurrency: "unbounded" }), { result: ["a", "b", "c"] })

  explore(
    "branches with the same names are told apart",
    () =>
      Effect.forEach(["x", "y"], (item) =>
        Step.scoped(item)(Effect.gen(function*() {
          const first = yield* Step.run("pack", act(`pack ${item}`))
          yield* Step.sleep("rest", "1 hour")
          return `${first}, ${yield* Step.run("ship", act(`ship ${item}`))}`
        })), { concurrency: "unbounded" }),
    { result: ["pack x, ship x", "pack y, ship y"] }
  )

  explore(
    "a race has the same winner",
    () =>
      Effect.gen(function*() {
        const winner = yield* Step.race("first", {
          soon: Effect.as(Step.sleep("soon", "1 day"), "soon"),
          late: Effect.as(Step.sleep("late", "2 days"), "late")
        })
        yield* Step.run("after", act("after"))
        return winner
      }),
    { result: "soon" }
  )

  explore("a durable timeout is the same again", () =>
    Effect.gen(function*() {
      const answer = yield* Answered.wait("never").pipe(
        Step.timeout("answer", "3 days"),
        Effect.catchTag("Timeout", () => Step.run("give up", act("gave up")))
      )
      return answer
    }), { result: "gave up" })

  explore(
    "an event that comes in time is not timed out",
    () => Answered.wait("now", { timeout: "3 days" }).pipe(Effect.catchTag("Timeout", () => Effect.succeed("late"))),
    { result: "in time" },
    { whenIdle: Effect.ignore(Answered.emit("now", "in time")) }
  )

  explore(
    "children are spawned once and their results are awaited",
    () =>
      Effect.gen(function*() {
        const legs = yield* Effect.forEach(["Rome", "Oslo"], (to) => Leg.spawn({ to }))
        return yield* Effect.forEach(legs, (leg) => Effect.orDie(leg.await), { concurrency: "unbounded" })
      }),
    { result: ["in Rome", "in Oslo"] },
    {
      after: Effect.map(AbsurdTest.spawned(Leg), (legs) => assert.lengthOf(legs, 2))
    }
  )

  explore(
    "what a saga has stored is compensated, in reverse",
    () =>
      Effect.gen(function*() {
        yield* Step.run("flight", act("book flight")).pipe(
          Step.withCompensation("cancel flight", () => act("cancel flight"))
        )
        yield* Step.run("hotel", act("book hotel")).pipe(
          Step.withCompensation("cancel hotel", () => Step.run("call", act("cancel hotel")))
        )
        return yield* new Full()
      }),
    { state: "failed" },
    {
      after: Effect.sync(() => {
        assert.isAtLeast(times("cancel flight"), 1)
        assert.isAtLeast(times("cancel hotel"), 1)
        assert.isBelow(acts.lastIndexOf("cancel hotel"), acts.indexOf("cancel flight"))
      })
    }
  )

  explore("a transaction is committed with its step or not at all", () =>
    Effect.gen(function*() {
      const answer = yield* Step.transaction(
        "both",
        Effect.as(Effect.orDie(Answered.emit("by transaction", "yes")), "yes")
      )
      yield* Step.run("after", act("after"))
      return [answer, yield* Answered.wait("by transaction")]
    }), { result: ["yes", "yes"] })

  explore(
    "a task that snoozes goes on with what it has stored",
    () =>
      Effect.gen(function*() {
        const opened = yield* Step.run("opens", Effect.succeed(AbsurdTest.start.epochMilliseconds + 3_600_000))
        const now = yield* AbsurdTest.now
        if (now.epochMilliseconds < opened) yield* Step.snooze("20 minutes")
        return yield* Step.run("enter", act("enter"))
      }),
    { result: "enter" }
  )

  let tries = 0
  explore(
    "a step that is tried again keeps what it comes to",
    () =>
      Effect.gen(function*() {
        yield* Step.run("before", act("before"))
        return yield* Step.run(
          "flaky",
          Effect.suspend(() => ++tries < 2 ? Effect.fail(new Full()) : Effect.succeed("in"))
        )
      }),
    { result: "in" },
    { before: Effect.sync(() => (tries = 0)) }
  )

  explore(
    "a remembered error is the same again",
    () =>
      Effect.gen(function*() {
        const options = { success: Schema.String, error: Full }
        const refused = yield* Step.run("book", Effect.andThen(act("asked"), Effect.fail(new Full())), options).pipe(
          Effect.catchTag("Full", () => Effect.succeed("refused"))
        )
        yield* Step.sleep("think", "1 hour")
        return refused
      }),
    { result: "refused" },
    {
      after: Effect.sync(() => assert.isAtMost(times("asked"), 2))
    }
  )
})
