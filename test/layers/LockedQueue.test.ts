/** What a worker does for its other queues while somebody has all of one locked, as for altering its tables. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Schema, Scope } from "effect"
import { Absurd, Driver, MemoryDriver, Step, Task, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as TestPostgres from "../support/Postgres.ts"

const subject = Absurd.layer.pipe(Layer.provideMerge(TestPostgres.layer()))

const [locked, free] = ["locked", "free"] as const

const start = (options: Worker.Options) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(Worker.make(options), scope)
    return Scope.close(scope, Exit.void)
  })

const tables = ["t", "r", "c", "e", "w"].map((kind) => `absurd.${kind}_${locked}`).join(", ")

layer(subject, { excludeTestServices: true })("while all of a queue is locked", (it) => {
  it.effect("a worker goes on with the others: claims, leases, checkpoints, ends", () =>
    Effect.gen(function*() {
      for (const queue of [locked, free]) yield* Absurd.createQueue(queue)
      const database = yield* TestPostgres.TestDatabase
      const [admin, observer] = [yield* TestPostgres.session(database), yield* TestPostgres.session(database)]
      const run = (text: string) => Effect.promise(() => admin.query(text))
      const quick = [locked, free].map((queue) => Task.make("quick", { queue, params: {}, success: Schema.Int }))
      const Held = Task.make("held", { queue: locked, params: {} })
      const Slow = Task.make("slow", { queue: free, params: {}, success: Schema.Int })
      const [heldGate, slowGate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const entered = yield* Deferred.make<void>()
      let holding = 0
      const live = Layer.mergeAll(
        quick[0]!.toLayer(() => Step.run("step", Effect.succeed(1))),
        quick[1]!.toLayer(() => Step.run("step", Effect.succeed(1))),
        // Each needs a connection for itself when it goes to sleep.
        Held.toLayer(() =>
          Effect.suspend(() => {
            if (++holding === 12) Deferred.doneUnsafe(entered, Effect.void)
            return Effect.andThen(Deferred.await(heldGate), Step.sleep("nap", "1 millis"))
          })
        ),
        Slow.toLayer(() => Step.run("wait", Effect.as(Deferred.await(slowGate), 2)))
      )
      yield* Effect.gen(function*() {
        const stop = yield* start({ queues: { [locked]: 1, [free]: 1 }, concurrency: 14, lease: "1 second" })
        const held = yield* Held.spawnMany(Array.from({ length: 12 }, () => ({})))
        const slow = yield* Slow.spawn({})
        yield* Deferred.await(entered)
        const behind = yield* quick[0]!.spawnMany(Array.from({ length: 20 }, () => ({})))
        yield* run("begin")
        yield* run(`lock table ${tables} in access exclusive mode`)
        yield* Deferred.succeed(heldGate, undefined)
        const leases = new Set<unknown>()
        while (leases.size < 8) {
          const task = yield* quick[1]!.spawn({})
          assert.strictEqual(yield* task.await, 1)
          const { rows: [row] } = yield* Effect.promise(() =>
            observer.query(
              `select claim_expires_at::text as until, claim_expires_at > clock_timestamp() as holds
               from absurd.r_${free} where task_id = $1`,
              [slow.taskId]
            )
          )
          assert.isTrue(row.holds)
          leases.add(row.until)
        }
        yield* Deferred.succeed(slowGate, undefined)
        assert.strictEqual(yield* slow.await, 2)
        assert.strictEqual((yield* Absurd.getTaskStatus(slow.taskId, { queue: free })).attempts, 1)
        yield* run("commit")
        for (const task of behind) assert.strictEqual(yield* task.await, 1)
        for (const task of held) yield* task.await
        yield* stop
      }).pipe(Effect.provide(live))
    }), 60_000)

  it.effect("those who wait for it leave connections to others", () =>
    Effect.gen(function*() {
      const [locked, free] = ["locked-reads", "free-reads"] as const
      for (const queue of [locked, free]) yield* Absurd.createQueue(queue)
      const admin = yield* TestPostgres.session(yield* TestPostgres.TestDatabase)
      const run = (text: string) => Effect.promise(() => admin.query(text))
      const spawned = yield* Absurd.spawnTask("job", null, { queue: locked })
      yield* run("begin")
      yield* run(`lock table absurd."t_${locked}" in access exclusive mode`)
      const waiting = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => Effect.forkChild(Absurd.getTaskStatus(spawned.taskId, { queue: locked }), { startImmediately: true })
      )
      const { taskId } = yield* Absurd.spawnTask("job", null, { queue: free })
      assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue: free })).state, "pending")
      yield* run("commit")
      for (const { state } of yield* Effect.forEach(waiting, Fiber.join)) assert.strictEqual(state, "pending")
    }), 10_000)

  it.effect("its only place goes to the others, too", () =>
    Effect.gen(function*() {
      const [locked, free] = ["locked-one", "free-one"] as const
      for (const queue of [locked, free]) yield* Absurd.createQueue(queue)
      const admin = yield* TestPostgres.session(yield* TestPostgres.TestDatabase)
      const run = (text: string) => Effect.promise(() => admin.query(text))
      const quick = [locked, free].map((queue) => Task.make("quick", { queue, params: {}, success: Schema.Int }))
      const live = Layer.merge(
        quick[0]!.toLayer(() => Effect.succeed(1)),
        quick[1]!.toLayer(() => Effect.succeed(2))
      )
      yield* Effect.gen(function*() {
        yield* run("begin")
        yield* run(`lock table absurd."r_${locked}" in access exclusive mode`)
        const stop = yield* start({ queues: { [locked]: 1, [free]: 1 }, concurrency: 1 })
        for (let n = 0; n < 20; n++) {
          const task = yield* quick[1]!.spawn({})
          assert.strictEqual(yield* task.await, 2)
        }
        yield* run("commit")
        assert.strictEqual(yield* Effect.flatMap(quick[0]!.spawn({}), (task) => task.await), 1)
        yield* stop
      }).pipe(Effect.provide(live))
    }), 60_000)
})

describe("a queue that does not answer", () => {
  it.effect("holds a worker up for a moment only, and has its places lent", () => {
    const asked = { silent: 0 }
    const store = Layer.effect(
      Driver.Driver,
      Effect.map(Driver.Driver, (driver): Driver.Driver["Service"] => ({
        ...driver,
        claim: (request) =>
          request.queue === "silent"
            ? Effect.suspend(() => {
              asked.silent++
              return Effect.never
            })
            : driver.claim(request)
      }))
    ).pipe(Layer.provide(MemoryDriver.layer))
    const Quick = Task.make("quick", { queue: "b", params: {}, success: Schema.Int })
    const live = Layer.provideMerge(Quick.toLayer(() => Effect.succeed(1)), Layer.provide(Absurd.layerDriver(), store))
    return Effect.gen(function*() {
      for (const queue of ["silent", "b"]) yield* Absurd.createQueue(queue)
      const stop = yield* start({ queues: { silent: 1000, b: 1 }, concurrency: 1 })
      const tasks = yield* Quick.spawnMany(Array.from({ length: 100 }, () => ({})))
      for (let n = 0; n < 20; n++) yield* TestClock.adjust("50 millis")
      for (const { taskId } of tasks) {
        assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue: "b" })).state, "completed")
      }
      assert.strictEqual(asked.silent, 1)
      const stopping = yield* Effect.forkChild(stop)
      for (let n = 0; n < 20; n++) yield* TestClock.adjust("1 second")
      assert.isDefined(stopping.pollUnsafe())
    }).pipe(Effect.scoped, Effect.provide(live))
  })
})
