import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
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

  it.effect("a send that throws fails the bad item alone, and later items are sent", () =>
    Effect.gen(function*() {
      const loads: Array<ReadonlyArray<number>> = []
      const send = yield* Batch.make({
        send: (items: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<string>, NotFound> => {
          loads.push(items)
          if (items.includes(3)) throw new RangeError("Invalid string length")
          return Effect.succeed(items.map((item) => `#${item}`))
        }
      })
      const fibers = yield* sendAll(send, [2, 3, 4])
      const [second, third, fourth] = yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual([second, fourth], [Exit.succeed("#2"), Exit.succeed("#4")])
      assert.isTrue(Exit.isFailure(third!) && Exit.hasDies(third))
      assert.strictEqual(yield* send(5), "#5")
      assert.deepStrictEqual(loads, [[2, 3, 4], [2], [3], [4], [5]])
    }))

  it.effect("a defect of a request is told to all, nothing is sent again, and later items are sent", () =>
    Effect.gen(function*() {
      const loads: Array<ReadonlyArray<number>> = []
      const send = yield* Batch.make({
        send: (items: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<string>, NotFound> => {
          loads.push(items)
          return items.includes(3) ? Effect.die("unreadable") : Effect.succeed(items.map((item) => `#${item}`))
        }
      })
      const fibers = yield* sendAll(send, [2, 3])
      assert.deepStrictEqual(yield* Effect.forEach(fibers, Fiber.join), [
        Exit.die("unreadable"),
        Exit.die("unreadable")
      ])
      assert.strictEqual(yield* send(5), "#5")
      assert.deepStrictEqual(loads, [[2, 3], [5]])
    }))

  it.effect("an answer of the wrong length is a defect of all", () =>
    Effect.gen(function*() {
      const send = yield* Batch.make({
        send: (items: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<string>, NotFound> =>
          Effect.succeed(items.slice(1).map((item) => `#${item}`))
      })
      const fibers = yield* sendAll(send, [1, 2])
      for (const exit of yield* Effect.forEach(fibers, Fiber.join)) assert.isTrue(Exit.hasDies(exit))
    }))

  it.effect("a load is bounded by the length of its items, and one that is longer goes alone", () =>
    Effect.gen(function*() {
      const loads: Array<ReadonlyArray<number>> = []
      const send = yield* Batch.make({
        maxLength: 10,
        lengthOf: (item: number) => item,
        send: (items: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<string>, NotFound> => {
          loads.push(items)
          return Effect.succeed(items.map((item) => `#${item}`))
        }
      })
      yield* Effect.forEach(yield* sendAll(send, [4, 6, 1, 20, 3, 8]), Fiber.join)
      assert.deepStrictEqual(loads, [[4, 6], [1], [20], [3], [8]])
    }))

  it.effect("lines do not wait for each other, and share no load", () =>
    Effect.gen(function*() {
      const loads: Array<ReadonlyArray<number>> = []
      const gate = yield* Deferred.make<void>()
      const send = yield* Batch.make({
        lineOf: (item: number) => item % 2 === 0 ? "even" : "odd",
        send: (items: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<string>, NotFound> => {
          loads.push(items)
          const answers = Effect.succeed(items.map((item) => `#${item}`))
          return items.includes(2) ? Effect.andThen(Deferred.await(gate), answers) : answers
        }
      })
      const [two, one, four] = yield* sendAll(send, [2, 1, 4])
      assert.deepStrictEqual(yield* Fiber.join(one!), Exit.succeed("#1"))
      assert.strictEqual(yield* send(3), "#3")
      assert.deepStrictEqual(loads, [[2, 4], [1], [3]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Effect.forEach([two!, four!], Fiber.join), [Exit.succeed("#2"), Exit.succeed("#4")])
    }))

  it.effect("a load that is held up holds up others for a moment only, up to the number of lanes", () =>
    Effect.gen(function*() {
      const loads: Array<ReadonlyArray<number>> = []
      const gate = yield* Deferred.make<void>()
      const send = yield* Batch.make({
        lanes: 3,
        send: (items: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<string>, NotFound> => {
          loads.push(items)
          const answers = Effect.succeed(items.map((item) => `#${item}`))
          // Items below ten wait for somebody's lock.
          return items.some((item) => item < 10) ? Effect.andThen(Deferred.await(gate), answers) : answers
        }
      })
      const held = yield* sendAll(send, [1])
      yield* Effect.yieldNow
      const other = yield* sendAll(send, [10, 11])
      yield* Effect.yieldNow
      assert.deepStrictEqual(loads, [[1]])
      yield* TestClock.adjust(Batch.patience)
      assert.deepStrictEqual(yield* Effect.forEach(other, Fiber.join), [Exit.succeed("#10"), Exit.succeed("#11")])
      // From now on it is known that the first load is held up.
      assert.strictEqual(yield* send(12), "#12")
      held.push(...(yield* sendAll(send, [2])))
      yield* Effect.yieldNow
      held.push(...(yield* sendAll(send, [3])))
      // It may have come in the middle of a look at the lanes.
      yield* TestClock.adjust(Batch.patience)
      yield* TestClock.adjust(Batch.patience)
      yield* Effect.yieldNow
      assert.deepStrictEqual(loads.slice(3), [[2], [3]])
      const late = yield* sendAll(send, [13])
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(loads.length, 5)
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(
        yield* Effect.forEach([...held, ...late], Fiber.join),
        [1, 2, 3, 13].map((item) => Exit.succeed(`#${item}`))
      )
      // What is quick is one load after the other again.
      yield* Effect.forEach(yield* sendAll(send, [20, 21]), Fiber.join)
      assert.deepStrictEqual(loads.slice(5), [[13], [20, 21]])
    }))

  it.effect("nothing is sent after its scope has closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { send } = yield* Scope.provide(makeGated((item) => Effect.succeed(`#${item}`)), scope)
      yield* Scope.close(scope, Exit.void)
      const [late] = yield* sendAll(send, [1])
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.join(late!)))
    }))
})
