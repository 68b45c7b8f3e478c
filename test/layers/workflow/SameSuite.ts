/**
 * The same programs on Effect's own engine in memory and on this one: what they come to must not differ. How often a body is
 * replayed is no part of that, nor are the scopes of runs that were replaced, which that engine keeps open to the end.
 */
import { assert, layer } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Layer, Option, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import { Activity, DurableClock, DurableDeferred, Workflow, WorkflowEngine } from "effect/workflow"
import type { TestTime } from "../../support/TestTime.ts"
import * as SameShapes from "./SameShapes.ts"
import { eventually, inProcess, joinWhileTimePasses, settled, untilTrue } from "./Support.ts"

const Go = DurableDeferred.make("go", { success: Schema.String })
const Other = DurableDeferred.make("other", { success: Schema.String })

const make = (name: string) =>
  Workflow.make(name, {
    payload: { id: Schema.String },
    idempotencyKey: ({ id }) => id,
    success: Schema.Unknown,
    error: Schema.String
  })

const complete = (workflow: Workflow.Any, executionId: string, value: string, deferred = Go) =>
  DurableDeferred.succeed(deferred, {
    token: DurableDeferred.tokenFromExecutionId(deferred, { workflow, executionId }),
    value
  })

const told = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isSuccess(exit)
    ? ["success", exit.value ?? null]
    : Cause.hasInterruptsOnly(exit.cause)
    ? ["interrupted"]
    : ["failure", String(Cause.squash(exit.cause))]

const resultOf = (result: Workflow.Result<unknown, unknown>): unknown =>
  result._tag === "Complete"
    ? told(result.exit)
    : ["suspended", result.failed ?? false, result.cause === undefined ? null : String(Cause.squash(result.cause))]

const nap = (name: string, duration: string & `${number} ${"millis" | "seconds" | "minutes"}`) =>
  DurableClock.sleep({ name, duration, inMemoryThreshold: 0 })

export interface Shape {
  readonly workflows: Layer.Layer<never, never, WorkflowEngine.WorkflowEngine>
  readonly test: Effect.Effect<unknown, unknown, WorkflowEngine.WorkflowEngine>
}

