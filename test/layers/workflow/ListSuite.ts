/** What has become of executions, for people who look. */
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Layer, Schema } from "effect"
import { Absurd, Identifiers } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { DurableDeferred, Workflow, WorkflowEngine } from "effect/workflow"
import type { TestTime } from "../../support/TestTime.ts"
import { makeProcess, makeQueue, options, settled } from "./Support.ts"

const Go = DurableDeferred.make("go", { success: Schema.String })

const make = (name: string) =>
  Workflow.make(name, {
    payload: { id: Schema.String },
    idempotencyKey: ({ id }) => id,
    success: Schema.String,
    error: Schema.String
  })

const W = make("Listed")
const Bare = make("Bare").annotate(Workflow.CaptureDefects, false)
const Parent = make("Parent")

const workflows = Layer.mergeAll(
  W.toLayer(({ id }) =>
    id === "fails"
      ? Effect.fail("no such luck")
      : id === "dies"
      ? Effect.die("kaputt")
      : id === "succeeds"
      ? Effect.succeed("done")
      : DurableDeferred.await(Go)
  ),
  Bare.toLayer(() => Effect.die("kaputt")),
  Parent.toLayer(() => W.execute({ id: "succeeds" }))
)

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect("executions are listed and counted by what they have come to", () =>
      Effect.gen(function*() {
        const { driver } = yield* Absurd.Absurd
        const queue = yield* makeQueue
        const engine = yield* makeProcess(options(queue), workflows)
        yield* Effect.gen(function*() {
          for (const id of ["fails", "dies"]) yield* Effect.exit(W.execute({ id }))
          yield* Effect.exit(Bare.execute({ id: "dies" }))
          assert.strictEqual(yield* Parent.execute({ id: "1" }), "done")
          for (const id of ["waits", "interrupted", "cancelled"]) {
            const executionId = yield* W.execute({ id }, { discard: true })
            yield* settled(W, executionId)
            if (id === "interrupted") {
              yield* W.interrupt(executionId)
              assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(W.execute({ id }))))
            }
            if (id === "cancelled") {
              const taskId = yield* driver.findTask({
                queue: Identifiers.QueueName.make(queue),
                idempotencyKey: Identifiers.IdempotencyKey.make(executionId)
              })
              yield* Absurd.cancelTask(taskId!, { queue })
            }
          }
        }).pipe(Effect.provideService(WorkflowEngine.WorkflowEngine, engine))

        const [failed, ...others] = yield* AbsurdWorkflowEngine.list({ queue, workflow: "Listed", outcome: "failed" })
        // Captured defects are failures as well.
        assert.lengthOf(others, 1)
        assert.deepInclude(others[0], { executionId: yield* W.executionId({ id: "fails" }), outcome: "failed" })
        assert.include(JSON.stringify(others[0]!.exit), "no such luck")
        assert.strictEqual(failed!.executionId, yield* W.executionId({ id: "dies" }))
        const [succeeded] = yield* AbsurdWorkflowEngine.list({ queue, workflow: "Listed", outcome: "succeeded" })
        assert.deepInclude(succeeded, { parent: yield* Parent.executionId({ id: "1" }), attempts: 1 })
        const [open] = yield* AbsurdWorkflowEngine.list({ queue, outcome: "open" })
        assert.deepInclude(open, { executionId: yield* W.executionId({ id: "waits" }), exit: undefined })
        assert.deepStrictEqual(yield* AbsurdWorkflowEngine.list({ queue, outcome: "crashed" }), [])

        const all = yield* AbsurdWorkflowEngine.list({ queue })
        assert.lengthOf(all, 8)
        const first = yield* AbsurdWorkflowEngine.list({ queue, limit: 3 })
        const rest = yield* AbsurdWorkflowEngine.list({ queue, before: first[2]!.taskId })
        assert.deepStrictEqual([...first, ...rest], all)

        assert.deepStrictEqual(yield* AbsurdWorkflowEngine.count({ queue }), [
          { workflow: "Bare", outcome: "defect", executions: 1 },
          { workflow: "Listed", outcome: "cancelled", executions: 1 },
          { workflow: "Listed", outcome: "failed", executions: 2 },
          { workflow: "Listed", outcome: "interrupted", executions: 1 },
          { workflow: "Listed", outcome: "open", executions: 1 },
          { workflow: "Listed", outcome: "succeeded", executions: 1 },
          { workflow: "Parent", outcome: "succeeded", executions: 1 }
        ])
        const error = yield* Effect.flip(AbsurdWorkflowEngine.list({ queue, before: "no id" }))
        assert.strictEqual(error._tag, "InvalidInput")
      }))
  })
