/** Executions, their results, activities and replays. */
import { assert, layer } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Option, Ref, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import { Activity, DurableDeferred, Workflow } from "effect/workflow"
import type { TestTime } from "../../support/TestTime.ts"
import { inProcess, makeLog, settled } from "./Support.ts"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}

const Order = Workflow.make("Order", {
  payload: { id: Schema.String, at: Schema.Date },
  idempotencyKey: ({ id }) => id,
  success: Schema.Struct({ at: Schema.Date, price: Schema.BigInt }),
  error: OutOfStock
})

const at = new Date("2026-01-05T00:00:00Z")

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("an execution runs once per idempotency key and gives everybody its result", () =>
      Effect.gen(function*() {
        const runs = yield* Ref.make(0)
        yield* inProcess(
          Order.toLayer(({ at }) => Effect.as(Ref.update(runs, (n) => n + 1), { at, price: 12n })),
          Effect.gen(function*() {
            const executionId = yield* Order.executionId({ id: "1", at })
            assert.isTrue(Option.isNone(yield* Order.poll(executionId)))
            const both = yield* Effect.all([Order.execute({ id: "1", at }), Order.execute({ id: "1", at })], {
              concurrency: 2
            })
            assert.deepStrictEqual(both, [{ at, price: 12n }, { at, price: 12n }])
            assert.deepStrictEqual(yield* Order.execute({ id: "1", at: new Date(0) }), { at, price: 12n })
            assert.strictEqual(yield* Ref.get(runs), 1)
            assert.deepStrictEqual(
              yield* Order.poll(executionId),
              Option.some(new Workflow.Complete({ exit: Exit.succeed({ at, price: 12n }) }))
            )
          })
        )
      }))

    it.effect("a typed failure, a defect and an interruption of the body are results", () =>
      Effect.gen(function*() {
        yield* inProcess(
          Order.toLayer(({ id }) =>
            id === "fails"
              ? Effect.fail(new OutOfStock({ sku: "widget" }))
              : id === "dies"
              ? Effect.die(new Error("kaputt"))
              : Effect.interrupt
          ),
          Effect.gen(function*() {
            assert.deepStrictEqual(
              yield* Effect.flip(Order.execute({ id: "fails", at })),
              new OutOfStock({ sku: "widget" })
            )
            const died = yield* Effect.exit(Order.execute({ id: "dies", at }))
            assert.isTrue(Exit.isFailure(died) && Cause.hasDies(died.cause))
            assert.include(String(Exit.isFailure(died) && Cause.squash(died.cause)), "kaputt")
            const interrupted = yield* Effect.exit(Order.execute({ id: "interrupts", at }))
            assert.isTrue(Exit.isFailure(interrupted) && Cause.hasInterruptsOnly(interrupted.cause))
          })
        )
      }))

    it.effect("a defect that is not captured kills those who wait or look", () =>
      Effect.gen(function*() {
        const Bare = Order.annotate(Workflow.CaptureDefects, false)
        yield* inProcess(
          Bare.toLayer(() => Effect.die(new Error("kaputt"))),
          Effect.gen(function*() {
            const exit = yield* Effect.exit(Bare.execute({ id: "1", at }))
            assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
            const polled = yield* Effect.exit(Bare.poll(yield* Bare.executionId({ id: "1", at })))
            assert.isTrue(Exit.isFailure(polled) && Cause.hasDies(polled.cause))
          })
        )
      }))

    it.effect("discard returns the id at once, and detached needs it", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        yield* inProcess(
          Order.toLayer(({ at }) => Effect.as(Deferred.await(gate), { at, price: 1n })),
          Effect.gen(function*() {
            const executionId = yield* Order.execute({ id: "1", at }, { discard: true })
            assert.strictEqual(executionId, yield* Order.executionId({ id: "1", at }))
            assert.isTrue(Option.isNone(yield* Order.poll(executionId)))
            yield* Deferred.succeed(gate, undefined)
            assert.deepStrictEqual(yield* Order.execute({ id: "1", at }), { at, price: 1n })
            // @ts-expect-error the types forbid it as well
            const detached = Order.execute({ id: "2", at }, { detached: true })
            assert.isTrue(Exit.hasDies(yield* Effect.exit(detached)))
          })
        )
      }))

    const Go = DurableDeferred.make("go", { success: Schema.String })

    it.effect("activities happen once, by name and attempt, however often the body is replayed", () =>
      Effect.gen(function*() {
        const log = yield* makeLog
        const W = Workflow.make("Acts", {
          payload: { id: Schema.String },
          idempotencyKey: ({ id }) => id,
          success: Schema.Unknown
        })
        const act = <A>(name: string, value: A) =>
          Activity.make({ name, success: Schema.Unknown, execute: Effect.as(log.add(name), value) })
        const failing = Activity.make({
          name: "failing",
          error: OutOfStock,
          execute: Effect.andThen(log.add("failing"), Effect.fail(new OutOfStock({ sku: "x" })))
        })
        const dying = Activity.make({ name: "dying", execute: Effect.andThen(log.add("dying"), Effect.die("no")) })
        const nothing = Activity.make({ name: "nothing", execute: log.add("nothing") })
        const live = W.toLayer(Effect.fn(function*() {
          const first = yield* act("a", 1)
          const again = yield* act("a", 2)
          const parallel = yield* Effect.all([act("b", "b"), act("c", [null, { d: -0 }])], { concurrency: 2 })
          const failed = yield* Effect.exit(failing)
          const died = yield* Effect.exit(dying)
          const empty = yield* nothing
          const go = yield* DurableDeferred.await(Go)
          yield* act("last", null)
          return [
            first,
            again,
            parallel,
            Exit.isFailure(failed) && Cause.squash(failed.cause) instanceof OutOfStock,
            Exit.hasDies(died),
            empty === undefined || empty === null,
            go
          ]
        }))
        yield* inProcess(
          live,
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            assert.deepStrictEqual(yield* settled(W, executionId), new Workflow.Suspended({}))
            const before = ["a", "b", "c", "failing", "dying", "nothing"]
            assert.deepStrictEqual([...yield* log.all].sort(), [...before].sort())
            yield* DurableDeferred.succeed(Go, {
              token: DurableDeferred.tokenFromExecutionId(Go, { workflow: W, executionId }),
              value: "gone"
            })
            assert.deepStrictEqual(yield* W.execute({ id: "1" }), [
              1,
              1,
              ["b", [null, { d: 0 }]],
              true,
              true,
              true,
              "gone"
            ])
            assert.deepStrictEqual([...yield* log.all].sort(), [...before, "last"].sort())
          })
        )
      }))

    it.effect("an activity is retried under new attempts, which are kept as well", () =>
      Effect.gen(function*() {
        const attempts = yield* Ref.make<ReadonlyArray<number>>([])
        const W = Workflow.make("Retrying", {
          payload: { id: Schema.String },
          idempotencyKey: ({ id }) => id,
          success: Schema.Int
        })
        const flaky = Activity.make({
          name: "flaky",
          success: Schema.Int,
          error: Schema.String,
          execute: Effect.gen(function*() {
            const attempt = yield* Activity.CurrentAttempt
            yield* Ref.update(attempts, (all) => [...all, attempt])
            return attempt < 3 ? yield* Effect.fail("not yet") : attempt
          })
        })
        yield* inProcess(
          W.toLayer(Effect.fn(function*() {
            const third = yield* Activity.retry(flaky, { times: 5 })
            yield* DurableDeferred.await(Go)
            return third
          }, Effect.orDie)),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* settled(W, executionId)
            const token = DurableDeferred.tokenFromExecutionId(Go, { workflow: W, executionId })
            yield* DurableDeferred.succeed(Go, { token, value: "" })
            assert.strictEqual(yield* W.execute({ id: "1" }), 3)
            assert.deepStrictEqual(yield* Ref.get(attempts), [1, 2, 3])
          })
        )
      }))

    it.effect("what cannot be stored becomes a defect that says so", () =>
      Effect.gen(function*() {
        const W = Workflow.make("Nul", {
          payload: { id: Schema.String },
          idempotencyKey: ({ id }) => id,
          success: Schema.String
        })
        const bad = Activity.make({ name: "bad", success: Schema.String, execute: Effect.succeed("a\u0000b") })
        yield* inProcess(
          W.toLayer(({ id }) => id === "activity" ? bad : Effect.succeed("a\u0000b")),
          Effect.gen(function*() {
            for (const id of ["activity", "result"]) {
              const exit = yield* Effect.exit(W.execute({ id }))
              assert.isTrue(Exit.isFailure(exit) && String(Cause.squash(exit.cause)).includes("NUL"), String(exit))
            }
          })
        )
      }))

    it.effect("many executions take turns in one slot", () =>
      Effect.gen(function*() {
        const running = yield* Ref.make(0)
        const most = yield* Ref.make(0)
        yield* inProcess(
          Order.toLayer(({ at }) =>
            Effect.gen(function*() {
              const now = yield* Ref.updateAndGet(running, (n) => n + 1)
              yield* Ref.update(most, (n) => Math.max(n, now))
              yield* Effect.yieldNow
              yield* Ref.update(running, (n) => n - 1)
              return { at, price: 0n }
            })
          ),
          Effect.gen(function*() {
            const fibers = yield* Effect.forEach(Array.from({ length: 20 }, (_, n) => String(n)), (id) =>
              Effect.forkChild(Order.execute({ id, at })))
            assert.strictEqual((yield* Fiber.joinAll(fibers)).length, 20)
            assert.strictEqual(yield* Ref.get(most), 1)
          }),
          { concurrency: 1 }
        )
      }))
  })
