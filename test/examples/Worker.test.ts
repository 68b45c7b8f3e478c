/** What docs/worker.md shows, and that it shows it as it is. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Absurd, Worker } from "effect-absurd"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as Batch from "../../examples/worker/batch.ts"
import * as Tasks from "../../examples/worker/tasks.ts"
import * as TestPostgres from "../support/Postgres.ts"

const path = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url))
const read = (file: string) => Fs.readFileSync(path(file), "utf8")
const page = read("docs/worker.md")

describe("docs/worker.md", () => {
  it.each(["examples/worker/main.ts", "examples/worker/batch.ts"])("shows %s as it is", (example) => {
    assert.include(page, read(example))
  })

  it("has every option of a worker and of the client", () => {
    const named = [...page.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1])
    const declared = (file: string, name: string) => {
      const [, body = ""] = new RegExp(`export interface ${name}[^{]*\\{(.*?)\\n\\}`, "s").exec(read(file)) ?? []
      return [...body.matchAll(/^ {2}readonly (\w+)\?:/gm)].map((match) => match[1])
    }
    const options = [
      ...declared("src/core/Worker.ts", "Options"),
      ...declared("src/core/Absurd.ts", "Options"),
      ...declared("src/layers/Absurd.ts", "PostgresOptions")
    ]
    assert.isAbove(options.length, 9)
    assert.sameMembers([...new Set(named)], [...new Set(options)])
  })
})

layer(Layer.provideMerge(Absurd.layer, TestPostgres.layer()), { concurrent: false, excludeTestServices: true })(
  "the worker of the docs",
  (it) => {
    it.effect("serves both queues, and ends by itself when it is told to", () =>
      Effect.gen(function*() {
        const { url } = yield* TestPostgres.TestDatabase
        const child = yield* Effect.acquireRelease(
          Effect.sync(() =>
            spawn(process.execPath, ["--conditions=source", path("examples/worker/main.ts")], {
              env: { ...process.env, DATABASE_URL: url },
              stdio: ["ignore", "ignore", "inherit"]
            })
          ),
          (child) => Effect.sync(() => child.kill("SIGKILL"))
        )
        for (const queue of ["emails", "reports"]) yield* Absurd.createQueue(queue)
        const email = yield* Tasks.SendEmail.spawn({ to: "ada@example.org" })
        const report = yield* Tasks.MakeReport.spawn({ month: "may" })
        assert.strictEqual(yield* email.await, "sent to ada@example.org")
        assert.strictEqual(yield* report.await, "report of may")
        const ended = once(child, "close")
        child.kill("SIGTERM")
        const [, signal] = yield* Effect.promise(() => ended)
        assert.isNull(signal)
      }))

    it.effect("batches and pauses", () =>
      Effect.gen(function*() {
        yield* Absurd.createQueue("emails")
        yield* Tasks.SendEmail.spawnMany(Array.from({ length: 120 }, (_, n) => ({ to: `${n}` })))
        const during = yield* Batch.withoutEmails(Worker.runOnce({ queue: "emails" }))
        assert.deepStrictEqual(during, { repaired: [], due: 120, paused: true })
        assert.strictEqual(yield* Batch.workOff, 120)
        assert.strictEqual(yield* Batch.workOff, 0)
      }).pipe(Effect.provide(Tasks.SendEmailLive)))
  }
)
