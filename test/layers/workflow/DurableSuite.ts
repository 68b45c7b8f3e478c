/** Deferreds, clocks, races, children, and what several processes do to one execution. */
import { assert, layer } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Layer, Option, Ref, Schema, Scope } from "effect"
import { Absurd, Identifiers } from "effect-absurd"
import { Activity, DurableClock, DurableDeferred, Workflow, WorkflowEngine } from "effect/workflow"
import { TestTime } from "../../support/TestTime.ts"
import {
  eventually,
  inProcess,
  joinWhileTimePasses,
  makeProcess,
  makeQueue,
  options,
  pass,
  settled,
  untilTrue
} from "./Support.ts"

const Approval = DurableDeferred.make("approval", { success: Schema.Date, error: Schema.String })
const Other = DurableDeferred.make("other", { success: Schema.String })

const make = (name: string) =>
  Workflow.make(name, {
    payload: { id: Schema.String },
    idempotencyKey: ({ id }) => id,
    success: Schema.Unknown,
    error: Schema.String
  })

const Waiting = make("Waiting")
const waitingLive = Waiting.toLayer(() => Effect.map(DurableDeferred.await(Approval), (date) => date.toISOString()))
const token = <S extends Schema.Top, E extends Schema.Top>(
  workflow: Workflow.Any,
  executionId: string,
  deferred: DurableDeferred.DurableDeferred<S, E>
) => DurableDeferred.tokenFromExecutionId(deferred, { workflow, executionId })
const day = new Date("2026-02-03T04:05:06.789Z")

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a deferred suspends, and its first completion wakes and stays", () =>
      inProcess(
        waitingLive,
        Effect.gen(function*() {
          const executionId = yield* Waiting.execute({ id: "1" }, { discard: true })
          assert.deepStrictEqual(yield* settled(Waiting, executionId), new Workflow.Suspended({}))
          yield* DurableDeferred.succeed(Approval, { token: token(Waiting, executionId, Approval), value: day })
          yield* DurableDeferred.fail(Approval, { token: token(Waiting, executionId, Approval), error: "too late" })
          assert.strictEqual(yield* Waiting.execute({ id: "1" }), day.toISOString())
        })
      ))

    it.effect("a deferred may be completed before its execution exists, with any exit", () =>
      inProcess(
        waitingLive,
        Effect.gen(function*() {
          const complete = (id: string, exit: Exit.Exit<Date, string>) =>
            Effect.flatMap(Waiting.executionId({ id }), (executionId) =>
              DurableDeferred.done(Approval, { token: token(Waiting, executionId, Approval), exit }))
          yield* complete("ok", Exit.succeed(day))
          yield* complete("no", Exit.fail("refused"))
          yield* complete("bad", Exit.die(new Error("kaputt")))
          assert.strictEqual(yield* Waiting.execute({ id: "ok" }), day.toISOString())
          assert.strictEqual(yield* Effect.flip(Waiting.execute({ id: "no" })), "refused")
          const died = yield* Effect.exit(Waiting.execute({ id: "bad" }))
          assert.isTrue(Exit.isFailure(died) && String(Cause.squash(died.cause)).includes("kaputt"))
        })
      ))

    it.effect("a process without workflows starts, completes, polls and interrupts executions of another", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const queue = yield* makeQueue
        const client = yield* makeProcess(options(queue))
        yield* makeProcess(options(queue), waitingLive)
        yield* Effect.gen(function*() {
          const [first, second] = yield* Effect.all([
            Waiting.execute({ id: "1" }, { discard: true }),
            Waiting.execute({ id: "2" }, { discard: true })
          ])
          const stepUntil = <A>(look: Effect.Effect<Option.Option<A>, never, WorkflowEngine.WorkflowEngine>) =>
            eventually(Effect.andThen(advance("50 millis"), look))
          yield* stepUntil(Waiting.poll(first))
          yield* stepUntil(Waiting.poll(second))
          yield* DurableDeferred.succeed(Approval, { token: token(Waiting, first, Approval), value: day })
          yield* Waiting.interrupt(second)
          const ended = (id: string) =>
            stepUntil(Effect.map(Waiting.poll(id), Option.filter((result) => result._tag === "Complete")))
          assert.deepStrictEqual(yield* ended(first), new Workflow.Complete({ exit: Exit.succeed(day.toISOString()) }))
          const interrupted = yield* ended(second)
          assert.isTrue(interrupted._tag === "Complete" && Exit.hasInterrupts(interrupted.exit))
        }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, client))
      }))

    it.effect("a clock is due to the millisecond, and counts from its first scheduling", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const W = make("Clock")
        yield* inProcess(
          W.toLayer(Effect.fn(function*() {
            yield* Effect.all([
              DurableClock.sleep({ name: "nap", duration: "4 minutes" }),
              Effect.ignore(DurableDeferred.await(Approval))
            ], { concurrency: 2 })
            return "awake"
          })),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* settled(W, executionId)
            yield* pass("2 minutes")
            // A replay in between does not start the clock anew.
            yield* DurableDeferred.succeed(Approval, { token: token(W, executionId, Approval), value: day })
            yield* settled(W, executionId)
            yield* pass(Duration.subtract(Duration.minutes(2), Duration.millis(1)))
            assert.deepStrictEqual(yield* settled(W, executionId), new Workflow.Suspended({}))
            const result = yield* Effect.forkChild(W.execute({ id: "1" }), { startImmediately: true })
            yield* advance("1 millis")
            yield* advance("50 millis")
            assert.strictEqual(yield* joinWhileTimePasses(result), "awake")
          })
        )
      }))

    it.effect("a durable race is won once, whatever comes later", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const W = make("Race")
        const decided = yield* Ref.make<ReadonlySet<string>>(new Set())
        const isDecided = (id: string) => Effect.map(Ref.get(decided), (ids) => ids.has(id))
        yield* inProcess(
          W.toLayer(Effect.fn(function*({ id }) {
            const first = yield* DurableDeferred.raceAll({
              name: "first",
              success: Schema.String,
              error: Schema.String,
              effects: [
                Effect.as(DurableDeferred.await(Approval), "approval"),
                DurableDeferred.await(Other),
                Effect.as(DurableClock.sleep({ name: "timeout", duration: "2 minutes" }), "timeout")
              ]
            })
            yield* Ref.update(decided, (ids) => new Set([...ids, id]))
            const later = yield* DurableDeferred.await(Other)
            return [first, later]
          })),
          Effect.gen(function*() {
            const byClock = yield* W.execute({ id: "clock" }, { discard: true })
            const byDeferred = yield* W.execute({ id: "deferred" }, { discard: true })
            yield* settled(W, byClock)
            yield* settled(W, byDeferred)
            yield* DurableDeferred.succeed(Approval, { token: token(W, byDeferred, Approval), value: day })
            yield* untilTrue(isDecided("deferred"))
            yield* pass("2 minutes")
            yield* untilTrue(Effect.andThen(advance("50 millis"), isDecided("clock")))
            const fibers = yield* Effect.forEach(["clock", "deferred"], (id) => Effect.forkChild(W.execute({ id })))
            for (const id of [byClock, byDeferred]) {
              yield* DurableDeferred.succeed(Approval, { token: token(W, id, Approval), value: day })
              yield* DurableDeferred.succeed(Other, { token: token(W, id, Other), value: "other" })
            }
            assert.deepStrictEqual(yield* Effect.forEach(fibers, joinWhileTimePasses), [
              ["timeout", "other"],
              ["approval", "other"]
            ])
          })
        )
      }))

    it.effect("a completion in another process ends a race with an activity that is running", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const client = yield* makeProcess(options(queue))
        const { advance } = yield* TestTime
        const W = make("Preempted")
        const started = yield* Deferred.make<void>()
        const released = yield* Ref.make(0)
        const endless = Activity.make({
          name: "endless",
          success: Schema.String,
          execute: Deferred.succeed(started, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Ref.update(released, (n) => n + 1))
          )
        })
        const worker = yield* makeProcess(
          options(queue),
          W.toLayer(() =>
            DurableDeferred.raceAll({
              name: "race",
              success: Schema.String,
              error: Schema.Never,
              effects: [DurableDeferred.await(Other), endless]
            })
          )
        )
        const executionId = yield* W.execute({ id: "1" }, { discard: true }).pipe(
          Effect.provideService(WorkflowEngine.WorkflowEngine, worker)
        )
        yield* Deferred.await(started)
        yield* DurableDeferred.succeed(Other, { token: token(W, executionId, Other), value: "told" }).pipe(
          Effect.provideService(WorkflowEngine.WorkflowEngine, client)
        )
        const result = yield* eventually(Effect.andThen(advance("50 millis"), W.poll(executionId))).pipe(
          Effect.provideService(WorkflowEngine.WorkflowEngine, worker)
        )
        assert.deepStrictEqual(result, new Workflow.Complete({ exit: Exit.succeed("told") }))
        assert.isAbove(yield* Ref.get(released), 0)
      }))

    it.effect("a clock ends a race with an activity that is running", () =>
      Effect.gen(function*() {
        const W = make("Deadline")
        const started = yield* Deferred.make<void>()
        const endless = Activity.make({
          name: "endless",
          success: Schema.String,
          execute: Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
        })
        yield* inProcess(
          W.toLayer(() =>
            DurableDeferred.raceAll({
              name: "race",
              success: Schema.String,
              error: Schema.Never,
              effects: [Effect.as(DurableClock.sleep({ name: "deadline", duration: "2 minutes" }), "late"), endless]
            })
          ),
          Effect.gen(function*() {
            const result = yield* Effect.forkChild(W.execute({ id: "1" }))
            yield* Deferred.await(started)
            yield* pass("2 minutes")
            // The activity may have started before the clock was scheduled.
            assert.strictEqual(yield* joinWhileTimePasses(result, "1 second"), "late")
          })
        )
      }))

    it.effect("parents sleep without a slot, three generations through one", () =>
      Effect.gen(function*() {
        const [Parent, Child, Grandchild] = [make("Parent"), make("Child"), make("Grandchild")]
        const runs = yield* Ref.make(0)
        const workflows = Layer.mergeAll(
          Parent.toLayer(({ id }) =>
            Effect.all([Child.execute({ id: `${id}-a` }), Child.execute({ id: `${id}-b` })], { concurrency: 2 })
          ),
          Child.toLayer(({ id }) =>
            Effect.andThen(Ref.update(runs, (n) => n + 1), Effect.map(Grandchild.execute({ id }), (_) => [id, _]))
          ),
          Grandchild.toLayer(({ id }) => id.endsWith("x-a") ? Effect.fail(`no ${id}`) : Effect.succeed(id.length))
        )
        yield* inProcess(
          workflows,
          Effect.gen(function*() {
            assert.deepStrictEqual(yield* Parent.execute({ id: "p" }), [["p-a", 3], ["p-b", 3]])
            assert.strictEqual(yield* Ref.get(runs), 4)
            assert.strictEqual(yield* Effect.flip(Parent.execute({ id: "x" })), "no x-a")
          }),
          { concurrency: 1 }
        )
      }))

    it.effect("interrupting a parent interrupts the child it waits for, and not one that is detached", () =>
      Effect.gen(function*() {
        const [Parent, Child] = [make("Parent"), make("Child")]
        const workflows = Layer.mergeAll(
          Parent.toLayer(Effect.fn(function*({ id }) {
            yield* Child.execute({ id: `${id}-detached` }, { discard: true, detached: true })
            return yield* Child.execute({ id: `${id}-linked` })
          })),
          Child.toLayer(() => DurableDeferred.await(Other))
        )
        yield* inProcess(
          workflows,
          Effect.gen(function*() {
            const parent = yield* Parent.execute({ id: "p" }, { discard: true })
            const [linked, detached] = yield* Effect.all([
              Child.executionId({ id: "p-linked" }),
              Child.executionId({ id: "p-detached" })
            ])
            yield* settled(Parent, parent)
            yield* settled(Child, linked)
            yield* Parent.interrupt(parent)
            const interrupted = yield* Effect.exit(Child.execute({ id: "p-linked" }))
            assert.isTrue(Exit.hasInterrupts(interrupted))
            assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(Parent.execute({ id: "p" }))))
            assert.deepStrictEqual(yield* settled(Child, detached), new Workflow.Suspended({}))
            yield* DurableDeferred.succeed(Other, { token: token(Child, detached, Other), value: "free" })
            assert.strictEqual(yield* Child.execute({ id: "p-detached" }), "free")
          })
        )
      }))

    it.effect("a parent is woken when its child's task is cancelled", () =>
      Effect.gen(function*() {
        const [Parent, Child] = [make("Parent"), make("Child")]
        const { driver } = yield* Absurd.Absurd
        const queue = yield* makeQueue
        const engine = yield* makeProcess(
          options(queue),
          Layer.mergeAll(
            Parent.toLayer(({ id }) => Effect.map(Effect.exit(Child.execute({ id })), Exit.hasInterrupts)),
            Child.toLayer(() => DurableDeferred.await(Other))
          )
        )
        yield* Effect.gen(function*() {
          const parent = yield* Parent.execute({ id: "p" }, { discard: true })
          const child = yield* Child.executionId({ id: "p" })
          yield* settled(Parent, parent)
          yield* settled(Child, child)
          const name = Identifiers.QueueName.make(queue)
          const taskOf = (executionId: string) =>
            driver.findTask({ queue: name, idempotencyKey: Identifiers.IdempotencyKey.make(executionId) })
          const [parentTask, childTask] = yield* Effect.all([taskOf(parent), taskOf(child)])
          const state = Effect.map(driver.getTask({ queue: name, taskId: parentTask! }), (task) => task?.state)
          assert.strictEqual(yield* state, "sleeping")
          yield* Absurd.cancelTask(childTask!, { queue })
          // By the same commit, not when it would have looked again.
          assert.notStrictEqual(yield* state, "sleeping")
          assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(Child.execute({ id: "p" }))))
          const result = yield* Effect.forkChild(Parent.execute({ id: "p" }))
          assert.isTrue(yield* joinWhileTimePasses(result))
        }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, engine))
      }))

    it.effect("a parent is told of the end of a child that was cleaned up before it looked, and starts it once", () =>
      Effect.gen(function*() {
        const [Parent, Child] = [make("Parent"), make("Child")]
        const { driver } = yield* Absurd.Absurd
        const { advance } = yield* TestTime
        const runs = yield* Ref.make(0)
        const queue = yield* makeQueue
        const name = Identifiers.QueueName.make(queue)
        const child = yield* Child.executionId({ id: "p" })
        const find = Effect.map(
          driver.findTask({ queue: name, idempotencyKey: Identifiers.IdempotencyKey.make(child) }),
          Option.fromUndefinedOr
        )
        const scope = yield* Scope.fork(yield* Effect.scope)
        const first = yield* Scope.provide(
          makeProcess(options(queue), Parent.toLayer(({ id }) => Effect.exit(Child.execute({ id })))),
          scope
        )
        const parent = yield* Effect.provideService(
          Parent.execute({ id: "p" }, { discard: true }),
          WorkflowEngine.WorkflowEngine,
          first
        )
        yield* settled(Parent, parent).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, first))
        yield* Scope.close(scope, Exit.void)
        // The child ends, and is forgotten, while nobody works on the parent.
        const worker = yield* makeProcess(
          options(queue),
          Child.toLayer(() => Effect.as(Ref.update(runs, (n) => n + 1), "ended"))
        )
        yield* untilTrue(
          Effect.andThen(
            advance("50 millis"),
            Effect.map(worker.poll(Child, child), Option.exists((result) => result._tag === "Complete"))
          )
        )
        yield* advance("1 minute")
        assert.strictEqual(yield* driver.cleanupTasks({ queue: name, ttl: Duration.seconds(10), limit: 10 }), 1)
        assert.isTrue(Option.isNone(yield* find))
        const second = yield* makeProcess(
          options(queue),
          Parent.toLayer(({ id }) => Effect.map(Effect.exit(Child.execute({ id })), Exit.hasDies))
        )
        const result = yield* Effect.forkChild(
          Parent.execute({ id: "p" }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, second))
        )
        assert.isTrue(yield* joinWhileTimePasses(result))
        assert.strictEqual(yield* Ref.get(runs), 1)
        assert.isTrue(Option.isNone(yield* find))
      }))

    it.effect("a parent that waits for a child that has failed and is suspended tells why", () => {
      const [Grandparent, Parent] = [make("Grandparent"), make("Parent")]
      const Child = make("Child").annotate(Workflow.SuspendOnFailure, true)
      const workflows = Layer.mergeAll(
        Grandparent.toLayer(({ id }) => Parent.execute({ id })),
        Parent.toLayer(({ id }) => Child.execute({ id })),
        Child.toLayer(() => Effect.fail("child broke"))
      )
      return inProcess(
        workflows,
        Effect.gen(function*() {
          const id = { id: "1" }
          const executionId = yield* Grandparent.execute(id, { discard: true })
          for (const [workflow, of] of [[Grandparent, executionId], [Parent, yield* Parent.executionId(id)]] as const) {
            const told = yield* eventually(Effect.map(
              workflow.poll(of),
              Option.filter((result) => result._tag === "Suspended" && result.cause !== undefined)
            ))
            assert.include(told._tag === "Suspended" ? String(Cause.squash(told.cause!)) : "", "child broke")
            assert.isUndefined(told._tag === "Suspended" ? told.failed : true)
          }
        })
      )
    })

    it.effect("resume wakes what suspended itself, and nothing else", () =>
      Effect.gen(function*() {
        const W = make("Suspending")
        const runs = yield* Ref.make(0)
        yield* inProcess(
          W.toLayer(() =>
            Effect.gen(function*() {
              const instance = yield* WorkflowEngine.WorkflowInstance
              const run = yield* Ref.updateAndGet(runs, (n) => n + 1)
              return run < 3 ? yield* Workflow.suspend(instance) : run
            })
          ),
          Effect.gen(function*() {
            const executionId = yield* W.execute({ id: "1" }, { discard: true })
            yield* settled(W, executionId)
            yield* W.resume("00000000000000000000000000000000")
            yield* W.resume(executionId)
            yield* untilTrue(Effect.map(Ref.get(runs), (n) => n === 2))
            yield* settled(W, executionId)
            yield* W.resume(executionId)
            assert.strictEqual(yield* W.execute({ id: "1" }), 3)
            yield* W.resume(executionId)
            assert.strictEqual(yield* Ref.get(runs), 3)
          })
        )
      }))
  })
