import "../../examples/testing/agent.test.ts"
import "../../examples/testing/guide.test.ts"
import "../../examples/testing/order.test.ts"
import "../../examples/testing/subscription.test.ts"
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"

const root = new URL("../../", import.meta.url)
const read = (path: string) => Fs.readFileSync(new URL(path, root), "utf8")
// The guide may break lines elsewhere than the formatter does.
const lines = (text: string) => text.replaceAll(/\s+/g, "")

describe("docs/testing.md", () => {
  it("shows only code that runs", () => {
    const code = lines(read("examples/testing/guide.test.ts"))
    const snippets = [...read("docs/testing.md").matchAll(/```ts\n([^]*?)```/g)].map((match) => lines(match[1]!).trim())
    assert.isAbove(snippets.length, 7)
    for (const snippet of snippets) assert.include(code, snippet)
  })

  it("links only to what exists", () => {
    const links = [...read("docs/testing.md").matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1]!)
    assert.isAbove(links.length, 3)
    assert.deepStrictEqual(links.filter((link) => !Fs.existsSync(new URL(link, new URL("docs/", root)))), [])
  })
})
