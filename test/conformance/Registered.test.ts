/** Each suite of this folder is run on each kind of store. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"

const here = new URL("./", import.meta.url)
const tests = new URL("../", here)
const read = (url: URL) => Fs.readFileSync(url, "utf8")

const suites = Fs.readdirSync(here).filter((name) => name.endsWith("Suite.ts")).map((name) => name.slice(0, -3))

/** The files of quick tests, with what is in them. */
const files = Fs.readdirSync(tests, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".test.ts") && !path.endsWith(".long.test.ts"))
  .map((path) => read(new URL(path, tests)))

/** The titles under which what is imported from `module` is run: `Alias.suite("title", ...)`, or `.all`. */
const titles = (module: string): ReadonlyArray<string> =>
  files.flatMap((text) => {
    const alias = new RegExp(`import \\* as (\\w+) from "[^"]*/${module}\\.ts"`).exec(text)?.[1]
    if (alias === undefined) return []
    return [...text.matchAll(new RegExp(`${alias}\\.(?:suite|all)\\(\\s*"([^"]+)"`, "g"))].map((match) => match[1]!)
  })

const stores = { "in memory": /memory/, "on PostgreSQL": /PostgreSQL/, "on the embedded store": /embedded/ }

describe("conformance", () => {
  const ofDrivers = [...read(new URL("Suites.ts", here)).matchAll(/"\.\/(\w+Suite)\.ts"/g)].map((match) => match[1]!)

  it("has suites of drivers and of programs", () => {
    assert.isAbove(ofDrivers.length, 15)
    assert.isAbove(suites.length, ofDrivers.length + 10)
  })

  it.each(["Suites", ...suites.filter((name) => !ofDrivers.includes(name))])(
    "runs %s on each kind of store",
    (name) => {
      const found = titles(name)
      const missing = Object.entries(stores).filter(([, store]) => !found.some((title) => store.test(title)))
      assert.deepStrictEqual(missing.map(([where]) => where), [], found.join(", "))
    }
  )

  it("calls all suites of drivers", () => {
    const text = read(new URL("Suites.ts", here))
    for (const name of ofDrivers) {
      const alias = new RegExp(`import \\* as (\\w+) from "\\./${name}\\.ts"`).exec(text)?.[1]
      assert.include(text, `${alias}.suite(`)
    }
  })
})
