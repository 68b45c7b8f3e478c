/** Tasks that begin under a worker of one side and go on under a worker of the other. */
import { assert } from "@effect/vitest"
import { type TaskContext, TimeoutError } from "absurd-sdk"
import { DateTime, Effect, Schema } from "effect"
import { Absurd, type CurrentRun, Event, Step, Task } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Interop from "./support/Interop.ts"

/** The same program on both sides: two steps of one name, a wait, and a step. Only the wait differs between the tests. */
const program = Effect.fnUntraced(function*(waits: {
  readonly theirs: (ctx: TaskContext) => Promise<unknown>
  readonly ours: Effect.Effect<Schema.Json, never, CurrentRun>
}) {
  const shared = yield* Interop.Interop
  const queue = yield* Effect.promise(() => shared.freshQueue())
  const { sdk, work } = shared.client(queue)
  const ran: Array<string> = []
  const act = (what: string) => {
    ran.push(what)
    return what
  }
  sdk.registerTask({ name: "twice" }, async (_, ctx) => {
    const step = (name: string) => ctx.step(name, async () => act(`their ${name}`))
    return [await step("a"), await step("a"), await waits.theirs(ctx), await step("b")]
  })
  const Twice = Task.make("twice", { queue, params: {}, success: Schema.Array(Schema.Json) })
  const step = (name: string) => Step.run(name, Effect.sync(() => act(`our ${name}`)))
  const live = Twice.toLayer(() => Effect.all([step("a"), step("a"), waits.ours, step("b")]))
  const task = yield* Twice.spawn({})
  return {
    ...shared,
    queue,
    sdk,
    ran,
    task,
    theyWork: Effect.promise(work),
    weWork: Interop.weWork(queue).pipe(Effect.provide(live)),
    state: Effect.map(Absurd.getTaskStatus(task.taskId, { queue }), (status) => status.state),
    checkpoints: Effect.promise(() => shared.rows(`select checkpoint_name from absurd."c_${queue}"`)).pipe(
      Effect.map((all) => all.map((row) => String(row["checkpoint_name"])).toSorted())
    )
  }
})

const Go = Event.make("go", { payload: Schema.String })

const eventually = {
  theirs: (ctx: TaskContext) => ctx.awaitEvent("go"),
  ours: Go.wait("")
}

const withTimeout = {
  theirs: (ctx: TaskContext) =>
    ctx.awaitEvent("go", { timeout: 60 }).catch((error: unknown) => {
      if (error instanceof TimeoutError) return "timed out"
      throw error
    }),
  ours: Go.wait("", { timeout: "1 minute" }).pipe(Effect.catchTag("Timeout", () => Effect.succeed("timed out")))
}

const nap = {
  theirs: async (ctx: TaskContext) => {
    await ctx.sleepFor("nap", 60)
    return "slept"
  },
  ours: Effect.as(Step.sleep("nap", "1 minute"), "slept")
}

const until = (instant: DateTime.Utc) => ({
  theirs: async (ctx: TaskContext) => {
    await ctx.sleepUntil("night", DateTime.toDate(instant))
    return "slept"
  },
  ours: Effect.as(Step.sleepUntil("night", instant), "slept")
})

