import { PgClient } from "@effect/sql-pg"
import { Config, Effect, Layer } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { DurableDeferred } from "effect/workflow"
import { Approval, Order, OrderLayer } from "./Order.ts"

const Engine = AbsurdWorkflowEngine.layer({ queue: "workflows", concurrency: 20 }).pipe(
  Layer.provideMerge(Absurd.layerQueue("workflows")),
  Layer.provideMerge(Absurd.layer),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
)

/** A process that executes orders: `NodeRuntime.runMain(Layer.launch(Main))`. */
export const Main = OrderLayer.pipe(Layer.provideMerge(Engine))

/** A process that executes nothing needs the engine only. */
export const Client = Engine

/** Starts an order, and returns a token that whoever approves it needs. */
export const start = Effect.fn(function*(orderId: string, amount: number) {
  const executionId = yield* Order.execute({ orderId, amount }, { discard: true })
  return DurableDeferred.tokenFromExecutionId(Approval, { workflow: Order, executionId })
})

export const approve = (token: DurableDeferred.Token, name: string) =>
  DurableDeferred.succeed(Approval, { token, value: name })

/** For people who look what has become of orders. */
export const report = Effect.gen(function*() {
  const failed = yield* AbsurdWorkflowEngine.list({
    queue: "workflows",
    workflow: "Order",
    outcome: "failed",
    limit: 20
  })
  const counts = yield* AbsurdWorkflowEngine.count({ queue: "workflows" })
  return { failed, counts }
})
