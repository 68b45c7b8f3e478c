/** `Absurd.withTransaction` on any store. */
import { assert, layer } from "@effect/vitest"
import { Data, Deferred, Effect, Exit, Fiber, type Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as Fixture from "./Fixture.ts"

class Undo extends Data.TaggedError("Undo")<{ readonly n: number }> {}

const make = Effect.gen(function*() {
  const queue: string = Fixture.freshQueue()
  yield* Absurd.createQueue(queue)
  const spawn = (name: string) => Absurd.spawnTask(name, null, { queue })
  /** The names of all tasks that exist. */
  const names = Effect.map(
    Absurd.claimTask({ queue, qty: 100 }),
    (runs) => runs.map((run) => run.name).toSorted()
  )
  return { queue, spawn, names }
})

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("what is done inside commits together", () =>
      Effect.gen(function*() {
        const { names, queue, spawn } = yield* make
        const emitted = yield* Absurd.withTransaction(
          Effect.andThen(spawn("a"), Absurd.emitEvent("e", 1, { queue }))
        )
        assert.isTrue(emitted)
        assert.deepStrictEqual(yield* names, ["a"])
        assert.isFalse(yield* Absurd.emitEvent("e", 2, { queue }))
      }))

    it.effect("a failure undoes all of it, and comes out as it was", () =>
      Effect.gen(function*() {
        const { names, queue, spawn } = yield* make
        const undone = spawn("a").pipe(
          Effect.andThen(Absurd.emitEvent("e", 1, { queue })),
          Effect.andThen(new Undo({ n: 1 })),
          Absurd.withTransaction
        )
        assert.deepInclude(yield* Effect.flip(undone), { _tag: "Undo", n: 1 })
        assert.deepStrictEqual(yield* names, [])
        assert.isTrue(yield* Absurd.emitEvent("e", 2, { queue }))
      }))

    it.effect("a nested one that fails and is caught is undone alone", () =>
      Effect.gen(function*() {
        const { names, spawn } = yield* make
        yield* Absurd.withTransaction(Effect.gen(function*() {
          yield* spawn("a")
          yield* Effect.exit(Absurd.withTransaction(Effect.andThen(spawn("b"), new Undo({ n: 2 }))))
          yield* Effect.exit(Absurd.withTransaction(Effect.andThen(spawn("c"), Effect.die("broken"))))
          yield* Absurd.withTransaction(spawn("d"))
        }))
        assert.deepStrictEqual(yield* names, ["a", "d"])
      }))

    it.effect("a nested one that succeeded is undone with the whole", () =>
      Effect.gen(function*() {
        const { names, spawn } = yield* make
        yield* Effect.exit(
          Absurd.withTransaction(Effect.andThen(Absurd.withTransaction(spawn("a")), new Undo({ n: 3 })))
        )
        assert.deepStrictEqual(yield* names, [])
      }))

    it.effect("a nested one that is interrupted is undone, and the outer one commits", () =>
      Effect.gen(function*() {
        const { names, spawn } = yield* make
        yield* Absurd.withTransaction(Effect.gen(function*() {
          yield* spawn("before")
          const inside = yield* Deferred.make<void>()
          const nested = yield* Effect.forkChild(Absurd.withTransaction(
            spawn("interrupted").pipe(
              Effect.andThen(Absurd.withTransaction(spawn("interrupted with it"))),
              Effect.andThen(Deferred.succeed(inside, undefined)),
              Effect.andThen(Effect.never)
            )
          ))
          yield* Deferred.await(inside)
          yield* Fiber.interrupt(nested)
          assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(nested)))
          yield* spawn("after")
        }))
        assert.deepStrictEqual(yield* names, ["after", "before"])
      }))
  })
