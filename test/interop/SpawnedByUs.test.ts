/** Tasks that this library spawns, worked on by `absurd-sdk`. */
import { assert } from "@effect/vitest"
import { TimeoutError } from "absurd-sdk"
import { Effect, Exit, Schedule, Schema } from "effect"
import { Absurd, Event, RetryStrategy, Task } from "effect-absurd"
import * as Interop from "./support/Interop.ts"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}

const setup = Effect.gen(function*() {
  const shared = yield* Interop.Interop
  const queue = yield* Effect.promise(() => shared.freshQueue({ create: false }))
  yield* Absurd.createQueue(queue)
  const { log, sdk, work } = shared.client(queue)
  return { ...shared, queue, sdk, log, sdkWork: Effect.promise(work) }
})

Interop.suite("a task spawned by us", (it) => {
  it.effect("is completed by the SDK's worker, and its result comes through our schema", () =>
    Effect.gen(function*() {
      const { queue, sdk, sdkWork } = yield* setup
      const Order = Task.make("order", {
        queue,
        params: { id: Schema.String, placedAt: Schema.Date },
        success: Schema.Struct({ shippedAt: Schema.Date, headers: Schema.Json })
      })
      const seen: Array<unknown> = []
      sdk.registerTask<{ placedAt: string }>({ name: "order" }, async (params, ctx) => {
        seen.push(params)
        const shippedAt = await ctx.step("ship", async () => params.placedAt)
        return { shippedAt, headers: { ...ctx.headers } }
      })
      const order = yield* Order.spawn({ id: "1", placedAt: new Date(0) }, { headers: { trace: "t-1" } })
      yield* sdkWork
      assert.deepStrictEqual(seen, [{ id: "1", placedAt: "1970-01-01T00:00:00.000Z" }])
      assert.deepStrictEqual(yield* order.await, { shippedAt: new Date(0), headers: { trace: "t-1" } })
    }))

  it.effect("may begin later, and carries the strategy, limits and headers that the SDK expects", () =>
    Effect.gen(function*() {
      const { advance, queue, sdk } = yield* setup
      const Delayed = Task.make("delayed", {
        queue,
        params: {},
        retry: RetryStrategy.exponential({ base: "10 seconds", factor: 3, max: "1 minute" }),
        maxAttempts: 7
      })
      sdk.registerTask({ name: "delayed" }, async () => {})
      const delayed = yield* Delayed.spawn({}, { delay: "1 hour", headers: { a: [null] } })
      yield* advance("3599 seconds")
      assert.deepStrictEqual(yield* Effect.promise(() => sdk.claimTasks()), [])
      yield* advance("1 second")
      const [claimed] = yield* Effect.promise(() => sdk.claimTasks())
      assert.deepInclude(claimed, {
        task_id: delayed.taskId as string,
        attempt: 1,
        max_attempts: 7,
        retry_strategy: { kind: "exponential", base_seconds: 10, factor: 3, max_seconds: 60 },
        headers: { a: [null] },
        params: {}
      })
      assert.isDefined(claimed)
      yield* Effect.promise(() => sdk.executeTask(claimed, 120))
      assert.isUndefined(yield* delayed.await)
    }))

  it.effect("is retried as its strategy says, and what the SDK's handler threw reaches the waiter", () =>
    Effect.gen(function*() {
      const { advance, queue, sdk, sdkWork } = yield* setup
      const Fails = Task.make("fails", { queue, params: {}, retry: RetryStrategy.fixed("9 seconds"), maxAttempts: 2 })
      let ran = 0
      sdk.registerTask({ name: "fails" }, async () => {
        ran++
        throw new TypeError("no such thing")
      })
      const task = yield* Fails.spawn({})
      yield* sdkWork
      yield* advance("8999 millis")
      yield* sdkWork
      assert.strictEqual(ran, 1)
      yield* advance("1 millis")
      yield* sdkWork
      assert.strictEqual(ran, 2)
      const failed = yield* Effect.flip(task.await)
      assert.strictEqual(failed._tag, "TaskFailed")
      assert.include(failed.message, "no such thing")
      const failure = (failed as { readonly failure: Schema.Json }).failure
      assert.deepInclude(failure, { name: "TypeError", message: "no such thing" })
    }))

  for (
    const [what, retry, stored] of [
      ["as the Schedule says, where a strategy can", Schedule.spaced("1 hour"), { kind: "fixed", base_seconds: 3600 }],
      [
        "by the standard strategy, where none can say what the Schedule says",
        Schedule.fibonacci("1 second"),
        { kind: "exponential", base_seconds: 1, factor: 2, max_seconds: 3600 }
      ]
    ] as const
  ) {
    it.effect(`with a Schedule is retried ${what}`, () =>
      Effect.gen(function*() {
        const { queue, sdk } = yield* setup
        const Scheduled = Task.make("scheduled", { queue, params: {}, retry })
        yield* Scheduled.spawn({})
        const [claimed] = yield* Effect.promise(() => sdk.claimTasks())
        assert.deepInclude(claimed, { retry_strategy: stored, max_attempts: 20 })
      }))
  }

  it.effect("whose result does not fit our schema is a DecodeError for the waiter", () =>
    Effect.gen(function*() {
      const { queue, sdk, sdkWork } = yield* setup
      const Strict = Task.make("strict", { queue, params: {}, success: Schema.Int })
      sdk.registerTask({ name: "strict" }, async () => "not a number")
      const task = yield* Strict.spawn({})
      yield* sdkWork
      assert.strictEqual((yield* Effect.flip(task.await))._tag, "DecodeError")
    }))

  it.effect("fails with our typed error when its failure carries what our schema describes", () =>
    Effect.gen(function*() {
      const { queue, rows, sdk } = yield* setup
      const Order = Task.make("order", { queue, params: {}, error: OutOfStock, maxAttempts: 1 })
      const task = yield* Order.spawn({})
      yield* Effect.promise(() => sdk.claimTasks())
      // Other languages write the typed error beside name and message.
      yield* Effect.promise(() =>
        rows(
          "select absurd.fail_run($1, $2, $3)",
          queue,
          task.runId,
          JSON.stringify({ name: "OutOfStock", message: "none", error: { _tag: "OutOfStock", sku: "cup" } })
        )
      )
      assert.deepStrictEqual(yield* Effect.exit(task.await), Exit.fail(new OutOfStock({ sku: "cup" })))
    }))

  it.effect("is cancelled by us under the SDK's worker", () =>
    Effect.gen(function*() {
      const { queue, sdk, log } = yield* setup
      const Long = Task.make("long", { queue, params: {} })
      const reached: Array<string> = []
      sdk.registerTask({ name: "long" }, async (_, ctx) => {
        reached.push("start")
        await ctx.step("after", async () => 1)
        reached.push("after the cancellation")
      })
      const task = yield* Long.spawn({})
      const [claimed] = yield* Effect.promise(() => sdk.claimTasks())
      assert.isDefined(claimed)
      assert.isTrue(yield* task.cancel)
      yield* Effect.promise(() => sdk.executeTask(claimed, 120))
      assert.deepStrictEqual([reached, log], [["start"], []])
      assert.strictEqual((yield* Effect.flip(task.await))._tag, "Cancelled")
    }))

  it.effect("waits under the SDK's worker for an event that we emit", () =>
    Effect.gen(function*() {
      const { queue, sdk, sdkWork } = yield* setup
      const Packed = Event.make("packed", { queue, payload: Schema.Struct({ at: Schema.Date }) })
      const Quiet = Event.make("quiet", { queue })
      const Ship = Task.make("ship", { queue, params: {}, success: Schema.Json })
      sdk.registerTask({ name: "ship" }, async (_, ctx) => [
        await ctx.awaitEvent("packed:7", { timeout: 60 }),
        await ctx.awaitEvent("quiet")
      ])
      const ship = yield* Ship.spawn({})
      yield* sdkWork
      assert.isTrue(yield* Packed.emit("7", { at: new Date(0) }))
      assert.isFalse(yield* Packed.emit("7", { at: new Date(1) }))
      yield* Effect.promise(() => sdk.emitEvent("packed:7", "too late"))
      yield* sdkWork
      yield* Quiet.emit("", undefined)
      yield* sdkWork
      assert.deepStrictEqual(yield* ship.await, [{ at: "1970-01-01T00:00:00.000Z" }, null])
    }))

  it.effect("times out under the SDK's worker", () =>
    Effect.gen(function*() {
      const { advance, queue, sdk, sdkWork } = yield* setup
      const Ship = Task.make("ship", { queue, params: {}, success: Schema.String })
      sdk.registerTask({ name: "ship" }, async (_, ctx) => {
        try {
          return await ctx.awaitEvent("never", { timeout: 60 })
        } catch (error) {
          if (error instanceof TimeoutError) return error.message
          throw error
        }
      })
      const ship = yield* Ship.spawn({})
      yield* sdkWork
      yield* advance("1 minute")
      yield* sdkWork
      assert.strictEqual(yield* ship.await, `Timed out waiting for event "never"`)
    }))

  it.effect("waits for what an SDK's task emits", () =>
    Effect.gen(function*() {
      const { queue, sdk } = yield* setup
      const Packed = Event.make("packed", { queue, payload: Schema.String })
      const Ship = Task.make("ship", { queue, params: {}, success: Schema.String })
      sdk.registerTask({ name: "pack" }, (_, ctx) => ctx.emitEvent("packed:7", `by ${ctx.headers["by"]}`))
      const ship = yield* Ship.spawn({})
      yield* Interop.weWork(queue).pipe(
        Effect.andThen(Effect.promise(() => sdk.spawn("pack", {}, { headers: { by: "the SDK" } }))),
        Effect.andThen(Effect.promise(() => sdk.workBatch())),
        Effect.andThen(Interop.weWork(queue)),
        Effect.provide(Ship.toLayer(() => Packed.wait("7")))
      )
      assert.strictEqual(yield* ship.await, "by the SDK")
    }))
})
