import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Schema } from "effect"
import { deadlineOf, type Driver, timeoutOf } from "../../src/core/Driver.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { emitted, seconds, timedOut, waiting, Waits } = Fixture

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const read = (q: Fixture.Fixture, name: string) =>
      q.driver.readEvent({ queue: q.queue, event: Fixture.event(name) })

    it.effect("the first write of an event wins, for good", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        assert.isUndefined(yield* read(q, "e"))
        assert.deepStrictEqual(yield* q.emit("e", { n: 1 }), { emitted: true, woken: 0 })
        const first = Fixture.plain(yield* read(q, "e"))
        assert.deepStrictEqual(first, Fixture.plain({ name: "e", payload: { n: 1 }, emittedAt: yield* q.time.now }))
        yield* q.time.advance("1 second")
        assert.deepStrictEqual(yield* q.emit("e", { n: 2 }), { emitted: false, woken: 0 })
        assert.deepStrictEqual(Fixture.plain(yield* read(q, "e")), first)
      }))

    it.effect("of many events those are read that have been emitted, each once", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const names = ["a", "b", "awaited", "a", "missing"].map(Fixture.event)
        const readAll = Effect.map(
          q.driver.readEvents({ queue: q.queue, events: names }),
          (events) => Fixture.plain([...events].sort((a, b) => (a.name < b.name ? -1 : 1)))
        )
        assert.deepStrictEqual(yield* readAll, [])
        yield* q.emit("a", { n: 1 })
        yield* q.emit("b", null)
        yield* q.emit("other", 3)
        yield* q.suspend(run, [Waits.event("w", "awaited")])
        const emittedAt = yield* q.time.now
        assert.deepStrictEqual(
          yield* readAll,
          Fixture.plain([{ name: "a", payload: { n: 1 }, emittedAt }, { name: "b", payload: null, emittedAt }])
        )
        assert.deepStrictEqual(yield* q.driver.readEvents({ queue: q.queue, events: [] }), [])
      }))

    it.effect("a run that waits for an event sleeps without limit, and says what it waits for", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        const now = yield* q.time.now
        assert.deepStrictEqual(yield* q.suspend(run, [Waits.event("w", "e")]), {
          outcome: "applied",
          suspended: true,
          waits: [waiting]
        })
        assert.deepInclude(yield* q.getRun(run.runId), {
          state: "sleeping",
          availableAt: null,
          wakeEvent: "e",
          eventPayload: null,
          claimedBy: null,
          claimExpiresAt: null
        })
        assert.deepStrictEqual(
          Fixture.plain(yield* q.driver.listWaits({ queue: q.queue, taskId: run.taskId })),
          Fixture.plain([{
            taskId: run.taskId,
            runId: run.runId,
            step: "w",
            event: "e",
            timeoutAt: null,
            createdAt: now
          }])
        )
        assert.isUndefined(yield* read(q, "e"))
        yield* q.time.advance(Duration.days(10_000))
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect("an emitted event wakes the run with its payload, which the step keeps", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.suspend(run, [Waits.event("w", "e")])
        yield* q.time.advance("1 minute")
        assert.deepStrictEqual(yield* q.emit("e", { ok: true }), { emitted: true, woken: 1 })
        assert.deepStrictEqual(yield* q.states(run.taskId), ["pending", "pending"])
        assert.deepStrictEqual(yield* q.driver.listWaits({ queue: q.queue, taskId: run.taskId }), [])
        assert.deepStrictEqual(
          Fixture.plain((yield* q.getRun(run.runId)).availableAt),
          Fixture.plain(yield* q.time.now)
        )
        const again = yield* q.claimOne()
        assert.deepInclude(again, { runId: run.runId, attempt: 1, wakeEvent: null, eventPayload: { ok: true } })
        assert.deepStrictEqual(again.checkpoints, [{ name: Fixture.step("w"), state: { ok: true } }])
        assert.deepStrictEqual(yield* q.suspend(again, [Waits.event("w", "e")]), {
          outcome: "applied",
          suspended: false,
          waits: [emitted({ ok: true })]
        })
      }))

    it.effect("an event that was emitted before the wait ends it at once, and the step keeps the payload", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        yield* q.emit("e", "early")
        const run = yield* q.start()
        assert.deepStrictEqual(yield* q.suspend(run, [Waits.event("w", "e", seconds(0))]), {
          outcome: "applied",
          suspended: false,
          waits: [emitted("early")]
        })
        assert.deepStrictEqual(yield* q.states(run.taskId), ["running", "running"])
        assert.deepInclude(Fixture.only(yield* q.checkpoints(run.taskId)), { name: Fixture.step("w"), state: "early" })
      }))

    it.effect("a payload of JSON null is a payload, and no timeout", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.suspend(run, [Waits.event("w", "e", seconds(60))])
        yield* q.emit("e", null)
        const again = yield* q.claimOne()
        assert.deepInclude(again, { wakeEvent: null, eventPayload: null })
        const { waits } = yield* q.suspend(again, [Waits.event("w", "e", seconds(60)), Waits.event("v", "e")])
        assert.deepStrictEqual(waits, [emitted(null), emitted(null)])
      }))

    it.effect("a wait ends when its time is over, and stays over when the event comes later", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const waits = [Waits.event("w", "e", seconds(60))]
        const run = yield* q.start()
        const deadline = DateTime.addDuration(yield* q.time.now, seconds(60))
        yield* q.suspend(run, waits)
        const [stored] = yield* q.driver.listWaits({ queue: q.queue, taskId: run.taskId })
        assert.deepStrictEqual(
          Fixture.plain([(yield* q.getRun(run.runId)).availableAt, stored?.timeoutAt]),
          Fixture.plain([deadline, deadline])
        )
        yield* q.time.advance(Duration.millis(59_999))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(Duration.millis(1))
        const again = yield* q.claimOne()
        assert.deepInclude(again, { runId: run.runId, wakeEvent: "e", eventPayload: undefined })
        const result = { outcome: "applied", suspended: false, waits: [timedOut] } as const
        assert.deepStrictEqual(yield* q.suspend(again, waits), result)
        const mark = (yield* q.checkpoints(run.taskId)).find((_) => _.name === timeoutOf(Fixture.step("w")))
        assert.strictEqual(mark?.state, true)
        yield* q.emit("e", "late")
        assert.deepStrictEqual(yield* q.suspend(again, waits), result)
        yield* q.fail(again)
        assert.deepStrictEqual(yield* q.suspend(yield* q.claimOne(), waits), result)
      }))

    it.effect("a wait of another step gets the event that came too late for the first", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.suspend(run, [Waits.event("w", "e", seconds(5))])
        yield* q.time.advance("5 seconds")
        const again = yield* q.claimOne()
        yield* q.suspend(again, [Waits.event("w", "e", seconds(5))])
        yield* q.emit("e", 1)
        const { waits } = yield* q.suspend(again, [Waits.event("w", "e", seconds(5)), Waits.event("w#2", "e")])
        assert.deepStrictEqual(waits, [timedOut, emitted(1)])
      }))

    it.effect("an event between the deadline and the next claim gets one answer, which lasts", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const waits = [Waits.event("w", "e", seconds(5))]
        const run = yield* q.start()
        yield* q.suspend(run, waits)
        yield* q.time.advance("6 seconds")
        yield* q.emit("e", 1)
        const again = yield* q.claimOne()
        assert.strictEqual(again.runId, run.runId)
        const first = yield* q.suspend(again, waits)
        assert.isFalse(first.suspended)
        yield* q.fail(again)
        assert.deepStrictEqual(yield* q.suspend(yield* q.claimOne(), waits), first)
      }))

    it.effect("a wait of no time ends without the event", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const waits = [Waits.event("w", "e", Duration.zero)]
        const run = yield* q.start()
        const first = yield* q.suspend(run, waits)
        const last = first.suspended ? yield* q.suspend(yield* q.claimOne(), waits) : first
        assert.deepStrictEqual(last, { outcome: "applied", suspended: false, waits: [timedOut] })
      }))

    it.effect("a deadline is fixed at the first suspension, for every attempt", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start()
        const deadline = DateTime.addDuration(yield* q.time.now, seconds(60))
        yield* q.suspend(first, [Waits.event("w", "e", seconds(60)), Waits.event("other", "o")])
        const step = deadlineOf(Fixture.step("w"))
        const stored = (yield* q.checkpoints(first.taskId)).find((_) => _.name === step)
        const text = yield* Schema.decodeUnknownEffect(Schema.String)(stored?.state)
        assert.deepStrictEqual(Fixture.plain(DateTime.makeUnsafe(text)), Fixture.plain(deadline))
        yield* q.time.advance("40 seconds")
        yield* q.emit("o", 1)
        yield* q.fail(yield* q.claimOne())
        const second = yield* q.claimOne()
        yield* q.suspend(second, [Waits.event("w", "e", seconds(60))])
        assert.deepStrictEqual(Fixture.plain((yield* q.getRun(second.runId)).availableAt), Fixture.plain(deadline))
        yield* q.time.advance("20 seconds")
        const { waits } = yield* q.suspend(yield* q.claimOne(), [Waits.event("w", "e", seconds(60))])
        assert.deepStrictEqual(waits, [timedOut])
      }))

    it.effect("a wait whose step has a checkpoint is over, with what that holds", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.checkpoint(run, "w", { from: "elsewhere" })
        const waits = [Waits.event("w", "e", seconds(5)), Waits.event("v", "f")]
        assert.deepStrictEqual((yield* q.suspend(run, waits)).waits, [emitted({ from: "elsewhere" }), waiting])
        assert.deepStrictEqual(yield* q.states(run.taskId), ["running", "running"])
      }))

    it.effect("a timeout that woke a run ends one wait for its event, whatever it is called", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        for (const name of ["w", "renamed"]) {
          const run = yield* q.start()
          yield* q.suspend(run, [Waits.event("w", "e", seconds(5))])
          yield* q.time.advance("5 seconds")
          const woken = yield* q.claimOne()
          assert.strictEqual(woken.wakeEvent, "e")
          const first = yield* q.suspend(woken, [Waits.event(name, "e", seconds(5))])
          assert.deepStrictEqual(first.waits, [timedOut])
          assert.isNull((yield* q.getRun(woken.runId)).wakeEvent)
          assert.isTrue((yield* q.suspend(woken, [Waits.event("next", "e", Duration.hours(1))])).suspended)
        }
      }))

    it.effect("what woke a run is told once, and not again after its next sleep", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const nothing = { wakeEvent: null, eventPayload: undefined }
        yield* q.suspend(yield* q.start(), [Waits.event("w", "e")])
        yield* q.emit("e", "payload")
        const woken = yield* q.claimOne()
        assert.strictEqual(woken.eventPayload, "payload")
        yield* q.suspend(woken, [Waits.timer("t", seconds(1))])
        yield* q.time.advance("1 second")
        const rested = yield* q.claimOne()
        assert.deepInclude(rested, nothing)
        yield* q.suspend(rested, [Waits.event("late", "never", seconds(1))])
        yield* q.time.advance("1 second")
        const late = yield* q.claimOne()
        assert.deepInclude(late, { wakeEvent: "never", eventPayload: undefined })
        yield* q.release(late)
        assert.deepInclude(yield* q.claimOne(), nothing)
        const again = yield* q.start()
        yield* q.suspend(again, [Waits.event("w", "f")])
        yield* q.emit("f", "payload")
        yield* q.release(yield* q.claimOne())
        assert.deepInclude(yield* q.claimOne(), nothing)
      }))

    it.effect("of several events the first wakes the run, and each is there to be read", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const waits = [Waits.event("a", "a"), Waits.event("b", "b", seconds(60)), Waits.event("c", "c")]
        const run = yield* q.start()
        assert.deepStrictEqual((yield* q.suspend(run, waits)).waits, [waiting, waiting, waiting])
        const row = yield* q.getRun(run.runId)
        assert.isNull(row.wakeEvent)
        const listed = yield* q.driver.listWaits({ queue: q.queue, taskId: run.taskId })
        assert.deepStrictEqual(listed.map((_) => [_.step, _.event]), [["a", "a"], ["b", "b"], ["c", "c"]])
        assert.strictEqual((yield* q.emit("b", 2)).woken, 1)
        assert.strictEqual((yield* q.emit("c", 3)).emitted, true)
        const again = yield* q.claimOne()
        assert.strictEqual(again.runId, run.runId)
        assert.deepStrictEqual(yield* q.suspend(again, waits), {
          outcome: "applied",
          suspended: false,
          waits: [waiting, emitted(2), emitted(3)]
        })
        assert.deepStrictEqual((yield* q.suspend(again, [waits[0]!])).waits, [waiting])
        yield* q.emit("a", 1)
        assert.deepStrictEqual((yield* q.suspend(yield* q.claimOne(), waits)).waits, [
          emitted(1),
          emitted(2),
          emitted(3)
        ])
      }))

    it.effect("of several deadlines the first wakes the run", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const waits = [Waits.event("a", "a", seconds(60)), Waits.event("b", "b", seconds(10)), Waits.event("c", "c")]
        yield* q.suspend(yield* q.start(), waits)
        yield* q.time.advance("10 seconds")
        const again = yield* q.claimOne()
        assert.deepStrictEqual((yield* q.suspend(again, waits)).waits, [waiting, timedOut, waiting])
      }))

    it.effect("every run that waits for the event wakes, and none that waits for another", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const runs = [yield* q.start(), yield* q.start(), yield* q.start(), yield* q.start(), yield* q.start()]
        const [a, b, c, d, e] = runs
        yield* q.suspend(a!, [Waits.event("w", "e")])
        yield* q.suspend(b!, [Waits.event("x", "e", seconds(60)), Waits.timer("t", seconds(90))])
        yield* q.suspend(c!, [Waits.event("w", "E")])
        yield* q.suspend(d!, [Waits.event("w", "e")])
        yield* q.driver.cancelTask({ queue: q.queue, taskId: d!.taskId })
        assert.deepStrictEqual(yield* q.emit("e", 1), { emitted: true, woken: 2 })
        const states = yield* Effect.forEach(runs, ({ runId }) => Effect.map(q.getRun(runId), (_) => _.state))
        assert.deepStrictEqual(states, ["pending", "pending", "sleeping", "cancelled", "running"])
        assert.sameMembers((yield* q.claim()).map((_) => _.runId), [a!.runId, b!.runId])
        assert.strictEqual(yield* q.complete(e!), "applied")
      }))

    it.effect("several waits of one run for one event are all served by it", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const waits = [Waits.event("w", "e"), Waits.event("w#2", "e", seconds(60))]
        const run = yield* q.start()
        yield* q.suspend(run, waits)
        assert.deepStrictEqual(yield* q.emit("e", 7), { emitted: true, woken: 1 })
        assert.deepStrictEqual((yield* q.suspend(yield* q.claimOne(), waits)).waits, [emitted(7), emitted(7)])
      }))

    it.effect("a wait and an event at the same time: the run never sleeps through it", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        for (let i = 0; i < 10; i++) {
          const run = yield* q.start()
          const [{ suspended }] = yield* Effect.all(
            [q.suspend(run, [Waits.event("w", `e${i}`)]), q.emit(`e${i}`, i)],
            { concurrency: 2 }
          )
          const awake = suspended ? yield* q.claimOne() : run
          const { waits } = yield* q.suspend(awake, [Waits.event("w", `e${i}`)])
          assert.deepStrictEqual(waits, [emitted(i)])
          yield* q.complete(awake)
        }
      }))

    it.effect("cleaning up events takes none that somebody waits for", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const run = yield* q.start()
        yield* q.suspend(run, [Waits.event("w", "e")])
        yield* q.time.advance("1 day")
        assert.strictEqual(yield* q.driver.cleanupEvents({ queue: q.queue, ttl: Duration.zero, limit: 10 }), 0)
        assert.strictEqual((yield* q.emit("e", 1)).woken, 1)
      }))

    it.effect("a failed attempt waits for nothing any more", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const first = yield* q.start()
        yield* q.suspend(first, [Waits.event("a", "a"), Waits.event("b", "b")])
        yield* q.emit("a", 1)
        yield* q.fail(yield* q.claimOne(), Fixture.Retries.after(seconds(60)))
        assert.deepStrictEqual(yield* q.driver.listWaits({ queue: q.queue, taskId: first.taskId }), [])
        assert.strictEqual((yield* q.emit("b", 1)).woken, 0)
        assert.deepStrictEqual(yield* q.claim(), [])
      }))

    it.effect.prop(
      "a payload arrives as it was emitted: with the claim, at the step, and when read",
      { payload: Fixture.StorableJson, before: Schema.Boolean },
      ({ before, payload }) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const run = yield* q.start()
          const waits = [Waits.event("w", "e", seconds(60))]
          if (before) {
            yield* q.emit("e", payload)
            assert.deepStrictEqual((yield* q.suspend(run, waits)).waits, [emitted(payload)])
          } else {
            yield* q.suspend(run, waits)
            yield* q.emit("e", payload)
            const again = yield* q.claimOne()
            assert.deepStrictEqual([again.wakeEvent, again.eventPayload], [null, payload])
            assert.deepStrictEqual((yield* q.suspend(again, waits)).waits, [emitted(payload)])
          }
          const found = (yield* q.checkpoints(run.taskId)).find((_) => _.name === "w")
          assert.deepStrictEqual([found?.state, (yield* read(q, "e"))?.payload], [payload, payload])
        }),
      { arbitrary: { runs: 15 } }
    )
  })
