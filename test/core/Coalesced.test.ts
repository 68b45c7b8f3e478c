import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber } from "effect"
import { Driver, MemoryDriver } from "effect-absurd"
import * as Coalesced from "../../src/core/Coalesced.ts"
import { DriverError, Rejected } from "../../src/core/Errors.ts"
import { IdempotencyKey, QueueName, TaskName } from "../../src/core/Identifiers.ts"

const [a, b] = [QueueName.make("a"), QueueName.make("b")]

const task = (name: string, options?: { readonly key?: string; readonly params?: string }): Driver.SpawnItem => ({
  name: TaskName.make(name),
  params: options?.params ?? null,
  headers: null,
  retryStrategy: null,
  maxAttempts: 1,
  cancellation: null,
  idempotencyKey: options?.key === undefined ? null : IdempotencyKey.make(options.key),
  delay: null
})

const namesOf = ({ queue, tasks }: typeof Driver.Spawn.Type) => `${queue}: ${tasks.map(({ name }) => name).join(" ")}`

/** Single-item forms over a store in memory, whose spawns `before` may hold up or refuse, and a record of them. */
const make = (before: (request: typeof Driver.Spawn.Type) => Effect.Effect<void, DriverError>) =>
  Effect.gen(function*() {
    const loads: Array<string> = []
    const driver = yield* Driver.Driver
    for (const queue of [a, b]) yield* driver.createQueue({ queue, storage: "unpartitioned" })
    const coalesced = yield* Coalesced.make({
      ...driver,
      spawn: (request) => {
        loads.push(namesOf(request))
        return Effect.andThen(before(request), driver.spawn(request))
      }
    })
    const spawnAll = (tasks: ReadonlyArray<readonly [QueueName, Driver.SpawnItem]>) =>
      Effect.forEach(
        tasks,
        ([queue, task]) => Effect.forkChild(Effect.exit(coalesced.spawn(queue, task)), { startImmediately: true })
      )
    return { driver, loads, spawnAll }
  })

describe("Coalesced", () => {
  it.effect("what one queue refuses is not sent again in another", () =>
    Effect.gen(function*() {
      const refused = new DriverError({ operation: "spawn", reason: new Rejected({ cause: "refused" }) })
      const { driver, loads, spawnAll } = yield* make(({ tasks }) =>
        tasks.some(({ name }) => name === "bad") ? Effect.fail(refused) : Effect.void
      )
      const fibers = yield* spawnAll([[a, task("bad")], [b, task("one")], [b, task("two")], [a, task("good")]])
      const [bad, one, two, good] = yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(bad, Exit.fail(refused))
      for (const exit of [one, two, good]) assert.isTrue(Exit.isSuccess(exit!))
      assert.deepStrictEqual(loads.toSorted(), ["a: bad", "a: bad good", "a: good", "b: one two"])
      const claim = { queue: b, token: Driver.Claim.fields.token.make("t"), lease: Duration.minutes(1), limit: 10 }
      assert.lengthOf(yield* driver.claim(claim), 2)
    }).pipe(Effect.provide(MemoryDriver.layer)))

  it.effect("tasks with a key, and other queues, are not waited for", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { loads, spawnAll } = yield* make(({ tasks }) =>
        tasks.some(({ idempotencyKey }) => idempotencyKey === "k") ? Deferred.await(gate) : Effect.void
      )
      const [held, ...others] = yield* spawnAll([[a, task("keyed", { key: "k" })], [a, task("plain")], [
        b,
        task("far")
      ]])
      for (const exit of yield* Effect.forEach(others, Fiber.join)) assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual(loads.toSorted(), ["a: keyed", "a: plain", "b: far"])
      yield* Deferred.succeed(gate, undefined)
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(held!)))
    }).pipe(Effect.provide(MemoryDriver.layer)))

  it.effect("what is large travels in several loads", () =>
    Effect.gen(function*() {
      const { loads, spawnAll } = yield* make(() => Effect.void)
      const params = "x".repeat(3 * 1024 * 1024)
      const fibers = yield* spawnAll(["1", "2", "3", "4"].map((name) => [a, task(name, { params })] as const))
      for (const exit of yield* Effect.forEach(fibers, Fiber.join)) assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual(loads, ["a: 1 2", "a: 3 4"])
    }).pipe(Effect.provide(MemoryDriver.layer)))
})
