import { assert, describe, it, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Logger, Schedule } from "effect"
import { Absurd, Errors, Maintenance, MemoryDriver } from "effect-absurd"
import { SqlClient } from "effect/sql"
import { Driver } from "../../src/core/Driver.ts"
import * as Fixture from "../conformance/Fixture.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

/** A queue with so many ended tasks and as many events. */
const filled = Effect.fnUntraced(function*(count: number) {
  const queue: string = Fixture.freshQueue()
  yield* Absurd.createQueue(queue)
  for (let index = 0; index < count; index++) {
    const { taskId } = yield* Absurd.spawnTask("job", null, { queue })
    yield* Absurd.cancelTask(taskId, { queue })
    yield* Absurd.emitEvent(`event${index}`, null, { queue })
  }
  return queue
})

const endedRun = Effect.gen(function*() {
  const id = yield* Absurd.createWorkflowRun("nightly", "1")
  yield* Absurd.updateWorkflowRunStatus(id, "completed")
  return id
})

const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime.TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a round deletes all that is too old, in batches, by the policy of each queue", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime.TestTime
        const [a, b] = [yield* filled(5), yield* filled(3)]
        const run = yield* endedRun
        yield* Absurd.setQueuePolicy(a, { cleanupTtl: Duration.days(1), cleanupLimit: 2 })
        yield* Absurd.setQueuePolicy(b, { cleanupTtl: Duration.days(10) })
        const nothing = { tasks: 0, events: 0, workflowRuns: 0, detached: [] }
        assert.deepStrictEqual(yield* Maintenance.runOnce(), nothing)
        yield* advance("2 days")
        assert.deepStrictEqual(yield* Maintenance.runOnce(), { ...nothing, tasks: 5, events: 5 })
        assert.deepStrictEqual(yield* Maintenance.runOnce(), nothing)
        yield* advance("9 days")
        assert.deepStrictEqual(yield* Maintenance.runOnce(), { ...nothing, tasks: 3, events: 3 })
        assert.strictEqual((yield* Absurd.getWorkflowRun(run)).status, "completed")
        assert.deepStrictEqual(yield* Maintenance.runOnce({ workflowRunTtl: "1 day" }), { ...nothing, workflowRuns: 1 })
      }))

    it.effect("a time to live that is none is refused before anything runs", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(Maintenance.layer({ workflowRunTtl: Duration.infinity })))
        )
        assert.deepInclude(error, { _tag: "InvalidInput", field: "workflowRunTtl" })
      }))
  })

suite("Maintenance in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))

suite(
  "Maintenance on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)

suite(
  "Maintenance on the embedded store",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(EmbeddedStore.layer))
)

layer(Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))("Maintenance as a layer", (it) => {
  it.effect("does a round at once and then as scheduled, until its scope closes", () =>
    Effect.gen(function*() {
      const { advance } = yield* TestTime.TestTime
      const queue = yield* filled(1)
      yield* Absurd.setQueuePolicy(queue, { cleanupTtl: Duration.minutes(90) })
      const isThere = Effect.map(Absurd.readEvent("event0", { queue }), (event) => event._tag === "Some")
      yield* Effect.gen(function*() {
        yield* Layer.build(Maintenance.layer({ schedule: Schedule.spaced("1 hour") }))
        yield* advance("1 hour")
        assert.isTrue(yield* isThere)
        yield* advance("1 hour")
        assert.isFalse(yield* isThere)
      }).pipe(Effect.scoped)
      yield* Absurd.emitEvent("event0", null, { queue })
      yield* advance("1 day")
      assert.isTrue(yield* isThere)
    }))
})

/** A store in memory with operations of its own in front. */
const layerWithDriver = (change: (driver: Driver["Service"]) => Partial<Driver["Service"]>) =>
  Absurd.layerDriver().pipe(
    Layer.provide(Layer.effect(Driver, Effect.map(Driver, (driver) => Driver.of({ ...driver, ...change(driver) })))),
    Layer.provide(MemoryDriver.layer)
  )

const unavailable = new Errors.DriverError({
  operation: "test",
  reason: new Errors.Unavailable({ cause: new Error("as planned") })
})

