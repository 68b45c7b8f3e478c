/** Tasks that `absurd-sdk` spawns, worked on by this library. */
import { assert } from "@effect/vitest"
import type { JsonValue } from "absurd-sdk"
import { DateTime, Effect, Fiber, Ref, Schema } from "effect"
import { CurrentRun, Event, Step, Task, Worker } from "effect-absurd"
import * as Interop from "./support/Interop.ts"

const { weWork } = Interop

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {
  override get message(): string {
    return `no ${this.sku} left`
  }
}

const setup = Effect.gen(function*() {
  const shared = yield* Interop.Interop
  const queue = yield* Effect.promise(() => shared.freshQueue())
  const { log, sdk, work } = shared.client(queue)
  const spawn = (name: string, params: unknown, options: Parameters<typeof sdk.spawn>[2] = {}) =>
    Effect.promise(() => sdk.spawn(name, params, { queue, ...options }))
  const result = (taskID: string) => Effect.promise(() => sdk.fetchTaskResult(taskID))
  return { ...shared, queue, sdk, sdkWork: Effect.promise(work), log, spawn, result }
})

Interop.suite("a task spawned by absurd-sdk", (it) => {
  it.effect("is completed by our worker: params and result go through schemas, headers arrive", () =>
    Effect.gen(function*() {
      const { queue, result, rows, sdk, spawn } = yield* setup
      const Order = Task.make("order", {
        queue,
        params: { id: Schema.String, placedAt: Schema.Date },
        success: Schema.Struct({ day: Schema.Int, at: Schema.Date, trace: Schema.Json })
      })
      const live = Order.toLayer(Effect.fn(function*({ placedAt }) {
        const { attempt, headers, task } = yield* CurrentRun
        assert.deepStrictEqual([attempt, task], [1, "order"])
        const day = yield* Step.run("day", Effect.sync(() => placedAt.getUTCDate()))
        yield* Step.run("day", Effect.succeed("again"))
        return { day, at: placedAt, trace: headers["trace"] ?? null }
      }))
      const params = { id: "42", placedAt: "2026-01-31T12:00:00.000Z", unknown: "is ignored" }
      const { runID, taskID } = yield* spawn("order", params, { headers: { trace: { id: [1, null] } } })
      assert.deepStrictEqual(yield* Worker.runOnce({ queue }).pipe(Effect.provide(live)), [{ _tag: "Completed" }])
      assert.deepStrictEqual(yield* Effect.promise(() => sdk.awaitTaskResult(taskID)), {
        state: "completed",
        result: { day: 31, at: "2026-01-31T12:00:00.000Z", trace: { id: [1, null] } }
      })
      assert.deepStrictEqual(yield* result(taskID), yield* Effect.promise(() => sdk.awaitTaskResult(taskID)))
      // The names of checkpoints, and whose they are, are those of the SDK.
      assert.deepStrictEqual(
        yield* Effect.promise(() =>
          rows(`select checkpoint_name, state, status, owner_run_id from absurd."c_${queue}" order by 1`)
        ),
        [["day", 31], ["day#2", "again"]].map(([checkpoint_name, state]) => ({
          checkpoint_name,
          state,
          status: "committed",
          owner_run_id: runID
        }))
      )
    }))

  it.effect("is completed with JSON null when our handler returns nothing", () =>
    Effect.gen(function*() {
      const { queue, result, spawn } = yield* setup
      const Nothing = Task.make("nothing", { queue, params: Schema.Null })
      const { taskID } = yield* spawn("nothing", undefined)
      yield* weWork(queue).pipe(Effect.provide(Nothing.toLayer(() => Effect.void)))
      assert.deepStrictEqual(yield* result(taskID), { state: "completed", result: null })
    }))

  it.effect("sleeps and waits under our worker, and the SDK's event wakes it", () =>
    Effect.gen(function*() {
      const { advance, queue, result, sdk, spawn } = yield* setup
      const Packed = Event.make("packed", { queue, payload: Schema.Struct({ at: Schema.Date }) })
      const Ship = Task.make("ship", { queue, params: {}, success: Schema.Date })
      const live = Ship.toLayer(Effect.fn(function*() {
        yield* Step.sleep("nap", "1 hour")
        yield* Step.sleepUntil("night", DateTime.makeUnsafe("2026-01-01T00:00:00Z"))
        return (yield* Packed.wait("7", { timeout: "1 day" })).at
      }))
      const { taskID } = yield* spawn("ship", {})
      yield* Effect.gen(function*() {
        yield* weWork(queue)
        assert.deepStrictEqual(yield* result(taskID), { state: "sleeping" })
        yield* advance("59 minutes")
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
        yield* advance("1 minute")
        yield* weWork(queue)
        assert.deepStrictEqual(yield* result(taskID), { state: "sleeping" })
        yield* Effect.promise(() => sdk.emitEvent("packed:7", { at: "2026-02-03T04:05:06.000Z" }))
        yield* Effect.promise(() => sdk.emitEvent("packed:7", { at: "too late" }))
        yield* weWork(queue)
      }).pipe(Effect.provide(live))
      assert.deepStrictEqual(yield* result(taskID), { state: "completed", result: "2026-02-03T04:05:06.000Z" })
    }))

  it.effect("fails with a typed error that the SDK can read", () =>
    Effect.gen(function*() {
      const { advance, queue, result, sdk, spawn } = yield* setup
      const Order = Task.make("order", { queue, params: { sku: Schema.String }, error: OutOfStock })
      const live = Order.toLayer(({ sku }) => Effect.fail(new OutOfStock({ sku })))
      const { taskID } = yield* spawn("order", { sku: "cup" }, {
        maxAttempts: 2,
        retryStrategy: { kind: "fixed", baseSeconds: 5 }
      })
      yield* Effect.gen(function*() {
        // The strategy that the SDK stored with the task counts.
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: false }])
        yield* advance("4999 millis")
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
        yield* advance("1 millis")
        assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
      }).pipe(Effect.provide(live))
      const failed = yield* result(taskID)
      assert.strictEqual(failed?.state, "failed")
      const failure = (failed as { readonly failure: Record<string, JsonValue> }).failure
      assert.deepInclude(failure, {
        name: "OutOfStock",
        message: "no cup left",
        error: { _tag: "OutOfStock", sku: "cup" }
      })
      assert.isString(failure["stack"])
      const { attempt } = yield* Effect.promise(() => sdk.retryTask(taskID))
      assert.strictEqual(attempt, 3)
      yield* weWork(queue).pipe(Effect.provide(Order.toLayer(() => Effect.void)))
      assert.deepStrictEqual(yield* result(taskID), { state: "completed", result: null })
    }))

  it.effect("whose params do not fit our schema fails readably", () =>
    Effect.gen(function*() {
      const { queue, result, spawn } = yield* setup
      const Strict = Task.make("strict", { queue, params: { n: Schema.Int } })
      const { taskID } = yield* spawn("strict", { n: "not a number" }, { maxAttempts: 1 })
      yield* weWork(queue).pipe(Effect.provide(Strict.toLayer(() => Effect.void)))
      const failed = yield* result(taskID)
      assert.deepInclude((failed as { readonly failure: JsonValue }).failure, { name: "DecodeError" })
    }))

  it.effect("is stopped in our worker when the SDK cancels it", () =>
    Effect.gen(function*() {
      const { advance, queue, result, sdk, spawn } = yield* setup
      const released = yield* Ref.make<ReadonlyArray<string>>([])
      const reached = yield* Ref.make(false)
      const ids = yield* Ref.make<ReadonlyArray<string>>([])
      const Cancelled = Task.make("cancelled", { queue, params: { at: Schema.String } })
      const live = Cancelled.toLayer(Effect.fn(function*({ at }) {
        const { taskId } = yield* CurrentRun
        yield* Effect.addFinalizer(() => Ref.update(released, (all) => [...all, at]))
        yield* Step.run("before", Effect.void)
        yield* Effect.promise(() => sdk.cancelTask(taskId))
        if (at === "step") yield* Step.run("after", Effect.void)
        if (at === "heartbeat") yield* Step.heartbeat()
        if (at === "sleep") yield* Step.sleep("nap", "1 hour")
        // Nothing but the worker's own heartbeat tells this one.
        if (at === "work") yield* Effect.never
        if (at !== "end") yield* Ref.set(reached, true)
      }))
      const places = ["step", "heartbeat", "sleep", "end", "work"]
      for (const at of places) {
        const { taskID } = yield* spawn("cancelled", { at })
        yield* Ref.update(ids, (all) => [...all, taskID])
      }
      const worker = yield* Worker.runOnce({ queue, lease: "1 minute" }).pipe(Effect.provide(live), Effect.forkChild)
      yield* Ref.get(released).pipe(Effect.repeat({ until: (all) => all.length === 4 }))
      yield* Effect.forEach(yield* Ref.get(ids), (id) => Effect.promise(() => sdk.fetchTaskResult(id))).pipe(
        Effect.repeat({ until: (all) => all.every((one) => one?.state === "cancelled") })
      )
      yield* advance("20 seconds")
      yield* Ref.get(released).pipe(Effect.repeat({ until: (all) => all.length === 5 }))
      assert.deepStrictEqual((yield* Fiber.join(worker)).map((ended) => ended._tag), places.map(() => "Cancelled"))
      assert.isFalse(yield* Ref.get(reached))
      for (const id of yield* Ref.get(ids)) assert.deepStrictEqual(yield* result(id), { state: "cancelled" })
    }))

  it.effect("shares its idempotency key with ours", () =>
    Effect.gen(function*() {
      const { queue, sdk, spawn } = yield* setup
      const Order = Task.make("order", {
        queue,
        params: { id: Schema.String },
        idempotencyKey: ({ id }) => `order-${id}`
      })
      const theirs = yield* spawn("order", { id: "1" }, { idempotencyKey: "order-1" })
      const same = yield* Order.spawn({ id: "1" })
      assert.deepStrictEqual([same.taskId as string, same.runId as string, same.created], [
        theirs.taskID,
        theirs.runID,
        false
      ])
      const ours = yield* Order.spawn({ id: "2" })
      assert.isTrue(ours.created)
      assert.deepStrictEqual(
        yield* Effect.promise(() => sdk.spawn("order", { id: "2" }, { queue, idempotencyKey: "order-2" })),
        { taskID: ours.taskId, runID: ours.runId, attempt: 1, created: false }
      )
      // We tell a key that means something else; the SDK returns what there is.
      const conflict = yield* Effect.flip(Order.spawn({ id: "3" }, { idempotencyKey: "order-1" }))
      assert.deepInclude(conflict, { _tag: "IdempotencyConflict", differs: "params" })
      assert.isFalse((yield* spawn("another", {}, { idempotencyKey: "order-1" })).created)
    }))

  it.effect("that we do not know is put back for the SDK, and the other way round", () =>
    Effect.gen(function*() {
      const { advance, queue, result, rows, sdk, sdkWork, spawn } = yield* setup
      sdk.registerTask({ name: "theirs" }, async () => "theirs")
      const Ours = Task.make("ours", { queue, params: {}, success: Schema.String })
      const theirs = yield* spawn("theirs", {})
      const ours = yield* spawn("ours", {})
      yield* Effect.gen(function*() {
        assert.sameDeepMembers([...(yield* Worker.runOnce({ queue }))], [{ _tag: "Deferred" }, { _tag: "Completed" }])
        assert.deepStrictEqual(yield* result(ours.taskID), { state: "completed", result: "ours" })
        const deferred = yield* spawn("ours", {})
        yield* sdkWork
        assert.deepStrictEqual(yield* result(deferred.taskID), { state: "sleeping" })
        yield* advance("31 seconds")
        yield* sdkWork
        assert.deepStrictEqual(yield* result(theirs.taskID), { state: "completed", result: "theirs" })
        yield* advance("31 seconds")
        yield* weWork(queue)
        assert.deepStrictEqual(yield* result(deferred.taskID), { state: "completed", result: "ours" })
      }).pipe(Effect.provide(Ours.toLayer(() => Effect.succeed("ours"))))
      // It cost no attempt.
      assert.deepStrictEqual(yield* Effect.promise(() => rows(`select distinct attempt from absurd."r_${queue}"`)), [
        { attempt: 1 }
      ])
    }))

  it.effect("by a stored strategy that we would not store is still retried", () =>
    Effect.gen(function*() {
      const { queue, result, rows } = yield* setup
      const Odd = Task.make("odd", { queue, params: {} })
      const [row] = yield* Effect.promise(() =>
        rows(
          "select task_id from absurd.spawn_task($1, 'odd', '{}', $2)",
          queue,
          JSON.stringify({ retry_strategy: { kind: "from the future", base: [] }, max_attempts: 2 })
        )
      )
      const attempts = yield* Ref.make(0)
      const live = Odd.toLayer(() =>
        Effect.flatMap(
          Ref.updateAndGet(attempts, (n) => n + 1),
          (n) => n === 1 ? Effect.die(new Error("once")) : Effect.void
        )
      )
      yield* weWork(queue).pipe(Effect.provide(live))
      assert.deepStrictEqual(yield* result(String(row?.["task_id"])), { state: "completed", result: null })
    }))
})
