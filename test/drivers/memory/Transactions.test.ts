import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Stream } from "effect"
import { Driver, type Signal } from "../../../src/core/Driver.ts"
import type { QueueName, TaskId } from "../../../src/core/Identifiers.ts"
import * as MemoryDriver from "../../../src/drivers/memory/MemoryDriver.ts"
import * as Fixture from "../../conformance/Fixture.ts"

const queue: QueueName = Fixture.freshQueue()

const make = Effect.gen(function*() {
  const { driver, store } = yield* MemoryDriver.make
  yield* driver.createQueue({ queue, storage: "unpartitioned" })
  const spawn = Effect.map(driver.spawn({ queue, tasks: [Fixture.item()] }), Fixture.only)
  const tasks = Effect.map(store.dump(queue), (dump) => dump.tasks.map((task) => task.taskId))
  const exists = (taskId: TaskId) => Effect.map(driver.getTask({ queue, taskId }), (row) => row !== undefined)
  return { driver, store, spawn, tasks, exists }
})

/** A transaction that stays open until `goOn`, in a fiber of its own. */
const hold = <A, E>(
  driver: Driver["Service"],
  first: Effect.Effect<A, E>,
  then: Effect.Effect<unknown, string> = Effect.void
) =>
  Effect.gen(function*() {
    const [inside, goOn] = [yield* Deferred.make<A, E>(), yield* Deferred.make<void>()]
    const fiber = yield* first.pipe(
      Deferred.into(inside),
      Effect.andThen(Deferred.await(goOn)),
      Effect.andThen(then),
      driver.withTransaction,
      Effect.forkChild
    )
    return { spawned: yield* Deferred.await(inside), fiber, goOn: Deferred.succeed(goOn, undefined) }
  })

const start = <A, E>(self: Effect.Effect<A, E>) => Effect.forkChild(self, { startImmediately: true })

