/** Workflows behind Effect's proxies: started, awaited and resumed over RPC and over HTTP. */
import { NodeHttpServer } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Absurd } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { HttpApi, HttpApiTest } from "effect/http-api"
import { RpcTest } from "effect/rpc"
import { Workflow, WorkflowProxy, WorkflowProxyServer } from "effect/workflow"
import { TestTime } from "../../support/TestTime.ts"
import * as TestTimes from "../../support/TestTime.ts"
import { joinWhileTimePasses, settled, untilTrue } from "./Support.ts"

class TooShort extends Schema.TaggedError<TooShort>()("TooShort", { text: Schema.String }) {}

const Measure = Workflow.make("Measure", {
  payload: { text: Schema.String },
  idempotencyKey: ({ text }) => text,
  success: Schema.Struct({ length: Schema.Int, at: Schema.Date }),
  error: TooShort
})

let runs = 0

/** Fails, and waits to be resumed, the first time that it runs. */
const Repaired = Workflow.make("Repaired", {
  payload: { text: Schema.String },
  idempotencyKey: ({ text }) => text,
  success: Schema.Int
}).annotate(Workflow.SuspendOnFailure, true)

const workflows = [Measure, Repaired] as const
const queue = "proxied"
const at = new Date("2026-02-03T04:05:06.789Z")

const engine = Layer.mergeAll(
  Measure.toLayer(({ text }) =>
    text.length < 3 ? Effect.fail(new TooShort({ text })) : Effect.succeed({ length: text.length, at })
  ),
  Repaired.toLayer(() => Effect.suspend(() => ++runs % 2 === 1 ? Effect.die("broken") : Effect.succeed(runs)))
).pipe(
  Layer.provideMerge(AbsurdWorkflowEngine.layer({ queue, pollInterval: "1 second", lease: "24 hours" })),
  Layer.provideMerge(Absurd.layerQueue(queue)),
  Layer.provideMerge(Layer.merge(Absurd.layerMemory, TestTimes.layerMemory))
)

const rpcs = WorkflowProxy.toRpcGroup(workflows, { prefix: "wf" })
const api = HttpApi.make("api").add(WorkflowProxy.toHttpApiGroup("workflows", workflows))

const proxies = Layer.mergeAll(
  WorkflowProxyServer.layerRpcHandlers(workflows, { prefix: "wf" }),
  WorkflowProxyServer.layerHttpApi(api, "workflows", workflows),
  NodeHttpServer.layerHttpServices
).pipe(Layer.provideMerge(engine))

const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.forkChild(effect), (fiber) => joinWhileTimePasses(fiber))

const suspendedAs = (text: string) =>
  Effect.gen(function*() {
    const { advance } = yield* TestTime
    const executionId = yield* Repaired.executionId({ text })
    yield* untilTrue(
      Effect.andThen(
        advance("50 millis"),
        Effect.map(settled(Repaired, executionId), (result) => result._tag === "Suspended")
      )
    )
    return executionId
  })

layer(proxies, { concurrent: false })("workflows behind proxies", (it) => {
  it.effect("are executed and resumed over RPC", () =>
    Effect.gen(function*() {
      const client = yield* RpcTest.makeClient(rpcs)
      assert.deepStrictEqual(yield* whileTimePasses(client.wfMeasure({ text: "four" })), { length: 4, at })
      assert.deepStrictEqual(
        yield* whileTimePasses(Effect.flip(client.wfMeasure({ text: "no" }))),
        new TooShort({ text: "no" })
      )
      assert.strictEqual(yield* client.wfMeasureDiscard({ text: "four" }), yield* Measure.executionId({ text: "four" }))
      yield* client.wfRepairedDiscard({ text: "rpc" })
      const executionId = yield* suspendedAs("rpc")
      for (const unknown of ["", "no such id", "a\u0000b", "x".repeat(2000)]) {
        yield* client.wfRepairedResume({ executionId: unknown })
      }
      yield* client.wfRepairedResume({ executionId })
      assert.strictEqual(yield* whileTimePasses(client.wfRepaired({ text: "rpc" })), 2)
    }))

  it.effect("are executed and resumed over HTTP", () =>
    Effect.gen(function*() {
      const client = (yield* HttpApiTest.groups(api, ["workflows"])).workflows
      assert.deepStrictEqual(yield* whileTimePasses(client.Measure({ payload: { text: "hello" } })), { length: 5, at })
      assert.deepStrictEqual(
        yield* whileTimePasses(Effect.flip(client.Measure({ payload: { text: "no" } }))),
        new TooShort({ text: "no" })
      )
      assert.strictEqual(
        yield* client.MeasureDiscard({ payload: { text: "hello" } }),
        yield* Measure.executionId({ text: "hello" })
      )
      yield* client.RepairedDiscard({ payload: { text: "http" } })
      const executionId = yield* suspendedAs("http")
      for (const unknown of ["", "no such id", "a\u0000b", "x".repeat(2000)]) {
        yield* client.RepairedResume({ payload: { executionId: unknown } })
      }
      yield* client.RepairedResume({ payload: { executionId } })
      assert.strictEqual(yield* whileTimePasses(client.Repaired({ payload: { text: "http" } })), 4)
    }))
})
