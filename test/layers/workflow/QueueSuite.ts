/** Effect's queues: `DurableQueue` over this engine, and `PersistedQueue` over the store on Absurd. */
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Ref, Schedule, Schema } from "effect"
import { Absurd, Identifiers } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { PersistedQueue } from "effect/persistence"
import { DurableQueue, Workflow, WorkflowEngine } from "effect/workflow"
import { TestTime } from "../../support/TestTime.ts"
import { inProcess, joinWhileTimePasses, makeLog, makeProcess, makeQueue, options, pass, untilTrue } from "./Support.ts"

const Mails = DurableQueue.make({
  name: "mails",
  payload: { to: Schema.String },
  idempotencyKey: ({ to }) => to,
  success: Schema.Int,
  error: Schema.String
})

const W = Workflow.make("Mailing", {
  payload: { to: Schema.String },
  idempotencyKey: ({ to }) => to,
  success: Schema.Int,
  error: Schema.String
})

const mailing = (sent: Ref.Ref<number>) =>
  Layer.mergeAll(
    W.toLayer(({ to }) => DurableQueue.process(Mails, { to })),
    DurableQueue.worker(Mails, ({ to }) =>
      Effect.andThen(
        Ref.update(sent, (n) => n + 1),
        to === "nobody" ? Effect.fail("no such person") : Effect.succeed(to.length)
      ))
  ).pipe(Layer.provide(PersistedQueue.layer))

const mailAll = (sent: Ref.Ref<number>) =>
  Effect.gen(function*() {
    const one = yield* Effect.forkChild(W.execute({ to: "ada" }))
    assert.strictEqual(yield* joinWhileTimePasses(one), 3)
    const other = yield* Effect.forkChild(Effect.flip(W.execute({ to: "nobody" })))
    assert.strictEqual(yield* joinWhileTimePasses(other), "no such person")
    assert.strictEqual(yield* W.execute({ to: "ada" }), 3)
    assert.strictEqual(yield* Ref.get(sent), 2)
  })

/** The factory of queues of one process, which ends with the scope. */
const makeFactory = (queue: string, lease: Duration.Input = "24 hours") =>
  Effect.map(
    Layer.build(
      PersistedQueue.layer.pipe(
        Layer.provideMerge(AbsurdWorkflowEngine.layerQueueStore({ queue, lease, pollInterval: "1 second" }))
      )
    ),
    (context) => ({
      cleanup: Context.get(context, PersistedQueue.PersistedQueueStore).cleanup,
      make: Context.get(context, PersistedQueue.PersistedQueueFactory).make
    })
  )

