/** When a worker asks the store for work, and when it leaves the store alone, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Layer, PubSub, Ref, Scope, Stream } from "effect"
import { Absurd, Driver, Errors, MemoryDriver, Task, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as FaultyStore from "../faults/FaultyStore.ts"

const queue = "orders"
const Job = Task.make("job", { queue, params: {}, maxAttempts: 1 })

type Store = Driver.Driver["Service"]

interface World {
  readonly faults: FaultyStore.Faults
  /** Hints at work, instead of the store's own. */
  readonly hint: (queue: string, times?: number) => Effect.Effect<void>
  /** How many claims there were since it was asked last. */
  readonly claims: Effect.Effect<number>
}

/** A store that gives no hints but those of the test. */
const inStore = <A, E>(
  body: (world: World) => Effect.Effect<A, E, Absurd.Absurd | Scope.Scope>,
  change: (driver: Store) => Store = (driver) => driver
) =>
  Effect.gen(function*() {
    const hints = yield* PubSub.unbounded<Driver.Signal>()
    const faults: FaultyStore.Faults = { decide: () => undefined, log: [] }
    const { driver } = yield* MemoryDriver.make
    const client = Absurd.layerDriver().pipe(Layer.provide(
      Layer.succeed(
        Driver.Driver,
        FaultyStore.wrap(change({ ...driver, signals: Stream.fromPubSub(hints) }), faults)
      )
    ))
    const world: World = {
      faults,
      hint: (queue, times = 1) =>
        PubSub.publishAll(hints, Array.from({ length: times }, () => ({ _tag: "Work" as const, queue }))),
      claims: Effect.sync(() => faults.log.splice(0).filter((name) => name === "claim").length)
    }
    yield* Effect.andThen(Absurd.createQueue(queue), Effect.scoped(body(world))).pipe(Effect.provide(client))
  })

/** Moves the time on in steps that are shorter than any pause. */
const pass = (duration: Duration.Input, step: Duration.Input = "10 millis") =>
  Effect.repeat(TestClock.adjust(step), { times: Duration.toMillis(duration) / Duration.toMillis(step) - 1 })

/** Claims take so long, half of it before they look. */
const slowly = (duration: Duration.Input) => (driver: Store): Store => {
  const half = Effect.sleep(Duration.divideUnsafe(Duration.fromInputUnsafe(duration), 2))
  return { ...driver, claim: (request) => half.pipe(Effect.andThen(driver.claim(request)), Effect.tap(half)) }
}

/** A worker that stops waits for the answer to its claim. */
const passInTheEnd = Effect.addFinalizer(() => Effect.forkDetach(pass("5 seconds")))

const started = Ref.makeUnsafe(0)
const live = Job.toLayer(() => Ref.update(started, (n) => n + 1))

describe("an idle worker", () => {
  for (const [pollInterval, seconds] of [["250 millis", 60], ["2 seconds", 300]] as const) {
    it.effect(
      `asks no more often than every ${pollInterval}, and no less`,
      () =>
        inStore(({ claims }) =>
          Effect.gen(function*() {
            yield* Worker.make({ queue, pollInterval })
            // After a start it asks sooner, and then twice as late each time.
            yield* pass(Duration.times(Duration.fromInputUnsafe(pollInterval), 2))
            assert.isAtMost(yield* claims, 8)
            yield* pass(Duration.seconds(seconds))
            const intervals = seconds * 1000 / Duration.toMillis(pollInterval)
            const asked = yield* claims
            // Its pauses are spread over the last fifth of the interval, so that many workers do not ask at once.
            assert.isAtMost(asked, intervals * 1.25)
            assert.isAtLeast(asked, intervals)
          })
        ),
      60_000
    )
  }

  it.effect("asks each of several queues as often as a single one", () =>
    inStore(({ claims }) =>
      Effect.gen(function*() {
        for (const name of ["a", "b", "c"]) yield* Absurd.createQueue(name)
        yield* Worker.make({ queues: { a: 1, b: 5, c: 10 }, pollInterval: "1 second" })
        yield* pass("2 seconds")
        yield* claims
        yield* pass("60 seconds")
        const asked = yield* claims
        assert.isAtMost(asked, 3 * 75)
        assert.isAtLeast(asked, 3 * 60)
      })
    ))

  it.effect("begins work that no hint tells of within one interval, whenever it comes", () =>
    inStore(() =>
      Effect.gen(function*() {
        yield* Worker.make({ queue, pollInterval: "1 second" })
        for (let n = 0; n < 40; n++) {
          yield* pass(Duration.millis(3000 + n * 70))
          yield* Ref.set(started, 0)
          yield* Job.spawn({})
          yield* pass("1 second")
          assert.strictEqual(yield* Ref.get(started), 1)
        }
      }).pipe(Effect.provide(live))
    ))

  it.effect("begins work within one interval also when the store takes a part of it to answer", () =>
    inStore(() =>
      Effect.gen(function*() {
        yield* Worker.make({ queue, pollInterval: "1 second" })
        yield* passInTheEnd
        for (let n = 0; n < 40; n++) {
          yield* pass(Duration.millis(3000 + n * 70))
          yield* Ref.set(started, 0)
          yield* Job.spawn({})
          yield* pass("1 second")
          assert.strictEqual(yield* Ref.get(started), 1)
        }
      }).pipe(Effect.provide(live)), slowly("200 millis")))

  it.effect("leaves a store that takes long to answer alone for half an interval at least", () =>
    inStore(({ claims }) =>
      Effect.gen(function*() {
        yield* Worker.make({ queue, pollInterval: "1 second" })
        yield* passInTheEnd
        yield* pass("10 seconds")
        yield* claims
        yield* pass("60 seconds")
        const asked = yield* claims
        assert.isAtMost(asked, 60 / (2 + 0.39) + 1)
        assert.isAtLeast(asked, 60 / (2 + 0.5) - 1)
      }), slowly("2 seconds")))

  it.effect("begins work that a hint tells of at once, and does not heed those about other queues", () =>
    inStore(({ claims, hint }) =>
      Effect.gen(function*() {
        yield* Worker.make({ queue, pollInterval: "1 hour" })
        yield* TestClock.adjust("10 hours")
        yield* claims
        yield* hint("another", 100)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* claims, 0)
        yield* Ref.set(started, 0)
        yield* Job.spawn({})
        yield* hint(queue)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* Ref.get(started), 1)
      }).pipe(Effect.provide(live))
    ))
})

