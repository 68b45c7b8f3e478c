/** Whole days of workers and of everything that disturbs them, in virtual time. After every request the store is sound. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Random, Schema, Scope } from "effect"
import {
  Absurd,
  Driver,
  Event,
  Identifiers,
  Invariants,
  MemoryDriver,
  RetryStrategy,
  Step,
  Task,
  Worker
} from "effect-absurd"
import { TestClock } from "effect/testing"
import * as FaultyStore from "../faults/FaultyStore.ts"
import * as CheckedMemory from "../support/CheckedMemory.ts"
import * as TestTime from "../support/TestTime.ts"

const queue = "orders"
const minutesPerDay = 24 * 60

const Go = Event.make("go", { queue, payload: Schema.Int })

/** Mostly sound work: a task that has all that can be waited for, and now and then fails. */
const Work = Task.make("work", {
  queue,
  params: { n: Schema.Int },
  success: Schema.Int,
  maxAttempts: 4,
  retry: RetryStrategy.exponential({ base: "10 seconds", factor: 3 }),
  cancellation: { maxDuration: "6 hours" }
})
const Part = Task.make("part", { queue, params: { n: Schema.Int }, success: Schema.Int, maxAttempts: 3 })

const WorkLive = Work.toLayer(Effect.fn(function*({ n }) {
  const first = yield* Step.run("first", Effect.as(Effect.sleep(`${n % 90} seconds`), n))
  if (n % 3 === 0) yield* Step.sleep("nap", `${1 + n % 200} minutes`)
  if (n % 4 === 0) yield* Go.wait(String(n % 7), { timeout: `${1 + n % 120} minutes` }).pipe(Effect.exit)
  if (n % 5 === 0) {
    const part = yield* Part.spawn({ n })
    yield* Effect.exit(part.await)
  }
  if (n % 11 === 0) yield* Effect.die("no")
  return yield* Step.run("last", Effect.succeed(first + 1))
}))
const PartLive = Part.toLayer(({ n }) => n % 2 === 0 ? Effect.die("no") : Effect.as(Effect.sleep("20 seconds"), n))

interface Day {
  readonly violations: ReadonlyArray<Invariants.Violation>
  /** How often each disturbance came. */
  readonly acts: ReadonlyMap<string, number>
  readonly states: ReadonlyArray<Identifiers.State>
}

const day = (seed: number): Effect.Effect<Day, unknown> =>
  Effect.gen(function*() {
    const random = yield* Random.withSeed(Random.Random, seed)
    const happens = (probability: number) => random.nextDoubleUnsafe() < probability
    const below = (limit: number) => Math.floor(random.nextDoubleUnsafe() * limit)
    const violations: Array<Invariants.Violation> = []
    const acts = new Map<string, number>()
    const memory = yield* MemoryDriver.make
    const checked = CheckedMemory.checked(memory.driver, memory.store, (found) =>
      Effect.sync(() =>
        violations.push(...found)
      ))
    const calm = { is: false }
    const faults: FaultyStore.Faults = {
      decide: () => calm.is || !happens(0.02) ? undefined : happens(0.5) ? "refused" : "lost",
      log: []
    }
    const client = Layer.succeed(Driver.Driver, FaultyStore.wrap(checked, faults))
    const live = Layer.mergeAll(WorkLive, PartLive).pipe(
      Layer.provideMerge(Absurd.layerDriver()),
      Layer.provide(client)
    )
    const tasks: Array<Identifiers.TaskId> = []
    const known = Identifiers.QueueName.make(queue)

    const act = <R>(name: string, chance: number, effect: Effect.Effect<unknown, unknown, R>) =>
      Effect.suspend((): Effect.Effect<void, never, R> => {
        if (!happens(chance)) return Effect.void
        acts.set(name, (acts.get(name) ?? 0) + 1)
        return Effect.ignore(effect)
      })

    /** A worker that lives until the returned effect is run. */
    const start = Effect.gen(function*() {
      const scope = yield* Scope.fork(yield* Effect.scope)
      const options: Worker.Options = {
        queue,
        concurrency: 4,
        lease: "30 seconds",
        shutdownGrace: "5 seconds",
        pollInterval: "20 seconds"
      }
      yield* Scope.provide(Worker.make(options), scope)
      return Scope.close(scope, Exit.void)
    })

    return yield* Effect.gen(function*() {
      yield* checked.createQueue({ queue: known, storage: "unpartitioned" })
      const workers = [yield* start, yield* start]
      const token = () => Identifiers.ClaimToken.make(`dead-${below(2 ** 30)}`)
      for (let minute = 0; minute < minutesPerDay; minute++) {
        yield* act(
          "spawn",
          0.25,
          Effect.tap(Work.spawn({ n: below(1000) }), ({ taskId }) => Effect.sync(() => tasks.push(taskId)))
        )
        yield* act("emit", 0.05, Go.emit(String(below(7)), minute))
        yield* act(
          "cancel",
          0.04,
          Effect.suspend(() =>
            tasks.length === 0
              ? Effect.void
              : checked.cancelTask({ queue: known, taskId: tasks[Math.max(0, tasks.length - 1 - below(20))]! })
          )
        )
        yield* act("pause", 0.02, checked.setPaused({ queue: known, paused: true }))
        yield* act("resume", 0.1, checked.setPaused({ queue: known, paused: false }))
        // A process that dies with what it has claimed.
        yield* act(
          "claim that is lost",
          0.05,
          Effect.suspend(() => checked.claim({ queue: known, token: token(), lease: Duration.seconds(20), limit: 2 }))
        )
        yield* act(
          "shutdown",
          0.02,
          Effect.gen(function*() {
            const [oldest] = workers.splice(0, 1)
            const stopping = yield* Effect.forkChild(oldest ?? Effect.void)
            yield* TestClock.adjust("10 seconds")
            yield* Fiber.join(stopping)
            workers.push(yield* start)
          })
        )
        // What is kept is looked at after every request.
        const old = { queue: known, ttl: Duration.minutes(30), limit: 50 }
        yield* act("cleanup", 0.2, Effect.andThen(checked.cleanupTasks(old), checked.cleanupEvents(old)))
        for (let part = 0; part < 6; part++) yield* TestClock.adjust("10 seconds")
      }
      // Nothing disturbs them any more, so everything ends.
      calm.is = true
      yield* checked.setPaused({ queue: known, paused: false })
      for (let part = 0; part < 8 * 60; part++) yield* TestClock.adjust("1 minute")
      const { tasks: rows } = yield* memory.store.dump(known)
      return { violations, acts, states: rows.map(({ state }) => state) }
    }).pipe(Effect.scoped, Effect.provide(live))
  })

// Where changes are judged it is always the same day.
const seed = process.env["CI"] === undefined ? Math.floor(Math.random() * 2 ** 31) : 1

it.effect(
  `24 hours of cancels, pauses, lost claims and answers, and shutdowns leave the store sound (seed ${seed})`,
  () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(TestTime.start.epochMilliseconds)
      const { acts, states, violations } = yield* day(seed)
      assert.strictEqual(Invariants.format(violations), "")
      for (const name of ["cancel", "pause", "resume", "claim that is lost", "shutdown"]) {
        assert.isAtLeast(acts.get(name) ?? 0, 5, name)
      }
      // Nothing is left over once nothing disturbs them.
      assert.deepStrictEqual(states.filter((state) => !Identifiers.isTerminal(state)), [])
      assert.include(states, "completed")
    }),
  300_000
)
