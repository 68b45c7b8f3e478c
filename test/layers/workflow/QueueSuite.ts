/** Effect's `DurableQueue` over this engine, with a queue store of Effect's own. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Ref, Schema } from "effect"
import type { Absurd } from "effect-absurd"
import { PersistedQueue } from "effect/persistence"
import { DurableQueue, Workflow } from "effect/workflow"
import type { TestTime } from "../../support/TestTime.ts"
import { inProcess } from "./Support.ts"

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

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("an item of a durable queue is worked on once, and its result wakes the execution", () =>
      Effect.gen(function*() {
        const sent = yield* Ref.make(0)
        const workflows = Layer.mergeAll(
          W.toLayer(({ to }) => DurableQueue.process(Mails, { to })),
          DurableQueue.worker(Mails, ({ to }) =>
            Effect.andThen(
              Ref.update(sent, (n) => n + 1),
              to === "nobody" ? Effect.fail("no such person") : Effect.succeed(to.length)
            ))
        ).pipe(
          Layer.provide(PersistedQueue.layer),
          Layer.provide(PersistedQueue.layerStoreMemory)
        )
        yield* inProcess(
          workflows,
          Effect.gen(function*() {
            assert.strictEqual(yield* W.execute({ to: "ada" }), 3)
            assert.strictEqual(yield* Effect.flip(W.execute({ to: "nobody" })), "no such person")
            assert.strictEqual(yield* W.execute({ to: "ada" }), 3)
            assert.strictEqual(yield* Ref.get(sent), 2)
          })
        )
      }))
  })
