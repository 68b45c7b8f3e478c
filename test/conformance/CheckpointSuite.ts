import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { seconds } = Fixture

const written = { outcome: "applied", existing: undefined } as const

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a checkpoint is stored with its owner, and committed", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.time.advance("3 seconds")
        assert.deepStrictEqual(yield* q.checkpoint(run, "charge", { paid: true }), written)
        assert.deepStrictEqual(
          Fixture.plain(yield* q.checkpoints(run.taskId)),
          Fixture.plain([{
            taskId: run.taskId,
            name: "charge",
            state: { paid: true },
            status: "committed",
            ownerRunId: run.runId,
            updatedAt: yield* q.time.now
          }])
        )
      }))

    it.effect("a committed checkpoint is never changed, and whoever tries learns what it holds", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.checkpoint(run, "s", "first")
        const before = yield* q.snapshot(run.taskId)
        yield* q.time.advance("1 second")
        assert.deepStrictEqual(yield* q.checkpoint(run, "s", "second"), { outcome: "applied", existing: "first" })
        assert.deepStrictEqual(yield* q.snapshot(run.taskId), before)
      }))

    it.effect("the next attempt cannot change it either", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start()
        yield* q.checkpoint(first, "s", "first")
        yield* q.fail(first)
        const second = yield* q.claimOne()
        assert.deepStrictEqual(yield* q.checkpoint(second, "s", "second"), { outcome: "applied", existing: "first" })
        const stored = Fixture.only(yield* q.checkpoints(first.taskId))
        assert.deepInclude(stored, { state: "first", ownerRunId: first.runId })
      }))

    it.effect("a checkpoint that holds JSON null exists", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        assert.deepStrictEqual(yield* q.checkpoint(run, "s", null), written)
        assert.deepStrictEqual(yield* q.checkpoint(run, "s", 1), { outcome: "applied", existing: null })
        yield* q.release(run)
        assert.deepStrictEqual((yield* q.claimOne()).checkpoints, [{ name: Fixture.step("s"), state: null }])
      }))

    it.effect("several checkpoints of one run travel in one request", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = Fixture.holding(yield* q.start())
        const entry = (name: string, state: number) => ({ ...run, name: Fixture.step(name), state, extendBy: null })
        const set = yield* q.driver.setCheckpoints({
          queue: q.queue,
          checkpoints: [entry("a", 1), entry("b", 2), entry("a", 3)]
        })
        assert.deepStrictEqual(set, [written, written, { outcome: "applied", existing: 1 }])
      }))

    it.effect("one bad item in a request spoils no other", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const [a, b] = [yield* q.start(), yield* q.start()]
        const entry = { name: Fixture.step("s"), state: 1, extendBy: null }
        const set = yield* q.driver.setCheckpoints({
          queue: q.queue,
          checkpoints: [
            { ...Fixture.holding(a), ...entry },
            { ...Fixture.holding(b), ...entry, token: Fixture.freshToken() },
            { runId: Fixture.unknownRun, token: a.token, ...entry },
            { ...Fixture.holding(b), ...entry, name: Fixture.step("other") }
          ]
        })
        assert.deepStrictEqual(set.map(({ outcome }) => outcome), ["applied", "leaseLost", "notFound", "applied"])
        assert.deepStrictEqual((yield* q.checkpoints(b.taskId)).map((_) => _.name), [Fixture.step("other")])
      }))

    it.effect("checkpoints are listed in the order they were written, and can be asked for by name", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const names = ["z", "a", "m#2", "$internal", "ö"]
        for (const [i, name] of names.entries()) {
          yield* q.checkpoint(run, name, i)
          yield* q.time.advance("1 second")
        }
        assert.deepStrictEqual((yield* q.checkpoints(run.taskId)).map((_) => _.name), names.map(Fixture.step))
        const ask = (name: string) =>
          q.driver.getCheckpoints({
            queue: q.queue,
            taskId: run.taskId,
            name: Fixture.step(name),
            includePending: true
          })
        assert.deepInclude(Fixture.only(yield* ask("m#2")), { name: Fixture.step("m#2"), state: 2 })
        assert.deepStrictEqual(yield* ask("m"), [])
      }))

    it.effect("an unknown task has no checkpoints, and those of another task stay with it", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const [a, b] = [yield* q.start(), yield* q.start()]
        yield* q.checkpoint(a, "s", "a")
        assert.deepStrictEqual(yield* q.checkpoints(Fixture.unknownTask), [])
        assert.deepStrictEqual(yield* q.checkpoints(b.taskId), [])
        assert.deepStrictEqual(yield* q.checkpoint(b, "s", "b"), written)
      }))

    it.effect("each claimed run of a request comes with its own checkpoints", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const runs = [yield* q.start(), yield* q.start(), yield* q.start()]
        for (const [i, run] of runs.entries()) {
          for (let n = 0; n < i; n++) yield* q.checkpoint(run, `s${n}`, { i, n })
          yield* q.release(run)
        }
        for (const run of yield* q.claim()) {
          const i = runs.findIndex((_) => _.runId === run.runId)
          assert.deepStrictEqual(
            run.checkpoints.toSorted((a, b) => a.name < b.name ? -1 : 1),
            Array.from({ length: i }, (_, n) => ({ name: Fixture.step(`s${n}`), state: { i, n } }))
          )
        }
      }))

    it.effect.each([["new", []], ["existing", ["s"]]] as const)(
      "a %s checkpoint renews the lease when asked to, and never shortens it",
      ([, existing]) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const run = yield* q.start({}, seconds(60))
          for (const name of existing) yield* q.checkpoint(run, name, 0)
          const begin = yield* q.time.now
          const end = Effect.map(q.getRun(run.runId), (_) => Fixture.plain(_.claimExpiresAt))
          const at = (n: number) => Fixture.plain(DateTime.addDuration(begin, seconds(n)))
          yield* q.time.advance("20 seconds")
          yield* q.checkpoint(run, "unrelated", 0)
          assert.deepStrictEqual(yield* end, at(60))
          yield* q.checkpoint(run, "s", 1, seconds(10))
          assert.deepStrictEqual(yield* end, at(60))
          yield* q.checkpoint(run, "s", 2, seconds(90))
          assert.deepStrictEqual(yield* end, at(110))
        })
    )

    it.effect("a failed task keeps its checkpoints for when it is revived", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.checkpoint(run, "s", 1)
        yield* q.fail(run, Fixture.Retries.never)
        yield* q.driver.retryTask({ queue: q.queue, taskId: run.taskId, maxAttempts: null, spawnNew: false })
        assert.deepStrictEqual((yield* q.claimOne()).checkpoints, [{ name: Fixture.step("s"), state: 1 }])
      }))

    it.effect.prop(
      "what was written first is what everybody reads ever after",
      {
        writes: Schema.Array(
          Schema.Struct({
            step: Fixture.between(0, 2),
            // From 1, for jsonb has no negative zero.
            value: Fixture.between(1, 1000),
            next: Schema.Literals(["go on", "release", "fail", "lose the lease"])
          })
        ).check(Schema.isMaxLength(8)),
        first: Fixture.StorableJson
      },
      ({ first, writes }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          let run = yield* q.start()
          const model = new Map<string, Schema.Json>([["first", first]])
          yield* q.checkpoint(run, "first", first)
          for (const { next, step, value } of writes) {
            const set = yield* q.checkpoint(run, `s${step}`, value)
            assert.deepStrictEqual(set, { outcome: "applied", existing: model.get(`s${step}`) })
            if (!model.has(`s${step}`)) model.set(`s${step}`, value)
            if (next === "go on") continue
            if (next === "release") yield* q.release(run)
            else if (next === "fail") yield* q.fail(run)
            else yield* q.time.advance(Duration.minutes(1))
            run = yield* q.claimOne()
            const loaded = new Map<string, Schema.Json>(run.checkpoints.map((_) => [_.name, _.state]))
            assert.deepStrictEqual(byName([...loaded]), byName([...model]))
          }
          const stored = yield* q.checkpoints(run.taskId)
          assert.deepStrictEqual(byName(stored.map((_) => [_.name, _.state])), byName([...model]))
        }),
      { arbitrary: { runs: 12 } }
    )
  })

// --- internal

const byName = (states: ReadonlyArray<readonly [name: string, state: Schema.Json]>) =>
  states.toSorted(([a], [b]) => a < b ? -1 : 1)
