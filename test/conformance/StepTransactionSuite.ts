/** `Step.transaction` on any store. What it writes is told by a ledger: the tasks that it spawns on a queue of its own. */
import { assert, layer } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, type Layer, Ref, Schema } from "effect"
import { Absurd, CurrentRun, Errors, Identifiers, RetryStrategy, Step, Task, Worker } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"
import * as Fixture from "./Fixture.ts"

const runUntilIdle = (queue: string) =>
  Worker.runOnce({ queue, concurrency: 50 }).pipe(Effect.repeat({ until: (results) => results.length === 0 }))

/** A ledger, and a task that books in it, sees what `after` does, and returns how it was told. */
const make = Effect.gen(function*() {
  const queue = yield* Fixture.makeQueue
  const ledger = yield* Fixture.makeQueue
  const tries = yield* Ref.make(0)
  const book = Effect.gen(function*() {
    const n = yield* Ref.updateAndGet(tries, (n) => n + 1)
    yield* Absurd.spawnTask("entry", n, { queue: ledger })
    return new Date(n)
  })
  const entries = Effect.map(Absurd.claimTask({ queue: ledger, qty: 100 }), (runs) => runs.map((_) => _.params))
  const Book = Task.make("book", { queue, params: {}, success: Schema.Date, retry: RetryStrategy.none })
  return { queue, ledger, tries, book, entries, Book }
})

type Client = Absurd.Absurd["Service"]

/** The client, with `change` around each of its transactions. */
const withTransactions = (
  change: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Errors.DriverError, R>
) =>
<A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.updateService(self, Absurd.Absurd, (absurd: Client) => ({
    ...absurd,
    driver: { ...absurd.driver, withTransaction: (inner) => change(absurd.driver.withTransaction(inner)) }
  }))

/** The run changes hands: another worker has it, for half a minute. */
const takeOver = (
  { driver }: Client,
  task: { readonly queue: Identifiers.QueueName; readonly taskId: Identifiers.TaskId }
) =>
  Effect.gen(function*() {
    const [run] = yield* driver.listRuns(task)
    const token = Identifiers.ClaimToken.make(String(run!.claimedBy))
    yield* driver.release({ queue: task.queue, runs: [{ runId: run!.runId, token, until: Duration.zero }] })
    assert.lengthOf(yield* Program.claimAndVanish(driver, task.queue), 1)
  })