describe("transactions in memory", () => {
  it.effect("make operations from outside wait, and those go on in their order", () =>
    Effect.gen(function*() {
      const { driver, spawn, tasks } = yield* make
      const transaction = yield* hold(driver, spawn)
      const reading = yield* start(tasks)
      const spawning = yield* start(spawn)
      const again = yield* start(tasks)
      yield* Effect.yieldNow
      assert.isUndefined(reading.pollUnsafe())
      assert.isUndefined(spawning.pollUnsafe())
      yield* transaction.goOn
      assert.deepStrictEqual(yield* Fiber.join(reading), [transaction.spawned.taskId])
      const { taskId } = yield* Fiber.join(spawning)
      assert.deepStrictEqual(yield* Fiber.join(again), [transaction.spawned.taskId, taskId])
    }))

  it.effect("are waited for by other transactions, which can be interrupted while they wait", () =>
    Effect.gen(function*() {
      const { driver, spawn, tasks } = yield* make
      const first = yield* hold(driver, spawn)
      const impatient = yield* start(driver.withTransaction(spawn))
      const patient = yield* start(driver.withTransaction(spawn))
      yield* Fiber.interrupt(impatient)
      assert.isUndefined(patient.pollUnsafe())
      yield* first.goOn
      const { taskId } = yield* Fiber.join(patient)
      assert.deepStrictEqual(yield* tasks, [first.spawned.taskId, taskId])
    }))

  it.effect("can be waited for without being joined: who is interrupted while waiting changes nothing", () =>
    Effect.gen(function*() {
      const { driver, spawn, tasks } = yield* make
      const transaction = yield* hold(driver, spawn)
      const waiting = yield* start(spawn)
      yield* Fiber.interrupt(waiting)
      yield* transaction.goOn
      yield* Fiber.join(transaction.fiber)
      assert.deepStrictEqual(yield* tasks, [transaction.spawned.taskId])
    }))

  it.effect("are joined by the fibers forked inside", () =>
    Effect.gen(function*() {
      const { driver, spawn, tasks } = yield* make
      const exit = yield* Effect.exit(driver.withTransaction(Effect.gen(function*() {
        yield* Effect.all([spawn, spawn, spawn], { concurrency: "unbounded" })
        yield* Fiber.join(yield* start(spawn))
        assert.lengthOf(yield* tasks, 4)
        return yield* Effect.fail("undo")
      })))
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* tasks, [])
    }))

  it.effect("nested in concurrent fibers take turns, and each undoes its own part", () =>
    Effect.gen(function*() {
      const { driver, exists, spawn, tasks } = yield* make
      const kept = yield* driver.withTransaction(Effect.gen(function*() {
        const both = yield* Deferred.make<void>()
        const undone = yield* start(driver.withTransaction(
          Effect.andThen(spawn, Effect.andThen(Deferred.await(both), Effect.fail("undo")))
        ))
        const kept = yield* start(driver.withTransaction(spawn))
        yield* Deferred.succeed(both, undefined)
        yield* Fiber.await(undone)
        return yield* Fiber.join(kept)
      }))
      assert.isTrue(yield* exists(kept.taskId))
      assert.deepStrictEqual(yield* tasks, [kept.taskId])
    }))

  it.effect("of which a fiber is left over end without it: it then works outside", () =>
    Effect.gen(function*() {
      const { driver, spawn, tasks } = yield* make
      const goOn = yield* Deferred.make<void>()
      const late = Effect.andThen(Deferred.await(goOn), Effect.all([driver.inTransaction, spawn]))
      const left = yield* driver.withTransaction(Effect.forkDetach(late))
      const other = yield* hold(driver, spawn, Effect.fail("undo"))
      yield* Deferred.succeed(goOn, undefined)
      yield* other.goOn
      yield* Fiber.await(other.fiber)
      const [inside, { taskId }] = yield* Fiber.join(left)
      assert.isFalse(inside)
      assert.deepStrictEqual(yield* tasks, [taskId])
    }))

  it.effect("of which a nested one is left over end without it: it then undoes nothing of others", () =>
    Effect.gen(function*() {
      const { driver, spawn, tasks } = yield* make
      const goOn = yield* Deferred.make<void>()
      const inside = yield* Deferred.make<void>()
      const nested = driver.withTransaction(
        Deferred.succeed(inside, undefined).pipe(
          Effect.andThen(Deferred.await(goOn)),
          Effect.andThen(Effect.fail("too late"))
        )
      )
      const left = yield* driver.withTransaction(
        Effect.tap(Effect.forkDetach(nested), () => Deferred.await(inside))
      )
      const other = yield* hold(driver, spawn)
      yield* Deferred.succeed(goOn, undefined)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(left)))
      yield* other.goOn
      yield* Fiber.join(other.fiber)
      assert.deepStrictEqual(yield* tasks, [other.spawned.taskId])
      assert.isFalse(yield* driver.inTransaction)
    }))

  it.effect("of two stores have nothing to do with each other", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* make, yield* make]
      const inside = yield* a.driver.withTransaction(Effect.gen(function*() {
        assert.isFalse(yield* b.driver.inTransaction)
        yield* b.spawn
        return yield* b.driver.withTransaction(Effect.andThen(a.spawn, a.driver.inTransaction))
      }))
      assert.isTrue(inside)
      assert.lengthOf(yield* a.tasks, 1)
      assert.lengthOf(yield* b.tasks, 1)
    }))

  it.effect("keep nothing of an operation that failed inside and was caught", () =>
    Effect.gen(function*() {
      const { driver, spawn, tasks } = yield* make
      const idempotencyKey = Fixture.key("k")
      const tried = [Fixture.item({ idempotencyKey }), Fixture.item({ idempotencyKey, params: 1 })]
      const { taskId } = yield* driver.withTransaction(Effect.gen(function*() {
        const error = yield* Effect.flip(driver.spawn({ queue, tasks: tried }))
        assert.strictEqual(error._tag, "IdempotencyConflict")
        return yield* spawn
      }))
      assert.deepStrictEqual(yield* tasks, [taskId])
      assert.isUndefined(yield* driver.findTask({ queue, idempotencyKey }))
    }))

  it.effect("bring back queues that were dropped, with all that is in them", () =>
    Effect.gen(function*() {
      const { driver, spawn, store } = yield* make
      yield* spawn
      const before = Fixture.plain(yield* store.dump(queue))
      yield* Effect.exit(driver.withTransaction(Effect.gen(function*() {
        yield* driver.dropQueue(queue)
        yield* driver.createQueue({ queue, storage: "partitioned" })
        yield* spawn
        return yield* Effect.fail("undo")
      })))
      assert.deepStrictEqual(Fixture.plain(yield* store.dump(queue)), before)
      assert.strictEqual((yield* driver.getQueuePolicy(queue)).storageMode, "unpartitioned")
    }))
})

