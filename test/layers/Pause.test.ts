/** A pause is in the store: no worker has to be told of it, and nothing that is restarted forgets it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, type Scope } from "effect"
import { Absurd, Driver, Installation, MemoryDriver, Task, Worker } from "effect-absurd"
import * as Embedded from "effect-absurd/Embedded"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as TestPostgres from "../support/Postgres.ts"

const queue = "resting"
const Job = Task.make("job", { queue, params: {} })
const live = Job.toLayer(() => Effect.void)

/** A client that is made anew each time, of one store. */
type Client = Layer.Layer<Absurd.Absurd, unknown>

const stores: Record<string, Effect.Effect<Client, unknown, Scope.Scope>> = {
  "memory, by another client": Effect.map(
    MemoryDriver.make,
    ({ driver }) => Absurd.layerDriver().pipe(Layer.provide(Layer.succeed(Driver.Driver, driver)))
  ),
  "PostgreSQL, by another pool": Effect.map(TestPostgres.database, (database) =>
    Absurd.layer.pipe(
      Layer.provide(TestPostgres.layerClient({ maxConnections: 3 })),
      Layer.provide(Layer.succeed(TestPostgres.TestDatabase, database))
    )),
  "the embedded store, opened again": Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "effect-absurd-"))),
      (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
    ),
    (directory) =>
      Absurd.layer.pipe(
        Layer.provide(Installation.layer),
        Layer.provide(Embedded.layer({ directory }))
      )
  )
}

describe("a pause outlives the worker and the client that made it", () => {
  for (const [name, store] of Object.entries(stores)) {
    it.live(name, () =>
      Effect.gen(function*() {
        const client = yield* store
        const restarted = <A, E>(body: Effect.Effect<A, E, Absurd.Absurd | Scope.Scope>) =>
          Effect.scoped(body).pipe(Effect.provide(live), Effect.provide(Layer.fresh(client), { local: true }))
        // Its worker gets through one task before the pause, and to nothing after it.
        yield* restarted(Effect.gen(function*() {
          yield* Absurd.createQueue(queue)
          yield* Worker.make({ queue, pollInterval: "10 millis" })
          yield* (yield* Job.spawn({})).await
          assert.isTrue(yield* Worker.pause(queue))
          yield* Job.spawn({})
        }))
        // Two more workers, of new clients, and one by hand.
        const later = yield* restarted(Effect.gen(function*() {
          yield* Worker.make({ queue, pollInterval: "10 millis" })
          yield* Worker.make({ queue, pollInterval: "10 millis" })
          const task = yield* Job.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [])
          yield* Effect.sleep("100 millis")
          assert.deepInclude(yield* Worker.load(queue), { paused: true, due: 2, running: 0 })
          return task.taskId
        }))
        yield* restarted(Effect.gen(function*() {
          assert.isFalse(yield* Worker.pause(queue))
          assert.isTrue(yield* Worker.resume(queue))
        }))
        yield* restarted(Effect.gen(function*() {
          yield* Worker.make({ queue })
          yield* Absurd.awaitTaskResult(later, { queue })
          assert.deepInclude(yield* Worker.load(queue), { paused: false })
        }))
      }), 60_000)
  }
})
