/** What `crashEverywhere` must find, and what it must not take for a fault. */
import { assert, describe, layer } from "@effect/vitest"
import { Cause, DateTime, Duration, Effect, Exit, Layer, Option, Schedule, Schema } from "effect"
import { type Absurd, CurrentRun, Event, Step, Task } from "effect-absurd"
import * as AbsurdTest from "effect-absurd/AbsurdTest"

const Work = Task.make("work", { params: {}, success: Schema.Int, maxAttempts: 3 })
const Part = Task.make("part", { params: { n: Schema.Int } })
const Told = Event.make("told", { payload: Schema.Int })

let count = 0
/** Another number each time, whatever life it is. */
const chance = Effect.sync(() => count++)

const PartLive = Part.toLayer(() => Step.run("do", Effect.void))

type Handler = Parameters<typeof Work.toLayer<CurrentRun | Absurd.Absurd>>[0]

const explore = (handler: Handler, options: AbsurdTest.CrashOptions = {}) =>
  Effect.exit(AbsurdTest.crashEverywhere(Work, {}, options)).pipe(
    Effect.provide(Layer.merge(Work.toLayer(handler), PartLive))
  )

const it = (name: string, test: () => Effect.Effect<void, unknown, Layer.Success<typeof AbsurdTest.layer>>) =>
  layer(AbsurdTest.layer)((it) => it.effect(name, test))

const finds = (name: string, handler: Handler, expected: RegExp) =>
  it(name, () =>
    Effect.gen(function*() {
      const exit = yield* explore(handler)
      if (Exit.isSuccess(exit)) return assert.fail("no crash was found")
      assert.match(String(Cause.squash(exit.cause)), expected)
    }))

const passes = (name: string, handler: Handler, options?: AbsurdTest.CrashOptions) =>
  it(name, () =>
    Effect.gen(function*() {
      const exit = yield* explore(handler, options)
      assert.isTrue(Exit.isSuccess(exit), Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "")
    }))

describe("crashEverywhere finds", () => {
  finds(
    "a step that is named by chance",
    () =>
      Effect.gen(function*() {
        yield* Step.run(`charge ${yield* chance}`, Effect.void)
        yield* Step.run("thank", Effect.void)
        return 1
      }),
    /the step "charge \d+" 1 times instead of 0/
  )

  finds(
    "a step that is chosen by chance",
    () =>
      Effect.gen(function*() {
        if ((yield* chance) % 2 === 0) yield* Step.run("heads", Effect.void)
        else yield* Step.run("tails", Effect.void)
        return 1
      }),
    /the step "(heads|tails)" 1 times instead of 0/
  )

  finds(
    "a step that is not reached any more",
    () =>
      Effect.gen(function*() {
        const { attempt } = yield* CurrentRun
        if (attempt === 1) yield* Step.run("welcome", Effect.void)
        yield* Step.run("work", Effect.void)
        return 1
      }),
    /the step "welcome" 0 times instead of 1/
  )

  finds(
    "a step that was begun without a look at whether it is completed",
    () =>
      Effect.gen(function*() {
        const step = yield* Step.begin("upload")
        yield* step.complete(1)
        yield* Step.run("thank", Effect.void)
        return 1
      }),
    /the step "upload" ran again although its result had been stored/
  )

  finds(
    "a child that is spawned anew",
    () =>
      Effect.gen(function*() {
        yield* Part.spawn({ n: yield* chance })
        yield* Step.run("thank", Effect.void)
        return 1
      }),
    /a task "part", completed, with the params \{"n":\d+\} and the steps \["do"\] 1 times instead of 0/
  )

  finds(
    "an event that is named by chance",
    () =>
      Effect.gen(function*() {
        yield* Effect.orDie(Told.emit(`${yield* chance}`, 1))
        yield* Step.run("thank", Effect.void)
        return 1
      }),
    /the event "told:\d+" [12] times instead of 0/
  )
})

describe("crashEverywhere bears", () => {
  passes("values that differ where a step ran again", () =>
    Effect.gen(function*() {
      yield* Step.run("id", chance)
      yield* Step.run("use", Effect.void)
      return 1
    }))

  passes("ids in names, params and events", () =>
    Effect.gen(function*() {
      const { taskId } = yield* CurrentRun
      yield* Step.run(`of ${taskId}`, Effect.void)
      yield* Effect.orDie(Told.emit(taskId, 1))
      return 1
    }))

  passes(
    "what chance may decide, when it is told so",
    () =>
      Effect.gen(function*() {
        yield* Step.run(`race/${yield* chance}`, Effect.void)
        if ((yield* chance) % 3 === 0) yield* Part.spawn({ n: 1 })
        yield* Effect.orDie(Told.emit(`${yield* chance}`, 1))
        yield* Step.run("thank", Effect.void)
        return 1
      }),
    {
      steps: (name) => !/race|part/.test(name),
      tasks: (name) => name !== "part",
      events: (name) => !name.startsWith("told:")
    }
  )
})

