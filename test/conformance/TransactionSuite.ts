import { assert, layer } from "@effect/vitest"
import { Data, Deferred, Duration, Effect, Exit, Fiber, type Layer, Schema } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

class Undo extends Data.TaggedError("Undo")<{ readonly n: number }> {}

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const exists = (q: Fixture.Fixture, taskId: typeof Fixture.unknownTask) =>
      Effect.map(q.driver.getTask({ queue: q.queue, taskId }), (row) => row !== undefined)

    it.effect("what is done inside commits together, and is seen inside before", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const spawned = yield* q.driver.withTransaction(Effect.gen(function*() {
          const spawned = yield* q.spawn()
          assert.isTrue(yield* exists(q, spawned.taskId))
          yield* q.emit("e", 1)
          yield* q.checkpoint(run, "s", 1)
          assert.strictEqual(yield* q.complete(run, 1), "applied")
          return spawned
        }))
        assert.deepStrictEqual(yield* q.states(spawned.taskId), ["pending", "pending"])
        assert.deepStrictEqual(yield* q.states(run.taskId), ["completed", "completed"])
        assert.isDefined(yield* q.driver.readEvent({ queue: q.queue, event: Fixture.event("e") }))
      }))

    it.effect("a failure undoes everything, and comes out as it was", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const [run, waiter] = [yield* q.start(), yield* q.start()]
        yield* q.suspend(waiter, [Fixture.Waits.event("w", "e")])
        const before = [yield* q.snapshot(run.taskId), yield* q.snapshot(waiter.taskId)]
        const idempotencyKey = Fixture.key("k")
        const error = yield* Effect.flip(q.driver.withTransaction(Effect.gen(function*() {
          yield* q.spawn({ idempotencyKey })
          assert.strictEqual((yield* q.emit("e", 1)).woken, 1)
          yield* q.checkpoint(run, "s", 1, Duration.hours(1))
          assert.strictEqual(yield* q.complete(run, 1), "applied")
          return yield* new Undo({ n: 1 })
        })))
        assert.deepInclude(error, { _tag: "Undo", n: 1 })
        assert.deepStrictEqual([yield* q.snapshot(run.taskId), yield* q.snapshot(waiter.taskId)], before)
        assert.isUndefined(yield* q.driver.findTask({ queue: q.queue, idempotencyKey }))
        assert.isUndefined(yield* q.driver.readEvent({ queue: q.queue, event: Fixture.event("e") }))
        assert.isTrue((yield* q.spawn({ idempotencyKey })).created)
        assert.strictEqual(yield* q.complete(run, 2), "applied")
        assert.deepStrictEqual(yield* q.emit("e", 2), { emitted: true, woken: 1 })
      }))

    it.effect("a defect undoes everything", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const idempotencyKey = Fixture.key("k")
        const exit = yield* Effect.exit(
          q.driver.withTransaction(Effect.andThen(q.spawn({ idempotencyKey }), Effect.die("broken")))
        )
        assert.isTrue(Exit.hasDies(exit))
        assert.isUndefined(yield* q.driver.findTask({ queue: q.queue, idempotencyKey }))
      }))

    it.effect("an interruption undoes everything, and leaves the store usable", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const idempotencyKey = Fixture.key("k")
        const inside = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(q.driver.withTransaction(
          q.spawn({ idempotencyKey }).pipe(
            Effect.andThen(Deferred.succeed(inside, undefined)),
            Effect.andThen(Effect.never)
          )
        ))
        yield* Deferred.await(inside)
        yield* Fiber.interrupt(fiber)
        assert.isUndefined(yield* q.driver.findTask({ queue: q.queue, idempotencyKey }))
        assert.isTrue((yield* q.spawn({ idempotencyKey })).created)
      }))

    it.effect("a nested use that fails and is caught undoes its own part only", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const tasks = yield* q.driver.withTransaction(Effect.gen(function*() {
          const outer = yield* q.spawn()
          const undone = yield* q.driver.withTransaction(
            Effect.flatMap(q.spawn(), ({ taskId }) => Effect.fail(taskId))
          ).pipe(Effect.flip)
          const inner = yield* q.driver.withTransaction(q.spawn())
          const after = yield* q.spawn()
          return { outer: outer.taskId, undone, inner: inner.taskId, after: after.taskId }
        }))
        assert.isString(tasks.undone)
        assert.isTrue(yield* exists(q, tasks.outer))
        assert.isFalse(yield* exists(q, tasks.undone as typeof Fixture.unknownTask))
        assert.isTrue(yield* exists(q, tasks.inner))
        assert.isTrue(yield* exists(q, tasks.after))
        assert.lengthOf(yield* q.claim(), 3)
      }))

    it.effect("a nested use that succeeded is undone with the whole", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        yield* Effect.flip(q.driver.withTransaction(
          Effect.andThen(q.driver.withTransaction(q.spawn()), new Undo({ n: 2 }))
        ))
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect("an operation that fails inside and is caught does not spoil the rest", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const idempotencyKey = Fixture.key("k")
        yield* q.spawn({ idempotencyKey, params: 1 })
        const missing = Fixture.freshQueue()
        const spawned = yield* q.driver.withTransaction(Effect.gen(function*() {
          const first = yield* q.spawn()
          const conflict = yield* Effect.flip(q.driver.withTransaction(q.spawn({ idempotencyKey, params: 2 })))
          assert.propertyVal(conflict, "_tag", "IdempotencyConflict")
          const notFound = yield* Effect.flip(
            q.driver.withTransaction(q.driver.spawn({ queue: missing, tasks: [Fixture.item()] }))
          )
          assert.strictEqual(notFound._tag, "NotFound")
          return [first, yield* q.spawn()]
        }))
        for (const { taskId } of spawned) assert.isTrue(yield* exists(q, taskId))
      }))

    it.effect("a claim inside a transaction that is undone was never made", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.spawn()
        const before = yield* q.snapshot(taskId)
        yield* Effect.flip(q.driver.withTransaction(Effect.andThen(q.claimOne(), new Undo({ n: 3 }))))
        assert.deepStrictEqual(yield* q.snapshot(taskId), before)
        assert.strictEqual((yield* q.claimOne()).attempt, 1)
      }))

    it.effect("a fiber knows whether it is inside", () =>
      Effect.gen(function*() {
        const { driver } = yield* Fixture.make
        assert.isFalse(yield* driver.inTransaction)
        const [outer, nested, after] = yield* driver.withTransaction(
          Effect.all([driver.inTransaction, driver.withTransaction(driver.inTransaction), driver.inTransaction])
        )
        assert.deepStrictEqual([outer, nested, after], [true, true, true])
        assert.isFalse(yield* driver.inTransaction)
        yield* Effect.exit(driver.withTransaction(new Undo({ n: 4 })))
        assert.isFalse(yield* driver.inTransaction)
      }))

    it.effect("nobody outside sees what is not committed", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const [inside, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const idempotencyKey = Fixture.key("k")
        const find = q.driver.findTask({ queue: q.queue, idempotencyKey })
        const transaction = yield* Effect.forkChild(q.driver.withTransaction(
          Effect.gen(function*() {
            yield* q.spawn({ idempotencyKey })
            yield* Deferred.succeed(inside, undefined)
            yield* Deferred.await(goOn)
            return yield* new Undo({ n: 5 })
          })
        ))
        yield* Deferred.await(inside)
        // A store with one connection answers only afterwards.
        const outside = yield* Effect.forkChild(find, { startImmediately: true })
        yield* Deferred.succeed(goOn, undefined)
        yield* Fiber.await(transaction)
        assert.isUndefined(yield* Fiber.join(outside))
        assert.isUndefined(yield* find)
      }))

    it.effect.prop(
      "of any nesting of transactions exactly that remains which was undone by none of them",
      {
        outer: Schema.Boolean,
        parts: Schema.Array(
          Schema.Struct({ keep: Schema.Boolean, nested: Schema.Boolean, tasks: Fixture.between(0, 2) })
        ).check(Schema.isMaxLength(5))
      },
      ({ outer, parts }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const expected: Array<string> = []
          const body = Effect.forEach(parts, ({ keep, nested, tasks }) => {
            const spawn = Effect.gen(function*() {
              for (let i = 0; i < tasks; i++) {
                const { taskId } = yield* q.spawn()
                if (keep || !nested) expected.push(taskId)
              }
              if (nested && !keep) yield* new Undo({ n: 6 })
            })
            return nested ? Effect.exit(q.driver.withTransaction(spawn)) : spawn
          })
          yield* Effect.exit(q.driver.withTransaction(outer ? body : Effect.andThen(body, new Undo({ n: 7 }))))
          const found = (yield* q.claim({ limit: 100 })).map((run) => run.taskId as string)
          assert.deepStrictEqual(found.toSorted(), outer ? expected.toSorted() : [])
        }),
      { arbitrary: { runs: 12 } }
    )
  })
