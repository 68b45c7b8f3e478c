import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, Layer, Schedule, Schema } from "effect"
import { Absurd, Event, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"

const Confirmed = Event.make("confirmed")

const Welcome = Task.make("welcome", {
  params: { email: Schema.String },
  success: Schema.Literals(["confirmed", "reminded"])
})

const sent: Array<string> = []
const send = (to: string, what: string) => Effect.sync(() => void sent.push(`${what} to ${to}`))

const WelcomeLive = Welcome.toLayer(Effect.fn(function*({ email }) {
  yield* Step.run("greet", send(email, "greeting"))
  return yield* Confirmed.wait(email, { timeout: "30 days" }).pipe(
    Effect.as("confirmed" as const),
    Effect.catchTag("Timeout", () => Step.run("remind", send(email, "reminder")).pipe(Effect.as("reminded" as const)))
  )
}))

const Invite = Task.make("invite", { params: {}, success: Schema.String })

let tries = 0

const InviteLive = Invite.toLayer(() =>
  Step.run("send", Effect.suspend(() => tries++ < 2 ? Effect.fail("busy") : Effect.succeed("third time lucky")), {
    retry: Schedule.spaced("15 seconds")
  }).pipe(Effect.orDie)
)

const TestLive = Layer.merge(WelcomeLive, InviteLive).pipe(Layer.provideMerge(AbsurdTest.layer))

layer(TestLive, { concurrent: false })("welcome", (it) => {
  it.effect("greets, and waits for the confirmation", () =>
    Effect.gen(function*() {
      const task = yield* Welcome.spawn({ email: "ada@example.com" })
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.expectSuspended(task, { event: "confirmed:ada@example.com" })
      yield* Confirmed.emit("ada@example.com", undefined)
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.expectCompleted(task, "confirmed")
    }))

  it.effect("reminds after 30 days", () =>
    Effect.gen(function*() {
      const task = yield* Welcome.spawn({ email: "bob@example.com" })
      yield* AbsurdTest.advance("29 days")
      yield* AbsurdTest.expectSuspended(task)
      yield* AbsurdTest.advance("1 day")
      yield* AbsurdTest.expectCompleted(task, "reminded")
    }))

  it.effect("tries again within a step", () =>
    Effect.gen(function*() {
      const task = yield* Invite.spawn({})
      yield* AbsurdTest.advance("20 seconds")
      assert.strictEqual((yield* AbsurdTest.inspect(task)).state, "running")
      yield* AbsurdTest.advance("10 seconds")
      yield* AbsurdTest.expectCompleted(task, "third time lucky")
    }))

  it.effect("shows what is stored", () =>
    Effect.gen(function*() {
      yield* Welcome.spawn({ email: "eve@example.com" })
      yield* AbsurdTest.runUntilIdle()
      const task = yield* AbsurdTest.expectSpawned(Welcome, { email: "eve@example.com" })
      const { dueAt, state, steps, waitsFor } = yield* AbsurdTest.inspect(task)
      assert.strictEqual(state, "sleeping")
      assert.property(steps, "greet")
      assert.deepStrictEqual(waitsFor, ["confirmed:eve@example.com"])
      assert.deepStrictEqual(dueAt, DateTime.add(yield* AbsurdTest.now, { days: 30 }))
    }))

  it.effect("survives every crash", () =>
    Effect.gen(function*() {
      const { outcome, points } = yield* AbsurdTest.crashEverywhere(Welcome, { email: "joe@example.com" }, {
        whenIdle: Confirmed.emit("joe@example.com", undefined)
      })
      assert.strictEqual(outcome.result, "confirmed")
      assert.isAbove(points.length, 10)
    }))

  it.effect.prop(
    "whoever confirms is not reminded",
    { day: Schema.Literals([0, 1, 29, 30, 31]) },
    ({ day }) =>
      Effect.gen(function*() {
        const email = `${sent.length}@example.com`
        const task = yield* Welcome.spawn({ email })
        yield* AbsurdTest.advance(`${day} days`)
        yield* Confirmed.emit(email, undefined)
        yield* AbsurdTest.advance("31 days")
        yield* AbsurdTest.expectCompleted(task, day < 30 ? "confirmed" : "reminded")
      })
  )

  it.effect("a transaction leaves everything or nothing", () =>
    Effect.gen(function*() {
      const signUp = Absurd.withTransaction(
        Welcome.spawn({ email: "kim@example.com" }).pipe(Effect.andThen(Effect.fail("the account exists")))
      )
      yield* Effect.flip(signUp)
      const all = yield* AbsurdTest.spawned(Welcome)
      assert.isUndefined(all.find(({ params }) => params.email === "kim@example.com"))
    }))
})
