/** Tasks that began under other code than the one they go on under, on any store. */
import { assert, layer } from "@effect/vitest"
import { type Duration, Effect, Layer, Ref, Schema } from "effect"
import { Absurd, type CurrentRun, Event, Hooks, RetryStrategy, Step, Task, TaskHandle, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { failureOf, makeLog, makeQueue, runUntilIdle } = Program

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

type Code = Effect.Effect<Schema.Json | void, never, CurrentRun | Absurd.Absurd>

interface Change {
  readonly before: Code
  readonly after: Code
  /** The failure that the new code ends with, and what its message has to say beside the remedy. */
  readonly name: "InvalidUse" | "DecodeError"
  readonly says: ReadonlyArray<string>
}

const x = Step.run("x", Effect.succeed("a text"))

const changes: Record<string, Change> = {
  "a step whose schema has become another one": {
    before: x,
    after: Step.run("x", Effect.succeed(1), { success: Schema.Int }),
    name: "DecodeError",
    says: [`result of step "x"`, "Expected"]
  },
  "a step in a loop and in a branch, whose schema has become another one": {
    before: Step.scoped("branch")(Effect.andThen(x, x)),
    after: Step.scoped("branch")(Effect.andThen(x, Step.run("x", Effect.succeed(1), { success: Schema.Int }))),
    name: "DecodeError",
    says: [`result of step "branch/x#2"`, "Expected"]
  },
  "a remembered error whose schema has become another one": {
    before: Effect.ignore(
      Step.run("x", Effect.fail(new Refused()), { success: Schema.Void, error: Refused })
    ),
    after: Effect.ignore(
      Step.run("x", Effect.fail("other" as const), { success: Schema.Void, error: Schema.Literal("other") })
    ),
    name: "DecodeError",
    says: [`error of step "x"`, "Expected"]
  },
  "a step that has come to remember its errors": {
    before: x,
    after: Effect.ignore(Step.run("x", Effect.succeed("other"), { success: Schema.String, error: Refused })),
    name: "InvalidUse",
    says: [`Step "x"`, "without an error schema"]
  },
  "a step that has begun and is completed by one of another schema": {
    before: Effect.flatMap(Step.begin("x"), (step) => step.complete("a text")),
    after: Effect.flatMap(Step.begin("x", { success: Schema.Int }), (step) => step.complete(1)),
    name: "DecodeError",
    says: [`result of step "x"`, "Expected"]
  },
  "a transaction whose schema has become another one": {
    before: Step.transaction("x", Effect.succeed("a text")),
    after: Step.transaction("x", Effect.succeed(1), { success: Schema.Int }),
    name: "DecodeError",
    says: [`result of step "x"`, "Expected"]
  },
  "a step that was a race": {
    before: Step.race("x", { a: Effect.succeed(1) }),
    after: Step.run("x", Effect.succeed(1), { success: Schema.Int }),
    name: "DecodeError",
    says: [`result of step "x"`, "Expected"]
  },
  "a race that was a step": {
    before: x,
    after: Step.race("x", { a: Effect.succeed(1) }),
    name: "InvalidUse",
    says: [`Step "x"`, "was no race"]
  },
  "a race whose winner is gone": {
    before: Step.race("x", { a: Effect.succeed(1), b: Effect.never }),
    after: Step.race("x", { b: Effect.succeed(1), c: Effect.succeed(2) }),
    name: "InvalidUse",
    says: [`Step "x"`, `was won by the branch "a"`]
  },
  "a timeout that was a race": {
    before: Step.race("x", { a: Effect.succeed(1), b: Effect.never }),
    after: Effect.orDie(Step.timeout(Effect.succeed(1), "x", "1 day")),
    name: "InvalidUse",
    says: [`Step "x"`, `was won by the branch "a"`]
  },
  "a sleep that was a step": {
    before: x,
    after: Step.sleep("x", "1 hour"),
    name: "InvalidUse",
    says: [`Step "x"`, "was no sleep"]
  }
}

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    /** A job that has been suspended behind `before`. */
    const begin = Effect.fnUntraced(function*(before: Code) {
      const queue = yield* makeQueue
      const { advance } = yield* TestTime
      const Job = Task.make("job", { queue, params: {}, success: Schema.Json, maxAttempts: 1 })
      const under = (code: Code) =>
        Job.toLayer(() => Effect.map(code, (value) => value ?? null)).pipe((live) =>
          Effect.provide(runUntilIdle(queue), live)
        )
      const task = yield* Job.spawn({})
      yield* under(Effect.andThen(before, Step.sleep("until the change", "1 hour")))
      assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).state, "sleeping")
      yield* advance("1 hour")
      return { queue, task, under }
    })

    it.effect.each(Object.entries(changes))(
      "%s ends the task with what to do about it",
      ([, change]) =>
        Effect.gen(function*() {
          const { queue, task, under } = yield* begin(change.before)
          yield* under(change.after)
          const failure = yield* failureOf(queue, task.taskId)
          assert.strictEqual(failure.name, change.name, failure.message)
          for (const text of change.says) assert.include(failure.message, text)
          assert.match(failure.message, /another name|keep/)
        })
    )

    it.effect("steps that are gone are not missed, new ones run, and waits end when they were to end", () =>
      Effect.gen(function*() {
        const Never = (queue: string) => Event.make("never", { queue })
        const { queue, task, under } = yield* begin(Effect.andThen(x, Step.run("y", Effect.succeed(1))))
        const waits = (sleep: Duration.Input, timeout: Duration.Input) =>
          Effect.all([
            Step.sleep("nap", sleep),
            Effect.ignore(Never(queue).wait("", { timeout }))
          ], { concurrency: "unbounded", discard: true })
        yield* under(Effect.andThen(Step.run("z", Effect.succeed(2)), waits("1 hour", "2 hours")))
        const { advance } = yield* TestTime
        yield* advance("2 hours")
        yield* under(Effect.as(Effect.andThen(waits("1 day", "2 days"), Step.run("z", Effect.succeed(3))), "done"))
        assert.strictEqual(yield* task.await, "done")
        const stored = yield* Program.checkpointsOf(queue, task.taskId)
        assert.deepInclude(stored, { x: "a text", y: 1, z: 2 })
      }))

    it.effect("the first of several tasks that is not among them any more is missed", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { advance } = yield* TestTime
        const changed = yield* Ref.make(false)
        const Child = Task.make("child", { queue, params: { wait: Schema.Boolean }, success: Schema.Boolean })
        const Parent = Task.make("parent", { queue, params: {}, success: Schema.Boolean, maxAttempts: 1 })
        const live = Layer.mergeAll(
          Child.toLayer(({ wait }) => Effect.as(wait ? Step.sleep("long", "1 day") : Effect.void, wait)),
          Parent.toLayer(Effect.fn(function*() {
            const [slow, quick, other] = yield* Child.spawnMany([{ wait: true }, { wait: false }, { wait: true }])
            const won = yield* TaskHandle.any((yield* Ref.get(changed)) ? [slow!, other!] : [slow!, quick!])
            yield* Step.sleep("until the change", "1 hour")
            return won
          }, Effect.orDie))
        )
        yield* Effect.gen(function*() {
          const task = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          yield* Ref.set(changed, true)
          yield* advance("1 hour")
          yield* runUntilIdle(queue)
          const failure = yield* failureOf(queue, task.taskId)
          assert.strictEqual(failure.name, "InvalidUse")
          assert.include(failure.message, "$any:")
          assert.include(failure.message, "keep it among them")
        }).pipe(Effect.provide(live))
      }))

    it.effect("a number of children that has become another one is refused", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { advance } = yield* TestTime
        const count = yield* Ref.make(2)
        const Child = Task.make("child", { queue, params: {} })
        const Parent = Task.make("parent", { queue, params: {}, maxAttempts: 1 })
        const live = Parent.toLayer(Effect.fn(function*() {
          const n = yield* Ref.get(count)
          yield* Child.spawnMany(Array.from({ length: n }, () => ({})), { delay: "1 day" })
          yield* Step.sleep("until the change", "1 hour")
        }))
        yield* Effect.gen(function*() {
          const task = yield* Parent.spawn({})
          yield* runUntilIdle(queue)
          yield* Ref.set(count, 3)
          yield* advance("1 hour")
          yield* runUntilIdle(queue)
          const failure = yield* failureOf(queue, task.taskId)
          assert.strictEqual(failure.name, "InvalidUse")
          assert.include(failure.message, `Step "$spawn:child"`)
        }).pipe(Effect.provide(live))
      }))

    it.effect.each([1, 3])(
      "%d children that were spawned before a crash are those that count, with their params",
      (n) =>
        Effect.gen(function*() {
          const queue = yield* makeQueue
          const executions = yield* Ref.make(0)
          const ran = yield* makeLog
          const Child = Task.make("child", { queue, params: { by: Schema.Int, n: Schema.Int }, success: Schema.Int })
          const Parent = Task.make("parent", {
            queue,
            params: {},
            success: Schema.Array(Schema.Int),
            retry: RetryStrategy.none
          })
          // The store has them, and the execution ends before it is told.
          const crash = Hooks.layerSpawn(({ tasks }, next) =>
            Effect.flatMap(Ref.get(executions), (execution) =>
              Effect.tap(
                next(tasks),
                () => execution === 1 && tasks[0]?.name === "child" ? Effect.die("crash") : Effect.void
              ))
          )
          const live = Layer.mergeAll(
            Child.toLayer(({ by, n }) => Effect.as(ran.add(`${n} by ${by}`), by)),
            Parent.toLayer(Effect.fn(function*() {
              const by = yield* Ref.updateAndGet(executions, (n) => n + 1)
              const params = Array.from({ length: n }, (_, n) => ({ by, n }))
              const children = n === 1 ? [yield* Child.spawn(params[0]!)] : yield* Child.spawnMany(params)
              return yield* TaskHandle.all(children)
            }, Effect.orDie))
          )
          yield* Effect.gen(function*() {
            const task = yield* Parent.spawn({})
            assert.deepStrictEqual(yield* Effect.provide(Worker.runOnce({ queue }), crash), [
              { _tag: "Failed", final: false }
            ])
            yield* runUntilIdle(queue)
            assert.deepStrictEqual(yield* task.await, Array.from({ length: n }, () => 1))
            assert.deepStrictEqual([...yield* ran.all].sort(), Array.from({ length: n }, (_, n) => `${n} by 1`))
          }).pipe(Effect.provide(live))
        })
    )
  })