/** Each makes what it needs anew: a log, its workflows, and the test that returns all there is to compare. */
const shapes: { readonly [name: string]: (log: Array<string>) => Shape } = {
  "a clock, then an activity that takes time": (log) => {
    const W = make("W")
    const slow = Activity.make({
      name: "slow",
      execute: Effect.sync(() => log.push("start")).pipe(
        Effect.andThen(Effect.sleep("300 millis")),
        Effect.andThen(Effect.sync(() => log.push("end"))),
        Effect.onInterrupt(() => Effect.sync(() => log.push("interrupted"))),
        Effect.asVoid
      )
    })
    return {
      workflows: W.toLayer(() => Effect.as(Effect.andThen(nap("c", "1 seconds"), slow), "done")),
      test: Effect.map(Effect.exit(W.execute({ id: "1" })), told)
    }
  },
  "compensations around a clock": (log) => {
    const W = make("W")
    const act = (name: string) => Activity.make({ name, execute: Effect.sync(() => void log.push(name)) })
    const undo = (name: string) => (_: unknown, cause: Cause.Cause<unknown>) =>
      Effect.sync(() => void log.push(`${name} ${Cause.squash(cause)}`))
    return {
      workflows: W.toLayer(Effect.fn(function*() {
        yield* act("a").pipe(W.withCompensation(undo("undo a")))
        yield* nap("c", "100 millis")
        yield* act("b").pipe(W.withCompensation(undo("undo b")))
        return yield* Effect.fail("boom")
      })),
      test: Effect.map(Effect.exit(W.execute({ id: "1" })), told)
    }
  },
  "a child that failed and is suspended": () => {
    const [P, C] = [make("P"), make("C").annotate(Workflow.SuspendOnFailure, true)]
    return {
      workflows: Layer.merge(P.toLayer(({ id }) => C.execute({ id })), C.toLayer(() => Effect.fail("child broke"))),
      test: Effect.gen(function*() {
        const id = yield* P.execute({ id: "1" }, { discard: true })
        return resultOf(
          yield* eventually(Effect.map(
            P.poll(id),
            Option.filter((result) => result._tag === "Suspended" && result.cause !== undefined)
          ))
        )
      })
    }
  },
  "a failed execution that is resumed": (log) => {
    const W = make("W").annotate(Workflow.SuspendOnFailure, true)
    let isBroken = true
    return {
      workflows: W.toLayer(() => {
        log.push("run")
        return isBroken ? Effect.fail("bad") : Effect.succeed("good")
      }),
      test: Effect.gen(function*() {
        const id = yield* W.execute({ id: "1" }, { discard: true })
        const before = resultOf(yield* settled(W, id))
        isBroken = false
        yield* W.resume(id)
        return [before, told(yield* Effect.exit(W.execute({ id: "1" })))]
      })
    }
  },
  "a failed execution that is interrupted": (log) => {
    const W = make("W").annotate(Workflow.SuspendOnFailure, true)
    return {
      workflows: W.toLayer(Effect.fn(function*() {
        yield* Activity.make({ name: "a", execute: Effect.void }).pipe(
          W.withCompensation(() => Effect.sync(() => void log.push("compensation")))
        )
        return yield* Effect.fail("x")
      })),
      test: Effect.gen(function*() {
        const id = yield* W.execute({ id: "1" }, { discard: true })
        yield* settled(W, id)
        yield* W.interrupt(id)
        return told(yield* Effect.exit(W.execute({ id: "1" })))
      })
    }
  },
  "an activity that awaits a deferred": () => {
    const W = make("W")
    const waiting = Activity.make({ name: "a", success: Schema.String, execute: DurableDeferred.await(Go) })
    return {
      workflows: W.toLayer(() => waiting),
      test: Effect.gen(function*() {
        const id = yield* W.execute({ id: "1" }, { discard: true })
        yield* settled(W, id)
        yield* complete(W, id, "value")
        return told(yield* Effect.exit(W.execute({ id: "1" })))
      })
    }
  },
  "an activity that executes a child": () => {
    const [W, C] = [make("W"), make("C")]
    const child = Activity.make({
      name: "a",
      success: Schema.Unknown,
      error: Schema.String,
      execute: C.execute({ id: "c" })
    })
    return {
      workflows: Layer.merge(W.toLayer(() => child), C.toLayer(() => Effect.succeed(7))),
      test: Effect.map(Effect.exit(W.execute({ id: "1" })), told)
    }
  },
  "a race of activities, then a clock": (log) => {
    const W = make("W")
    const act = (name: string, after: number) =>
      Activity.make({
        name,
        success: Schema.String,
        execute: Effect.as(Effect.delay(Effect.sync(() => void log.push(name)), after), name)
      })
    return {
      workflows: W.toLayer(() =>
        Activity.raceAll("r", [act("a", 100), act("b", 60_000)]).pipe(Effect.tap(() => nap("n", "200 millis")))
      ),
      test: Effect.map(Effect.exit(W.execute({ id: "1" })), told)
    }
  },
  "an activity into a deferred": (log) => {
    const W = make("W")
    const activity = Activity.make({
      name: "into",
      success: Schema.String,
      execute: Effect.as(Effect.sync(() => void log.push("into")), "x")
    })
    return {
      workflows: W.toLayer(Effect.fn(function*() {
        const first = yield* DurableDeferred.into(activity, Go)
        const second = yield* DurableDeferred.await(Go)
        yield* nap("n", "200 millis")
        return [first, second]
      })),
      test: Effect.map(Effect.exit(W.execute({ id: "1" })), told)
    }
  },
  "a race in a race": () => {
    const W = make("W")
    const race = (name: string, effects: readonly [Race, Race]) =>
      DurableDeferred.raceAll({ name, success: Schema.String, error: Schema.String, effects })
    return {
      workflows: W.toLayer(() =>
        race("outer", [
          race("inner", [DurableDeferred.await(Go), Effect.as(nap("n", "400 millis"), "inner clock")]) as Race,
          DurableDeferred.await(Other)
        ])
      ),
      test: Effect.map(Effect.exit(W.execute({ id: "1" })), told)
    }
  },
  "a deferred that is completed again, by others and by itself": (log) => {
    const W = make("W")
    return {
      workflows: W.toLayer(Effect.fn(function*(_, executionId) {
        log.push("run")
        const value = yield* DurableDeferred.await(Go)
        yield* complete(W, executionId, "own")
        yield* Effect.yieldNow
        return value
      })),
      test: Effect.gen(function*() {
        const id = yield* W.execute({ id: "1" }, { discard: true })
        yield* settled(W, id)
        yield* complete(W, id, "first")
        yield* complete(W, id, "second")
        return told(yield* Effect.exit(W.execute({ id: "1" })))
      })
    }
  },
  "an interrupted parent of a child that it does not wait for": () => {
    const [P, C] = [make("P"), make("C")]
    return {
      workflows: Layer.merge(
        P.toLayer(() => Effect.andThen(C.execute({ id: "c" }, { discard: true }), DurableDeferred.await(Go))),
        C.toLayer(() => DurableDeferred.await(Go))
      ),
      test: Effect.gen(function*() {
        const id = yield* P.execute({ id: "1" }, { discard: true })
        const child = yield* C.executionId({ id: "c" })
        yield* settled(P, id)
        yield* settled(C, child)
        yield* P.interrupt(id)
        const parent = told(yield* Effect.exit(P.execute({ id: "1" })))
        yield* untilTrue(Effect.map(C.poll(child), Option.exists((result) => result._tag === "Complete")))
        return [parent, resultOf(yield* settled(C, child))]
      })
    }
  },
  "ids of no execution": () => {
    const W = make("W")
    return {
      workflows: W.toLayer(() => Effect.succeed(1)),
      test: Effect.forEach(
        ["", "a\u0000b", "x".repeat(5000), "nope"],
        (id) =>
          Effect.all([W.poll(id), W.resume(id), W.interrupt(id)]).pipe(
            Effect.map(([polled]) => Option.isNone(polled))
          )
      )
    }
  }
}

