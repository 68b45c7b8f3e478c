/** Messages to tasks, and answers, on any store. */
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, type Layer, Ref, Schema } from "effect"
import { Absurd, Mailbox, RetryStrategy, Step, Task } from "effect-absurd"
import { TestTime } from "../support/TestTime.ts"
import * as Program from "./CompositionFixture.ts"

const { makeLog, makeQueue, runUntilIdle } = Program

const Numbers = Mailbox.make("numbers", { payload: Schema.Int })

/** A task that takes so many numbers, and dies once after each, so that every take is replayed. */
const makeCollector = (queue: string, count: number) => {
  const Collector = Task.make("collector", {
    queue,
    params: {},
    success: Schema.Array(Schema.Int),
    retry: RetryStrategy.none,
    maxAttempts: 1000
  })
  const died = new Set<number>()
  const live = Collector.toLayer(Effect.fn(function*() {
    const numbers: Array<number> = []
    while (numbers.length < count) {
      numbers.push(yield* Numbers.take)
      if (died.has(numbers.length)) continue
      died.add(numbers.length)
      return yield* Effect.die(new Error(`after ${numbers.length}`))
    }
    return numbers
  }))
  return { Collector, live }
}

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("a task takes each message once, in the order in which they were sent, over suspensions and crashes", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Collector, live } = makeCollector(queue, 5)
        yield* Effect.gen(function*() {
          const task = yield* Collector.spawn({})
          assert.isTrue(yield* Numbers.send(task, 10))
          assert.isTrue(yield* Numbers.send(task, 20))
          yield* runUntilIdle(queue)
          assert.strictEqual((yield* Absurd.getTaskStatus(task.taskId, { queue })).state, "sleeping")
          for (const n of [30, 40, 50]) {
            assert.isTrue(yield* Numbers.send(task, n))
            yield* runUntilIdle(queue)
          }
          assert.deepStrictEqual(yield* task.await, [10, 20, 30, 40, 50])
        }).pipe(Effect.provide(live))
      }))

    it.effect.prop(
      "many senders at once lose nothing and double nothing, and each sees its own order",
      {
        senders: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 }))).check(
          Schema.isMaxLength(4)
        )
      },
      ({ senders }) =>
        Effect.gen(function*() {
          const queue = yield* makeQueue
          const all = senders.flatMap((count, sender) => Array.from({ length: count }, (_, n) => sender * 10 + n))
          const { Collector, live } = makeCollector(queue, all.length)
          yield* Effect.gen(function*() {
            const task = yield* Collector.spawn({})
            const sending = yield* Effect.forkChild(Effect.forEach(senders, (count, sender) =>
              Effect.forEach(Array.from({ length: count }), (_, n) =>
                Numbers.send(task, sender * 10 + n)), {
              concurrency: "unbounded"
            }))
            yield* runUntilIdle(queue)
            yield* Fiber.join(sending)
            yield* runUntilIdle(queue)
            const taken = yield* task.await
            assert.deepStrictEqual(
              taken.toSorted((a, b) =>
                a - b
              ),
              all
            )
            senders.forEach((_, sender) => {
              const own = taken.filter((n) => Math.floor(n / 10) === sender)
              assert.deepStrictEqual(own, own.toSorted((a, b) => a - b))
            })
          }).pipe(Effect.provide(live))
        }),
      { arbitrary: { runs: 8 } }
    )

    it.effect("a wait that is given up leaves the message for the next take", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { advance } = yield* TestTime
        const Patient = Task.make("patient", { queue, params: {}, success: Schema.Array(Schema.String) })
        const live = Patient.toLayer(Effect.fn(function*() {
          const seen: Array<string> = []
          for (let turn = 0; turn < 3; turn++) {
            seen.push(
              yield* Numbers.take.pipe(
                Step.timeout("turn", "1 day"),
                Effect.map(String),
                Effect.catchTag("Timeout", () => Effect.succeed("nothing"))
              )
            )
          }
          return seen
        }))
        yield* Effect.gen(function*() {
          const task = yield* Patient.spawn({})
          yield* runUntilIdle(queue)
          yield* advance("1 day")
          // The first message comes when the first wait is over, but before anybody has noticed.
          yield* Numbers.send(task, 1)
          yield* runUntilIdle(queue)
          yield* Numbers.send(task, 2)
          yield* runUntilIdle(queue)
          yield* advance("1 day")
          yield* runUntilIdle(queue)
          const seen = yield* task.await
          assert.deepStrictEqual(seen.filter((what) => what !== "nothing"), ["1", "2"])
        }).pipe(Effect.provide(live))
      }))

    it.effect("mailboxes and tasks are kept apart, and branches share a task's mailbox", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const Others = Mailbox.make("others", { payload: Schema.Int })
        const Pair = Task.make("pair", { queue, params: {}, success: Schema.Array(Schema.Int) })
        const live = Pair.toLayer(Effect.fn(function*() {
          const both = yield* Effect.all([
            Step.scoped("left")(Numbers.take),
            Step.scoped("right")(Numbers.take)
          ], { concurrency: 2 })
          return [...both.toSorted((a, b) => a - b), yield* Others.take]
        }))
        yield* Effect.gen(function*() {
          const one = yield* Pair.spawn({})
          const other = yield* Pair.spawn({})
          yield* runUntilIdle(queue)
          for (const n of [1, 2]) yield* Numbers.send(one, n)
          for (const n of [3, 4]) yield* Numbers.send(other.taskId, n).pipe(Effect.flip)
          for (const n of [3, 4]) yield* Numbers.send(other, n)
          yield* Others.send(other, 30)
          yield* Others.send(one, 10)
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* Effect.all([one.await, other.await]), [[1, 2, 10], [3, 4, 30]])
        }).pipe(Effect.provide(live))
      }))

    it.effect("a task sends once, whatever happens to it, and within a transaction when that commits", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { driver } = yield* Absurd.Absurd
        const { Collector, live } = makeCollector(queue, 3)
        const Sender = Task.make("sender", {
          queue,
          params: { to: Schema.String },
          success: Schema.Array(Schema.Boolean),
          retry: RetryStrategy.none
        })
        const crashes = yield* Ref.make(0)
        const sender = Sender.toLayer(Effect.fn(function*({ to }) {
          const recipient = { taskId: to, queue }
          const sent = [yield* Numbers.send(recipient, 1)]
          if ((yield* Ref.getAndUpdate(crashes, (n) => n + 1)) === 0) return yield* Effect.die(new Error("crash"))
          sent.push(yield* Step.transaction("within", Numbers.send(recipient, 2)))
          return sent
        }, Effect.orDie))
        yield* Effect.gen(function*() {
          const task = yield* Collector.spawn({})
          const sending = yield* Sender.spawn({ to: task.taskId })
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* sending.await, [true, true])
          yield* Effect.exit(
            driver.withTransaction(Effect.andThen(Numbers.send(task, 100), Effect.fail("undone" as const)))
          )
          yield* driver.withTransaction(Numbers.send(task, 3))
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, [1, 2, 3])
        }).pipe(Effect.provide([live, sender]))
      }))

    it.effect("a message with an id is sent once, also when it was taken long ago and cleaned up", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { advance } = yield* TestTime
        const { Collector, live } = makeCollector(queue, 3)
        yield* Effect.gen(function*() {
          const task = yield* Collector.spawn({})
          for (let turn = 0; turn < 3; turn++) assert.isTrue(yield* Numbers.send(task, 1, { id: "a" }))
          yield* runUntilIdle(queue)
          yield* advance("40 days")
          assert.strictEqual(yield* Absurd.cleanupEvents({ queue, ttl: "30 days" }), 1)
          assert.isTrue(yield* Numbers.send(task, 1, { id: "a" }))
          yield* Numbers.send(task, 2)
          yield* Numbers.send(task, 3, { id: "b" })
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* task.await, [1, 2, 3])
        }).pipe(Effect.provide(live))
      }))

    it.effect("who cannot be sent to is told so", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const { Collector, live } = makeCollector(queue, 0)
        yield* Effect.gen(function*() {
          const task = yield* Collector.spawn({})
          yield* runUntilIdle(queue)
          assert.isFalse(yield* Numbers.send(task, 1))
          const unknown = { taskId: "01900000-0000-7000-8000-000000000000", queue }
          const errors = yield* Effect.all([
            Effect.flip(Numbers.send(unknown, 1)),
            Effect.flip(Numbers.send({ ...task, queue: "nowhere" }, 1)),
            Effect.flip(Numbers.send("no uuid", 1)),
            Effect.flip(Numbers.send(task, 1, { id: "" })),
            Effect.flip(Mailbox.make(" ").send(task, undefined))
          ])
          assert.deepStrictEqual(errors.map((error) => error._tag), [
            "NotFound",
            "NotFound",
            "InvalidInput",
            "InvalidInput",
            "InvalidInput"
          ])
        }).pipe(Effect.provide(live))
      }))

    it.effect("whoever asks gets the answer, from a task without holding a worker, and the first answer stays", () =>
      Effect.gen(function*() {
        const queue = yield* makeQueue
        const log = yield* makeLog
        const Price = Mailbox.requests("price", { payload: Schema.String, reply: Schema.Int, queue })
        const Shop = Task.make("shop", { queue, params: {} })
        const Customer = Task.make("customer", {
          queue,
          params: { shop: Schema.String },
          success: Schema.Array(Schema.Int),
          retry: RetryStrategy.none
        })
        const shop = Shop.toLayer(Effect.fn(function*() {
          for (let turn = 0; turn < 3; turn++) {
            const { payload, reply } = yield* Price.take
            yield* Step.sleep("think", "1 hour")
            yield* Step.run(
              "answer",
              Effect.gen(function*() {
                yield* log.add(`${payload} ${yield* reply(payload.length)} ${yield* reply(0)}`)
              })
            )
          }
        }, Effect.orDie))
        const customer = Customer.toLayer(Effect.fn(function*(params) {
          const first = yield* Price.ask(params.shop, "widget")
          return [first, yield* Price.ask(params.shop, "no")]
        }, Effect.orDie))
        yield* Effect.gen(function*() {
          const { advance } = yield* TestTime
          const { taskId } = yield* Shop.spawn({})
          const buying = yield* Customer.spawn({ shop: taskId })
          yield* runUntilIdle(queue)
          assert.strictEqual((yield* Absurd.getTaskStatus(buying.taskId, { queue })).state, "sleeping")
          for (let turn = 0; turn < 2; turn++) {
            yield* advance("1 hour")
            yield* runUntilIdle(queue)
          }
          assert.deepStrictEqual(yield* buying.await, [6, 2])
          const asking = yield* Effect.forkChild(Effect.flip(Price.ask(taskId, "late", { timeout: "1 minute" })))
          const passes = Effect.andThen(advance("1 minute"), Program.settle)
          yield* Program.until(Effect.map(passes, () => asking.pollUnsafe() !== undefined))
          const late = yield* Fiber.join(asking)
          assert.strictEqual(late._tag, "Timeout")
          yield* runUntilIdle(queue)
          yield* advance("2 hours")
          yield* runUntilIdle(queue)
          assert.deepStrictEqual(yield* log.all, ["widget true false", "no true false", "late true false"])
          assert.strictEqual((yield* Effect.flip(Price.ask(taskId, "closed")))._tag, "NotFound")
        }).pipe(Effect.provide([shop, customer]))
      }))
  })