const numbers = { name: "numbers", schema: Schema.Int, retrySchedule: Schedule.spaced("5 seconds") }

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("an item of a durable queue is worked on once, and its result wakes the execution", () =>
      Effect.gen(function*() {
        const sent = yield* Ref.make(0)
        yield* inProcess(mailing(sent).pipe(Layer.provide(PersistedQueue.layerStoreMemory)), mailAll(sent))
      }))

    it.effect("a durable queue needs nothing but a queue of its own", () =>
      Effect.gen(function*() {
        const sent = yield* Ref.make(0)
        const [queue, elements] = [yield* makeQueue, yield* makeQueue]
        const store = AbsurdWorkflowEngine.layerQueueStore({
          queue: elements,
          lease: "24 hours",
          pollInterval: "1 second"
        }).pipe(Layer.orDie)
        const engine = yield* makeProcess(options(queue), mailing(sent).pipe(Layer.provide(store)))
        yield* Effect.provideService(mailAll(sent), WorkflowEngine.WorkflowEngine, engine)
      }))

    it.effect("elements are delivered in order, each once by its id", () =>
      Effect.gen(function*() {
        const queue = yield* makeFactory(yield* makeQueue)
        const ints = yield* queue.make(numbers)
        for (const n of [1, 2, 3]) assert.strictEqual(yield* ints.offer(n, { id: `id ${n}` }), `id ${n}`)
        yield* ints.offer(4, { id: "id 1" })
        const log = yield* makeLog
        const all = Effect.forEach([1, 2, 3], () =>
          ints.take((n, { attempts, id }) => log.add(`${id}: ${n} ${attempts}`)))
        yield* joinWhileTimePasses(yield* Effect.forkChild(all))
        assert.deepStrictEqual(yield* log.all, ["id 1: 1 1", "id 2: 2 1", "id 3: 3 1"])
        // Also after it has been worked on.
        yield* ints.offer(1, { id: "id 1" })
        yield* ints.offer(5, { id: "id 5" })
        assert.strictEqual(yield* joinWhileTimePasses(yield* Effect.forkChild(ints.take(Effect.succeed))), 5)
      }))

    it.effect("an element that fails comes again after its delay, until its attempts are used up", () =>
      Effect.gen(function*() {
        const { now } = yield* TestTime
        const queue = yield* makeFactory(yield* makeQueue)
        const ints = yield* queue.make({ ...numbers, maxAttempts: 3 })
        yield* ints.offer(1)
        const times: Array<number> = []
        for (const attempt of [1, 2, 3]) {
          const failing = ints.take((_, { attempts }) =>
            Effect.gen(function*() {
              assert.strictEqual(attempts, attempt)
              times.push((yield* now).epochMilliseconds)
              return yield* Effect.fail("no")
            })
          )
          assert.strictEqual(yield* joinWhileTimePasses(yield* Effect.forkChild(Effect.flip(failing))), "no")
        }
        assert.isAtLeast(times[1]! - times[0]!, 5000)
        assert.isAtLeast(times[2]! - times[1]!, 5000)
        yield* ints.offer(2)
        yield* pass("1 minute")
        assert.strictEqual(yield* joinWhileTimePasses(yield* Effect.forkChild(ints.take(Effect.succeed))), 2)
      }))

    it.effect("an interruption costs no attempt, and is no matter of time", () =>
      Effect.gen(function*() {
        const queue = yield* makeFactory(yield* makeQueue)
        const ints = yield* queue.make({ ...numbers, maxAttempts: 1 })
        // Nor is it one to wait in vain.
        const waiting = yield* Effect.forkChild(ints.take(Effect.succeed), { startImmediately: true })
        yield* Fiber.interrupt(waiting)
        yield* ints.offer(1)
        const entered = yield* Deferred.make<void>()
        const taking = yield* Effect.forkChild(
          ints.take(() => Effect.andThen(Deferred.succeed(entered, undefined), Effect.never))
        )
        yield* Deferred.await(entered)
        yield* Fiber.interrupt(taking)
        const attempt = ints.take((_, { attempts }) => Effect.succeed(attempts))
        assert.strictEqual(yield* joinWhileTimePasses(yield* Effect.forkChild(attempt)), 1)
      }))

    it.effect("a delay is kept, and what does not fit its schema is tried no more", () =>
      Effect.gen(function*() {
        const { now } = yield* TestTime
        const queue = yield* makeFactory(yield* makeQueue)
        const texts = yield* queue.make({ ...numbers, schema: Schema.String })
        const ints = yield* queue.make(numbers)
        yield* texts.offer("no number")
        yield* ints.offer(7, { delay: "30 seconds" })
        const begin = (yield* now).epochMilliseconds
        assert.strictEqual(yield* joinWhileTimePasses(yield* Effect.forkChild(ints.take(Effect.succeed))), 7)
        assert.isAtLeast((yield* now).epochMilliseconds - begin, 30_000)
      }))

    it.effect("queues do not hold each other up, in one process or in several", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const [one, two] = [yield* makeFactory(queue), yield* makeFactory(queue)]
        const others = { ...numbers, name: "others" }
        for (let n = 0; n < 20; n++) yield* (yield* one.make(others)).offer(n, { id: `${n}` })
        yield* (yield* one.make(numbers)).offer(100, { id: "0" })
        // Nobody takes of the first twenty yet.
        const last = yield* Effect.forkChild((yield* two.make(numbers)).take(Effect.succeed))
        assert.strictEqual(yield* joinWhileTimePasses(last), 100)
        const taken = yield* Ref.make<ReadonlyArray<number>>([])
        yield* Effect.forEach([one, two], (process) =>
          Effect.flatMap(process.make(others), (queue) =>
            Effect.forkChild(Effect.forever(queue.take((n) =>
              Ref.update(taken, (all) => [...all, n])
            )))))
        const { advance } = yield* TestTime
        yield* untilTrue(Effect.andThen(advance("50 millis"), Effect.map(Ref.get(taken), (all) => all.length === 20)))
        assert.deepStrictEqual(
          [...yield* Ref.get(taken)].sort((a, b) => a - b),
          Array.from({ length: 20 }, (_, n) => n)
        )
      }))

    it.effect("the element of a process that died is delivered again, an attempt later, and not for ever", () =>
      Effect.gen(function*() {
        const name = yield* makeQueue
        const { driver } = yield* Absurd.Absurd
        const queue = yield* Absurd.resolveQueue(name)
        const factory = yield* makeFactory(name)
        const ints = yield* factory.make({ ...numbers, maxAttempts: 2 })
        yield* ints.offer(1, { id: "1" })
        const [taskId] = yield* dies(name)
        yield* pass("10 seconds")
        const attempt = ints.take((_, { attempts }) => Effect.as(Effect.interrupt, attempts))
        assert.isTrue(Exit.hasInterrupts(
          yield* joinWhileTimePasses(yield* Effect.forkChild(Effect.exit(attempt)))
        ))
        yield* dies(name)
        const next = yield* Effect.forkChild(ints.take(Effect.succeed))
        yield* pass("20 seconds")
        yield* ints.offer(2, { id: "2" })
        assert.strictEqual(yield* joinWhileTimePasses(next), 2)
        assert.strictEqual((yield* driver.getTask({ queue, taskId: taskId! }))?.state, "failed")
        // Both are kept until the longer of the two times has passed.
        yield* factory.cleanup({ timeToLive: Duration.zero, failedTimeToLive: undefined })
        yield* factory.cleanup({ timeToLive: Duration.zero, failedTimeToLive: Duration.days(1) })
        assert.isDefined(yield* driver.getTask({ queue, taskId: taskId! }))
        yield* pass("1 minute")
        yield* factory.cleanup({ timeToLive: Duration.zero, failedTimeToLive: Duration.seconds(30) })
        assert.isUndefined(yield* driver.getTask({ queue, taskId: taskId! }))
      }))
  })

/** Claims what there is, and is never heard of again. */
const dies = (name: string) =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd.Absurd
    const { now } = yield* TestTime
    const queue = yield* Absurd.resolveQueue(name)
    const claimed = yield* driver.claim({
      queue,
      token: Identifiers.ClaimToken.make(`dies at ${(yield* now).epochMilliseconds}`),
      lease: Duration.seconds(1),
      limit: 10
    })
    assert.lengthOf(claimed, 1)
    return claimed.map(({ taskId }) => taskId)
  })
