/**
 * One process per directory, by lock files `lock.1`, `lock.2`, … in it.
 *
 * The file with the highest number tells who has the directory. Whoever wants it, and finds the holder gone, makes the
 * file with the next number, which only one can; the highest file is never deleted, and one who made a file that is not
 * the highest has lost and takes it back. So there is no moment in which two processes can both win, wherever one of
 * them is killed. A holder that leaves marks its file as released.
 */
import { DateTime, Effect, Result, Schema, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs/promises"
import { hostname } from "node:os"
import { join } from "node:path"

/** The process that has the directory. */
export const Holder = Schema.Struct({
  pid: Schema.Int,
  host: Schema.String,
  /** Tells the process from a later one with the same id; null where the system does not say. */
  started: Schema.NullOr(Schema.String),
  /** When it took the directory, ISO text in UTC. */
  since: Schema.String
})
export type Holder = typeof Holder.Type

/** The directory is taken: by `holder`, or undefined when `file` cannot be read. */
export class Taken extends Schema.TaggedError<Taken>()("Taken", {
  holder: Schema.UndefinedOr(Holder),
  file: Schema.String
}) {}

/** The file system refused. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { cause: Schema.Defect() }) {}

/** Holds the directory, which must exist, until the scope closes. */
export const acquire = (directory: string): Effect.Effect<void, Taken | Refused, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.flatMap(self, (holder) => Effect.map(take(directory, holder), (number) => ({ holder, number }))),
    ({ holder, number }) => Effect.ignore(release(directory, number, holder), { log: "Debug" })
  ).pipe(Effect.asVoid)

/** Whether the process is still there. One on another machine counts as there, for nobody can tell. */
export const isAlive = (holder: Holder): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    if (holder.host !== hostname()) return true
    if (!respondsToSignals(holder.pid)) return false
    const current = yield* processOf(holder.pid)
    // A killed process whose parent has not noticed yet still has its id.
    if (current.ended) return false
    return holder.started === null || current.started === null || holder.started === current.started
  })

// --- internal

const Content = Schema.fromJsonString(Schema.Struct({ ...Holder.fields, released: Schema.Boolean }))

const attempt = <A>(evaluate: () => Promise<A>): Effect.Effect<A, Refused> =>
  Effect.tryPromise({ try: evaluate, catch: (cause) => new Refused({ cause }) })

const hasCode = (error: Refused, code: string): boolean =>
  error.cause instanceof Error && "code" in error.cause && error.cause.code === code

const fileOf = (directory: string, number: number): string => join(directory, `lock.${number}`)

const self = Effect.gen(function*() {
  const { started } = yield* processOf(process.pid)
  const holder: Holder = { pid: process.pid, host: hostname(), started, since: DateTime.formatIso(yield* DateTime.now) }
  return holder
})

const take = (directory: string, holder: Holder): Effect.Effect<number, Taken | Refused> =>
  Effect.gen(function*() {
    while (true) {
      const highest = yield* highestOf(directory)
      if (highest > 0) {
        const free = yield* isFree(fileOf(directory, highest))
        // The file may have given way to a higher one since the directory was listed.
        if (free === "gone") continue
      }
      const mine = highest + 1
      if (!(yield* create(directory, mine, holder))) continue
      if ((yield* highestOf(directory)) === mine) {
        yield* removeBelow(directory, mine)
        return mine
      }
      yield* attempt(() => fs.rm(fileOf(directory, mine), { force: true }))
    }
  })

const highestOf = (directory: string): Effect.Effect<number, Refused> =>
  Effect.map(numbersOf(directory), (numbers) => Math.max(0, ...numbers))

const numbersOf = (directory: string): Effect.Effect<ReadonlyArray<number>, Refused> =>
  Effect.map(
    attempt(() => fs.readdir(directory)),
    (names) => names.flatMap((name) => /^lock\.[1-9][0-9]*$/.test(name) ? [Number(name.slice("lock.".length))] : [])
  )

const isFree = (file: string): Effect.Effect<"free" | "gone", Taken | Refused> =>
  Effect.gen(function*() {
    const read = yield* Effect.result(attempt(() => fs.readFile(file, "utf8")))
    if (Result.isFailure(read)) return hasCode(read.failure, "ENOENT") ? "gone" : yield* read.failure
    const content = Schema.decodeUnknownResult(Content)(read.success)
    if (Result.isFailure(content)) return yield* new Taken({ holder: undefined, file })
    const { released, ...holder } = content.success
    if (released || !(yield* isAlive(holder))) return "free"
    return yield* new Taken({ holder, file })
  })

/** False when another process made that file first. */
const create = (directory: string, number: number, holder: Holder): Effect.Effect<boolean, Refused> =>
  prepared(directory, { ...holder, released: false }, (draft) =>
    // A link, unlike a rename, never replaces; and whoever sees the file sees all of its content.
    attempt(() => fs.link(draft, fileOf(directory, number))).pipe(
      Effect.as(true),
      Effect.catch((error) => hasCode(error, "EEXIST") ? Effect.succeed(false) : Effect.fail(error))
    ))

const release = (directory: string, number: number, holder: Holder): Effect.Effect<void, Refused> =>
  prepared(
    directory,
    { ...holder, released: true },
    (draft) => attempt(() => fs.rename(draft, fileOf(directory, number)))
  )

/** Writes a content to a file of its own, down to the disk, so that a power cut leaves no empty lock. */
const prepared = <A>(
  directory: string,
  content: typeof Content.Type,
  use: (draft: string) => Effect.Effect<A, Refused>
): Effect.Effect<A, Refused> => {
  const draft = join(directory, `draft-${randomUUID()}`)
  return attempt(() => fs.writeFile(draft, Schema.encodeSync(Content)(content), { flag: "wx", flush: true })).pipe(
    Effect.andThen(use(draft)),
    Effect.ensuring(Effect.ignore(attempt(() => fs.rm(draft, { force: true }))))
  )
}

const removeBelow = (directory: string, number: number): Effect.Effect<void, Refused> =>
  Effect.flatMap(numbersOf(directory), (numbers) =>
    Effect.forEach(
      numbers.filter((other) => other < number),
      (other) => attempt(() => fs.rm(fileOf(directory, other), { force: true })),
      { discard: true }
    ))

const respondsToSignals = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // Any other refusal comes from a process that is there.
    return !(error instanceof Error && "code" in error && error.code === "ESRCH")
  }
}

/** What the system's process table says, where there is one to read. */
const processOf = (pid: number): Effect.Effect<{ readonly started: string | null; readonly ended: boolean }> =>
  Effect.gen(function*() {
    const boot = yield* attempt(() => fs.readFile("/proc/sys/kernel/random/boot_id", "utf8"))
    const stat = yield* attempt(() => fs.readFile(`/proc/${pid}/stat`, "utf8"))
    // The second field is the program's name in parentheses and may contain anything; the state is the third field,
    // the start time the 22nd.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return { started: `${boot.trim()}:${fields[19]}`, ended: fields[0] === "Z" || fields[0] === "X" }
  }).pipe(Effect.catch(() => Effect.succeed({ started: null, ended: false })))
