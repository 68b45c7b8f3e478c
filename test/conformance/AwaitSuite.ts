import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer } from "effect"
import type { Claimed, Driver, Wait } from "../../src/core/Driver.ts"
import type { QueueName, TaskId } from "../../src/core/Identifiers.ts"
import type { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const { Retries, seconds, waiting } = Fixture

const ended = { _tag: "Ended" as const }
const asleep = { outcome: "applied", suspended: true, waits: [waiting] } as const
const over = { outcome: "applied", suspended: false, waits: [ended] } as const

const tasks = (queue: QueueName, taskIds: ReadonlyArray<TaskId>, failFast = true, name = "join"): Wait => ({
  _tag: "Tasks",
  step: Fixture.step(name),
  queue,
  taskIds,
  failFast
})

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    /** A claimed parent, and so many claimed children. */
    const family = (q: Fixture.Fixture, count: number) =>
      Effect.gen(function*() {
        const parent = yield* q.start({ name: Fixture.task("parent") }, Duration.days(1))
        const children: Array<Claimed> = []
        for (let n = 0; n < count; n++) children.push(yield* q.start({ maxAttempts: 1 }, seconds(30)))
        return { parent, children, ids: children.map((child) => child.taskId) }
      })

    const ends = {
      completed: (q: Fixture.Fixture, child: Claimed) => q.complete(child, 1),
      failed: (q: Fixture.Fixture, child: Claimed) => q.fail(child, Retries.never),
      cancelled: (q: Fixture.Fixture, child: Claimed) => q.driver.cancelTask({ queue: q.queue, taskId: child.taskId }),
      abandoned: (q: Fixture.Fixture) => q.time.advance(seconds(30))
    } as const

    it.effect.each(["completed", "failed", "cancelled", "abandoned"] as const)(
      "a run that waits for a task is due as soon as that is %s",
      (end) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const { children, ids, parent } = yield* family(q, 1)
          assert.deepStrictEqual(yield* q.suspend(parent, [tasks(q.queue, ids)]), asleep)
          assert.deepStrictEqual(yield* q.states(parent.taskId), ["sleeping", "sleeping"])
          assert.deepStrictEqual(yield* q.claim(), [])
          yield* ends[end](q, children[0]!)
          const again = yield* q.claimOne()
          assert.deepInclude(again, { runId: parent.runId, attempt: 1, wakeEvent: null, eventPayload: undefined })
          assert.deepStrictEqual(again.checkpoints, [])
          assert.deepStrictEqual(yield* q.driver.listWaits({ queue: q.queue, taskId: parent.taskId }), [])
          assert.deepStrictEqual(yield* q.suspend(again, [tasks(q.queue, ids)]), over)
          assert.deepStrictEqual(yield* q.states(parent.taskId), ["running", "running"])
        })
    )

    it.effect("a failure after which the task is tried again is no end", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const parent = yield* q.start()
        const child = yield* q.start({ maxAttempts: 2 })
        yield* q.suspend(parent, [tasks(q.queue, [child.taskId])])
        yield* q.fail(child, Retries.after(seconds(5)))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(seconds(5))
        const second = yield* q.claimOne()
        assert.strictEqual(second.taskId, child.taskId)
        yield* q.fail(second, Retries.after(seconds(5)))
        assert.strictEqual((yield* q.claimOne()).taskId, parent.taskId)
      }))

    it.effect("a wait for many is over when the last has ended", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { children, ids, parent } = yield* family(q, 3)
        yield* q.complete(children[1]!)
        assert.deepStrictEqual(yield* q.suspend(parent, [tasks(q.queue, ids)]), asleep)
        yield* q.complete(children[2]!)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.complete(children[0]!)
        assert.strictEqual((yield* q.claimOne()).runId, parent.runId)
      }))

    it.effect.each([true, false])(
      "the first failure of many ends the wait if it fails fast: %s",
      (failFast) =>
        Effect.gen(function*() {
          const q = yield* Fixture.make
          const { children, ids, parent } = yield* family(q, 2)
          yield* q.suspend(parent, [tasks(q.queue, ids, failFast)])
          yield* q.fail(children[0]!, Retries.never)
          if (failFast) {
            const again = yield* q.claimOne()
            assert.deepStrictEqual(yield* q.suspend(again, [tasks(q.queue, ids, true)]), over)
          } else {
            assert.deepStrictEqual(yield* q.claim(), [])
            yield* q.complete(children[1]!)
            assert.deepStrictEqual(yield* q.suspend(yield* q.claimOne(), [tasks(q.queue, ids, false)]), over)
          }
        })
    )

    it.effect("two waits of one run are kept apart, and go with timers and events", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { children, ids, parent } = yield* family(q, 3)
        const waits = [
          tasks(q.queue, ids.slice(0, 2), true, "a"),
          tasks(q.queue, ids.slice(2), true, "b"),
          Fixture.Waits.timer("nap", seconds(30)),
          Fixture.Waits.event("go", "go")
        ]
        const answer = yield* q.suspend(parent, waits)
        assert.deepStrictEqual(answer, { ...asleep, waits: [waiting, waiting, waiting, waiting] })
        yield* q.complete(children[0]!)
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.complete(children[2]!)
        const again = yield* q.claimOne()
        assert.deepStrictEqual((yield* q.suspend(again, waits)).waits, [waiting, ended, waiting, waiting])
      }))

    it.effect("what has ended already, what does not exist, and nothing at all are not waited for", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { children, ids, parent } = yield* family(q, 1)
        yield* q.complete(children[0]!)
        for (const awaited of [ids, [Fixture.unknownTask], []]) {
          assert.deepStrictEqual(yield* q.suspend(parent, [tasks(q.queue, awaited)]), over)
        }
      }))

    it.effect("a queue that does not exist has no task that could be waited for", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const { ids, parent } = yield* family(q, 1)
        const nowhere = Fixture.freshQueue()
        assert.deepStrictEqual(yield* q.suspend(parent, [tasks(nowhere, ids)]), over)
        const both = [tasks(nowhere, ids, true, "a"), tasks(q.queue, ids, true, "b")]
        assert.deepStrictEqual((yield* q.suspend(parent, both)).waits, [ended, waiting])
      }))

    it.effect("of tasks that are cancelled together none wakes another", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const cancellation = { max_duration: 5 }
        const child = yield* q.start({ cancellation }, Duration.hours(1))
        const parent = yield* q.start({ cancellation }, Duration.hours(1))
        yield* q.suspend(parent, [tasks(q.queue, [child.taskId])])
        const before = yield* q.getRun(parent.runId)
        yield* q.time.advance(seconds(5))
        assert.deepStrictEqual(yield* q.claim(), [])
        assert.deepStrictEqual(Fixture.plain(yield* q.getRun(parent.runId)), {
          ...Fixture.plain(before) as object,
          state: "cancelled"
        })
        assert.deepStrictEqual(yield* q.states(child.taskId), ["cancelled", "cancelled"])
      }))

    it.effect("a task of another queue is looked at again and again", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const other = yield* Fixture.make
        const parent = yield* q.start({}, Duration.hours(1))
        const child = yield* other.start({}, Duration.hours(1))
        const wait = tasks(other.queue, [child.taskId])
        assert.deepStrictEqual(yield* q.suspend(parent, [wait]), asleep)
        yield* q.time.advance(seconds(1))
        const again = yield* q.claimOne()
        assert.deepStrictEqual(yield* q.suspend(again, [wait]), asleep)
        yield* other.complete(child)
        yield* q.time.advance(seconds(1))
        assert.deepStrictEqual(yield* q.suspend(yield* q.claimOne(), [wait]), over)
      }))

    it.effect("a run that waits for a task of its own queue looks again by itself, ever more rarely", () =>
      Effect.gen(function*() {
        const q = yield* Fixture.make
        const parent = yield* q.start({}, Duration.days(1))
        const child = yield* q.start({}, Duration.days(1))
        const wait = tasks(q.queue, [child.taskId])
        yield* q.suspend(parent, [wait])
        yield* q.time.advance(seconds(59))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(Duration.hours(1))
        yield* q.suspend(yield* q.claimOne(), [wait])
        yield* q.time.advance(Duration.minutes(30))
        assert.deepStrictEqual(yield* q.claim(), [])
        yield* q.time.advance(Duration.minutes(31))
        assert.strictEqual((yield* q.claimOne()).runId, parent.runId)
      }))
  })
