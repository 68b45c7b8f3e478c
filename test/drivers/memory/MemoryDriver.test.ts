import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import type { Claimed, Driver } from "../../../src/core/Driver.ts"
import { isTerminal } from "../../../src/core/Identifiers.ts"
import * as RetryStrategy from "../../../src/core/RetryStrategy.ts"
import * as Finishing from "../../../src/drivers/memory/Finishing.ts"
import * as MemoryDriver from "../../../src/drivers/memory/MemoryDriver.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as TestTime from "../../support/TestTime.ts"

const queue = Fixture.freshQueue()
const { seconds, Waits } = Fixture

const make = Effect.gen(function*() {
  const { driver, store } = yield* MemoryDriver.make
  yield* driver.createQueue({ queue, storage: "unpartitioned" })
  const time = yield* TestTime.TestTime
  return { driver, q: Fixture.over(driver, time, queue), dump: store.dump(queue) }
}).pipe(Effect.provide(TestTime.layerMemory))

describe("values in memory", () => {
  it.effect("are shared neither with who gave them nor with who reads them", () =>
    Effect.gen(function*() {
      const { driver, dump, q } = yield* make
      const given = { list: [1, { a: 1 }] }
      const headers = { h: { a: [1] } }
      const { taskId } = yield* q.spawn({ params: given, headers })
      const run = yield* q.claimOne()
      yield* q.checkpoint(run, "s", given)
      yield* q.emit("e", given)
      yield* q.suspend(run, [Waits.event("w", "e")])
      yield* q.complete(run, given)
      const stored = Fixture.plain(yield* dump)
      given.list.push(2)
      headers.h.a.push(2)
      const seen: ReadonlyArray<unknown> = [
        run.params,
        run.headers,
        yield* dump,
        yield* driver.getTask({ queue, taskId }),
        yield* driver.listRuns({ queue, taskId }),
        yield* q.checkpoints(taskId),
        yield* driver.readEvent({ queue, event: Fixture.event("e") }),
        yield* q.result(taskId)
      ]
      for (const value of seen) ruin(value)
      assert.deepStrictEqual(Fixture.plain(yield* dump), stored)
    }))

  it.effect("are in the order of jsonb, and so conflict with an idempotency key only when they differ", () =>
    Effect.gen(function*() {
      const { q } = yield* make
      const idempotencyKey = Fixture.key("k")
      const { taskId } = yield* q.spawn({ idempotencyKey, params: { bb: -0, a: { d: 1, c: 2 } } })
      assert.strictEqual(JSON.stringify((yield* q.getTask(taskId)).params), `{"a":{"c":2,"d":1},"bb":0}`)
      assert.isFalse((yield* q.spawn({ idempotencyKey, params: { a: { c: 2, d: 1 }, bb: 0 } })).created)
    }))
})

/** Changes everything that can be changed in a value. */
const ruin = (value: unknown): void => {
  if (typeof value !== "object" || value === null) return
  Object.values(value).forEach(ruin)
  if (Array.isArray(value)) value.push("ruined")
  else if (Object.getPrototypeOf(value) === Object.prototype) Object.assign(value, { ruined: true })
}

describe("claiming in memory", () => {
  it.effect("leaves the runs of excepted tasks alone, and where they are in the order", () =>
    Effect.gen(function*() {
      const { driver, q } = yield* make
      const names = ["a", "b", "a", "c", "b"].map(Fixture.task)
      const spawned = yield* driver.spawn({ queue, tasks: names.map((name) => Fixture.item({ name })) })
      const claim = (limit: number, except: ReadonlyArray<string>) =>
        Effect.map(
          driver.claim({ queue, token: Fixture.freshToken(), lease: seconds(30), limit, except }),
          (runs) => runs.map((run) => spawned.findIndex(({ runId }) => runId === run.runId))
        )
      assert.deepStrictEqual(yield* claim(5, ["a", "b", "c"]), [])
      assert.deepStrictEqual(yield* claim(2, ["a", "c"]), [1, 4])
      assert.deepStrictEqual(yield* claim(1, ["unknown"]), [0])
      assert.deepStrictEqual((yield* q.claim()).length, 2)
    }))
})

