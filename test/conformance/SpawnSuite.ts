import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import { Driver, type SpawnItem } from "../../src/core/Driver.ts"
import * as RetryStrategy from "../../src/core/RetryStrategy.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const uuidV7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a spawned task is stored with all that was given, and pending", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const now = yield* q.time.now
        const given = {
          name: Fixture.task("order-fulfilment"),
          params: { amount: 3, list: [1, null, "x"] },
          headers: { trace: "abc", nested: { none: null } },
          retryStrategy: RetryStrategy.exponential({ base: "5 seconds", max: "1 minute" }),
          maxAttempts: 4,
          cancellation: { max_delay: 60, max_duration: 600 },
          idempotencyKey: Fixture.key("order-1")
        }
        const spawned = yield* q.spawn(given)
        assert.match(spawned.taskId, uuidV7)
        assert.match(spawned.runId, uuidV7)
        assert.deepInclude(spawned, { attempt: 1, created: true })
        assert.deepStrictEqual(
          Fixture.plain(yield* q.getTask(spawned.taskId)),
          Fixture.plain({
            taskId: spawned.taskId,
            ...given,
            enqueueAt: now,
            firstStartedAt: null,
            state: "pending",
            attempts: 1,
            lastAttemptRun: spawned.runId,
            completedPayload: null,
            cancelledAt: null
          })
        )
        assert.deepStrictEqual(
          Fixture.plain(yield* q.getRun(spawned.runId)),
          Fixture.plain({
            runId: spawned.runId,
            taskId: spawned.taskId,
            attempt: 1,
            state: "pending",
            claimedBy: null,
            claimExpiresAt: null,
            availableAt: now,
            wakeEvent: null,
            eventPayload: null,
            startedAt: null,
            completedAt: null,
            failedAt: null,
            result: null,
            failureReason: null,
            createdAt: now
          })
        )
      }))

    it.effect("what was not given is stored as absent", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.spawn()
        assert.deepInclude(yield* q.getTask(taskId), {
          params: null,
          headers: null,
          retryStrategy: null,
          maxAttempts: null,
          cancellation: null,
          idempotencyKey: null
        })
      }))

    it.effect("no tasks are no work", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        assert.deepStrictEqual(yield* q.driver.spawn({ queue: q.queue, tasks: [] }), [])
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect("many tasks are answered in their order", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const names = Array.from({ length: 40 }, (_, i) => Fixture.task(`t${i}`))
        const spawned = yield* q.driver.spawn({ queue: q.queue, tasks: names.map((name) => Fixture.item({ name })) })
        const stored = yield* Effect.forEach(spawned, ({ taskId }) => q.getTask(taskId))
        assert.deepStrictEqual(stored.map((row) => row.name), names)
        assert.strictEqual(new Set(spawned.flatMap(({ runId, taskId }) => [runId, taskId])).size, 80)
        const claimed = yield* q.claim({ limit: 40 })
        assert.deepStrictEqual(claimed.map((run) => run.runId), spawned.map(({ runId }) => runId).toSorted())
      }))

    it.effect.each(
      [
        ["params", { params: { n: 9 } }],
        ["name", { name: Fixture.task("other") }],
        ["header", { headers: { trace: "abc", nested: { list: [1, 3] } } }],
        ["header less", { headers: { trace: "abc" } }],
        ["headers at all", { headers: null }],
        ["retry strategy", { retryStrategy: RetryStrategy.exponential({ base: "5 seconds", max: "2 minutes" }) }],
        ["kind of strategy", { retryStrategy: RetryStrategy.none }],
        ["number of attempts", { maxAttempts: 5 }],
        ["cancellation", { cancellation: { max_delay: 60 } }],
        ["delay", { delay: Duration.seconds(30) }],
        ["kind of delay", { delay: DateTime.makeUnsafe("2100-01-01T00:00:00Z") }],
        ["delay at all", { delay: null }],
        ["key", { idempotencyKey: Fixture.key("k") }]
      ] as ReadonlyArray<readonly [string, Partial<SpawnItem>]>
    )(
      "tasks are stored as they are, all of which are alike but one with another %s",
      ([, changed]) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          // Nothing of them is the same object.
          const common = (params: Schema.Json) =>
            Fixture.item({
              name: Fixture.task("alike"),
              params,
              headers: { trace: "abc", nested: { list: [1, 2] } },
              retryStrategy: RetryStrategy.exponential({ base: "5 seconds", max: "1 minute" }),
              maxAttempts: 4,
              cancellation: { max_delay: 60, max_duration: 600 },
              delay: Duration.seconds(90)
            })
          const alike = [null, [1, [2]], { n: 1 }, "text", false].map(common)
          for (const tasks of [alike, [...alike, { ...common(5), ...changed }, common(6)]]) {
            const now = yield* q.time.now
            const spawned = yield* q.driver.spawn({ queue: q.queue, tasks })
            assert.lengthOf(spawned, tasks.length)
            for (const [place, { delay, ...given }] of tasks.entries()) {
              const due = delay === null ? now : DateTime.isDateTime(delay) ? delay : DateTime.addDuration(now, delay)
              const state = delay === null ? "pending" : "sleeping"
              const answer = spawned[place]!
              assert.deepInclude(answer, { attempt: 1, created: true })
              const [task, run] = [yield* q.getTask(answer.taskId), yield* q.getRun(answer.runId)]
              const wanted = { ...given, enqueueAt: due, state, attempts: 1, lastAttemptRun: answer.runId }
              assert.deepStrictEqual(Fixture.plain(task), Fixture.plain({ ...task, ...wanted }))
              const wantedRun = { taskId: answer.taskId, attempt: 1, state, availableAt: due, createdAt: now }
              assert.deepStrictEqual(Fixture.plain(run), Fixture.plain({ ...run, ...wantedRun }))
            }
          }
        })
    )

    it.effect.each(
      [
        ["a duration", () => Duration.seconds(90)],
        ["an instant", (now: DateTime.Utc) => DateTime.addDuration(now, Duration.seconds(90))]
      ] as const
    )("a task delayed by %s sleeps until then", ([, until]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const now = yield* q.time.now
        const { runId, taskId } = yield* q.spawn({ delay: until(now) })
        assert.deepStrictEqual(yield* q.states(taskId), ["sleeping", "sleeping"])
        assert.deepStrictEqual(
          Fixture.plain((yield* q.getRun(runId)).availableAt),
          Fixture.plain(DateTime.addDuration(now, Duration.seconds(90)))
        )
        yield* q.time.advance(Duration.millis(89_999))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(Duration.millis(1))
        assert.strictEqual((yield* q.claimOne()).runId, runId)
      }))

    it.effect.each(
      [
        ["of nothing", () => Duration.zero],
        ["into the past", (now: DateTime.Utc) => DateTime.subtractDuration(now, Duration.days(1))]
      ] as const
    )("a delay %s is none", ([, until]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { runId, taskId } = yield* q.spawn({ delay: until(yield* q.time.now) })
        assert.deepStrictEqual(yield* q.states(taskId), ["pending", "pending"])
        assert.strictEqual((yield* q.claimOne()).runId, runId)
      }))

    it.effect("a taken idempotency key leads to the task that has it, in whatever state", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const idempotencyKey = Fixture.key("k")
        const again = q.spawn({ idempotencyKey })
        const first = yield* again
        const found = { ...first, created: false }
        assert.deepStrictEqual(yield* again, found)
        assert.strictEqual(yield* q.driver.findTask({ queue: q.queue, idempotencyKey }), first.taskId)
        const run = yield* q.claimOne()
        assert.deepStrictEqual(yield* again, found)
        yield* q.fail(run)
        const second = yield* again
        assert.deepInclude(second, { taskId: first.taskId, attempt: 2, created: false })
        assert.notStrictEqual(second.runId, first.runId)
        yield* q.complete(yield* q.claimOne())
        assert.deepStrictEqual(yield* again, second)
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect("of tasks with one key in one request, the first is spawned and the others find it", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const [k, other] = [Fixture.key("k"), Fixture.key("other")]
        const tasks = [k, null, k, other, k].map((idempotencyKey) => Fixture.item({ idempotencyKey }))
        const spawned = yield* q.driver.spawn({ queue: q.queue, tasks })
        assert.deepStrictEqual(spawned.map(({ created }) => created), [true, true, false, true, false])
        assert.deepStrictEqual(spawned.map(({ taskId }) => taskId === spawned[0]?.taskId), [
          true,
          false,
          true,
          false,
          true
        ])
        assert.lengthOf(yield* q.claim(), 3)
      }))

    it.effect("the keys of different queues and letters are different keys", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const keys = ["k", "K", "k ", "é", "e\u0301", "ключ", "🔑", "$1", "'; --", "%"]
        const tasks = keys.map((text) => Fixture.item({ idempotencyKey: Fixture.key(text) }))
        const spawned = yield* q.driver.spawn({ queue: q.queue, tasks })
        assert.isTrue(spawned.every(({ created }) => created))
        for (const [i, text] of keys.entries()) {
          const found = yield* q.driver.findTask({ queue: q.queue, idempotencyKey: Fixture.key(text) })
          assert.strictEqual(found, spawned[i]?.taskId)
        }
      }))

    it.effect.each(
      [
        ["name", { name: Fixture.task("other"), params: { a: 1, b: [2] } }],
        ["params", { name: Fixture.task("job"), params: { a: 1, b: [3] } }]
      ] as const
    )(
      "a key whose task has another %s is a conflict, and nothing is spawned",
      ([differs, changed]) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const idempotencyKey = Fixture.key("k")
          const first = yield* q.spawn({ idempotencyKey, params: { a: 1, b: [2] } })
          const fresh = Fixture.key("fresh")
          const error = yield* Effect.flip(q.driver.spawn({
            queue: q.queue,
            tasks: [
              Fixture.item({ idempotencyKey: fresh }),
              Fixture.item({ idempotencyKey, ...changed }),
              Fixture.item()
            ]
          }))
          assert.deepInclude(error, { _tag: "IdempotencyConflict", key: "k", taskId: first.taskId, differs })
          assert.isUndefined(yield* q.driver.findTask({ queue: q.queue, idempotencyKey: fresh }))
          assert.strictEqual((yield* q.claimOne()).taskId, first.taskId)
        })
    )

    it.effect("a conflict within one request spawns nothing either", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const idempotencyKey = Fixture.key("k")
        const tasks = [1, 2].map((params) => Fixture.item({ idempotencyKey, params }))
        const error = yield* Effect.flip(q.driver.spawn({ queue: q.queue, tasks }))
        assert.deepInclude(error, { _tag: "IdempotencyConflict", key: "k", differs: "params" })
        assert.isUndefined(yield* q.driver.findTask({ queue: q.queue, idempotencyKey }))
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect("params are compared as values, and nothing but name and params is compared", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const idempotencyKey = Fixture.key("k")
        const first = yield* q.spawn({ idempotencyKey, params: { a: 1, b: { c: 2, d: 3 } } })
        const second = yield* q.spawn({
          idempotencyKey,
          params: { b: { d: 3, c: 2 }, a: 1 },
          headers: { other: true },
          maxAttempts: 9,
          delay: Duration.days(1)
        })
        assert.deepStrictEqual(second, { ...first, created: false })
        assert.isNull((yield* q.getTask(first.taskId)).maxAttempts)
      }))

    it.effect.prop(
      "params and headers come back as they were given, from the store and with the claim",
      { params: Fixture.StorableJson, header: Fixture.StorableJson, maxAttempts: Fixture.between(1, 100) },
      ({ header, maxAttempts, params }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const { taskId } = yield* q.spawn({ params, headers: { header }, maxAttempts })
          const stored = yield* q.getTask(taskId)
          assert.deepStrictEqual([stored.params, stored.headers, stored.maxAttempts], [params, { header }, maxAttempts])
          const run = yield* q.claimOne()
          assert.deepStrictEqual([run.params, run.headers, run.maxAttempts], [params, { header }, maxAttempts])
        }),
      { arbitrary: { runs: 15 } }
    )

    it.effect.prop(
      "however tasks and keys are spread over requests, a key has one task",
      { requests: Schema.Array(Schema.Array(Fixture.between(0, 3))) },
      ({ requests }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const owners = new Map<number, string>()
          for (const request of requests) {
            const tasks = request.map((n) => Fixture.item({ idempotencyKey: Fixture.key(`k${n}`) }))
            const spawned = yield* q.driver.spawn({ queue: q.queue, tasks })
            assert.lengthOf(spawned, request.length)
            for (const [i, n] of request.entries()) {
              const owner = owners.get(n)
              assert.strictEqual(spawned[i]?.created, owner === undefined)
              if (owner === undefined) owners.set(n, spawned[i]?.taskId ?? "")
              else assert.strictEqual(spawned[i]?.taskId, owner)
            }
          }
          assert.lengthOf(yield* q.claim({ limit: 100 }), owners.size)
        }),
      { arbitrary: { runs: 12 } }
    )
  })
