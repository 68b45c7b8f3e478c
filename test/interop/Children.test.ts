/** Tasks that wait for tasks of the other side. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Schema } from "effect"
import { Absurd, Step, Task, TaskHandle, Worker } from "effect-absurd"
import * as Interop from "./support/Interop.ts"

/** A queue where our worker works, and one where the SDK's does. */
const setup = Effect.gen(function*() {
  const shared = yield* Interop.Interop
  const [ours, theirs] = yield* Effect.promise(() => Promise.all([shared.freshQueue(), shared.freshQueue()]))
  const { log, sdk, work } = shared.client(theirs)
  const state = (queue: string, taskId: string) =>
    Effect.map(Absurd.getTaskStatus(taskId, { queue }), (status) => status.state)
  return { ...shared, ours, theirs, sdk, log, sdkWork: Effect.promise(work), state }
})

Interop.suite("a child of ours that the SDK's worker works on", (it) => {
  it.effect("in the queue of its parent: the parent holds no worker meanwhile, and gets the result by its schema", () =>
    Effect.gen(function*() {
      const { advance, client, ours, rows, state } = yield* setup
      const { sdk } = client(ours)
      const Leg = Task.make("leg", {
        queue: ours,
        params: { to: Schema.String, at: Schema.Date },
        success: Schema.Struct({ arrived: Schema.Date })
      })
      const Trip = Task.make("trip", { queue: ours, params: {}, success: Schema.Date })
      const seen: Array<unknown> = []
      sdk.registerTask<{ at: string }>({ name: "leg" }, async (params, ctx) => {
        seen.push(await ctx.step("go", async () => params))
        return { arrived: params.at }
      })
      const live = Trip.toLayer(Effect.fn(function*() {
        const leg = yield* Leg.spawn({ to: "Rome", at: new Date(0) })
        return (yield* leg.await).arrived
      }, Effect.orDie))
      const work = Effect.provide(Worker.runOnce({ queue: ours }), live)
      const trip = yield* Trip.spawn({})
      assert.deepStrictEqual(yield* work, [{ _tag: "Suspended" }])
      assert.strictEqual(yield* state(ours, trip.taskId), "sleeping")
      yield* Effect.promise(() => sdk.workBatch())
      assert.deepStrictEqual(seen, [{ to: "Rome", at: "1970-01-01T00:00:00.000Z" }])
      // Their functions may be of an installation that knows of no such waits: then it looks by itself.
      yield* advance("1 minute")
      assert.deepStrictEqual(yield* work, [{ _tag: "Completed" }])
      assert.deepStrictEqual(yield* trip.await, new Date(0))
      // What the parent has seen is stored as the SDK stores it.
      assert.deepStrictEqual(
        yield* Effect.promise(() =>
          rows(`select state from absurd."c_${ours}" where checkpoint_name like '$awaitTaskResult:%'`)
        ),
        [{ state: { state: "completed", result: { arrived: "1970-01-01T00:00:00.000Z" } } }]
      )
    }))

  it.effect("in a queue of its own: the parent looks again within half a minute", () =>
    Effect.gen(function*() {
      const { advance, ours, sdk, sdkWork, theirs } = yield* setup
      const Leg = Task.make("leg", { queue: theirs, params: { n: Schema.Int }, success: Schema.Int })
      const Trip = Task.make("trip", { queue: ours, params: {}, success: Schema.Array(Schema.Int) })
      sdk.registerTask<{ n: number }>({ name: "leg" }, async ({ n }) => n * n)
      const live = Trip.toLayer(Effect.fn(function*() {
        const legs = yield* Leg.spawnMany([{ n: 2 }, { n: 3 }, { n: 4 }])
        return yield* TaskHandle.all(legs)
      }, Effect.orDie))
      const trip = yield* Trip.spawn({})
      yield* Effect.provide(Interop.weWork(ours), live)
      yield* sdkWork
      yield* advance("30 seconds")
      yield* Effect.provide(Interop.weWork(ours), live)
      assert.deepStrictEqual(yield* trip.await, [4, 9, 16])
    }))

  it.effect("that fails or is cancelled: the parent is told which", () =>
    Effect.gen(function*() {
      const { advance, ours, sdk, sdkWork, theirs } = yield* setup
      const Fails = Task.make("fails", { queue: theirs, params: {}, maxAttempts: 1 })
      const Stops = Task.make("stops", { queue: theirs, params: {} })
      const Trip = Task.make("trip", { queue: ours, params: {}, success: Schema.Json })
      sdk.registerTask({ name: "fails" }, async () => {
        throw new TypeError("no such place")
      })
      sdk.registerTask({ name: "stops" }, async (_, ctx) => {
        await sdk.cancelTask(ctx.taskID)
        await ctx.step("never", async () => 1)
      })
      const live = Trip.toLayer(Effect.fn(function*() {
        const children = [yield* Fails.spawn({}), yield* Stops.spawn({})]
        const exits = yield* TaskHandle.allSettled(children)
        return exits.map((exit) =>
          Option.match(Exit.findErrorOption(exit), {
            onNone: () => "completed",
            onSome: (error) => `${error._tag}: ${error.message}`
          })
        )
      }, Effect.orDie))
      const trip = yield* Trip.spawn({})
      yield* Effect.provide(Interop.weWork(ours), live)
      yield* sdkWork
      yield* advance("30 seconds")
      yield* Effect.provide(Interop.weWork(ours), live)
      const [failed, cancelled] = (yield* trip.await) as ReadonlyArray<string>
      assert.match(failed!, /^TaskFailed: .*no such place/)
      assert.match(cancelled!, /^Cancelled: /)
    }))

  it.effect("that its parent owns is stopped under the SDK when the parent fails", () =>
    Effect.gen(function*() {
      const { advance, client, ours, state } = yield* setup
      const { log, sdk } = client(ours)
      const Leg = Task.make("leg", { queue: ours, params: {} })
      const Trip = Task.make("trip", { queue: ours, params: {}, maxAttempts: 1 })
      const reached: Array<string> = []
      sdk.registerTask({ name: "leg" }, async (_, ctx) => {
        reached.push("start")
        await ctx.step("go", async () => 1)
        reached.push("after its parent has failed")
      })
      const live = Trip.toLayer(Effect.fn(function*() {
        yield* Leg.spawn({}, { owned: true })
        yield* Step.sleep("pause", "1 minute")
        return yield* Effect.die("lost")
      }, Effect.orDie))
      const trip = yield* Trip.spawn({})
      // What it does not know it puts back.
      yield* Effect.provide(Interop.weWork(ours), live)
      yield* advance("31 seconds")
      const claimed = yield* Effect.promise(() => sdk.claimTasks({ batchSize: 10 }))
      assert.deepStrictEqual(claimed.map((run) => run.task_name), ["leg"])
      const [leg] = claimed
      yield* advance("29 seconds")
      yield* Effect.provide(Interop.weWork(ours), live)
      assert.strictEqual(yield* state(ours, trip.taskId), "failed")
      assert.strictEqual(yield* state(ours, leg!.task_id), "cancelled")
      yield* Effect.promise(() => sdk.executeTask(leg!, 120))
      assert.deepStrictEqual([reached, log], [["start"], []])
    }))
})

