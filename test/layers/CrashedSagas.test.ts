/** What is undone when a task fails, with a crash between any two calls of the store. */
import { assert, describe, layer } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Schema } from "effect"
import { Absurd, type CurrentRun, Event, Step, Task, TaskHandle } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}

const Trip = Task.make("trip", { params: {}, success: Schema.Json, error: Full, maxAttempts: 3 })
const Leg = Task.make("leg", { params: { minutes: Schema.Int }, success: Schema.Int })
const Weather = Event.make("weather", { payload: Schema.String })

const LegLive = Leg.toLayer(Effect.fn(function*({ minutes }) {
  yield* Step.sleep("travel", `${minutes} minutes`)
  return yield* Step.run("arrive", Effect.succeed(minutes))
}))

/** What was done to the world, in order. */
const acts: Array<string> = []
const act = (what: string) => Effect.sync(() => (acts.push(what), what))

/**
 * Each act was done, in this order, and nothing that came before was done again. The one during which the process died may
 * have been done twice, for nobody can tell.
 */
const assertActs = (expected: ReadonlyArray<string>) =>
  Effect.sync(() => {
    const once = acts.filter((what, index) => what !== acts[index - 1])
    assert.deepStrictEqual(once, expected)
    assert.isAtMost(acts.length, expected.length + 1)
  })

type Handler = Parameters<typeof Trip.toLayer<Absurd.Absurd | CurrentRun>>[0]
type Services = Absurd.Absurd | AbsurdTest.TestStore
type Options = AbsurdTest.CrashOptions<Services, never, Services>

const explore = (
  name: string,
  expected: { readonly result: Schema.Json } | { readonly state: "failed" | "cancelled" },
  handler: Handler,
  options: Options
) =>
  layer(Layer.merge(Trip.toLayer(handler), LegLive).pipe(Layer.provideMerge(AbsurdTest.layer)))((it) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(
          AbsurdTest.crashEverywhere(Trip, {}, { before: Effect.sync(() => (acts.length = 0)), ...options })
        )
        if (Exit.isFailure(exit)) return assert.fail(String(Cause.squash(exit.cause)))
        assert.deepInclude(exit.value.outcome, expected)
        assert.isAbove(exit.value.points.length, 20)
      }), 60_000)
  )

/** Books, and can be undone by two steps with a night between them. */
const book = (what: string) =>
  Step.run(`book ${what}`, act(`book ${what}`)).pipe(
    Step.withCompensation(`cancel ${what}`, () =>
      Effect.gen(function*() {
        yield* Step.run("call", act(`cancel ${what}`))
        yield* Step.sleep("night", "8 hours")
        yield* Step.run("confirm", act(`confirm ${what}`))
      }))
  )

const undone = ["cancel hotel", "confirm hotel", "cancel flight", "confirm flight"]

describe("after a crash anywhere", () => {
  explore(
    "compensations go on where they were, and none that is complete is begun again",
    { state: "failed" },
    Effect.fn(function*() {
      yield* book("flight")
      yield* book("hotel")
      return yield* new Full()
    }),
    { after: assertActs(["book flight", "book hotel", ...undone]) }
  )

  explore(
    "compensations that are not durable themselves are done in order, each until it is stored",
    { state: "failed" },
    Effect.fn(function*() {
      for (const what of ["a", "b", "c"]) {
        yield* Step.run(`do ${what}`, act(`do ${what}`)).pipe(
          Step.withCompensation(`undo ${what}`, () => act(`undo ${what}`))
        )
      }
      return yield* new Full()
    }),
    { after: assertActs(["do a", "do b", "do c", "undo c", "undo b", "undo a"]) }
  )

  explore(
    "a saga that waits between its steps undoes those that were complete",
    { state: "failed" },
    Effect.fn(function*() {
      yield* book("flight")
      const weather = yield* Weather.wait("tomorrow").pipe(
        Step.timeout("weather", "1 day"),
        Effect.catchTag("Timeout", () => Effect.succeed("unknown"))
      )
      if (weather === "storm") return yield* new Full()
      yield* book("hotel")
      return yield* new Full()
    }),
    {
      whenIdle: Effect.ignore(Weather.emit("tomorrow", "storm")),
      after: assertActs(["book flight", "cancel flight", "confirm flight"])
    }
  )

  explore(
    "a saga that is cancelled is undone",
    { state: "cancelled" },
    Effect.fn(function*() {
      yield* book("flight")
      yield* book("hotel")
      yield* Step.sleep("long", "10 minutes")
      return null
    }),
    {
      whenIdle: Effect.gen(function*() {
        const [trip] = yield* AbsurdTest.spawned(Trip)
        const stored = yield* Absurd.getAllCheckpoints(trip!.taskId)
        if (stored.some(({ name }) => name === "long")) yield* Absurd.cancelTask(trip!.taskId)
      }),
      after: assertActs(["book flight", "book hotel", ...undone])
    }
  )

  explore(
    "a saga that completes is not undone",
    { result: "there" },
    () => Effect.as(Effect.andThen(book("flight"), Step.sleep("stay", "10 minutes")), "there"),
    {
      after: assertActs(["book flight"])
    }
  )

  const legs = (states: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const found = yield* AbsurdTest.spawned(Leg)
      const all = yield* Effect.forEach(found, ({ taskId }) => Absurd.getTaskStatus(taskId))
      assert.deepStrictEqual(all.map(({ state }) => state), states)
    })

  explore(
    "owned children are cancelled when their parent fails, and the others go on",
    { state: "failed" },
    Effect.fn(function*() {
      yield* Leg.spawn({ minutes: 20 }, { owned: true }).pipe(Effect.orDie)
      yield* Leg.spawn({ minutes: 25 }).pipe(Effect.orDie)
      yield* Step.sleep("on the way", "10 minutes")
      return yield* new Full()
    }),
    { after: legs(["cancelled", "completed"]) }
  )

  explore(
    "owned children go on when their parent completes",
    { result: 5 },
    Effect.fn(function*() {
      const [first] = yield* Leg.spawnMany([{ minutes: 5 }, { minutes: 20 }], { owned: true })
      return yield* first!.await
    }, Effect.orDie),
    { after: legs(["completed", "completed"]) }
  )

  explore(
    "the first of several children that completes is the same again",
    { result: [5, 10] },
    Effect.fn(function*() {
      const children = yield* Leg.spawnMany([{ minutes: 10 }, { minutes: 5 }])
      const first = yield* TaskHandle.any(children)
      return [first, yield* TaskHandle.any([children[0]!])]
    }, Effect.orDie),
    { after: legs(["completed", "completed"]) }
  )
})