describe("time in memory", () => {
  it.effect("is the clock of the calling fiber, for every operation anew", () =>
    Effect.gen(function*() {
      const { driver, q } = yield* make
      const { runId } = yield* q.spawn()
      yield* TestClock.adjust("1 hour")
      const { availableAt, startedAt } = yield* Effect.andThen(q.claimOne(), q.getRun(runId))
      assert.deepStrictEqual(Fixture.plain(startedAt), Fixture.plain(yield* q.time.now))
      assert.deepStrictEqual(Fixture.plain(availableAt), Fixture.plain(startedAt))
      const inside = yield* driver.withTransaction(Effect.gen(function*() {
        const first = yield* q.spawn()
        yield* TestClock.adjust("1 minute")
        const second = yield* q.spawn()
        return [yield* q.getRun(first.runId), yield* q.getRun(second.runId)]
      }))
      const [first, second] = inside.map((run) => run.createdAt.epochMilliseconds)
      assert.strictEqual(second! - first!, 60_000)
    }))

  it.effect("has microseconds, which are not seen outside", () =>
    Effect.gen(function*() {
      const { q } = yield* make
      const run = yield* q.start()
      yield* q.suspend(run, [Waits.timer("t", Duration.micros(1_500n))])
      const [checkpoint] = yield* q.checkpoints(run.taskId)
      assert.strictEqual(checkpoint?.state, "2026-01-05T00:00:00.001500Z")
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* q.claim(), [])
      yield* TestClock.adjust("1 millis")
      yield* q.claimOne()
    }))
})

describe("a stored retry strategy", () => {
  const strategy = Schema.Union([
    Schema.Struct({ kind: Schema.Literal("none") }),
    Schema.Struct({ kind: Schema.Literal("fixed"), base_seconds: Fixture.between(0, 1000) }),
    Schema.Struct({
      kind: Schema.Literal("exponential"),
      base_seconds: Fixture.between(0, 1000),
      factor: Fixture.between(0, 10),
      max_seconds: Fixture.between(0, 100_000)
    })
  ])

  it.effect.prop(
    "of this library means what RetryStrategy says",
    { strategy, attempt: Fixture.between(1, 400) },
    ({ attempt, strategy }) =>
      Effect.sync(() => {
        const expected = RetryStrategy.delayAfter(strategy, attempt)
        assert.strictEqual(Duration.toMillis(Finishing.retryDelay(strategy, attempt)), Duration.toMillis(expected))
      })
  )

  it.each<readonly [Schema.Json, number, number]>([
    [null, 1, 0],
    ["fixed", 1, 0],
    [["fixed"], 1, 0],
    [{}, 1, 0],
    [{ kind: "surprise" }, 1, 0],
    [{ kind: "fixed" }, 3, 60],
    [{ kind: "fixed", base_seconds: "7.5" }, 3, 7.5],
    [{ kind: "fixed", base_seconds: "soon" }, 3, 60],
    [{ kind: "fixed", base_seconds: { a: 1 } }, 3, 60],
    [{ kind: "fixed", base_seconds: -5 }, 3, 0],
    [{ kind: "fixed", base_seconds: 1e300 }, 3, 315_360_000],
    [{ kind: "exponential" }, 1, 30],
    [{ kind: "exponential" }, 4, 240],
    [{ kind: "exponential", base_seconds: 1, factor: "3", max_seconds: null }, 3, 9],
    [{ kind: "exponential", base_seconds: 1, max_seconds: 5 }, 9, 5],
    [{ kind: "exponential", base_seconds: 0, factor: 1e300 }, 2000, 0],
    [{ kind: "exponential", base_seconds: 1e300, factor: 1e300 }, 2000, 315_360_000]
  ])("of another language is taken leniently: %j after attempt %d", (stored, attempt, expected) => {
    assert.strictEqual(Duration.toSeconds(Finishing.retryDelay(stored, attempt)), expected)
  })
})