describe("a busy worker", () => {
  it.effect("claims without a pause as long as there is more than it has room for", () =>
    inStore(({ claims }) =>
      Effect.gen(function*() {
        yield* Ref.set(started, 0)
        yield* Job.spawnMany(Array.from({ length: 1000 }, () => ({})))
        // The shortest pause would be four minutes long.
        yield* Worker.make({ queue, concurrency: 10, pollInterval: "1 hour" })
        const begin = yield* Clock.currentTimeMillis
        while ((yield* Ref.get(started)) < 1000) {
          yield* TestClock.adjust("1 millis")
          if ((yield* Clock.currentTimeMillis) - begin > 2000) break
        }
        assert.strictEqual(yield* Ref.get(started), 1000)
        // It takes as many at a time as there is room for.
        assert.isAtMost(yield* claims, 110)
      }).pipe(Effect.provide(live))
    ))
})

describe("hints", () => {
  /** Each claim takes a while to bring what there was when it began. */
  const slow = (driver: Store): Store => ({
    ...driver,
    claim: (request) => Effect.tap(driver.claim(request), () => Effect.sleep("100 millis"))
  })

  it.effect("of a burst come to one claim, and to one more when they came while it was on its way", () =>
    inStore(({ claims, hint }) =>
      Effect.gen(function*() {
        yield* Worker.make({ queue, pollInterval: "1 hour" })
        yield* TestClock.adjust("10 hours")
        yield* claims
        yield* hint(queue, 1000)
        yield* TestClock.adjust("10 millis")
        assert.strictEqual(yield* claims, 1)
        for (let n = 0; n < 80; n++) {
          yield* hint(queue, 100)
          yield* TestClock.adjust("1 millis")
        }
        assert.strictEqual(yield* claims, 0)
        yield* pass("1 second")
        assert.strictEqual(yield* claims, 1)
        yield* pass("10 seconds")
        assert.strictEqual(yield* claims, 0)
      }), slow))

  it.effect("that come while a claim is on its way are heeded: it may have looked before there was work", () =>
    inStore(({ claims, hint }) =>
      Effect.gen(function*() {
        yield* Worker.make({ queue, pollInterval: "1 hour" })
        yield* TestClock.adjust("10 hours")
        yield* claims
        yield* Ref.set(started, 0)
        yield* hint(queue)
        yield* TestClock.adjust("50 millis")
        assert.strictEqual(yield* claims, 1)
        yield* Job.spawn({})
        yield* hint(queue)
        yield* pass("200 millis")
        assert.strictEqual(yield* Ref.get(started), 1)
      }).pipe(Effect.provide(live)), slow))
})

describe("a worker whose claims fail", () => {
  const failing: Record<string, Parameters<typeof inStore>[1] | FaultyStore.Fault> = {
    "by not reaching the store": "refused",
    "by answers that are lost": "lost",
    "by no answer at all": "silent",
    "because there is no such queue": (driver) => ({
      ...driver,
      claim: ({ queue }) => Effect.fail(new Errors.NotFound({ kind: "queue", id: queue }))
    }),
    "because the store refuses": (driver) => ({
      ...driver,
      claim: () =>
        Effect.fail(
          new Errors.DriverError({ operation: "claim", reason: new Errors.Rejected({ cause: new Error("no schema") }) })
        )
    })
  }
  for (const [how, fault] of Object.entries(failing)) {
    for (const hinted of [false, true]) {
      it.effect(`${how} goes easy on the store${hinted ? ", whatever hints it gets" : ""}`, () =>
        inStore(
          ({ faults, hint }) =>
            Effect.gen(function*() {
              if (typeof fault === "string") faults.decide = (name) => name === "claim" ? fault : undefined
              const scope = yield* Scope.make()
              yield* Scope.provide(Worker.make({ queue, pollInterval: "100 millis" }), scope)
              yield* pass("5 seconds")
              faults.log.length = 0
              for (let n = 0; n < 600; n++) {
                if (hinted) yield* hint(queue, 10)
                yield* TestClock.adjust("100 millis")
              }
              // In a minute.
              const asked = faults.log.filter((name) => name === "claim").length
              assert.isAtMost(asked, 120)
              assert.isAtLeast(asked, 3)
              // With all that it asks to find out what became of them.
              assert.isAtMost(faults.log.length, 900)
              faults.decide = () => undefined
              // A claim without an answer is waited for a while.
              const stopping = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
              yield* pass("30 seconds", "1 second")
              assert.isDefined(stopping.pollUnsafe())
            }),
          typeof fault === "string" ? undefined : fault
        ))
    }
  }
})
