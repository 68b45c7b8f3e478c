import { assert, describe, it, layer } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Option } from "effect"
import { Absurd, Hooks, Step, Worker } from "effect-absurd"
import * as Fs from "node:fs"
import * as Checkpoints from "../../examples/operations/checkpoints.ts"
import * as Claiming from "../../examples/operations/claiming.ts"
import * as Client from "../../examples/operations/client.ts"
import * as Events from "../../examples/operations/events.ts"
import * as Inspecting from "../../examples/operations/inspecting.ts"
import * as Queues from "../../examples/operations/queues.ts"
import * as Spawning from "../../examples/operations/spawning.ts"
import * as WorkflowRuns from "../../examples/operations/workflowRuns.ts"
import * as Working from "../../examples/operations/working.ts"
import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as TestPostgres from "../support/Postgres.ts"

const read = (path: string) => Fs.readFileSync(new URL(path, import.meta.url), "utf8")

/** Each part of the page: its example, and the operations of its table. */
const parts = read("../../docs/operations.md").split("\n## ").slice(1).map((part) => ({
  example: read(`../../docs/${/\]\((\.\.\/examples\/operations\/\w+\.ts)\)/.exec(part)?.[1]}`),
  operations: part.split("\n").filter((line) => line.startsWith("| `")).flatMap((line) =>
    [...line.split("|")[1]!.matchAll(/`(?:(\w+)\.)?(\w+)`/g)].map((match) => [match[1] ?? "Absurd", match[2]!] as const)
  )
}))

describe("docs/operations.md", () => {
  it("has an example of each operation that it names", () => {
    const missing = parts.flatMap(({ example, operations }) =>
      operations.filter(([namespace, name]) => !example.includes(`${namespace}.${name}`))
    )
    assert.deepStrictEqual(missing, [])
  })

  it("names operations that there are", () => {
    const named = parts.flatMap(({ operations }) => operations)
    assert.isAbove(named.length, 55)
    const namespaces: { readonly [name: string]: object } = { Absurd, Hooks, Step, Worker }
    assert.deepStrictEqual(named.filter(([namespace, name]) => !(name in (namespaces[namespace] ?? {}))), [])
  })

  it("names every operation that there is", () => {
    const named = new Set(parts.flatMap(({ operations }) => operations.map((operation) => operation.join("."))))
    // What the others are made of.
    const building = ["Absurd", "make", "resolveQueue"]
    assert.deepStrictEqual(
      Object.keys(Absurd).filter((name) => !named.has(`Absurd.${name}`) && !building.includes(name)),
      []
    )
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
        const { again, emails, found, limited, order, replaced, retried } = yield* Spawning.example
        assert.deepStrictEqual(again, { ...order, created: false })
        assert.isTrue([...emails, retried, limited].every((task) => task.created))
        assert.deepStrictEqual(found, Option.some(order.taskId))
        assert.deepInclude(replaced, { created: false, replaced: true })
      }))
  })

/** A client and a queue of its own, so that nobody else's tasks come between. */
const own = (
  name: string,
  subject: Layer.Layer<Absurd.Absurd, unknown>,
  environment: { readonly [name: string]: string }
) =>
  describe(name, () => {
    const configured = Layer.provide(subject, ConfigProvider.layer(ConfigProvider.fromUnknown(environment)))

    it.live("the client", () =>
      Effect.gen(function*() {
        const { others, queues, run, taskId, undone } = yield* Client.example
        assert.deepStrictEqual([run.taskId, run.queue as string], [taskId, "emails"])
        assert.deepStrictEqual(queues, ["emails"])
        assert.deepStrictEqual([undone, others], ["InvalidInput", []])
      }).pipe(Effect.provide(configured)))

    it.live("working", () =>
      Effect.gen(function*() {
        yield* Absurd.createQueue("emails")
        const { result, results, unknown } = yield* Working.example
        assert.sameDeepMembers([...results], [{ _tag: "Completed" }, { _tag: "Deferred" }])
        assert.deepStrictEqual(result, { file: "a.csv", tenant: "acme" })
        assert.deepStrictEqual(unknown.map(({ runs, task }) => [task, runs]), [["of-another-program", 1]])
      }).pipe(Effect.provide(configured)))
  })

own("a client in memory", Client.Tests, {})
own("a client by the environment", Layer.provide(Client.Client, TestPostgres.layer()), {
  ABSURD_DEFAULT_QUEUE: "emails",
  ABSURD_WORKER_ID: "mailer-1"
})
own("a client by names of its own", Layer.provide(Client.Named, TestPostgres.layer()), { MAIL_QUEUE: "emails" })

own("a client by options", Layer.provide(Client.ByOptions, TestPostgres.layer()), {})
own("a client without notifications", Layer.provide(Client.Polling, TestPostgres.layer()), {})

suite("the examples in memory", Client.PlainTests)
suite("the examples on PostgreSQL", Layer.provide(Absurd.layer, TestPostgres.layer()))
suite("the examples on the embedded store", Layer.provide(Absurd.layer, EmbeddedStore.layer))