const place = Fixture.between(0, 5)
const Action = Schema.Union([
  Schema.TaggedStruct("Spawn", { key: place, delay: place, limit: place }),
  Schema.TaggedStruct("Claim", { limit: Fixture.between(1, 5) }),
  Schema.TaggedStruct("Complete", { run: place }),
  Schema.TaggedStruct("Fail", { run: place, delay: place }),
  Schema.TaggedStruct("Checkpoint", { run: place, step: place }),
  Schema.TaggedStruct("Release", { run: place, delay: place }),
  Schema.TaggedStruct("Suspend", { run: place, event: place, timeout: place }),
  Schema.TaggedStruct("Emit", { event: place }),
  Schema.TaggedStruct("Cancel", { run: place }),
  Schema.TaggedStruct("Retry", { run: place, spawnNew: Schema.Boolean }),
  Schema.TaggedStruct("Clean", { ttl: place }),
  Schema.TaggedStruct("Pass", { seconds: place })
])
const Actions = Schema.Array(Action).check(Schema.isMinLength(10), Schema.isMaxLength(40))

/** Does actions on the store; `runs` are those that were claimed so far. */
const act = (driver: Driver["Service"], runs: Array<Claimed>) => (action: typeof Action.Type) => {
  const q = Fixture.over(driver, { advance: TestClock.adjust, now: Effect.die("unused") }, queue)
  const on = <A, E>(index: number, f: (run: Claimed) => Effect.Effect<A, E>) => {
    const run = runs.at(-1 - index % Math.max(1, runs.length))
    return run === undefined ? Effect.void : Effect.asVoid(f(run))
  }
  switch (action._tag) {
    case "Spawn":
      return q.spawn({
        idempotencyKey: action.key === 0 ? null : Fixture.key(`k${action.key}`),
        delay: action.delay === 0 ? null : seconds(action.delay),
        cancellation: action.limit === 0 ? null : { max_delay: action.limit, max_duration: 2 * action.limit },
        maxAttempts: 3
      })
    case "Claim":
      return Effect.map(q.claim({ limit: action.limit, lease: seconds(3) }), (claimed) => runs.push(...claimed))
    case "Complete":
      return on(action.run, (run) => q.complete(run, 1))
    case "Fail":
      return on(action.run, (run) => q.fail(run, Fixture.Retries.after(seconds(action.delay))))
    case "Checkpoint":
      return on(action.run, (run) => q.checkpoint(run, `s${action.step}`, action.step, seconds(action.step)))
    case "Release":
      return on(action.run, (run) => q.release(run, seconds(action.delay)))
    case "Suspend": {
      const { event, timeout } = action
      const waits = [Waits.event(`w${event}`, `e${event}`, timeout === 0 ? null : seconds(timeout))]
      return on(action.run, (run) => q.suspend(run, timeout > 3 ? [...waits, Waits.timer("t", seconds(9))] : waits))
    }
    case "Emit":
      return q.emit(`e${action.event}`, action.event)
    case "Cancel":
      // It may have been cleaned up.
      return on(
        action.run,
        ({ taskId }) => Effect.catchTag(driver.cancelTask({ queue, taskId }), "NotFound", () => Effect.void)
      )
    case "Retry":
      return on(
        action.run,
        ({ taskId }) => Effect.ignore(driver.retryTask({ queue, taskId, maxAttempts: null, spawnNew: action.spawnNew }))
      )
    case "Clean": {
      const request = { queue, ttl: seconds(action.ttl), limit: 2 }
      return Effect.andThen(driver.cleanupTasks(request), driver.cleanupEvents(request))
    }
    case "Pass":
      return TestClock.adjust(seconds(action.seconds))
  }
}

