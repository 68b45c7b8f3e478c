/** More programs for `SameSuite.ts`: one for each part of `effect/workflow` that the other suites do not touch. */
import { Cause, Effect, Exit, Schedule, Schema } from "effect"
import { Activity, DurableClock, DurableDeferred, Workflow } from "effect/workflow"
import type { Shape } from "./SameSuite.ts"
import { settled } from "./Support.ts"

const Go = DurableDeferred.make("go", { success: Schema.String, error: Schema.String })

const make = (name: string) =>
  Workflow.make(name, {
    payload: { id: Schema.String },
    idempotencyKey: ({ id }) => id,
    success: Schema.Unknown,
    error: Schema.String
  })

const told = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isSuccess(exit)
    ? ["success", exit.value ?? null]
    : Cause.hasInterruptsOnly(exit.cause)
    ? ["interrupted"]
    : [Cause.hasDies(exit.cause) ? "died" : "failed", String(Cause.squash(exit.cause))]

const nap = (name: string) => DurableClock.sleep({ name, duration: "100 millis", inMemoryThreshold: 0 })

const once = (workflow: ReturnType<typeof make>) => Effect.map(Effect.exit(workflow.execute({ id: "1" })), told)

/** Fails so often, then succeeds. */
const flaky = (log: Array<string>, name: string, failures: number) =>
  Activity.make({
    name,
    success: Schema.Int,
    error: Schema.String,
    execute: Effect.flatMap(Activity.CurrentAttempt, (attempt) => {
      log.push(`${name} ${attempt}`)
      return attempt <= failures ? Effect.fail(`${name} failed`) : Effect.succeed(attempt)
    })
  })

