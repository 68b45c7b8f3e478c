import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import type { TaskId } from "../../src/core/Identifiers.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { due, seconds, waiting, Waits } = Fixture

const asleep = { outcome: "applied", suspended: true, waits: [waiting] } as const
const over = { outcome: "applied", suspended: false, waits: [due] } as const

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    /** The instant that the checkpoint `step` holds as ISO text in UTC. */
    const stored = (q: Fixture.Fixture, taskId: TaskId, step: string) =>
      Effect.gen(function*() {
        const found = (yield* q.checkpoints(taskId)).find((_) => _.name === step)
        const text = yield* Schema.decodeUnknownEffect(Schema.String)(found?.state)
        assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$/)
        return DateTime.makeUnsafe(text)
      })

    it.effect.each(
      [
        ["for a duration", () => Duration.days(3)],
        ["until an instant", (now: DateTime.Utc) => DateTime.addDuration(now, Duration.days(3))]
      ] as const
    )("a run sleeps %s", ([, until]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const now = yield* q.time.now
        const wake = DateTime.addDuration(now, Duration.days(3))
        const timer = [Waits.timer("nap", until(now))]
        assert.deepStrictEqual(yield* q.suspend(run, timer), asleep)
        assert.deepStrictEqual(yield* q.states(run.taskId), ["sleeping", "sleeping"])
        const row = yield* q.getRun(run.runId)
        assert.deepInclude(row, { claimedBy: null, claimExpiresAt: null, wakeEvent: null, attempt: 1 })
        assert.deepStrictEqual(Fixture.plain(row.availableAt), Fixture.plain(wake))
        assert.deepStrictEqual(Fixture.plain(yield* stored(q, run.taskId, "nap")), Fixture.plain(wake))
        assert.deepStrictEqual(yield* q.driver.listWaits({ queue: q.queue, taskId: run.taskId }), [])
        yield* q.time.advance(Duration.millis(Duration.toMillis(Duration.days(3)) - 1))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(Duration.millis(1))
        const again = yield* q.claimOne()
        assert.deepInclude(again, { runId: run.runId, attempt: 1, wakeEvent: null, eventPayload: undefined })
        assert.deepStrictEqual(yield* q.suspend(again, timer), over)
        assert.deepStrictEqual(yield* q.states(run.taskId), ["running", "running"])
      }))

    it.effect.each(
      [
        ["of nothing", () => Duration.zero],
        ["into the past", (now: DateTime.Utc) => DateTime.subtractDuration(now, seconds(1))]
      ] as const
    )("a sleep %s is over at once, for good", ([, until]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        assert.deepStrictEqual(yield* q.suspend(run, [Waits.timer("nap", until(yield* q.time.now))]), over)
        assert.deepStrictEqual(yield* q.states(run.taskId), ["running", "running"])
        assert.deepStrictEqual(yield* q.suspend(run, [Waits.timer("nap", seconds(60))]), over)
      }))

    it.effect("a wake time is fixed once: neither a new attempt nor another duration changes it", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start()
        const wake = DateTime.addDuration(yield* q.time.now, seconds(100))
        yield* q.suspend(first, [Waits.timer("nap", seconds(100)), Waits.event("w", "e")])
        yield* q.emit("e", null)
        yield* q.time.advance("40 seconds")
        yield* q.fail(yield* q.claimOne())
        const second = yield* q.claimOne()
        assert.strictEqual(second.attempt, 2)
        assert.deepStrictEqual(yield* q.suspend(second, [Waits.timer("nap", seconds(5))]), asleep)
        assert.deepStrictEqual(Fixture.plain((yield* q.getRun(second.runId)).availableAt), Fixture.plain(wake))
        yield* q.time.advance("60 seconds")
        const third = yield* q.claimOne()
        assert.deepStrictEqual(yield* q.suspend(third, [Waits.timer("nap", seconds(500))]), over)
      }))

    it.effect.each(
      [
        ["TypeScript", (iso: string) => iso],
        ["Python", (iso: string) => iso.replace("Z", "000+00:00")],
        ["Go", (iso: string) => iso.replace(/(\.\d*[1-9])0+Z$/, "$1Z")]
      ] as const
    )("a wake time that a worker in %s stored is obeyed", ([, format]) =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const wake = DateTime.addDuration(yield* q.time.now, Duration.millis(90_250))
        yield* q.checkpoint(run, "nap", format(DateTime.formatIso(wake)))
        assert.deepStrictEqual(yield* q.suspend(run, [Waits.timer("nap", seconds(1))]), asleep)
        assert.deepStrictEqual(Fixture.plain((yield* q.getRun(run.runId)).availableAt), Fixture.plain(wake))
      }))

    it.effect("of several timers the first wakes the run, and the others go on", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const timers = [Waits.timer("c", seconds(30)), Waits.timer("a", seconds(10)), Waits.timer("b", seconds(20))]
        const all = { outcome: "applied", suspended: true, waits: [waiting, waiting, waiting] } as const
        assert.deepStrictEqual(yield* q.suspend(run, timers), all)
        yield* q.time.advance("10 seconds")
        const again = yield* q.claimOne()
        assert.deepStrictEqual(yield* q.suspend(again, timers), {
          outcome: "applied",
          suspended: false,
          waits: [waiting, due, waiting]
        })
        yield* q.suspend(again, timers.filter((_) => _.step !== "a"))
        yield* q.time.advance(Duration.millis(9_999))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(Duration.millis(1))
        assert.strictEqual((yield* q.claimOne()).runId, run.runId)
      }))

    it.effect("a timer and an event: whichever is first", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const waits = [Waits.timer("t", seconds(10)), Waits.event("w", "e")]
        const byTimer = yield* q.start()
        yield* q.suspend(byTimer, waits)
        assert.isNull((yield* q.getRun(byTimer.runId)).wakeEvent)
        yield* q.time.advance("10 seconds")
        const woken = yield* q.claimOne()
        assert.deepInclude(woken, { runId: byTimer.runId, wakeEvent: null, eventPayload: undefined })
        assert.deepStrictEqual((yield* q.suspend(woken, waits)).waits, [due, waiting])
        yield* q.complete(woken)

        const byEvent = yield* q.start()
        yield* q.suspend(byEvent, waits)
        yield* q.emit("e", 5)
        const again = yield* q.claimOne()
        assert.deepInclude(again, { runId: byEvent.runId, wakeEvent: null, eventPayload: 5 })
        assert.deepStrictEqual((yield* q.suspend(again, waits)).waits, [waiting, Fixture.emitted(5)])
      }))

    it.effect("a sleep costs no attempt and outlasts any lease", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { taskId } = yield* q.spawn({ maxAttempts: 1 })
        for (let nap = 1; nap <= 5; nap++) {
          const run = yield* q.claimOne({ lease: seconds(1) })
          assert.strictEqual(run.attempt, 1)
          yield* q.suspend(run, [Waits.timer(`nap#${nap}`, Duration.days(365))])
          yield* q.time.advance(Duration.days(365))
        }
        yield* q.complete(yield* q.claimOne())
        assert.deepStrictEqual(yield* q.states(taskId), ["completed", "completed"])
      }))

    it.effect.prop(
      "a run sleeps exactly until the first of its timers",
      { millis: Schema.Array(Fixture.between(1, 1_000_000)).check(Schema.isMinLength(1), Schema.isMaxLength(5)) },
      ({ millis }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const run = yield* q.start()
          const timers = millis.map((_, i) => Waits.timer(`t${i}`, Duration.millis(_)))
          assert.isTrue((yield* q.suspend(run, timers)).suspended)
          const first = Math.min(...millis)
          yield* q.time.advance(Duration.millis(first - 1))
          assert.deepStrictEqual(yield* q.claim(), [])
          yield* q.time.advance(Duration.millis(1))
          const { suspended, waits } = yield* q.suspend(yield* q.claimOne(), timers)
          assert.isFalse(suspended)
          assert.deepStrictEqual(waits, millis.map((_) => _ === first ? due : waiting))
        }),
      { arbitrary: { runs: 12 } }
    )
  })