describe("Maintenance of a queue of which something fails", () => {
  const failing = (operation: "ensurePartitions" | "cleanupAll" | "listDetachCandidates" | "detachPartition") =>
    it.effect(`does the rest of it and of the others when ${operation} fails`, () =>
      Effect.gen(function*() {
        const [done, warnings]: [Array<string>, Array<unknown>] = [[], []]
        const note = <A>(operation: string, queue: unknown, value: A) =>
          Effect.suspend(() => {
            done.push(`${operation} ${queue}`)
            return operation.startsWith(failed) && queue === "broken" ? Effect.fail(unavailable) : Effect.succeed(value)
          })
        const failed: string = operation
        const partition = (queue: unknown, name: string) => ({ queue: String(queue), parent: "p", partition: name })
        const subject = layerWithDriver(() => ({
          listQueues: Effect.succeed(["broken", "whole"]),
          ensurePartitions: (queue) => note("ensurePartitions", queue, undefined),
          cleanupAll: (queue) => note("cleanupAll", queue, []),
          listDetachCandidates: (queue) =>
            note("listDetachCandidates", queue, [partition(queue, "one"), partition(queue, "two")]),
          detachPartition: ({ queue, partition }) => note(`detachPartition ${partition}`, queue, true)
        }))
        const { detached } = yield* Maintenance.runOnce().pipe(
          Effect.provide(subject),
          Effect.provide(Logger.layer([Logger.make(({ message }) => warnings.push(message))]))
        )
        const parts = [
          "ensurePartitions",
          "cleanupAll",
          "listDetachCandidates",
          ...(operation === "listDetachCandidates" ? [] : ["detachPartition one", "detachPartition two"])
        ]
        const all = [
          "ensurePartitions",
          "cleanupAll",
          "listDetachCandidates",
          "detachPartition one",
          "detachPartition two"
        ]
        assert.deepStrictEqual(done, [
          ...parts.map((part) => `${part} broken`),
          ...all.map((part) => `${part} whole`)
        ])
        assert.lengthOf(detached.filter(({ queue }) => queue === "whole"), 2)
        assert.lengthOf(warnings, operation === "detachPartition" ? 2 : 1)
        assert.include(String(warnings), `"broken"`)
      }))

  failing("ensurePartitions")
  failing("cleanupAll")
  failing("listDetachCandidates")
  failing("detachPartition")

  it.effect("ends, and lets the others have their turn, where things end as fast as they are deleted", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      let left = 250
      const subject = layerWithDriver(() => ({
        listQueues: Effect.succeed(["busy", "large", "small"]),
        cleanupAll: (queue) =>
          Effect.sync(() => {
            order.push(String(queue))
            const tasks = queue === "busy" ? 1 : queue === "large" ? Number(left-- > 0) : 0
            return [{ queue: String(queue), tasks, events: 0 }]
          })
      }))
      const { tasks } = yield* Maintenance.runOnce().pipe(Effect.provide(subject))
      assert.strictEqual(tasks, 10_000 + 250)
      assert.strictEqual(order.indexOf("large"), 100)
      assert.strictEqual(order.indexOf("small"), 200)
      assert.strictEqual(order.filter((queue) => queue === "large").length, 251)
      assert.isBelow(order.lastIndexOf("large"), 601)
    }))
})

describe("Maintenance of several processes", () => {
  layer(TestPostgres.layer({ maxConnections: 4 }), { excludeTestServices: true })((it) => {
    it.effect("of which one at a time does the work", () =>
      Effect.gen(function*() {
        const queue = yield* filled(2)
        yield* Absurd.setQueuePolicy(queue, { cleanupTtl: Duration.zero })
        const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        // Somebody else, on a connection of its own, is at it.
        const other = yield* Absurd.Absurd.use(({ driver }) =>
          driver.exclusively(Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end)))
        ).pipe(Effect.provide(Layer.fresh(Absurd.layer), { local: true }), Effect.forkChild)
        yield* Deferred.await(begun)
        assert.strictEqual((yield* Maintenance.runOnce()).tasks, 0)
        yield* Deferred.succeed(end, undefined)
        yield* Fiber.join(other)
        assert.strictEqual((yield* Maintenance.runOnce()).tasks, 2)
      }).pipe(Effect.provide(Absurd.layer)))
  })

  const frozen = Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(
    Layer.provideMerge(TestPostgres.layer({ maxConnections: 1 }))
  )
  layer(frozen)((it) => {
    it.effect("provides partitions, and removes those that the policy gives up unless they are in use", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { advance } = yield* TestTime.TestTime
        const queue: string = Fixture.freshQueue()
        yield* Absurd.createQueue(queue, { storage: "partitioned" })
        yield* Absurd.setQueuePolicy(queue, { detachMode: "empty", detachMinAge: Duration.days(7) })
        const partitions = Effect.map(
          sql<{ readonly name: string }>`
            SELECT relname AS name FROM pg_class WHERE relname ~ ${`^t_${queue}_[0-9]{3}$`} AND relkind = 'r' ORDER BY 1`,
          (rows) => rows.map((row) => row.name.slice(-3))
        )
        assert.deepStrictEqual(yield* partitions, ["601", "602", "603", "604", "605", "606"])
        yield* advance(Duration.days(28))
        const held = yield* TestPostgres.TestDatabase.use(TestPostgres.session)
        yield* Effect.promise(() => held.query(`begin; select from absurd.t_${queue}`))
        assert.deepStrictEqual((yield* Maintenance.runOnce()).detached.filter((_) => _.parent === `t_${queue}`), [])
        yield* Effect.promise(() => held.query("commit"))
        const { detached } = yield* Maintenance.runOnce()
        assert.includeDeepMembers([...detached], [{ queue, parent: `t_${queue}`, partition: `t_${queue}_601` }])
        assert.deepStrictEqual(yield* partitions, ["604", "605", "606", "607", "608", "609", "610"])
        assert.deepStrictEqual(yield* Absurd.listDetachCandidates(queue), [])
      }))
  })
})
