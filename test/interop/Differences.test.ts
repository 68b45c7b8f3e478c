/** Where the two sides differ, and what comes of it when they work on the same tasks. */
import { assert } from "@effect/vitest"
import { Effect, Ref, Schema } from "effect"
import { Absurd, Event, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Interop from "./support/Interop.ts"

const setup = Effect.gen(function*() {
  const shared = yield* Interop.Interop
  const queue = yield* Effect.promise(() => shared.freshQueue())
  const { log, sdk, work } = shared.client(queue)
  sdk.registerTask({ name: "task" }, async () => "by the SDK")
  const Example = Task.make("task", { queue, params: {}, success: Schema.String })
  const task = yield* Example.spawn({})
  return { ...shared, queue, sdk, log, Example, task, sdkWork: Effect.promise(work) }
})

Interop.suite("what differs", (it, where) => {
  it.effect("a claim of ours that the SDK has taken over as the next attempt can write nothing", () =>
    Effect.gen(function*() {
      const { advance, queue, rows, sdkWork, task } = yield* setup
      const [stalled] = yield* Absurd.claimTask({ queue, claimTimeout: "1 minute" })
      assert.isDefined(stalled)
      yield* advance("1 minute")
      yield* sdkWork
      yield* advance("1 second")
      yield* sdkWork
      for (
        const write of [
          Absurd.setCheckpoint(stalled, "late", 1),
          Absurd.extendClaim(stalled, "1 minute"),
          Absurd.completeTask(stalled, "late"),
          Absurd.failTask(stalled, "late")
        ]
      ) {
        assert.strictEqual((yield* Effect.flip(write))._tag, "LeaseLost")
      }
      assert.strictEqual(yield* task.await, "by the SDK")
      assert.deepStrictEqual(yield* Effect.promise(() => rows(`select from absurd."c_${queue}"`)), [])
    }))

  it.effect("a claim of ours on a run that the SDK has claimed since can write nothing, though the run is the same", () =>
    Effect.gen(function*() {
      const { advance, queue, sdk, task } = yield* setup
      const [ours] = yield* Absurd.claimTask({ queue })
      assert.isDefined(ours)
      assert.strictEqual((yield* Effect.flip(Absurd.sleep(ours, "1 minute")))._tag, "Sleep")
      yield* advance("1 minute")
      const [theirs] = yield* Effect.promise(() => sdk.claimTasks())
      assert.strictEqual(theirs?.run_id, ours.runId)
      assert.strictEqual((yield* Effect.flip(Absurd.completeTask(ours, "late")))._tag, "LeaseLost")
      yield* Effect.promise(() => sdk.executeTask(theirs!, 120))
      assert.strictEqual(yield* task.await, "by the SDK")
    }))

  it.effect("a claim of the SDK on a run that we have claimed since still ends that run", () =>
    Effect.gen(function*() {
      const { log, queue, rows, sdk, task } = yield* setup
      const [theirs] = yield* Effect.promise(() => sdk.claimTasks())
      assert.isDefined(theirs)
      yield* Effect.promise(() =>
        rows("select absurd.schedule_run($1, $2, absurd.current_time())", queue, theirs.run_id)
      )
      const [ours] = yield* Absurd.claimTask({ queue })
      assert.strictEqual(ours?.runId as string, theirs.run_id)
      yield* Effect.promise(() => sdk.executeTask(theirs, 120))
      assert.strictEqual(yield* task.await, "by the SDK")
      assert.strictEqual((yield* Effect.flip(Absurd.completeTask(ours!, "ours")))._tag, "LeaseLost")
      assert.deepStrictEqual(log, [])
    }))

  it.effect("a step that returned nothing under the SDK is done under our worker", () =>
    Effect.gen(function*() {
      const { Example, advance, queue, sdk, task } = yield* setup
      const ran = yield* Ref.make(0)
      sdk.registerTask({ name: "task" }, async (_, ctx) => {
        await ctx.step("nothing", async () => undefined)
        await ctx.sleepFor("nap", 60)
      })
      const live = Example.toLayer(Effect.fn(function*() {
        yield* Step.run("nothing", Ref.update(ran, (n) => n + 1))
        yield* Step.sleep("nap", "1 minute")
        return "by us"
      }))
      yield* Effect.promise(() => sdk.workBatch())
      yield* advance("1 minute")
      yield* Interop.weWork(queue).pipe(Effect.provide(live))
      assert.strictEqual(yield* task.await, "by us")
      assert.strictEqual(yield* Ref.get(ran), 0)
    }))

  it.effect("several waits of ours at once are met one by one under the SDK, with the wake time kept", () =>
    Effect.gen(function*() {
      const { Example, advance, queue, rows, sdk, sdkWork, task } = yield* setup
      const Go = Event.make("go", { queue, payload: Schema.String })
      const live = Example.toLayer(() =>
        Effect.all([Step.sleep("nap", "1 minute"), Go.wait("")], { concurrency: "unbounded", discard: true }).pipe(
          Effect.as("by us")
        )
      )
      sdk.registerTask({ name: "task" }, async (_, ctx) => {
        const payload = await ctx.awaitEvent("go")
        await ctx.sleepFor("nap", 60)
        return payload
      })
      yield* Interop.weWork(queue).pipe(Effect.provide(live))
      yield* advance("1 minute")
      yield* sdkWork
      const waits = Effect.promise(() => rows(`select event_name, timeout_at from absurd."w_${queue}"`))
      assert.deepStrictEqual(yield* waits, [{ event_name: "go", timeout_at: null }])
      yield* Go.emit("", "went")
      yield* sdkWork
      assert.strictEqual(yield* task.await, "went")
    }))

  it.effect("the SDK ends a sleep by the clock of its process, we by that of the database", () =>
    Effect.gen(function*() {
      const { Example, queue, rows, sdk, task } = yield* setup
      const begin = yield* Effect.promise(() => rows("select absurd.current_time() as now"))
      sdk.registerTask({ name: "task" }, async (_, ctx) => {
        await ctx.sleepFor("nap", 60)
        return "by the SDK"
      })
      yield* Effect.promise(() => sdk.workBatch())
      // The database is a minute ahead of the process.
      const ahead = (seconds: number) =>
        Effect.promise(() =>
          rows(
            "select set_config('absurd.fake_now', ($1::timestamptz + make_interval(secs => $2))::text, false)",
            begin[0]?.["now"],
            seconds
          )
        )
      yield* ahead(60)
      yield* Effect.promise(() => sdk.workBatch())
      assert.deepStrictEqual(
        yield* Effect.promise(() =>
          rows(
            `select state, extract(epoch from available_at - $1)::int as after from absurd."r_${queue}"`,
            begin[0]?.["now"]
          )
        ),
        [{ state: "sleeping", after: 120 }]
      )
      yield* ahead(0)
      const time = yield* TestTime
      const live = Example.toLayer(() => Effect.as(Step.sleep("nap", "1 minute"), "by us"))
      yield* Effect.gen(function*() {
        yield* time.advance("2 minutes")
        yield* Interop.weWork(queue)
      }).pipe(Effect.provide(live))
      assert.strictEqual(yield* task.await, "by us")
    }))

  it.effect("names that we would not give are used where they exist", () =>
    Effect.gen(function*() {
      const { client, freshQueue } = yield* Interop.Interop
      const { sdk } = client(yield* Effect.promise(() => freshQueue()))
      const name = "billing, old (2019)"
      assert.strictEqual((yield* Effect.flip(Absurd.createQueue(name)))._tag, "InvalidInput")
      yield* Effect.promise(() => sdk.createQueue(name))
      const Old = Task.make("old", { queue: name, params: {}, success: Schema.String, maxAttempts: 1 })
      const fine = yield* Old.spawn({})
      yield* Interop.weWork(name).pipe(Effect.provide(Old.toLayer(() => Effect.succeed("done"))))
      assert.strictEqual(yield* fine.await, "done")
      for (const step of ["$step", "step#2"]) {
        const refused = yield* Old.spawn({})
        yield* Interop.weWork(name).pipe(
          Effect.provide(Old.toLayer(() => Step.run(step, Effect.succeed("never"))))
        )
        assert.strictEqual((yield* Effect.flip(refused.await))._tag, "TaskFailed")
      }
    }))

  if (where === "on our installation") {
    it.effect("a queue that we paused is left alone by the SDK until we resume it", () =>
      Effect.gen(function*() {
        const { advance, queue, sdk, sdkWork, task } = yield* setup
        const shared = yield* Interop.Interop
        // Of another process of the SDK.
        const other = shared.client(queue)
        assert.isTrue(yield* Worker.pause(queue))
        assert.deepStrictEqual(yield* sdkWork, [])
        yield* advance("1 hour")
        for (const one of [sdk, other.sdk]) {
          assert.deepStrictEqual(yield* Effect.promise(() => one.claimTasks({ batchSize: 10 })), [])
        }
        // Whatever else it does goes on.
        const { taskID } = yield* Effect.promise(() => sdk.spawn("task", {}, { queue }))
        assert.deepInclude(yield* Worker.load(queue), { paused: true, due: 2, running: 0 })
        assert.isTrue(yield* Worker.resume(queue))
        assert.lengthOf(yield* sdkWork, 2)
        assert.strictEqual(yield* task.await, "by the SDK")
        assert.strictEqual((yield* Absurd.getTaskResult(taskID, { queue })).state, "completed")
      }))
  } else {
    it.effect("a queue that we paused is worked on by the SDK all the same", () =>
      Effect.gen(function*() {
        const { advance, queue, sdkWork, task } = yield* setup
        assert.isTrue(yield* Worker.pause(queue))
        yield* advance("1 second")
        assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
        assert.lengthOf(yield* sdkWork, 1)
        assert.strictEqual(yield* task.await, "by the SDK")
      }))
  }
})
