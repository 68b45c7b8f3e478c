import { assert, layer as tests } from "@effect/vitest"
import { DateTime, Duration, Effect, Layer, Schema } from "effect"
import { Absurd, Cron, Limit, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import { limitHeader } from "../../src/core/LimitStore.ts"
import * as Fixture from "../conformance/Fixture.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const PerTenant = Limit.make("per-tenant", { concurrency: 1 })

const jobOn = (queue: string) =>
  Task.make("job", {
    queue,
    params: { tenant: Schema.String },
    limit: { with: PerTenant, key: ({ tenant }) => tenant },
    idempotencyKey: ({ tenant }) => `${tenant} ${Fixture.fresh()}`
  })

const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime.TestTime, unknown>) =>
  tests(subject, { concurrent: false })(name, (it) => {
    it.effect("every way to spawn a task brings its limit", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = jobOn(queue)
        yield* Job.spawn({ tenant: "a" })
        yield* Job.spawnMany([{ tenant: "a" }, { tenant: "b" }])
        yield* Job.replace({ tenant: "b" }, { idempotencyKey: "k", delay: "1 minute" })
        yield* Job.replace({ tenant: "b" }, { idempotencyKey: "k" })
        yield* Absurd.spawnTask("other", null, { queue, limit: { with: PerTenant, key: "a" } })
        yield* Absurd.spawnTasks([{ name: "other", params: null, limit: { with: PerTenant } }], { queue })
        const { item } = yield* Job.prepare({ tenant: "c" }, { limit: { with: PerTenant, key: "d" } })
        assert.deepStrictEqual(item.headers, {
          [limitHeader]: { name: "per-tenant", key: "d", concurrency: 1, rate: null }
        })
        const runs = yield* Absurd.claimTask({ queue, qty: 10 })
        assert.lengthOf(runs, 3)
        const [status] = yield* Limit.list({ queue })
        assert.deepStrictEqual(status, {
          name: "per-tenant",
          figures: { concurrency: 1, rate: null },
          declared: { concurrency: 1, rate: null },
          isOverridden: false,
          admitted: 3,
          waiting: 3
        })
        assert.deepStrictEqual(yield* Limit.keys(PerTenant, { queue }), [
          { key: "a", admitted: 1, waiting: 2 },
          { key: "b", admitted: 1, waiting: 1 },
          { key: "", admitted: 1, waiting: 0 }
        ])
      }))

    it.effect("a schedule spawns limited tasks", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const Job = jobOn(queue)
        const { advance } = yield* TestTime.TestTime
        const ticks = `ticks of ${queue}`
        yield* Cron.declare(Cron.make(ticks, "* * * * *", Job, { tenant: "a" }))
        yield* advance("1 minute")
        yield* Cron.runDue
        yield* advance("1 minute")
        yield* Cron.runDue
        assert.lengthOf(yield* Absurd.claimTask({ queue, qty: 10 }), 1)
        assert.deepStrictEqual((yield* Limit.keys(PerTenant, { queue }))[0], { key: "a", admitted: 1, waiting: 1 })
        yield* Cron.remove(ticks)
      }))

    it.effect("figures are overridden and reset by limit or name", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const options = { queue }
        const unknown = yield* Effect.flip(Limit.override(PerTenant, { concurrency: 2 }, options))
        assert.deepInclude(unknown, { _tag: "NotFound", kind: "limit", id: "per-tenant" })
        yield* jobOn(queue).spawnMany([{ tenant: "a" }, { tenant: "a" }, { tenant: "a" }])
        yield* Limit.override(
          "per-tenant",
          { concurrency: 2, rate: { limit: 5, window: "1 second", burst: 5 } },
          options
        )
        assert.lengthOf(yield* Absurd.claimTask({ queue, qty: 10 }), 2)
        const [status] = yield* Limit.list(options)
        assert.deepInclude(status, {
          figures: { concurrency: 2, rate: { limit: 5, seconds: 1, burst: 5 } },
          isOverridden: true
        })
        yield* Limit.reset(PerTenant, options)
        assert.deepInclude((yield* Limit.list(options))[0], {
          figures: { concurrency: 1, rate: null },
          isOverridden: false
        })
      }))

    it.effect("what cannot be a limit is refused with its field", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const spawn = (limit: Limit.TaskLimit) => Absurd.spawnTask("job", null, { queue, limit })
        const made = (figures: Limit.Figures) => spawn({ with: Limit.make("l", figures) })
        const rate = { limit: 5, window: "1 minute" } as const
        const refused: ReadonlyArray<readonly [field: string, ReturnType<typeof spawn>]> = [
          ["limit", spawn({ with: {} as Limit.Limit })],
          ["limit.name", spawn({ with: Limit.make(" ", { concurrency: 1 }) })],
          ["limit.name", spawn({ with: Limit.make("n".repeat(129), { concurrency: 1 }) })],
          ["limit.key", spawn({ with: PerTenant, key: "" })],
          ["limit.key", spawn({ with: PerTenant, key: "k".repeat(257) })],
          ["limit.key", spawn({ with: PerTenant, key: "\u0000" })],
          ["limit", made({})],
          ["limit.concurrency", made({ concurrency: 0 })],
          ["limit.concurrency", made({ concurrency: 1.5 })],
          ["limit.concurrency", made({ concurrency: Number.NaN })],
          ["limit.concurrency", made({ concurrency: 1_000_001 })],
          ["limit.rate.limit", made({ rate: { ...rate, limit: 0 } })],
          ["limit.rate.window", made({ rate: { ...rate, window: 0 } })],
          ["limit.rate.window", made({ rate: { ...rate, window: Duration.infinity } })],
          ["limit.rate.burst", made({ rate: { ...rate, burst: 6 } })],
          [`headers.${limitHeader}`, Absurd.spawnTask("job", null, { queue, headers: { [limitHeader]: 1 } })]
        ]
        for (const [field, act] of refused) {
          const error = yield* Effect.flip(act)
          assert.deepInclude(error, { _tag: "InvalidInput", field })
        }
        assert.deepStrictEqual(yield* Limit.list({ queue }), [])
        assert.deepInclude(yield* Effect.flip(Limit.override("l", {}, { queue })), { field: "figures" })
        assert.deepInclude(yield* Effect.flip(Limit.keys("l", { queue, limit: 0 })), { field: "limit" })
        assert.deepInclude(yield* Effect.flip(Limit.list({ queue: Fixture.freshQueue() })), { _tag: "NotFound" })
      }))
  })

