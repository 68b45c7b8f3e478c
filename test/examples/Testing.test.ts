import "../../examples/testing/first.test.ts"
import "../../examples/testing/guide.test.ts"
import "../../examples/testing/stores.test.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import * as AbsurdTestSql from "effect-absurd/AbsurdTestSql"
import * as Embedded from "effect-absurd/Embedded"
import * as Fs from "node:fs"
import { afterAll, beforeAll } from "vitest"
import * as Agent from "../../examples/testing/agent.test.ts"
import * as Order from "../../examples/testing/order.test.ts"
import * as Subscription from "../../examples/testing/subscription.test.ts"
import * as TestPostgres from "../support/Postgres.ts"

const scope = Scope.makeUnsafe()
const before = process.env["DATABASE_URL"]

beforeAll(async () => {
  const database = await Effect.runPromise(Scope.provide(TestPostgres.emptyDatabase, scope))
  process.env["DATABASE_URL"] = database.url
})

afterAll(async () => {
  if (before === undefined) delete process.env["DATABASE_URL"]
  else process.env["DATABASE_URL"] = before
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

for (const { suite } of [Agent, Order, Subscription]) {
  suite("on PostgreSQL", AbsurdTestSql.layerOn(TestPostgres.layer({ maxConnections: 1 })), 5)
  suite("on the embedded store", AbsurdTestSql.layerOn(Embedded.layer()), 2)
}

const root = new URL("../../", import.meta.url)
const read = (path: string) => Fs.readFileSync(new URL(path, root), "utf8")
// The guide may break lines elsewhere than the formatter does.
const lines = (text: string) => text.replaceAll(/\s+/g, "")

describe("docs/testing.md", () => {
  it("shows only code that runs", () => {
    const code = ["first", "guide", "stores"].map((name) => lines(read(`examples/testing/${name}.test.ts`))).join("")
    const snippets = [...read("docs/testing.md").matchAll(/```ts\n([^]*?)```/g)].map((match) => lines(match[1]!).trim())
    assert.isAbove(snippets.length, 7)
    for (const snippet of snippets) assert.include(code, snippet)
  })

  it("shows a first test that can be pasted as it is", () => {
    assert.include(lines(read("docs/testing.md")), lines(read("examples/testing/first.test.ts")))
  })

  it("is part of the package, with what it links to", () => {
    const { files } = JSON.parse(read("package.json")) as { readonly files: ReadonlyArray<string> }
    const links = [...read("docs/testing.md").matchAll(/\]\(\.\.\/(\w+)\//g)].map((match) => match[1]!)
    assert.isAbove(links.length, 3)
    assert.deepStrictEqual(links.filter((folder) => !files.includes(folder)), [])
  })

  it("links only to what exists", () => {
    const links = [...read("docs/testing.md").matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1]!)
    assert.isAbove(links.length, 3)
    assert.deepStrictEqual(links.filter((link) => !Fs.existsSync(new URL(link, new URL("docs/", root)))), [])
  })
})