export const shapes: { readonly [name: string]: (log: Array<string>) => Shape } = {
  "idempotency keys of activities": (log) => {
    const W = make("Keys")
    const act = Activity.make({
      name: "keys",
      error: Schema.String,
      execute: Effect.gen(function*() {
        log.push(yield* Activity.idempotencyKey("charge"), yield* Activity.idempotencyKey("refund"))
        log.push(yield* Activity.idempotencyKey("charge", { includeAttempt: true }))
        if ((yield* Activity.CurrentAttempt) < 3) return yield* Effect.fail("again")
      })
    })
    return {
      workflows: W.toLayer(() => Activity.retry(act, { times: 5 }).pipe(Effect.andThen(nap("c")), Effect.as("done"))),
      test: once(W)
    }
  },
  "retries around a clock": (log) => {
    const W = make("Retries")
    return {
      workflows: W.toLayer(Effect.fn(function*() {
        const first = yield* Activity.retry(flaky(log, "a", 2), { times: 3 })
        yield* nap("c")
        const second = yield* Activity.retry(flaky(log, "b", 1), { times: 3 })
        yield* nap("d")
        const third = yield* Effect.exit(Activity.retry(flaky(log, "c", 9), { times: 2 }))
        return [first, second, told(third)]
      })),
      test: once(W)
    }
  },
  "an activity that interrupts itself once": (log) => {
    const W = make("InterruptedOnce")
    const act = Activity.make({
      name: "a",
      success: Schema.String,
      execute: Effect.suspend(() => log.push("run") === 1 ? Effect.interrupt : Effect.succeed("done"))
    })
    return { workflows: W.toLayer(() => act), test: once(W) }
  },
  "an activity that interrupts itself for ever": (log) => {
    const W = make("InterruptedForEver")
    const act = Activity.make({
      name: "a",
      interruptRetryPolicy: Schedule.recurs(2),
      execute: Effect.suspend(() => Effect.andThen(Effect.sync(() => log.push("run")), Effect.interrupt))
    })
    return { workflows: W.toLayer(() => act), test: once(W) }
  },
  "tokens from inside and from the payload": (log) => {
    const W = make("Tokens")
    return {
      workflows: W.toLayer(Effect.fn(function*() {
        log.push(yield* DurableDeferred.token(Go))
        return yield* DurableDeferred.await(Go)
      })),
      test: Effect.gen(function*() {
        const executionId = yield* W.execute({ id: "1" }, { discard: true })
        yield* settled(W, executionId)
        const token = yield* DurableDeferred.tokenFromPayload(Go, { workflow: W, payload: { id: "1" } })
        yield* DurableDeferred.failCause(Go, { token, cause: Cause.die("no good") })
        return [token, log.every((other) => other === token), yield* once(W)]
      })
    }
  },
  "a deferred that fails": () => {
    const W = make("Fails")
    return {
      workflows: W.toLayer(() => DurableDeferred.await(Go)),
      test: Effect.gen(function*() {
        const token = yield* DurableDeferred.tokenFromPayload(Go, { workflow: W, payload: { id: "1" } })
        yield* DurableDeferred.fail(Go, { token, error: "no" })
        yield* DurableDeferred.succeed(Go, { token, value: "too late" })
        return yield* once(W)
      })
    }
  },
  "a deferred of its own for each attempt": (log) => {
    const W = make("PerAttempt")
    const asked = Effect.gen(function*() {
      const deferred = yield* Go.withActivityAttempt
      log.push(deferred.name)
      return yield* DurableDeferred.await(deferred)
    })
    return {
      workflows: W.toLayer(() => Activity.retry(asked, { times: 1 })),
      test: Effect.gen(function*() {
        const executionId = yield* W.execute({ id: "1" }, { discard: true })
        yield* settled(W, executionId)
        const tokenOf = (attempt: number) =>
          DurableDeferred.tokenFromExecutionId(DurableDeferred.make(`go/${attempt}`), { workflow: W, executionId })
        yield* DurableDeferred.succeed(Go, { token: tokenOf(2), value: "second" })
        yield* DurableDeferred.fail(Go, { token: tokenOf(1), error: "first" })
        const result = yield* once(W)
        // How often the body is replayed is no part of the comparison.
        log.splice(0, log.length, ...new Set(log))
        return result
      })
    }
  },
  "what fails or dies on its way into a deferred": (log) => {
    const W = make("Into")
    const into = (name: string, effect: Effect.Effect<string, string>) =>
      Effect.exit(DurableDeferred.into(
        Effect.andThen(Effect.sync(() => log.push(name)), effect),
        DurableDeferred.make(name, { success: Schema.String, error: Schema.String })
      ))
    return {
      workflows: W.toLayer(Effect.fn(function*() {
        const failed = yield* into("failed", Effect.fail("no"))
        const died = yield* into("died", Effect.die("no"))
        const succeeded = yield* into("succeeded", Effect.succeed("yes"))
        return [failed, died, succeeded].map(told)
      })),
      test: once(W)
    }
  },
  "clocks that are short or no clocks": (log) => {
    const W = make("Short")
    const act = (name: string) => Activity.make({ name, execute: Effect.sync(() => void log.push(name)) })
    return {
      workflows: W.toLayer(Effect.fn(function*() {
        yield* DurableClock.sleep({ name: "none", duration: 0 })
        yield* act("a")
        yield* DurableClock.sleep({ name: "in memory", duration: "80 millis" })
        yield* act("b")
        yield* nap("c")
        yield* act("c")
        return "done"
      })),
      test: once(W)
    }
  },
  "compensations that are not needed": (log) => {
    const W = make("Fine")
    const act = Activity.make({ name: "a", execute: Effect.sync(() => void log.push("a")) })
    return {
      workflows: W.toLayer(() =>
        act.pipe(
          W.withCompensation(() => Effect.sync(() => void log.push("undo a"))),
          Effect.andThen(nap("c")),
          Effect.as("fine")
        )
      ),
      test: once(W)
    }
  },
  "compensations after a defect that is not captured": (log) => {
    const W = make("Uncaptured").annotate(Workflow.CaptureDefects, false)
    const act = Activity.make({ name: "a", success: Schema.Int, execute: Effect.succeed(7) })
    return {
      workflows: W.toLayer(() =>
        act.pipe(
          W.withCompensation((value, cause) =>
            Effect.sync(() => void log.push(`undo ${value} ${Cause.squash(cause)}`))
          ),
          Effect.andThen(Effect.die("kaputt"))
        )
      ),
      test: once(W)
    }
  },
  "finalizers and resources of a workflow": (log) => {
    const W = make("Scoped")
    const say = (what: string) => Effect.sync(() => void log.push(what))
    return {
      workflows: W.toLayer(Effect.fn(function*({ id }) {
        yield* Workflow.addFinalizer((exit) => say(`finalized ${exit._tag}`))
        yield* Workflow.provideScope(Effect.acquireRelease(say("acquired"), () => say("released")))
        yield* Activity.make({ name: "a", execute: say("a") })
        return yield* id === "1" ? Effect.succeed("fine") : Effect.fail("not fine")
      })),
      test: Effect.all([once(W), Effect.map(Effect.exit(W.execute({ id: "2" })), told)])
    }
  },
  "payloads with defaults, void results and a key of its own": (log) => {
    const Typed = Workflow.make("Typed", {
      payload: Schema.Struct({
        at: Schema.Date,
        amount: Schema.BigInt,
        note: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("none")))
      }),
      idempotencyKey: ({ amount, note }) => `${amount} ${note}`
    })
    const at = new Date("2026-01-05T00:00:00Z")
    return {
      workflows: Typed.toLayer(({ amount, at, note }, executionId) =>
        Activity.make({
          name: "a",
          execute: Effect.sync(() => void log.push(`${executionId} ${at.toISOString()} ${amount} ${note}`))
        })
      ),
      test: Effect.gen(function*() {
        yield* Typed.execute({ at, amount: 3n })
        yield* Typed.execute({ at: new Date(0), amount: 3n })
        yield* Typed.execute({ at, amount: 3n, note: "another" })
        return yield* Typed.executionId({ at, amount: 3n })
      })
    }
  },
  "an execution inside a workflow of the same name": () => {
    const W = make("Nested")
    return {
      workflows: W.toLayer(({ id }) => id === "3" ? Effect.succeed(id) : W.execute({ id: String(Number(id) + 1) })),
      test: once(W)
    }
  }
}
