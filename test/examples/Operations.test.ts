import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import { Absurd } from "effect-absurd"
import * as Fs from "node:fs"
import * as Checkpoints from "../../examples/operations/checkpoints.ts"
import * as Claiming from "../../examples/operations/claiming.ts"
import * as Events from "../../examples/operations/events.ts"
import * as Inspecting from "../../examples/operations/inspecting.ts"
import * as Queues from "../../examples/operations/queues.ts"
import * as Spawning from "../../examples/operations/spawning.ts"
import * as WorkflowRuns from "../../examples/operations/workflowRuns.ts"
import * as TestPostgres from "../support/Postgres.ts"

const read = (path: string) => Fs.readFileSync(new URL(path, import.meta.url), "utf8")

/** Each part of the page: its example, and the operations of its table. */
const parts = read("../../docs/operations.md").split("\n## ").slice(1).map((part) => ({
  example: read(`../../docs/${/\]\((\.\.\/examples\/operations\/\w+\.ts)\)/.exec(part)?.[1]}`),
  operations: part.split("\n").filter((line) => line.startsWith("| `")).flatMap((line) =>
    [...line.split("|")[1]!.matchAll(/`(\w+)`/g)].map((match) => match[1]!)
  )
}))

describe("docs/operations.md", () => {
  it("has an example of each operation that it names", () => {
    const missing = parts.flatMap(({ example, operations }) =>
      operations.filter((name) => !example.includes(`Absurd.${name}`))
    )
    assert.deepStrictEqual(missing, [])
  })

  it("names operations that there are", () => {
    const named = parts.flatMap(({ operations }) => operations)
    assert.isAbove(named.length, 45)
    assert.deepStrictEqual(named.filter((name) => !(name in Absurd)), [])
  })
})

const suite = (name: string, subject: Layer.Layer<Absurd.Absurd, unknown>) =>
  layer(Layer.provideMerge(Layer.effectDiscard(Effect.suspend(() => Absurd.createQueue("absurd_default"))), subject), {
    concurrent: false,
    excludeTestServices: true
  })(name, (it) => {
    it.effect("claiming", () =>
      Effect.gen(function*() {
        assert.deepInclude(yield* Claiming.example, {
          suspended: "Sleep",
          cancelled: true,
          twice: "LeaseLost",
          result: { rows: 3 },
          wasStopped: true
        })
      }))

    it.effect("checkpoints", () =>
      Effect.gen(function*() {
        const { all, kept, ofRun, one, oneOfRun, stored } = yield* Checkpoints.example
        assert.deepStrictEqual([stored, kept], [3, 3])
        assert.deepStrictEqual([...all.map((_) => _.state), ...ofRun.map((_) => _.state)], [3, 3])
        assert.deepStrictEqual([one, oneOfRun].map((found) => Option.getOrThrow(found).state), [3, 3])
      }))

    it.effect("events", () =>
      Effect.gen(function*() {
        const { stored, waits, ...rest } = yield* Events.example
        assert.deepStrictEqual(rest, {
          shouldSuspend: true,
          first: true,
          second: false,
          payload: { tracking: "T1" },
          sleeps: true
        })
        assert.deepStrictEqual(waits.map((wait) => wait.event), ["packed:42"])
        assert.deepStrictEqual(Option.getOrThrow(stored).payload, { tracking: "T1" })
      }))

    it.effect("looking, and trying again", () =>
      Effect.gen(function*() {
        const found = yield* Inspecting.example
        assert.strictEqual(found.task.state, "failed")
        assert.strictEqual(found.attempt.state, "failed")
        assert.deepStrictEqual(found.failed.failure, { name: "Timeout", message: "the carrier did not answer" })
        assert.strictEqual(found.inPlace.attempt, 2)
        assert.deepStrictEqual(found.runs.map((run) => run.state), ["failed", "pending"])
        assert.deepStrictEqual([found.tasks, found.events, found.unknown], [0, 0, "NotFound"])
      }))

    it.effect("queues", () =>
      Effect.gen(function*() {
        const { candidates, cleaned, detached, disabled, enabled, policy, queues } = yield* Queues.example
        assert.includeMembers([...queues], ["emails", "events"])
        assert.strictEqual(policy.detachMode, "empty")
        assert.deepStrictEqual([candidates, detached], [[], []])
        assert.deepStrictEqual(cleaned, [{ queue: "events", tasks: 0, events: 0 }])
        assert.deepStrictEqual([enabled._tag, disabled._tag], ["Failure", "Failure"])
      }))

    it.effect("workflow runs", () =>
      Effect.gen(function*() {
        const { deleted, listed, refused, run, spawned } = yield* WorkflowRuns.example
        assert.strictEqual(run.status, "completed")
        assert.strictEqual(spawned.workflowRunId, run.id)
        assert.deepStrictEqual(listed, [run])
        assert.strictEqual(deleted, 0)
        assert.include(refused, "Invalid name")
      }))

    it.effect("spawning", () =>
      Effect.gen(function*() {
        const { again, emails, found, limited, order, retried } = yield* Spawning.example
        assert.deepStrictEqual(again, { ...order, created: false })
        assert.isTrue([...emails, retried, limited].every((task) => task.created))
        assert.deepStrictEqual(found, Option.some(order.taskId))
      }))
  })

suite("the examples in memory", Absurd.layerMemory)
suite("the examples on PostgreSQL", Layer.provide(Absurd.layer, TestPostgres.layer()))