describe("an operation in memory", () => {
  it.effect("that fails changes nothing", () =>
    Effect.gen(function*() {
      const { driver, store, tasks } = yield* make
      const idempotencyKey = Fixture.key("k")
      const tried = [Fixture.item({ idempotencyKey }), Fixture.item({ idempotencyKey, params: 1 })]
      yield* Effect.flip(driver.spawn({ queue, tasks: tried }))
      assert.deepStrictEqual(yield* tasks, [])
      const q = Fixture.over(driver, { advance: () => Effect.void, now: Effect.die("unused") }, queue)
      const run = yield* q.start()
      yield* q.checkpoint(run, "bad", "no instant")
      const before = Fixture.plain(yield* store.dump(queue))
      const { seconds, Waits } = Fixture
      const waits = [Waits.timer("good", seconds(5)), Waits.timer("bad", seconds(5))]
      const error = yield* Effect.flip(q.suspend(run, waits))
      assert.deepInclude(error, { _tag: "DriverError", operation: "suspend", isRetryable: false })
      assert.deepStrictEqual(Fixture.plain(yield* store.dump(queue)), before)
    }))

  it.effect("that waits for nothing is refused", () =>
    Effect.gen(function*() {
      const { driver } = yield* make
      const held = { runId: Fixture.unknownRun, token: Fixture.freshToken() }
      const error = yield* Effect.flip(driver.suspend({ queue, ...held, waits: [] }))
      assert.strictEqual(error._tag, "DriverError")
    }))
})

describe("signals in memory", () => {
  const listen = Effect.fnUntraced(function*(driver: Driver["Service"]) {
    const received = yield* Queue.unbounded<Signal>()
    const seen: Array<Signal> = []
    yield* Effect.forkScoped(Stream.runForEach(driver.signals, (signal) => Queue.offer(received, signal)), {
      startImmediately: true
    })
    /** All signals up to the end of this task. */
    return Effect.fnUntraced(function*(taskId: TaskId) {
      seen.length = 0
      for (;;) {
        const signal = yield* Queue.take(received)
        seen.push(signal)
        if (signal._tag === "Ended" && signal.taskId === taskId) return [...seen]
      }
    })
  })
  const work: Signal = { _tag: "Work", queue }
  const ended = (taskId: TaskId): Signal => ({ _tag: "Ended", queue, taskId })

  it.effect("tell of work that is due and of ends, once per operation", () =>
    Effect.gen(function*() {
      const { driver } = yield* make
      const until = yield* listen(driver)
      const items = [Fixture.item(), Fixture.item(), Fixture.item({ delay: Fixture.seconds(5) })]
      const [first, , delayed] = yield* driver.spawn({ queue, tasks: items })
      yield* driver.cancelTask({ queue, taskId: first!.taskId })
      assert.deepStrictEqual(yield* until(first!.taskId), [work, ended(first!.taskId)])
      yield* driver.spawn({ queue, tasks: [items[2]!] })
      yield* driver.cancelTask({ queue, taskId: delayed!.taskId })
      assert.deepStrictEqual(yield* until(delayed!.taskId), [ended(delayed!.taskId)])
    }))

  it.effect("come after the commit, and never of what was undone", () =>
    Effect.gen(function*() {
      const { driver, spawn } = yield* make
      const until = yield* listen(driver)
      const { taskId } = yield* spawn
      yield* driver.withTransaction(Effect.gen(function*() {
        yield* spawn
        yield* Effect.exit(
          driver.withTransaction(Effect.andThen(driver.cancelTask({ queue, taskId }), Effect.fail("no")))
        )
        yield* driver.emit({ queue, event: Fixture.event("nobody"), payload: 1 })
      }))
      yield* Effect.exit(driver.withTransaction(Effect.andThen(spawn, Effect.fail("no"))))
      yield* driver.withTransaction(driver.cancelTask({ queue, taskId }))
      assert.deepStrictEqual(yield* until(taskId), [work, work, ended(taskId)])
    }))

  it.effect("are one store's alone, as is all that the layer gives", () =>
    Effect.gen(function*() {
      const [a, b] = [
        yield* Layer.build(Layer.fresh(MemoryDriver.layer)),
        yield* Layer.build(Layer.fresh(MemoryDriver.layer))
      ]
      yield* Context.get(a, Driver).createQueue({ queue, storage: "unpartitioned" })
      assert.deepStrictEqual(yield* Context.get(b, Driver).listQueues, [])
      const missing = yield* Effect.flip(Context.get(b, MemoryDriver.MemoryStore).dump(queue))
      assert.deepInclude(missing, { _tag: "NotFound", kind: "queue", id: queue })
    }))
})