const unknown = () =>
  new Errors.DriverError({ operation: "transaction", reason: new Errors.OutcomeUnknown({ cause: new Error("cut") }) })

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("what it writes is there once, and every execution sees the same value", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue, tries } = yield* make
        const executions = yield* Ref.make(0)
        const live = Book.toLayer(Effect.fn(function*() {
          const at = yield* Step.transaction("book", book, { success: Schema.Date })
          if ((yield* Ref.updateAndGet(executions, (n) => n + 1)) < 3) return yield* Effect.die("once more")
          return at
        }))
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, new Date(1))
          assert.deepStrictEqual([yield* Ref.get(tries), yield* Ref.get(executions)], [1, 3])
          assert.deepStrictEqual(yield* entries, [1])
        }).pipe(Effect.provide(live))
      }))

    it.effect("tasks that it spawns by their definitions are spawned once", () =>
      Effect.gen(function*() {
        const { Book, entries, ledger, queue } = yield* make
        const Entry = Task.make("entry", { queue: ledger, params: Schema.Int })
        const executions = yield* Ref.make(0)
        const live = Book.toLayer(Effect.fn(function*() {
          yield* Step.transaction("book", Effect.asVoid(Effect.all([Entry.spawn(1), Entry.spawn(2)])))
          if ((yield* Ref.updateAndGet(executions, (n) => n + 1)) < 2) return yield* Effect.die("once more")
          return new Date(0)
        }))
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({})
          yield* runUntilIdle(queue)
          yield* task.await
          assert.deepStrictEqual([...(yield* entries)].sort(), [1, 2])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a failure undoes what it wrote and reaches the handler as it was", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue } = yield* make
        const seen = yield* Ref.make<ReadonlyArray<string>>([])
        const live = Book.toLayer(() =>
          Step.transaction("book", Effect.tap(book, (at) => at.getTime() < 3 ? Effect.fail("no") : Effect.void), {
            success: Schema.Date
          }).pipe(Effect.tapError((error) => Ref.update(seen, (all) => [...all, String(error)])), Effect.orDie)
        )
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({})
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, new Date(3))
          assert.deepStrictEqual(yield* Ref.get(seen), ["no", "no"])
          assert.deepStrictEqual(yield* entries, [3])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a value that cannot be stored undoes it", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue } = yield* make
        const live = Book.toLayer(() => Effect.as(Step.transaction("book", Effect.as(book, "\u0000")), new Date(0)))
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({}, { maxAttempts: 1 })
          yield* runUntilIdle(queue)
          const { failure } = yield* Absurd.getTaskResult(task.taskId, { queue })
          assert.strictEqual((failure as { readonly name: string }).name, "InvalidInput")
          assert.deepStrictEqual(yield* entries, [])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a worker that is stopped in the middle leaves nothing, and the next one does it", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue } = yield* make
        const inside = yield* Deferred.make<void>()
        const once = yield* Ref.make(true)
        const live = Book.toLayer(() =>
          Step.transaction(
            "book",
            Effect.tap(book, () =>
              Effect.flatMap(Ref.getAndSet(once, false), (first) =>
                first ? Effect.andThen(Deferred.succeed(inside, undefined), Effect.never) : Effect.void)),
            { success: Schema.Date }
          )
        )
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({})
          const worker = yield* Effect.forkChild(Worker.runOnce({ queue }))
          yield* Deferred.await(inside)
          yield* Fiber.interrupt(worker)
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, new Date(2))
          assert.deepStrictEqual(yield* entries, [2])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a worker that is stopped between the commit and its answer has done it", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue, tries } = yield* make
        const committed = yield* Deferred.make<void>()
        const live = Book.toLayer(() => Step.transaction("book", book, { success: Schema.Date }))
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({})
          const worker = yield* Worker.runOnce({ queue }).pipe(
            withTransactions((self) =>
              Effect.andThen(self, Effect.andThen(Deferred.succeed(committed, undefined), Effect.never))
            ),
            Effect.forkChild
          )
          yield* Deferred.await(committed)
          yield* Fiber.interrupt(worker)
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, new Date(1))
          assert.strictEqual(yield* Ref.get(tries), 1)
          assert.deepStrictEqual(yield* entries, [1])
        }).pipe(Effect.provide(live))
      }))

    it.effect.each(["carried out", "not carried out"] as const)(
      "an answer that is lost is found out, when the transaction was %s",
      (fate) =>
        Effect.gen(function*() {
          const { Book, book, entries, queue, tries } = yield* make
          const first = yield* Ref.make(true)
          const live = Book.toLayer(() => Step.transaction("book", book, { success: Schema.Date }))
          yield* Effect.gen(function*() {
            const task = yield* Book.spawn({})
            yield* Worker.runOnce({ queue }).pipe(withTransactions((self) =>
              Effect.flatMap(Ref.getAndSet(first, false), (lose) => {
                if (!lose) return self
                const failed = Effect.fail(unknown())
                return fate === "carried out" ? Effect.andThen(self, failed) : failed
              })
            ))
            assert.deepStrictEqual(yield* task.await, new Date(1))
            assert.strictEqual(yield* Ref.get(tries), 1)
            assert.deepStrictEqual(yield* entries, [1])
          }).pipe(Effect.provide(live))
        })
    )

    it.effect("a try that overtakes a commit whose answer was lost is undone", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue, tries } = yield* make
        const state = yield* Ref.make(0)
        const live = Book.toLayer(() => Step.transaction("book", book, { success: Schema.Date }))
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({})
          // The checkpoint of the first try cannot be seen when the second one looks for it, as when its commit is still
          // on its way.
          yield* Worker.runOnce({ queue }).pipe(
            withTransactions((self) =>
              Effect.flatMap(
                Ref.updateAndGet(state, (n) => n + 1),
                (n) => n === 1 ? Effect.andThen(self, Effect.fail(unknown())) : self
              )
            ),
            Effect.updateService(Absurd.Absurd, (absurd: Client) => ({
              ...absurd,
              driver: { ...absurd.driver, getCheckpoints: () => Effect.succeed([]) }
            }))
          )
          assert.deepStrictEqual(yield* task.await, new Date(1))
          assert.strictEqual(yield* Ref.get(tries), 2)
          assert.deepStrictEqual(yield* entries, [1])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a worker whose task is cancelled commits nothing", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue } = yield* make
        const live = Book.toLayer(() =>
          Step.transaction(
            "book",
            Effect.tap(book, () =>
              // Within the transaction itself, so that stores that have one transaction at a time show it, too.
              Effect.flatMap(CurrentRun, ({ taskId }) => Effect.orDie(Absurd.cancelTask(taskId, { queue })))),
            { success: Schema.Date }
          )
        )
        yield* Effect.gen(function*() {
          yield* Book.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Cancelled" }])
          assert.deepStrictEqual(yield* entries, [])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a worker that has lost its lease commits nothing, and whoever has taken over does it once", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue, tries } = yield* make
        const live = Book.toLayer(() => Step.transaction("book", book, { success: Schema.Date }))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const task = yield* Book.spawn({})
          const client = yield* Absurd.Absurd
          const taken = yield* Ref.make(false)
          // After the worker has made sure of its claim and before its transaction, the claim is taken over.
          const results = yield* Worker.runOnce({ queue }).pipe(
            withTransactions((self) =>
              Effect.flatMap(
                Ref.getAndSet(taken, true),
                (again) => again ? self : Effect.andThen(Effect.orDie(takeOver(client, task)), self)
              )
            )
          )
          assert.deepStrictEqual(results, [{ _tag: "Lost" }])
          assert.strictEqual(yield* Ref.get(tries), 1)
          assert.deepStrictEqual(yield* entries, [])
          yield* advance("1 minute")
          yield* runUntilIdle(queue)
          yield* advance("1 minute")
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, new Date(2))
          assert.deepStrictEqual(yield* entries, [2])
        }).pipe(Effect.provide(live))
      }))

    it.effect.each(
      [
        ["a step", () => Step.run("inner", Effect.void)],
        ["a sleep", () => Step.sleep("inner", "1 hour")],
        ["another one", () => Step.transaction("inner", Effect.void)],
        ["a snooze", () => Step.snooze("1 hour")]
      ] as const
    )("%s inside is refused, with a remedy", ([, inner]) =>
      Effect.gen(function*() {
        const { Book, book, entries, queue } = yield* make
        const live = Book.toLayer(() =>
          Step.transaction("book", Effect.tap(book, () => inner()), { success: Schema.Date })
        )
        yield* Effect.gen(function*() {
          const task = yield* Book.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
          const { failure } = yield* Absurd.getTaskResult(task.taskId, { queue })
          assert.deepInclude(failure, { name: "InvalidUse" })
          assert.include(JSON.stringify(failure), "inside the transaction \\\"book\\\"")
          assert.deepStrictEqual(yield* entries, [])
        }).pipe(Effect.provide(live))
      }))

    it.effect("it is refused within a transaction, with which it would be undone", () =>
      Effect.gen(function*() {
        const { Book, book, entries, queue } = yield* make
        const live = Book.toLayer(() =>
          Effect.flatMap(Absurd.Absurd, ({ driver }) =>
            driver.withTransaction(Step.transaction("book", book, { success: Schema.Date })))
        )
        yield* Effect.gen(function*() {
          yield* Book.spawn({})
          assert.deepStrictEqual(yield* Worker.runOnce({ queue }), [{ _tag: "Failed", final: true }])
          assert.deepStrictEqual(yield* entries, [])
        }).pipe(Effect.provide(live))
      }))

    it.effect("spawning and emitting commit or roll back with a program's transaction", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { driver } = yield* Absurd.Absurd
        const act = Effect.gen(function*() {
          const { taskId } = yield* Absurd.spawnTask("job", null, { queue })
          assert.isTrue(yield* Absurd.emitEvent("done", 1, { queue }))
          return taskId
        })
        const undone = yield* Effect.exit(driver.withTransaction(Effect.flatMap(act, (id) => Effect.fail(id))))
        assert.isTrue(Exit.isFailure(undone))
        const id = Exit.isFailure(undone) ? Cause.squash(undone.cause) : ""
        const gone = yield* Effect.flip(Absurd.getTaskStatus(String(id), { queue }))
        assert.strictEqual(gone._tag, "NotFound")
        const kept = yield* driver.withTransaction(act)
        assert.strictEqual((yield* Absurd.getTaskStatus(kept, { queue })).state, "pending")
        assert.isFalse(yield* Absurd.emitEvent("done", 2, { queue }))
      }))
  })