suite(
  "limits on PostgreSQL",
  Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(Layer.provide(TestPostgres.layer({ maxConnections: 1 })))
)

suite("limits in memory", Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory))

// --- with a worker

const Visit = Task.make("visit", {
  params: { tenant: Schema.String },
  limit: { with: Limit.make("visits", { concurrency: 1 }), key: ({ tenant }) => tenant }
})
const Call = Task.make("call", {
  params: {},
  limit: { with: Limit.make("calls", { rate: { limit: 2, window: "1 minute" } }) }
})
const Family = Task.make("family", { params: { size: Schema.Int }, success: Schema.Int })

let inside = 0
let most = 0
const calls: Array<number> = []

const VisitLive = Visit.toLayer(() =>
  Effect.gen(function*() {
    yield* Step.run(
      "enter",
      Effect.gen(function*() {
        most = Math.max(most, ++inside)
        yield* Effect.yieldNow
        inside--
      })
    )
    yield* Step.sleep("rest", "1 hour")
  })
)
const CallLive = Call.toLayer(() =>
  Effect.gen(function*() {
    const now = yield* DateTime.now
    calls.push(now.epochMilliseconds)
  })
)
const FamilyLive = Family.toLayer(({ size }) =>
  Effect.gen(function*() {
    const visits = yield* Visit.spawnMany(Array.from({ length: size }, () => ({ tenant: "a" })))
    yield* Effect.forEach(visits, (visit) => Effect.orDie(visit.await), { concurrency: "unbounded" })
    return visits.length
  })
)

tests(
  Layer.mergeAll(VisitLive, CallLive, FamilyLive).pipe(Layer.provideMerge(AbsurdTest.layer)),
  { concurrent: false }
)("limits under a worker", (it) => {
  it.effect("a task that sleeps gives its slot to the others, and children keep to their limit", () =>
    Effect.gen(function*() {
      const family = yield* Family.spawn({ size: 3 })
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.advance("5 hours")
      assert.strictEqual(yield* family.await, 3)
      assert.strictEqual(most, 1)
    }))

  it.effect("calls are spread over the time that their rate gives them", () =>
    Effect.gen(function*() {
      yield* Call.spawnMany(Array.from({ length: 5 }, () => ({})))
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.advance("10 minutes")
      assert.deepStrictEqual(calls.map((at) => (at - calls[0]!) / 1000), [0, 30, 60, 90, 120])
    }))

  it.effect("wherever a process dies, the slot of its run is not lost", () =>
    Effect.gen(function*() {
      const { outcome, points } = yield* AbsurdTest.crashEverywhere(Family, { size: 2 }, {
        after: Effect.gen(function*() {
          for (const { admitted, waiting } of yield* Limit.list()) assert.deepStrictEqual([admitted, waiting], [0, 0])
        })
      })
      assert.deepInclude(outcome, { result: 2 })
      assert.isAbove(points.length, 10)
    }), 60_000)
})
