/** What the store costs must not depend on what it has finished. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Event, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"
import { vi } from "vitest"
import { Table } from "../../../src/drivers/memory/Table.ts"

const Told = Event.make("told", { payload: Schema.Int })

const Work = Task.make("work", { params: { n: Schema.Int } })
const WorkLive = Work.toLayer(Effect.fn(function*({ n }) {
  yield* Step.run("one", Effect.void)
  yield* Step.sleep("hour", "1 hour")
  yield* Told.wait(`${n}`, { timeout: "1 day" })
}))

const Done = Task.make("done", { params: {} })
const DoneLive = Done.toLayer(() => Effect.void)

layer(Layer.merge(WorkLive, DoneLive).pipe(Layer.provideMerge(AbsurdTest.layer)))(
  "with 20,000 finished tasks",
  (it) => {
    it.effect(
      "everything costs what it costs without, and no table is read from end to end",
      () =>
        Effect.gen(function*() {
          let next = 0
          const life = Effect.gen(function*() {
            const n = next++
            const task = yield* Work.spawn({ n })
            yield* AbsurdTest.advance("1 hour")
            yield* Effect.orDie(Told.emit(`${n}`, n))
            yield* AbsurdTest.runUntilIdle()
            yield* AbsurdTest.expectCompleted(task)
          })
          const round = Effect.gen(function*() {
            const before = process.cpuUsage()
            yield* Effect.repeat(life, { times: 49 })
            const { system, user } = process.cpuUsage(before)
            return user + system
          })
          // The quickest of some rounds: whatever else the machine does only makes them slower.
          const quickest = Effect.map(
            Effect.all(Array.from({ length: 6 }, () => round)),
            (rounds) => Math.min(...rounds)
          )
          yield* quickest
          const before = yield* quickest

          for (let left = 20_000; left > 0; left -= 2000) {
            yield* Effect.repeat(Done.spawn({}), { times: 1999 })
            yield* AbsurdTest.runUntilIdle({ concurrency: 2000 })
          }
          const rows = yield* Effect.acquireRelease(
            Effect.sync(() => vi.spyOn(Table.prototype, "values")),
            // The files that follow use the same class.
            (spy) => Effect.sync(() => spy.mockRestore())
          )
          const longest = () =>
            Math.max(
              0,
              ...rows.mock.results.map(({ value }) => (value as ReadonlyArray<unknown>).length)
            )
          const after = yield* quickest
          // Names of queues and schedules are listed; there are few.
          assert.isAtMost(longest(), 1)
          assert.isBelow(after / before, 3, `${before} µs before, ${after} µs after`)
        }),
      120_000
    )
  }
)