/** Everything in the store as text, with ids by their rank, since undone work uses up ids. */
const picture = (dump: MemoryDriver.Dump): string => {
  const ids = [...dump.tasks.map(({ taskId }) => taskId), ...dump.runs.map(({ runId }) => runId)].sort()
  const ranks = new Map<string, number>(ids.map((id, rank) => [id, rank]))
  return JSON.stringify(dump).replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, (id) => `#${ranks.get(id)}`)
    .replaceAll(/token-\d+/g, "token")
}

describe("any sequence of operations in memory", () => {
  it.effect.prop(
    "leaves no trace when it is undone, in the indexes neither",
    { before: Actions, undone: Actions, after: Actions },
    ({ after, before, undone }) =>
      Effect.gen(function*() {
        const [a, b] = [yield* make, yield* make]
        const passing = (action: typeof Action.Type) => action._tag === "Pass" ? Effect.void : undefined
        const [runsA, runsB]: [Array<Claimed>, Array<Claimed>] = [[], []]
        // Both stores share one clock, which only the first one moves.
        const both = (action: typeof Action.Type) =>
          Effect.andThen(act(a.driver, runsA)(action), passing(action) ?? act(b.driver, runsB)(action))
        yield* Effect.forEach(before, both)
        const snapshot = picture(yield* a.dump)
        assert.strictEqual(snapshot, picture(yield* b.dump))
        const timeless = undone.filter((action) => action._tag !== "Pass")
        yield* Effect.flip(a.driver.withTransaction(
          Effect.andThen(Effect.forEach(timeless, act(a.driver, [...runsA])), Effect.fail("undo"))
        ))
        assert.strictEqual(picture(yield* a.dump), snapshot)
        for (const action of [...after, { _tag: "Pass", seconds: 5 } as const, { _tag: "Claim", limit: 5 } as const]) {
          yield* both(action)
          assert.strictEqual(picture(yield* a.dump), picture(yield* b.dump))
        }
      }),
    { arbitrary: { runs: 100 } }
  )

  it.effect.prop("keeps the invariants", { actions: Actions }, ({ actions }) =>
    Effect.gen(function*() {
      const { driver, dump } = yield* make
      const runs: Array<Claimed> = []
      for (const action of actions) {
        yield* act(driver, runs)(action)
        check(yield* dump)
      }
    }), { arbitrary: { runs: 100 } })
})

const check = (dump: MemoryDriver.Dump) => {
  for (const task of dump.tasks) {
    const runs = dump.runs.filter((run) => run.taskId === task.taskId).toSorted((a, b) => a.attempt - b.attempt)
    assert.deepStrictEqual(runs.map((run) => run.attempt), runs.map((_, index) => index + 1))
    const newest = runs.at(-1)
    assert.strictEqual(newest?.runId, task.lastAttemptRun)
    assert.strictEqual(task.attempts, runs.length)
    const live = runs.filter((run) => !isTerminal(run.state))
    assert.deepStrictEqual(
      live.map((run) => [run.runId, run.state]),
      isTerminal(task.state) ? [] : [[
        newest?.runId,
        task.state
      ]]
    )
    assert.strictEqual(task.cancelledAt !== null, task.state === "cancelled")
    assert.strictEqual(task.firstStartedAt !== null, runs.some((run) => run.startedAt !== null))
  }
  for (const run of dump.runs) {
    assert.isTrue(dump.tasks.some((task) => task.taskId === run.taskId))
    if (run.state === "running") assert.isNotNull(run.claimExpiresAt)
    if (run.state === "pending" || run.state === "sleeping") assert.isNull(run.claimedBy)
  }
  for (const wait of dump.waits) {
    assert.strictEqual(dump.runs.find((run) => run.runId === wait.runId)?.state, "sleeping")
    assert.isFalse(dump.events.some((event) => event.name === wait.event))
  }
  for (const { taskId } of dump.checkpoints) assert.isTrue(dump.tasks.some((task) => task.taskId === taskId))
}
