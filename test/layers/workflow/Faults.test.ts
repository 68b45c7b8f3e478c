/** What an engine does when the store refuses, loses answers, or says nothing at all, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Option, Ref, Schema, Scope } from "effect"
import { Absurd } from "effect-absurd"
import type * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { TestClock } from "effect/testing"
import { Activity, DurableClock, DurableDeferred, Workflow, WorkflowEngine } from "effect/workflow"
import * as FaultyStore from "../../faults/FaultyStore.ts"
import { eventually, makeLog, makeProcess, settled } from "./Support.ts"

const queue = "workflows"
const options: AbsurdWorkflowEngine.Options = { queue, lease: "1 minute", pollInterval: "250 millis" }

const inStore = <A, E>(
  body: (
    faults: FaultyStore.Faults
  ) => Effect.Effect<A, E, Layer.Success<ReturnType<typeof FaultyStore.make>["layer"]> | Scope.Scope>
) =>
  Effect.suspend(() => {
    const { faults, layer } = FaultyStore.make()
    return Effect.andThen(Absurd.createQueue(queue), Effect.scoped(body(faults))).pipe(Effect.provide(layer))
  })

/** The fiber's result, and how long it took by the clock, which moves only when everybody had many turns. */
const timed = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function*() {
    let passed = 0
    yield* Effect.repeat(
      turns.pipe(Effect.andThen(TestClock.adjust("100 millis")), Effect.andThen(Effect.sync(() => ++passed))),
      { until: () => fiber.pollUnsafe() !== undefined || passed > 3000 }
    )
    const exit = fiber.pollUnsafe()
    assert.isDefined(exit, "still not done after five minutes")
    return { seconds: passed / 10, value: yield* exit! }
  })

/**
 * The values that started executions come to, to be {@link timed}. Executing them would make their ids first, which takes real
 * time, and that has nothing to do with the clock.
 */
const ends = (
  engine: WorkflowEngine.WorkflowEngine["Service"],
  started: ReadonlyArray<readonly [workflow: ReturnType<typeof make>, executionId: string]>
) =>
  Effect.forkChild(Effect.forEach(started, ([workflow, executionId]) =>
    Effect.flatMap(
      eventually(Effect.map(
        engine.poll(workflow, executionId),
        Option.flatMap((result) => result._tag === "Complete" ? Option.some(result.exit) : Option.none())
      )),
      (exit) => exit
    )))

const turns = Effect.repeat(Effect.yieldNow, { times: 100 })

const Go = DurableDeferred.make("go", { success: Schema.String })

const make = (name: string) =>
  Workflow.make(name, { payload: { id: Schema.String }, idempotencyKey: ({ id }) => id, success: Schema.Unknown })

const [Parent, Child] = [make("Parent"), make("Child")]

const makeLive = Effect.map(makeLog, (log) => ({
  log: log.all,
  workflows: Layer.mergeAll(
    Parent.toLayer(Effect.fn(function*({ id }) {
      yield* Activity.make({ name: "first", execute: log.add("first") })
      const told = yield* DurableDeferred.await(Go)
      const child = yield* Child.execute({ id })
      yield* Activity.make({ name: "last", execute: log.add("last") })
      return [told, child]
    })),
    Child.toLayer(() => Activity.make({ name: "child", success: Schema.Int, execute: Effect.as(log.add("child"), 7) }))
  )
}))

const go = (id: string) =>
  Effect.flatMap(Parent.executionId({ id }), (executionId) =>
    DurableDeferred.succeed(Go, {
      token: DurableDeferred.tokenFromExecutionId(Go, { workflow: Parent, executionId }),
      value: "gone"
    }))

const operations = ["spawn", "claim", "setCheckpoints", "readEvents", "suspend", "emit", "results", "complete"]

describe("an execution comes to its end, everything done once,", () => {
  for (const operation of operations) {
    for (const fault of ["refused", "lost", "silent"] as const) {
      it.effect(`when the first requests to ${operation} are ${fault}`, () =>
        inStore((faults) =>
          Effect.gen(function*() {
            const { log, workflows } = yield* makeLive
            const engine = yield* makeProcess(options, workflows)
            faults.decide = FaultyStore.first(operation, fault, 2)
            const fiber = yield* Effect.forkChild(
              Effect.all([Parent.execute({ id: "1" }), Parent.execute({ id: "2" }), go("1"), go("2")], {
                concurrency: "unbounded"
              }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, engine))
            )
            const { seconds, value: [first, second] } = yield* timed(fiber)
            assert.deepStrictEqual([first, second], [["gone", 7], ["gone", 7]])
            assert.deepStrictEqual([...yield* log].sort(), ["child", "child", "first", "first", "last", "last"])
            assert.isAtMost(seconds, fault === "silent" ? 90 : 30)
          })
        ))
    }
  }
})