describe("crashEverywhere lets time pass", () => {
  let tries = 0
  const flaky = Effect.suspend(() => ++tries % 3 === 0 ? Effect.succeed(tries) : Effect.fail("busy"))

  passes("for the retries of a step", () =>
    Effect.gen(function*() {
      yield* Step.run("flaky", Effect.orDie(Effect.retry(flaky, Schedule.spaced("7 seconds"))))
      return 1
    }), { before: Effect.sync(() => (tries = 0)) })

  passes("for the time limit of a step", () =>
    Effect.gen(function*() {
      const ended = yield* Step.run("slow", Effect.never, { timeout: "3 minutes" }).pipe(
        Effect.catchTag("Timeout", () => Effect.void)
      )
      yield* Step.run("after", Effect.succeed(ended))
      return 1
    }))

  it("and sets it back", () =>
    Effect.gen(function*() {
      const exit = yield* explore(() => Effect.as(Step.sleep("month", "30 days"), 1))
      assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual(yield* AbsurdTest.now, AbsurdTest.start)
      const found = yield* explore(() =>
        Effect.gen(function*() {
          yield* Step.run(`${yield* chance}`, Effect.void)
          yield* Step.sleep("day", "1 day")
          return 1
        })
      )
      assert.isTrue(Exit.isFailure(found))
      assert.deepStrictEqual(yield* AbsurdTest.now, AbsurdTest.start)
    }))
})

describe("crashEverywhere goes on", () => {
  const done: Array<string> = []

  it("until other tasks have ended too", () =>
    Effect.gen(function*() {
      let least = Infinity
      const exit = yield* explore(
        () =>
          Effect.gen(function*() {
            yield* Step.run("book", Effect.succeed("seat")).pipe(
              Step.withCompensation("release", () => Effect.sync(() => void done.push("released")))
            )
            return yield* Effect.die("full")
          }),
        {
          before: Effect.sync(() => (done.length = 0)),
          after: Effect.sync(() => {
            least = Math.min(least, done.length)
          })
        }
      )
      assert.isTrue(Exit.isSuccess(exit), Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "")
      assert.strictEqual(least, 1)
    }))

  it("with an attempt more only when a crash has taken one", () =>
    Effect.gen(function*() {
      const attempts: Array<number> = []
      const Once = Task.make("once", { params: {}, maxAttempts: 2 })
      const { outcome } = yield* AbsurdTest.crashEverywhere(Once, {}, {
        after: Effect.gen(function*() {
          const [task] = yield* AbsurdTest.spawned(Once)
          attempts.push((yield* AbsurdTest.inspect(task!)).attempts)
        })
      }).pipe(
        Effect.provide(Once.toLayer(() => Effect.andThen(Step.run("one", Effect.void), Effect.die(new Error("no")))))
      )
      assert.strictEqual(outcome.state, "failed")
      assert.strictEqual(attempts[0], 2)
      // A crash before the first claim takes none.
      assert.strictEqual(attempts[1], 2)
      assert.include(attempts, 3)
      assert.isAtMost(Math.max(...attempts), 3)
    }))

  it("while others work in their own stores", () =>
    Effect.gen(function*() {
      const handler: Handler = () =>
        Effect.gen(function*() {
          yield* Step.run("one", Effect.void)
          yield* Step.sleep("hour", "1 hour")
          return 1
        })
      const beside = Effect.gen(function*() {
        for (let n = 0; n < 300; n++) {
          const part = yield* Part.spawn({ n })
          yield* AbsurdTest.runUntilIdle()
          yield* AbsurdTest.expectCompleted(part)
          assert.strictEqual((yield* AbsurdTest.spawned(Part)).length, n + 1)
        }
      })
      const crash = AbsurdTest.crashEverywhere(Work, {})
      const [one, other] = yield* Effect.all([crash, crash, beside], { concurrency: "unbounded" }).pipe(
        Effect.provide(Layer.merge(Work.toLayer(handler), PartLive))
      )
      assert.deepStrictEqual(one.points, other.points)
      assert.deepStrictEqual(yield* AbsurdTest.spawned(Work), [])
    }))
})

