/** The code that documents and comments show compiles, in the project of somebody who uses the package. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { beforeAll } from "vitest"
import * as Compiler from "../support/Compiler.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))
const read = (path: string) => Fs.readFileSync(Path.join(root, path), "utf8")
const list = (folder: string, ending: string): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(ending))
    .map((path) => `${folder}/${path}`)
    .toSorted()

interface Snippet {
  /** Where it is shown. */
  readonly place: string
  readonly code: string
}

/** What is fenced as TypeScript in a text. */
const fenced = (path: string, text: string): ReadonlyArray<Snippet> =>
  [...text.matchAll(/^```ts\n([^]*?)^```$/gm)].map((match) => ({
    place: `${path}:${text.slice(0, match.index).split("\n").length + 1}`,
    code: match[1]!
  }))

const documents = ["README.md", ...list("docs", ".md")]

/** The comments of a file, line by line as it is, without what makes them comments. */
const comments = (path: string): string =>
  read(path).split("\n").map((line) => /^ *\* ?(.*)$/.exec(line)?.[1] ?? "").join("\n")

const inDocuments = documents.flatMap((path) => fenced(path, read(path)))
const inComments = list("src", ".ts").flatMap((path) => fenced(path, comments(path)))

// What has no imports is a part of a program, and stands where it cannot be read without what is around it.
const isWhole = ({ code }: Snippet) => /^import /m.test(code)

/** Names that parts of programs use, beside those of the library. */
const given = `
import { Cause, Config, DateTime, Duration, Effect, Layer, Schedule, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { SqlClient } from "effect/sql"
import { Absurd, Cron, Doctor, Event, Installation, Maintenance, Step, Task, Worker } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
const email = "ada@example.com"
const Welcome = Task.make("welcome", { params: { email: Schema.String } })
const Registered = Event.make("registered")
`

/** Parts of programs that are checked elsewhere, or are of another library. */
const elsewhere = (snippet: Snippet) =>
  snippet.place.startsWith("docs/testing.md:") || snippet.code.includes("new Absurd({")

const program = (snippet: Snippet): string =>
  isWhole(snippet)
    ? snippet.code.replace("\"./Order.ts\"", "\"./workflow-order.ts\"")
    : `${given}\nexport const part = Effect.gen(function*() {\n${snippet.code}\n})`

const isHidden = (snippet: Snippet) => !isWhole(snippet) && elsewhere(snippet)

const snippets: ReadonlyArray<Snippet> = [
  ...inDocuments.filter((snippet) => !isHidden(snippet)),
  ...inComments.filter(isWhole)
]

const shown = (document: string): string =>
  snippets.find(({ code, place }) => place.startsWith(`${document}:`) && code.includes("toLayer"))?.code ?? ""

/** Programs that others import. Names that differ in capitals only are one to the compiler. */
const imported = {
  order: shown("README.md"),
  "workflow-order": shown("docs/workflow-engine.md"),
  tasks: read("examples/worker/tasks.ts")
}

describe("code compiles that is shown", () => {
  let said: ReadonlyArray<ReadonlyArray<string>> = []
  beforeAll(async () => {
    const programs = snippets.map((snippet, index) => [`snippet-${index}`, program(snippet)] as const)
    said = await Compiler.compile({ ...Object.fromEntries(programs), ...imported })
  })

  it("in many places", () => {
    assert.isAbove(inDocuments.length, 20)
    assert.isAbove(inComments.filter(isWhole).length, 15)
  })

  it.each(snippets.map(({ place }, index) => ({ place, index })))("in $place", ({ index }) => {
    assert.deepStrictEqual(said[index], [])
  })
})

describe("documents", () => {
  it.each(documents)("%s links only to what exists", (path) => {
    const anchors = (text: string) =>
      [...text.matchAll(/^#+ (.+)$/gm)].map((match) =>
        match[1]!.toLowerCase().replaceAll(/[^\w\s-]/g, "").trim().replaceAll(/\s/g, "-")
      )
    const broken = [...read(path).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)].filter(([, file, anchor]) => {
      const target = file === "" ? path : Path.join(Path.dirname(path), file!)
      if (!Fs.existsSync(Path.join(root, target))) return true
      return anchor !== undefined && !anchors(read(target)).includes(anchor)
    })
    assert.deepStrictEqual(broken.map(([link]) => link), [])
  })
})
