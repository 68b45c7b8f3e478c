import { assert, describe, it, layer } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Option, Schedule } from "effect"
import { Absurd, Identifiers } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { ClusterWorkflowEngine, TestRunner } from "effect/cluster"
import { DurableDeferred, type WorkflowEngine } from "effect/workflow"
import * as Fs from "node:fs"
import * as Main from "../../examples/workflow/Main.ts"
import { Approval, Declined, Order, OrderLayer } from "../../examples/workflow/Order.ts"
import { inProcess, pass, settled, untilTrue } from "../layers/workflow/Support.ts"
import * as TestPostgres from "../support/Postgres.ts"
import * as TestTime from "../support/TestTime.ts"

const read = (path: string) => Fs.readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")

describe("docs/workflow-engine.md", () => {
  it.each(["examples/workflow/Order.ts", "examples/workflow/Main.ts"])("shows %s as it is", (example) => {
    assert.include(read("docs/workflow-engine.md"), read(example))
  })

  it.live("an order is approved from a process that executes nothing", () =>
    Effect.gen(function*() {
      const { url } = yield* TestPostgres.TestDatabase
      const environment = ConfigProvider.layer(ConfigProvider.fromUnknown({ DATABASE_URL: url }))
      const client = yield* Layer.build(Layer.provide(Layer.fresh(Main.Client), environment))
      yield* Effect.gen(function*() {
        const token = yield* Main.start("o1", 50)
        yield* Layer.build(Layer.provide(Layer.fresh(Main.Main), environment))
        yield* Main.approve(token, "Ada")
        assert.deepStrictEqual(yield* Order.execute({ orderId: "o1", amount: 50 }), {
          approvedBy: "Ada",
          payment: "50 for o1"
        })
        const { counts, failed } = yield* Main.report
        assert.deepStrictEqual(counts, [{ workflow: "Order", outcome: "succeeded", executions: 1 }])
        assert.deepStrictEqual(failed, [])
      }).pipe(Effect.provide(client))
    }).pipe(Effect.scoped, Effect.provide(TestPostgres.layer({ maxConnections: 1 }))))
})

const approval = (executionId: string) =>
  DurableDeferred.tokenFromExecutionId(Approval, { workflow: Order, executionId })

const memory = Layer.mergeAll(Absurd.layerMemory, TestTime.layerMemory)

layer(memory, { concurrent: false })("docs/workflow-engine.md, in virtual time", (it) => {
  it.effect("an order that nobody approves is declined after a day", () =>
    inProcess(
      OrderLayer,
      Effect.gen(function*() {
        const executionId = yield* Order.execute({ orderId: "o1", amount: 50 }, { discard: true })
        yield* settled(Order, executionId)
        yield* pass("1 day")
        yield* untilTrue(Effect.map(Order.poll(executionId), Option.exists(({ _tag }) => _tag === "Complete")))
        const error = yield* Effect.flip(Order.execute({ orderId: "o1", amount: 50 }))
        assert.deepStrictEqual(error, new Declined({ orderId: "o1" }))
      }),
      { pollInterval: "1 minute" }
    ))

  it.effect("another program completes a deferred by emitting its event", () =>
    Effect.gen(function*() {
      const { driver } = yield* Absurd.Absurd
      yield* Absurd.createQueue("foreign")
      yield* inProcess(
        OrderLayer,
        Effect.gen(function*() {
          const executionId = yield* Order.execute({ orderId: "o2", amount: 50 }, { discard: true })
          yield* settled(Order, executionId)
          yield* driver.emit({
            queue: Identifiers.QueueName.make("foreign"),
            event: Identifiers.EventName.make(`wf:${executionId}:deferred:approval`),
            payload: { _tag: "Success", value: "Grace" }
          })
          const order = yield* Order.execute({ orderId: "o2", amount: 50 })
          assert.strictEqual(order.approvedBy, "Grace")
        }),
        { queue: "foreign" }
      )
    }))
})

describe("moving from ClusterWorkflowEngine", () => {
  const cluster = Layer.provide(ClusterWorkflowEngine.layer, TestRunner.layer)
  const ours = AbsurdWorkflowEngine.layer({ queue: "moved", pollInterval: "20 millis" }).pipe(
    Layer.provide(Absurd.layerQueue("moved")),
    Layer.provide(Absurd.layerMemory)
  )

  /** What a program on an engine can tell of it. */
  const observe = (engine: Layer.Layer<WorkflowEngine.WorkflowEngine, unknown>) =>
    Effect.gen(function*() {
      const executionId = yield* Order.execute({ orderId: "o1", amount: 50 }, { discard: true })
      const suspended = yield* Order.poll(executionId).pipe(
        Effect.repeat({ until: Option.isSome, schedule: Schedule.spaced("10 millis") })
      )
      yield* DurableDeferred.succeed(Approval, { token: approval(executionId), value: "Ada" })
      const order = yield* Order.execute({ orderId: "o1", amount: 50 })
      return { executionId, token: approval(executionId), suspended: Option.map(suspended, ({ _tag }) => _tag), order }
    }).pipe(Effect.provide(Layer.provideMerge(OrderLayer, engine)))

  it.live("the same definitions have the same ids, tokens and results", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* observe(ours), yield* observe(cluster))
    }))
})
