/** What documents say about the tests is so. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import { faults } from "../differential/Faults.ts"

const root = new URL("../../", import.meta.url)
const read = (path: string) => Fs.readFileSync(new URL(path, root), "utf8")

describe("README.md", () => {
  it("tells of each command that tests or measures, and of no other", () => {
    const { scripts } = JSON.parse(read("package.json")) as { readonly scripts: { readonly [name: string]: string } }
    const [, section = ""] = read("README.md").split("\n## The tests\n")
    const told = [...section.matchAll(/^\| `npm (?:run )?([\w:]+)` \| .+ \| .+ \|$/gm)].map((match) => match[1]!)
    assert.sameMembers(
      told,
      Object.keys(scripts).filter((name) => /^(test|bench|soak|profile)(:|$)/.test(name) && name !== "bench:chart")
    )
  })

  it("names options that the commands have", () => {
    const [, section = ""] = read("README.md").split("\n## The tests\n")
    for (const [file, names] of Object.entries({ "scripts/test-crash.ts": ["short", "kills", "minutes"] })) {
      for (const name of names) {
        assert.include(section, `--${name}`)
        assert.match(read(file), new RegExp(`^ +${name}: \\{ type`, "m"))
      }
    }
    assert.include(read("package.json"), "DIFFERENTIAL_OPERATIONS")
  })
})

describe("docs/testing.md", () => {
  it("says how many mistakes the comparison of stores finds", () => {
    assert.include(read("docs/testing.md"), `each of ${Object.keys(faults).length} mistakes`)
  })
})