Interop.suite("a child of the SDK's that our worker works on", (it) => {
  it.effect("gives its result to the task that waits for it", () =>
    Effect.gen(function*() {
      const { ours, sdk, theirs } = yield* setup
      const Leg = Task.make("leg", { queue: ours, params: { to: Schema.String }, success: Schema.String })
      sdk.registerTask({ name: "trip", queue: theirs }, async (_, ctx) => {
        const { taskID } = await ctx.step("spawn", () => sdk.spawn("leg", { to: "Oslo" }, { queue: ours }))
        return await ctx.awaitTaskResult(taskID, { queue: ours })
      })
      const { taskID } = yield* Effect.promise(() => sdk.spawn("trip", {}))
      const live = Leg.toLayer(({ to }) => Step.run("arrive", Effect.succeed(`in ${to}`)))
      const theyWork = yield* Effect.forkChild(Effect.promise(() => sdk.workBatch()))
      yield* Worker.runOnce({ queue: ours }).pipe(
        Effect.repeat({ until: (results) => results.length > 0 }),
        Effect.provide(live)
      )
      yield* Fiber.join(theyWork)
      assert.deepStrictEqual(yield* Effect.promise(() => sdk.fetchTaskResult(taskID)), {
        state: "completed",
        result: { state: "completed", result: "in Oslo" }
      })
    }))
})