Interop.suite("a task changes hands", (it) => {
  for (const from of ["us", "the SDK"] as const) {
    const sides = <A>(theyWork: A, weWork: A) =>
      from === "us"
        ? { first: weWork, second: theyWork, begun: "our", ended: "their" }
        : { first: theyWork, second: weWork, begun: "their", ended: "our" }

    it.effect(`from ${from}, waiting for an event: steps and payload are kept`, () =>
      Effect.gen(function*() {
        const { checkpoints, ran, sdk, task, theyWork, weWork } = yield* program(eventually)
        const { begun, ended, first, second } = sides(theyWork, weWork)
        yield* first
        yield* Effect.promise(() => sdk.emitEvent("go", "went"))
        yield* second
        assert.deepStrictEqual(yield* task.await, [`${begun} a`, `${begun} a`, "went", `${ended} b`])
        assert.deepStrictEqual(ran, [`${begun} a`, `${begun} a`, `${ended} b`])
        assert.deepStrictEqual(yield* checkpoints, ["$awaitEvent:go", "a", "a#2", "b"])
      }))

    it.effect(`from ${from}, waiting for an event with a timeout: the event comes`, () =>
      Effect.gen(function*() {
        const { queue, ran, task, theyWork, weWork } = yield* program(withTimeout)
        const { begun, ended, first, second } = sides(theyWork, weWork)
        yield* first
        yield* Absurd.emitEvent("go", "went", { queue })
        yield* second
        assert.deepStrictEqual(yield* task.await, [`${begun} a`, `${begun} a`, "went", `${ended} b`])
        assert.deepStrictEqual(ran, [`${begun} a`, `${begun} a`, `${ended} b`])
      }))

    it.effect(`from ${from}, waiting for an event with a timeout: the timeout is not begun anew`, () =>
      Effect.gen(function*() {
        const { advance, queue, state, task, theyWork, weWork } = yield* program(withTimeout)
        const { begun, ended, first, second } = sides(theyWork, weWork)
        yield* first
        yield* advance("59 seconds")
        yield* second
        assert.strictEqual(yield* state, "sleeping")
        yield* advance("1 second")
        yield* second
        assert.deepStrictEqual(yield* task.await, [`${begun} a`, `${begun} a`, "timed out", `${ended} b`])
        assert.isTrue(yield* Absurd.emitEvent("go", "too late", { queue }))
      }))

    it.effect(`from ${from}: after a timeout, the next wait for the event is a new one`, () =>
      Effect.gen(function*() {
        const wait = Go.wait("", { timeout: "1 minute" }).pipe(
          Effect.catchTag("Timeout", () => Effect.succeed("timed out"))
        )
        const { advance, queue, state, task, theyWork, weWork } = yield* program({
          theirs: withTimeout.theirs,
          ours: Effect.map(Effect.all([wait, wait]), (both) => both.join())
        })
        yield* from === "us" ? weWork : theyWork
        yield* advance("1 minute")
        yield* weWork
        assert.strictEqual(yield* state, "sleeping")
        yield* advance("59 seconds")
        yield* Absurd.emitEvent("go", "went", { queue })
        yield* weWork
        assert.include(yield* task.await, "timed out,went")
      }))

    for (const how of ["for a while", "until an instant"]) {
      it.effect(`from ${from}, sleeping ${how}: the wake time is kept`, () =>
        Effect.gen(function*() {
          const now = yield* Effect.flatMap(TestTime, (time) => time.now)
          const { advance, ran, state, task, theyWork, weWork } = yield* program(
            how === "for a while" ? nap : until(DateTime.add(now, { minutes: 1 }))
          )
          const { begun, ended, first, second } = sides(theyWork, weWork)
          yield* first
          assert.strictEqual(yield* state, "sleeping")
          yield* advance("59999 millis")
          yield* second
          assert.strictEqual(yield* state, "sleeping")
          yield* advance("1 millis")
          yield* second
          assert.deepStrictEqual(yield* task.await, [`${begun} a`, `${begun} a`, "slept", `${ended} b`])
          assert.deepStrictEqual(ran, [`${begun} a`, `${begun} a`, `${ended} b`])
        }))
    }

    it.effect(`from ${from}, whose worker died: the steps are kept`, () =>
      Effect.gen(function*() {
        const { advance, queue, ran, sdk, state, task, theyWork, weWork } = yield* program(eventually)
        const { begun, ended, first, second } = sides(theyWork, weWork)
        yield* first
        yield* Effect.promise(() => sdk.emitEvent("go", "went"))
        // A worker of the first side claims it and is never heard of again.
        const claimed = from === "us"
          ? yield* Absurd.claimTask({ queue, claimTimeout: "1 minute" })
          : yield* Effect.promise(() => sdk.claimTasks({ claimTimeout: 60 }))
        assert.deepStrictEqual(claimed.map((one) => one.attempt), [1])
        yield* advance("59 seconds")
        yield* second
        assert.strictEqual(yield* state, "running")
        yield* advance("1 second")
        yield* second
        // Our tasks are tried again after a second.
        yield* advance("1 second")
        yield* second
        assert.deepStrictEqual(yield* task.await, [`${begun} a`, `${begun} a`, "went", `${ended} b`])
        assert.deepStrictEqual(ran, [`${begun} a`, `${begun} a`, `${ended} b`])
      }))
  }
})