type Race = Effect.Effect<
  string,
  string,
  WorkflowEngine.WorkflowEngine | WorkflowEngine.WorkflowInstance
>

/** What the shape comes to, and what its code did. */
const observe = (
  shape: (log: Array<string>) => Shape,
  on: (
    shape: Shape,
    observed: Effect.Effect<unknown, unknown, WorkflowEngine.WorkflowEngine | TestTime>
  ) => Effect.Effect<
    unknown,
    unknown,
    Absurd.Absurd | TestTime
  >
) =>
  Effect.suspend(() => {
    const log: Array<string> = []
    const made = shape(log)
    const observed = Effect.flatMap(Effect.forkChild(made.test), (fiber) => joinWhileTimePasses(fiber))
    return Effect.map(on(made, observed), (result) => ({ result, log }))
  })

const inMemory = (
  { workflows }: Shape,
  observed: Effect.Effect<unknown, unknown, WorkflowEngine.WorkflowEngine | TestTime>
) =>
  Effect.scoped(Effect.gen(function*() {
    const context = yield* Layer.build(Layer.provideMerge(workflows, WorkflowEngine.layerMemory))
    const engine = Context.get(context, WorkflowEngine.WorkflowEngine)
    return yield* Effect.provideService(observed, WorkflowEngine.WorkflowEngine, engine)
  }))

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    const all = { ...shapes, ...SameShapes.shapes }
    it.effect.each(Object.keys(all))("%s", (name) =>
      Effect.gen(function*() {
        const shape = all[name]!
        const expected = yield* observe(shape, inMemory)
        const actual = yield* observe(shape, ({ workflows }, observed) => inProcess(workflows, observed))
        assert.deepStrictEqual(actual, expected)
      }))
  })
