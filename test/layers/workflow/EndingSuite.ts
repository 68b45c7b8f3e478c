/** Interrupts, compensation, failures that suspend, finalizers, and what ends a run but not its execution. */
import { assert, layer } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, type Layer, Option, Ref, Schema } from "effect"
import { Absurd, Identifiers } from "effect-absurd"
import { Activity, DurableDeferred, Workflow, WorkflowEngine } from "effect/workflow"
import { TestTime } from "../../support/TestTime.ts"
import { eventually, inProcess, makeLog, makeProcess, makeQueue, options, settled, untilTrue } from "./Support.ts"

const Go = DurableDeferred.make("go", { success: Schema.String })

const make = (name: string) =>
  Workflow.make(name, { payload: { id: Schema.String }, idempotencyKey: ({ id }) => id, success: Schema.Unknown })

const go = (workflow: Workflow.Any, executionId: string, value = "") =>
  DurableDeferred.succeed(Go, { token: DurableDeferred.tokenFromExecutionId(Go, { workflow, executionId }), value })

const interruptedResult = (result: Workflow.Result<unknown, unknown>): boolean =>
  result._tag === "Complete" && Exit.isFailure(result.exit) && Cause.hasInterruptsOnly(result.exit.cause)

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("an interrupt runs the compensations, last one first, and then is the result", () =>
      Effect.gen(function*() {
        const log = yield* makeLog
        const W = make("Compensated")
        const act = (name: string) => Activity.make({ name, execute: log.add(name) })
        yield* inProcess(
          W.toLayer(Effect.fn(function*() {
            yield* act("reserve").pipe(W.withCompensation(() => act("unreserve")))
            yield* act("charge").pipe(W.withCompensation(() => act("refund")))
            yield* DurableDeferred.await(Go)
            yield* act("ship")
          })),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* settled(W, executionId)
            yield* W.interrupt(executionId)
            assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(W.execute({ id: "1" }))))
            assert.isTrue(interruptedResult(yield* settled(W, executionId)))
            assert.deepStrictEqual(yield* log.all, ["reserve", "charge", "refund", "unreserve"])
            // Neither an interrupt nor a completion changes what has ended.
            yield* W.interrupt(executionId)
            yield* go(W, executionId)
            assert.isTrue(interruptedResult(yield* settled(W, executionId)))
          })
        )
      }))

    it.effect("an interrupt lets a running activity end, and starts no other", () =>
      Effect.gen(function*() {
        const log = yield* makeLog
        const W = make("Polite")
        const started = yield* Deferred.make<void>()
        const gate = yield* Deferred.make<void>()
        const first = Activity.make({
          name: "first",
          execute: Deferred.succeed(started, undefined).pipe(
            Effect.andThen(Deferred.await(gate)),
            Effect.andThen(log.add("first"))
          )
        })
        yield* inProcess(
          W.toLayer(() =>
            first.pipe(
              W.withCompensation(() => log.add("compensated")),
              Effect.andThen(Activity.make({ name: "second", execute: log.add("second") }))
            )
          ),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* Deferred.await(started)
            yield* W.interrupt(executionId)
            yield* Deferred.succeed(gate, undefined)
            assert.isTrue(interruptedResult(yield* settled(W, executionId)))
            assert.deepStrictEqual(yield* log.all, ["first", "compensated"])
          })
        )
      }))

    it.effect("an interrupt does not touch what completes without suspending, and nothing that does not exist", () =>
      Effect.gen(function*() {
        const W = make("Unmoved")
        const started = yield* Deferred.make<void>()
        const gate = yield* Deferred.make<void>()
        yield* inProcess(
          W.toLayer(() =>
            Deferred.succeed(started, undefined).pipe(Effect.andThen(Deferred.await(gate)), Effect.as(1))
          ),
          Effect.gen(function*() {
            yield* W.interrupt(yield* W.executionId({ id: "1" }))
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* Deferred.await(started)
            yield* W.interrupt(executionId)
            yield* Deferred.succeed(gate, undefined)
            assert.strictEqual(yield* W.execute({ id: "1" }), 1)
          })
        )
      }))

    it.effect("an unsafe interrupt ends a body in the middle of an activity", () =>
      Effect.gen(function*() {
        const W = make("Killed")
        const started = yield* Deferred.make<void>()
        const endless = Activity.make({
          name: "endless",
          execute: Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
        })
        yield* inProcess(
          W.toLayer(() => endless),
          Effect.gen(function*() {
            const engine = yield* WorkflowEngine.WorkflowEngine
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* Deferred.await(started)
            yield* engine.interruptUnsafe(W, executionId)
            assert.isTrue(interruptedResult(yield* settled(W, executionId)))
          })
        )
      }))

    it.effect("an unsafe interrupt survives a replay that would complete", () =>
      Effect.gen(function*() {
        const W = make("KilledAsleep")
        const runs = yield* Ref.make(0)
        yield* inProcess(
          W.toLayer(() =>
            Effect.gen(function*() {
              if ((yield* Ref.updateAndGet(runs, (n) => n + 1)) > 1) return "completed"
              return yield* DurableDeferred.await(Go)
            })
          ),
          Effect.gen(function*() {
            const engine = yield* WorkflowEngine.WorkflowEngine
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* settled(W, executionId)
            yield* engine.interruptUnsafe(W, executionId)
            assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(W.execute({ id: "1" }))))
          })
        )
      }))

    it.effect("a failure that suspends is told by poll, and only a resume tries again", () =>
      Effect.gen(function*() {
        const W = make("Failing").annotate(Workflow.SuspendOnFailure, true)
        const runs = yield* Ref.make(0)
        yield* inProcess(
          W.toLayer(() =>
            Effect.gen(function*() {
              const run = yield* Ref.updateAndGet(runs, (n) => n + 1)
              if (run === 1) return yield* Effect.die(new Error("repair me"))
              return yield* DurableDeferred.await(Go)
            })
          ),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            const failed = yield* settled(W, executionId)
            assert.isTrue(failed._tag === "Suspended" && failed.failed === true)
            assert.include(failed._tag === "Suspended" ? String(Cause.squash(failed.cause!)) : "", "repair me")
            yield* go(W, executionId, "gone")
            assert.deepStrictEqual(yield* settled(W, executionId), failed)
            assert.strictEqual(yield* Ref.get(runs), 1)
            yield* W.resume(executionId)
            assert.strictEqual(yield* W.execute({ id: "1" }), "gone")
            assert.strictEqual(yield* Ref.get(runs), 2)
          })
        )
      }))

    it.effect("an execution that was resumed and waits is no longer told as failed", () =>
      Effect.gen(function*() {
        const W = make("Repaired").annotate(Workflow.SuspendOnFailure, true)
        const broken = yield* Ref.make(true)
        yield* inProcess(
          W.toLayer(() =>
            Effect.gen(function*() {
              if (yield* Ref.get(broken)) return yield* Effect.die("broken")
              return yield* DurableDeferred.await(Go)
            })
          ),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            assert.isTrue(((yield* settled(W, executionId)) as Workflow.Suspended).failed)
            yield* Ref.set(broken, false)
            yield* W.resume(executionId)
            const isPlain = Effect.map(
              W.poll(executionId),
              Option.exists((result) => result._tag === "Suspended" && result.failed === undefined)
            )
            yield* untilTrue(isPlain)
            yield* W.interrupt(executionId)
            assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(W.execute({ id: "1" }))))
          })
        )
      }))

    it.effect("finalizers of the workflow run at its end only, those of a run at each end of a run", () =>
      Effect.gen(function*() {
        const log = yield* makeLog
        const W = make("Finalized")
        yield* inProcess(
          W.toLayer(Effect.fn(function*() {
            yield* Workflow.addFinalizer((exit) => log.add(`workflow ${exit._tag}`))
            yield* Workflow.provideScope(Effect.addFinalizer(() => log.add("resource")))
            yield* Effect.addFinalizer(() => log.add("run"))
            return yield* DurableDeferred.await(Go)
          })),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* settled(W, executionId)
            assert.deepStrictEqual(yield* log.all, ["run", "resource"])
            yield* go(W, executionId, "gone")
            assert.strictEqual(yield* W.execute({ id: "1" }), "gone")
            assert.deepStrictEqual(yield* log.all, ["run", "resource", "run", "resource", "workflow Success"])
          })
        )
      }))

    it.effect("a process that stops hands its executions over at once, finalizers of the workflow skipped", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const log = yield* makeLog
        const queue = yield* makeQueue
        const W = make("HandedOver")
        const started = yield* Deferred.make<void>()
        const slow = (process: string) =>
          W.toLayer(Effect.fn(function*() {
            yield* Workflow.addFinalizer(() => log.add(`finalized by ${process}`))
            yield* Effect.addFinalizer(() => log.add(`scope of ${process}`))
            yield* Activity.make({ name: "first", execute: log.add(`first by ${process}`) })
            return yield* Activity.make({
              name: "second",
              success: Schema.String,
              execute: process === "a"
                ? Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
                : Effect.succeed(process)
            })
          }))
        const executionId = yield* Effect.scoped(Effect.gen(function*() {
          const engine = yield* makeProcess(options(queue), slow("a"))
          const executionId = yield* Effect.provideService(
            W.execute({ id: "1" }, { discard: true }),
            WorkflowEngine.WorkflowEngine,
            engine
          )
          yield* Deferred.await(started)
          return executionId
        }))
        const engine = yield* makeProcess(options(queue), slow("b"))
        const result = yield* eventually(Effect.andThen(advance("50 millis"), W.poll(executionId))).pipe(
          Effect.provideService(WorkflowEngine.WorkflowEngine, engine)
        )
        assert.deepStrictEqual(result, new Workflow.Complete({ exit: Exit.succeed("b") }))
        assert.deepStrictEqual(yield* log.all, ["first by a", "scope of a", "scope of b", "finalized by b"])
        const { driver } = yield* Absurd.Absurd
        const name = Identifiers.QueueName.make(queue)
        const taskId = yield* driver.findTask({
          queue: name,
          idempotencyKey: Identifiers.IdempotencyKey.make(executionId)
        })
        assert.strictEqual((yield* driver.getTask({ queue: name, taskId: taskId! }))?.attempts, 1)
      }))

    it.effect("an execution that was handed back, or whose process died, is not told as suspended", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const queue = yield* makeQueue
        const W = make("HandedBack")
        const started = yield* Deferred.make<void>()
        const client = yield* makeProcess(options(queue))
        const { driver } = yield* Absurd.Absurd
        const poll = (executionId: string) =>
          Effect.provideService(W.poll(executionId), WorkflowEngine.WorkflowEngine, client)
        const name = Identifiers.QueueName.make(queue)
        const [handedBack, crashed] = yield* Effect.forEach(
          ["1", "2"],
          (id) => Effect.provideService(W.execute({ id }, { discard: true }), WorkflowEngine.WorkflowEngine, client)
        )
        const claimed = yield* driver.claim({
          queue: name,
          token: Identifiers.ClaimToken.make("dies"),
          lease: Duration.seconds(1),
          limit: 2
        })
        const dead = claimed.find(({ headers }) => Object.values(headers).includes(crashed!))!
        const other = claimed.find((run) => run !== dead)!
        yield* driver.release({
          queue: name,
          runs: [{ runId: other.runId, token: other.token, until: Duration.zero }]
        })
        yield* Effect.scoped(Effect.gen(function*() {
          yield* makeProcess(
            { ...options(queue), concurrency: 1 },
            W.toLayer(() => Effect.andThen(Deferred.succeed(started, undefined), Effect.never))
          )
          yield* Deferred.await(started)
        }))
        assert.deepStrictEqual(yield* poll(handedBack!), Option.none())
        yield* advance("2 seconds")
        // Finds the dead, and puts it off for a second.
        yield* driver.claim({
          queue: name,
          token: Identifiers.ClaimToken.make("finds"),
          lease: Duration.seconds(1),
          limit: 0
        }).pipe(Effect.ignore)
        assert.deepStrictEqual(yield* poll(crashed!), Option.none())
      }))

    it.effect("ids that cannot be stored are those of no execution", () =>
      inProcess(
        make("Odd").toLayer(() => Effect.succeed(1)),
        Effect.gen(function*() {
          const engine = yield* WorkflowEngine.WorkflowEngine
          const W = make("Odd")
          for (const id of ["", " ", "a\u0000b", "\uD800", "x".repeat(5000)]) {
            assert.deepStrictEqual(yield* W.poll(id), Option.none())
            yield* W.resume(id)
            yield* W.interrupt(id)
            yield* engine.interruptUnsafe(W, id)
          }
        })
      ))

    it.effect("a run whose task is cancelled is abandoned, and the execution ends interrupted", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const log = yield* makeLog
        const queue = yield* makeQueue
        const W = make("Cancelled")
        const started = yield* Deferred.make<void>()
        const { driver } = yield* Absurd.Absurd
        const engine = yield* makeProcess(
          { ...options(queue), lease: "3 seconds" },
          W.toLayer(Effect.fn(function*() {
            yield* Workflow.addFinalizer(() => log.add("finalized"))
            yield* Effect.addFinalizer(() => log.add("scope"))
            return yield* Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
          }))
        )
        yield* Effect.gen(function*() {
          const executionId = yield* W.execute({ id: "1" }, { discard: true })
          yield* Deferred.await(started)
          const taskId = yield* driver.findTask({
            queue: Identifiers.QueueName.make(queue),
            idempotencyKey: Identifiers.IdempotencyKey.make(executionId)
          })
          yield* Absurd.cancelTask(taskId!, { queue })
          assert.isTrue(interruptedResult(yield* settled(W, executionId)))
          yield* untilTrue(Effect.andThen(advance("50 millis"), Effect.map(log.all, (all) => all.length > 0)))
          assert.deepStrictEqual(yield* log.all, ["scope"])
        }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, engine))
      }))

    it.effect("an execution whose processes die too often ends with a defect", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const queue = yield* makeQueue
        const W = make("Deadly")
        const { driver } = yield* Absurd.Absurd
        const engine = yield* makeProcess({ ...options(queue), maxAttempts: 2 })
        yield* Effect.gen(function*() {
          const executionId = yield* W.execute({ id: "1" }, { discard: true })
          const claim = (token: string) =>
            Effect.map(
              driver.claim({
                queue: Identifiers.QueueName.make(queue),
                token: Identifiers.ClaimToken.make(token),
                lease: Duration.seconds(1),
                limit: 1
              }),
              (runs) => runs.map((run) => run.attempt)
            )
          for (const attempt of [1, 2]) {
            assert.deepStrictEqual(yield* claim(`dies ${attempt}`), [attempt])
            yield* advance("10 minutes")
            assert.deepStrictEqual(yield* claim(`finds it dead ${attempt}`), [])
            yield* advance("10 minutes")
          }
          const exit = yield* Effect.exit(W.execute({ id: "1" }))
          assert.isTrue(Exit.hasDies(exit))
          assert.isTrue(Option.isSome(yield* W.poll(executionId)))
        }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, engine))
      }))
  })
