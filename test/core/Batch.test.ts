import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import * as Batch from "../../src/core/Batch.ts"
import { DriverError, NotFound, OutcomeUnknown } from "../../src/core/Errors.ts"

/** A batch whose loads wait at a gate, and a record of the loads. */
const makeGated = (answer: (item: number) => Effect.Effect<string, NotFound | DriverError>) =>
  Effect.gen(function*() {
    const loads: Array<ReadonlyArray<number>> = []
    const gate = yield* Deferred.make<void>()
    const send = yield* Batch.make({
      maxSize: 3,
      send: (items: ReadonlyArray<number>) => {
        loads.push(items)
        return Effect.andThen(Deferred.await(gate), Effect.forEach(items, answer))
      }
    })
    return { loads, send, open: Deferred.succeed(gate, undefined) }
  })

const sendAll = (send: (item: number) => Effect.Effect<string, NotFound | DriverError>, items: ReadonlyArray<number>) =>
  Effect.forEach(items, (item) => Effect.forkChild(Effect.exit(send(item)), { startImmediately: true }))

const notFound = new NotFound({ kind: "task", id: "3" })
const unknown = new DriverError({ operation: "send", reason: new OutcomeUnknown({ cause: "cut" }) })

describe("Batch", () => {
  it.effect("sends what comes in one turn together, and what gathers meanwhile in the next loads", () =>
    Effect.gen(function*() {
      const { loads, open, send } = yield* makeGated((item) => Effect.succeed(`#${item}`))
      const first = yield* sendAll(send, [1, 2])
      assert.deepStrictEqual(loads, [])
      yield* Effect.yieldNow
      assert.deepStrictEqual(loads, [[1, 2]])
      const next = yield* sendAll(send, [3, 4, 5, 6])
      yield* Effect.yieldNow
      assert.deepStrictEqual(loads, [[1, 2]])
      yield* open
      const answers = yield* Effect.forEach([...first, ...next], Fiber.join)
      assert.deepStrictEqual(answers, ["#1", "#2", "#3", "#4", "#5", "#6"].map((answer) => Exit.succeed(answer)))
      assert.deepStrictEqual(loads, [[1, 2], [3, 4, 5], [6]])
    }))

  it.effect("one bad item fails alone", () =>
    Effect.gen(function*() {
      const { loads, open, send } = yield* makeGated((item) =>
        item === 3 ? Effect.fail(notFound) : Effect.succeed(`#${item}`)
      )
      const fibers = yield* sendAll(send, [2, 3, 4])
      yield* open
      assert.deepStrictEqual(yield* Effect.forEach(fibers, Fiber.join), [
        Exit.succeed("#2"),
        Exit.fail(notFound),
        Exit.succeed("#4")
      ])
      assert.deepStrictEqual(loads, [[2, 3, 4], [2], [3], [4]])
    }))

  it.effect("an unknown outcome is told to all, and nothing is sent again", () =>
    Effect.gen(function*() {
      const { loads, open, send } = yield* makeGated((item) =>
        item === 2 ? Effect.fail(unknown) : Effect.succeed(`#${item}`)
      )
      const fibers = yield* sendAll(send, [1, 2, 3])
      yield* open
      const answers = yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(answers, [Exit.fail(unknown), Exit.fail(unknown), Exit.fail(unknown)])
      assert.deepStrictEqual(loads, [[1, 2, 3]])
    }))

  it.effect("an interrupted caller takes back what was not sent yet", () =>
    Effect.gen(function*() {
      const { loads, open, send } = yield* makeGated((item) => Effect.succeed(`#${item}`))
      const [first, second, third] = yield* sendAll(send, [1, 2, 3])
      yield* Fiber.interrupt(second!)
      yield* open
      assert.deepStrictEqual(yield* Fiber.join(first!), Exit.succeed("#1"))
      assert.deepStrictEqual(yield* Fiber.join(third!), Exit.succeed("#3"))
      assert.deepStrictEqual(loads, [[1, 3]])
    }))

  it.effect("nobody waits for a batch whose scope has closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { send } = yield* Scope.provide(makeGated((item) => Effect.succeed(`#${item}`)), scope)
      const fibers = yield* sendAll(send, [1, 2])
      yield* Scope.close(scope, Exit.void)
      for (const exit of yield* Effect.forEach(fibers, Fiber.join)) assert.isTrue(Exit.hasInterrupts(exit))
    }))
})