describe("an engine", () => {
  it.effect("stops in time although code does not end when it is interrupted", () =>
    inStore(() =>
      Effect.gen(function*() {
        const W = make("Stubborn")
        const started = yield* Deferred.make<void>()
        const scope = yield* Scope.fork(yield* Effect.scope)
        const engine = yield* Scope.provide(
          makeProcess(
            { ...options, shutdownGrace: "5 seconds" },
            W.toLayer(() =>
              Activity.make({
                name: "stubborn",
                execute: Effect.andThen(Deferred.succeed(started, undefined), Effect.uninterruptible(Effect.never))
              })
            )
          ),
          scope
        )
        yield* Effect.provideService(W.execute({ id: "1" }, { discard: true }), WorkflowEngine.WorkflowEngine, engine)
        yield* Deferred.await(started)
        const fiber = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        const { seconds } = yield* timed(fiber)
        assert.isAtMost(seconds, 11)
      })
    ))

  it.effect("that stops hands back what it is claiming, and loses no other execution", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const W = make("Claimed")
        const client = yield* makeProcess(options)
        const on = Effect.provideService(WorkflowEngine.WorkflowEngine, client)
        yield* on(W.execute({ id: "1" }, { discard: true }))
        faults.decide = FaultyStore.first("claim", "lost")
        const scope = yield* Scope.fork(yield* Effect.scope)
        yield* Scope.provide(makeProcess(options, W.toLayer(() => Effect.never)), scope)
        yield* eventually(Effect.sync(() => faults.log.includes("claim") ? Option.some(true) : Option.none()))
        yield* timed(yield* Effect.forkChild(Scope.close(scope, Exit.void)))
        yield* makeProcess(options, W.toLayer(() => Effect.succeed("done")))
        const { seconds, value } = yield* timed(yield* Effect.forkChild(on(W.execute({ id: "1" }))))
        assert.strictEqual(value, "done")
        assert.isAtMost(seconds, 5)
      })
    ))

  it.effect("asks once per poll about all executions that run, and tells of an end with the end itself", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const W = make("Live")
        const ids = Array.from({ length: 100 }, (_, number) => String(number))
        const running = yield* Ref.make(0)
        const endless = Activity.make({
          name: "endless",
          success: Schema.String,
          execute: Effect.andThen(Ref.update(running, (n) => n + 1), Effect.never)
        })
        const engine = yield* makeProcess(
          { ...options, concurrency: 100 },
          W.toLayer(() =>
            DurableDeferred.raceAll({
              name: "race",
              success: Schema.String,
              error: Schema.Never,
              effects: [DurableDeferred.await(Go), endless]
            })
          )
        )
        const on = Effect.provideService(WorkflowEngine.WorkflowEngine, engine)
        const started = yield* on(Effect.forEach(ids, (id) => W.execute({ id }, { discard: true })))
        yield* eventually(Effect.map(Ref.get(running), (n) => n === 100 ? Option.some(n) : Option.none()))
        yield* TestClock.adjust("1 second")
        faults.log.length = 0
        for (let passed = 0; passed < 10; passed++) yield* TestClock.adjust("250 millis")
        const asked = faults.log.filter((operation) => operation === "readEvents").length
        assert.isAtLeast(asked, 9)
        assert.isAtMost(asked, 11)
        // Another process completes them.
        const client = yield* makeProcess(options)
        yield* Effect.forEach(started, (executionId) =>
          DurableDeferred.succeed(Go, {
            token: DurableDeferred.tokenFromExecutionId(Go, { workflow: W, executionId }),
            value: executionId
          })).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, client))
        faults.log.length = 0
        const { seconds, value } = yield* timed(yield* ends(engine, started.map((id) => [W, id])))
        assert.deepStrictEqual(value, started)
        assert.isAtMost(seconds, 1)
        // Each race keeps its winner.
        assert.isAtMost(faults.log.filter((operation) => operation === "emit").length, 100)
      })
    ))

  it.effect("asks for no result that it has stored itself, and looks once for an interrupt", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const W = make("Short")
        const act = (name: string) => Activity.make({ name, execute: Effect.void })
        const engine = yield* makeProcess(
          options,
          W.toLayer(() => act("a").pipe(Effect.andThen(act("b")), Effect.andThen(act("c")), Effect.as("done")))
        )
        faults.log.length = 0
        const fiber = yield* Effect.forkChild(
          Effect.provideService(W.execute({ id: "1" }), WorkflowEngine.WorkflowEngine, engine)
        )
        assert.strictEqual((yield* timed(fiber)).value, "done")
        // Not what the claim loop and the heart ask.
        const log = faults.log.filter((operation) => operation !== "claim" && operation !== "extend")
        assert.deepStrictEqual(log, [
          "spawn",
          "readEvents",
          "setCheckpoints",
          "setCheckpoints",
          "setCheckpoints",
          "complete"
        ])
      })
    ))

  it.effect("fires no clock before it is due, however long its claim was under way", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const W = make("Patient")
        const engine = yield* makeProcess(
          options,
          W.toLayer(Effect.fn(function*() {
            const nap = DurableClock.sleep({ name: "nap", duration: "10 seconds", inMemoryThreshold: 0 })
            const [value] = yield* Effect.all([DurableDeferred.await(Go), nap], { concurrency: 2 })
            return value
          }))
        )
        const executionId = yield* W.executionId({ id: "1" })
        const token = DurableDeferred.tokenFromExecutionId(Go, { workflow: W, executionId })
        yield* Effect.gen(function*() {
          yield* W.execute({ id: "1" }, { discard: true })
          yield* settled(W, executionId)
          const fiber = yield* ends(engine, [[W, executionId]])
          yield* TestClock.adjust("5 seconds")
          faults.decide = FaultyStore.first("claim", "late")
          yield* DurableDeferred.succeed(Go, { token, value: "gone" })
          const { seconds, value } = yield* timed(fiber)
          assert.deepStrictEqual(value, ["gone"])
          assert.isAtLeast(seconds, 4.9)
          assert.isAtMost(seconds, 5.5)
        }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, engine))
      })
    ))

  it.effect("wakes an execution by the clock that was being stored when the body came to its end", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const W = make("Hasty")
        const engine = yield* makeProcess(
          options,
          W.toLayer(Effect.fn(function*() {
            const nap = DurableClock.sleep({ name: "nap", duration: "10 seconds", inMemoryThreshold: 0 })
            return yield* Effect.raceFirst(DurableDeferred.await(Go), Effect.as(nap, "slept"))
          }))
        )
        const executionId = yield* W.executionId({ id: "1" })
        yield* Effect.gen(function*() {
          // The wait finds nothing and ends the body, while the clock is on its way.
          faults.decide = FaultyStore.first("setCheckpoints", "late")
          yield* W.execute({ id: "1" }, { discard: true })
          const { seconds, value } = yield* timed(yield* ends(engine, [[W, executionId]]))
          assert.deepStrictEqual(value, ["slept"])
          assert.isAtLeast(seconds, 9.9)
          assert.isAtMost(seconds, 11)
        }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, engine))
      })
    ))

  it.effect("that executes one workflow does not hold up those of others", () =>
    inStore(() =>
      Effect.gen(function*() {
        const [A, B] = [make("A"), make("B")]
        const a = yield* makeProcess(options, A.toLayer(() => Effect.succeed("a")))
        yield* makeProcess(options, B.toLayer(() => Effect.succeed("b")))
        for (let number = 0; number < 20; number++) {
          const started = yield* Effect.forEach([A, B], (workflow) =>
            Effect.map(
              workflow.execute({ id: `${number}` }, { discard: true }),
              (executionId) => [workflow, executionId] as const
            )).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, a))
          const { seconds, value } = yield* timed(yield* ends(a, started))
          assert.deepStrictEqual(value, ["a", "b"])
          assert.isAtMost(seconds, 1)
        }
      })
    ))

  it.effect("claims a workflow as soon as it is registered, although it had to leave it alone before", () =>
    inStore((faults) =>
      Effect.gen(function*() {
        const [A, B] = [make("A"), make("B")]
        const client = yield* makeProcess(options)
        const on = Effect.provideService(WorkflowEngine.WorkflowEngine, client)
        const ids = ["1", "2", "3"]
        const started = yield* on(Effect.forEach(ids, (id) => B.execute({ id }, { discard: true })))
        const engine = yield* makeProcess(options, A.toLayer(() => Effect.succeed("a")))
        yield* TestClock.adjust("1 second")
        // What it does not know it does not ask for again and again.
        assert.strictEqual(faults.log.filter((operation) => operation === "release").length, 1)
        yield* Effect.provideService(
          Layer.build(B.toLayer(() => Effect.succeed("b"))),
          WorkflowEngine.WorkflowEngine,
          engine
        )
        const { seconds, value } = yield* timed(yield* ends(client, started.map((id) => [B, id])))
        assert.deepStrictEqual(value, ["b", "b", "b"])
        assert.isAtMost(seconds, 1)
      })
    ))
})