describe("the workers of tests", () => {
  const clocked = (self: Effect.Effect<number, never, CurrentRun>) => Effect.provide(Work.toLayer(() => self))

  it("advance through the retries of a step", () => {
    let tries = 0
    return Effect.gen(function*() {
      const work = yield* Work.spawn({})
      yield* AbsurdTest.advance("10 seconds")
      assert.strictEqual(tries, 3)
      yield* AbsurdTest.advance("1 minute")
      yield* AbsurdTest.expectCompleted(work, 5)
      assert.deepStrictEqual(yield* AbsurdTest.now, DateTime.add(AbsurdTest.start, { seconds: 70 }))
    }).pipe(clocked(
      Step.run("flaky", Effect.suspend(() => ++tries < 5 ? Effect.fail("busy" as const) : Effect.succeed(tries)), {
        retry: Schedule.spaced("5 seconds")
      }).pipe(Effect.orDie)
    ))
  })

  it("advance through the time limit of a step", () =>
    Effect.gen(function*() {
      const work = yield* Work.spawn({})
      yield* AbsurdTest.advance("9 seconds")
      assert.strictEqual((yield* AbsurdTest.inspect(work)).state, "running")
      const results = yield* AbsurdTest.advance("1 second")
      assert.deepStrictEqual(results, [{ _tag: "Completed" }])
      yield* AbsurdTest.expectCompleted(work, 7)
    }).pipe(clocked(
      Step.run("slow", Effect.never, { timeout: "10 seconds" }).pipe(
        Effect.catchTag("Timeout", () => Effect.succeed(7))
      )
    )))

  it("keep the leases of what waits for the clock, and run what is due meanwhile", () =>
    Effect.gen(function*() {
      const work = yield* Work.spawn({})
      const part = yield* Part.spawn({ n: 1 }, { delay: "10 minutes" })
      yield* AbsurdTest.advance("20 minutes")
      yield* AbsurdTest.expectCompleted(part)
      assert.strictEqual((yield* AbsurdTest.inspect(work)).state, "running")
      yield* AbsurdTest.advance("40 minutes")
      yield* AbsurdTest.expectCompleted(work, 1)
      assert.strictEqual((yield* AbsurdTest.inspect(work)).attempts, 1)
    }).pipe(
      clocked(Step.run("long", Effect.as(Effect.sleep("1 hour"), 1))),
      Effect.provide(PartLive)
    ))

  it("say so when a run waits for the clock and time may not pass", () =>
    Effect.gen(function*() {
      const work = yield* Work.spawn({})
      for (const run of [AbsurdTest.runDue(), AbsurdTest.runUntilIdle()]) {
        const exit = yield* Effect.exit(run)
        assert.include(Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "", "use advance")
        // Handed back, as by a worker that stops.
        assert.strictEqual((yield* AbsurdTest.inspect(work)).attempts, 1)
        assert.strictEqual((yield* AbsurdTest.inspect(work)).state, "sleeping")
      }
      yield* AbsurdTest.advance("1 minute")
      yield* AbsurdTest.expectCompleted(work, 1)
    }).pipe(clocked(Step.run("nap", Effect.as(Effect.sleep("1 minute"), 1)))))

  it("wait for what is outside of the clock", () =>
    Effect.gen(function*() {
      const work = yield* Work.spawn({})
      yield* AbsurdTest.runUntilIdle()
      yield* AbsurdTest.expectCompleted(work, 3)
      assert.deepStrictEqual(yield* AbsurdTest.now, AbsurdTest.start)
    }).pipe(clocked(
      Step.run("request", Effect.promise(() => new Promise<number>((resolve) => setTimeout(() => resolve(3), 30))))
    )))

  it("know what comes next", () =>
    Effect.gen(function*() {
      assert.isUndefined(yield* AbsurdTest.nextDue())
      yield* Part.spawn({ n: 1 })
      assert.isUndefined(yield* AbsurdTest.nextDue())
      yield* Part.spawn({ n: 2 }, { delay: "90 millis" })
      yield* Part.spawn({ n: 3 }, { delay: "1 hour", cancellation: { maxDelay: "1 second" } })
      const after = (millis: Duration.Input) => DateTime.addDuration(AbsurdTest.start, millis)
      assert.deepStrictEqual(yield* AbsurdTest.nextDue(), after("90 millis"))
      yield* AbsurdTest.advance("90 millis").pipe(Effect.provide(PartLive))
      assert.deepStrictEqual(
        Option.fromUndefinedOr(yield* AbsurdTest.nextDue()),
        Option.some(after(Duration.hours(1)))
      )
    }))
})
