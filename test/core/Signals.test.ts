import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Queue, Scope, Stream } from "effect"
import { Driver, MemoryDriver } from "effect-absurd"
import { TestClock } from "effect/testing"
import { DriverError, Unavailable } from "../../src/core/Errors.ts"
import * as Outage from "../../src/core/Outage.ts"
import * as Signals from "../../src/core/Signals.ts"

/** Signals of a store whose hints the test gives, and a record of who was told. */
const make = Effect.gen(function*() {
  const told: Array<string> = []
  const hints = yield* Queue.unbounded<Driver.Signal>()
  const cut = yield* Deferred.make<never, DriverError>()
  const driver: Driver.Driver["Service"] = {
    ...(yield* Driver.Driver),
    signals: Stream.merge(Stream.fromQueue(hints), Stream.fromEffect(Deferred.await(cut)))
  }
  const signals = yield* Signals.make(driver, yield* Outage.make(driver))
  // What was given before comes first, so once this has been told, so has all before.
  const heard = yield* Queue.unbounded<void>()
  yield* signals.subscribe((hint) => {
    if (hint._tag === "Work") Queue.offerUnsafe(heard, undefined)
  })
  const give = (...taskIds: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      for (const taskId of taskIds) yield* Queue.offer(hints, { _tag: "Ended", queue: "q", taskId })
      yield* Queue.offer(hints, { _tag: "Work", queue: "q" })
      yield* Queue.take(heard)
      return told.splice(0)
    })
  const unavailable = new DriverError({ operation: "signals", reason: new Unavailable({ cause: "cut" }) })
  const lose = Effect.gen(function*() {
    yield* Deferred.fail(cut, unavailable)
    yield* TestClock.adjust("1 millis")
    return told.splice(0)
  })
  const listen = (who: string, taskId: string) => signals.subscribeEnd(taskId, () => told.push(who))
  return { give, listen, lose }
})

describe("Signals", () => {
  it.effect("the end of a task is told to those who wait for it, and to nobody else", () =>
    Effect.gen(function*() {
      const { give, listen } = yield* make
      yield* listen("one", "1")
      yield* listen("another", "1")
      yield* listen("two", "2")
      assert.deepStrictEqual(yield* give("3"), [])
      assert.deepStrictEqual(yield* give("1"), ["one", "another"])
      assert.deepStrictEqual(yield* give("2", "1"), ["two", "one", "another"])
    }).pipe(Effect.provide(MemoryDriver.layer)))

  it.effect("whoever waits no longer is not told", () =>
    Effect.gen(function*() {
      const { give, listen } = yield* make
      const scope = yield* Scope.make()
      yield* Scope.provide(listen("one", "1"), scope)
      yield* listen("another", "1")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* give("1"), ["another"])
    }).pipe(Effect.provide(MemoryDriver.layer)))

  it.effect("everybody is told when hints may have been missed", () =>
    Effect.gen(function*() {
      const { listen, lose } = yield* make
      yield* listen("one", "1")
      yield* listen("two", "2")
      assert.deepStrictEqual(yield* lose, ["one", "two"])
    }).pipe(Effect.provide(MemoryDriver.layer)))
})
