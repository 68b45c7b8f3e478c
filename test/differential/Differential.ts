/**
 * The same sequence of operations on two stores. After each of them the answers must be the same, everything in the queue
 * must be the same, and it must be sound.
 */
import { Arbitrary, Data, DateTime, Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Invariants from "../../src/core/Invariants.ts"
import * as Fixture from "../conformance/Fixture.ts"
import * as TestTime from "../support/TestTime.ts"
import type { Command, Simple } from "./Command.ts"
import * as Commands from "./Command.ts"
import * as Names from "./Names.ts"
import { perform } from "./Perform.ts"
import type { Subject } from "./Subject.ts"

export class Difference extends Data.TaggedError("Difference")<{
  readonly place: number
  readonly command: Command
  readonly what: string
  readonly expected: string
  readonly actual: string
}> {
  override get message(): string {
    return `${this.what} after command ${this.place} (${this.command._tag})\n  expected ${this.expected}\n  actual   ${this.actual}`
  }
}

const empty: Invariants.Dump = { tasks: [], runs: [], checkpoints: [], events: [], waits: [] }

/** Fails with the first difference. */
export const compare = Effect.fnUntraced(function*(
  reference: Subject,
  other: Subject,
  commands: ReadonlyArray<Command>,
  counted: () => void = () => {}
): Effect.fn.Return<void, Difference> {
  const subjects = [reference, other]
  const queue = Fixture.freshQueue()
  const start = TestTime.start
  const names = [new Names.Names(), new Names.Names()] as const
  let now = start
  let before = empty
  yield* Effect.orDie(
    Effect.forEach(subjects, ({ driver }) => driver.createQueue({ queue, storage: "unpartitioned" }))
  )
  for (const [place, drawn] of commands.entries()) {
    // Without ties of instants, whose order would be chance.
    now = DateTime.addDuration(now, Duration.millis(1 + (drawn._tag === "advance" ? drawn.millis : 0)))
    yield* Effect.forEach(subjects, (subject) => subject.setTime(now), { discard: true })
    yield* TestClock.setTime(now.epochMilliseconds)
    const command = withoutTies(drawn, before, now)
    const known = names[0].known(before)
    const differ = (what: string, expected: string, actual: string) =>
      new Difference({ place, command, what, expected, actual })
    const answers: Array<string> = []
    const dumps: Array<Invariants.Dump> = []
    for (const [index, { driver, dump }] of subjects.entries()) {
      const site = { driver, queue, names: names[index]!, known, start, number: place }
      const answer = Names.essence(yield* Effect.exit(perform(site, command)))
      dumps.push(yield* Effect.orDie(dump(queue)))
      names[index]!.learn(answer, dumps[index]!)
      answers.push(names[index]!.canonical(answer))
    }
    const [expected, actual] = answers
    if (expected !== actual) return yield* differ("another answer", expected!, actual!)
    if (expected!.startsWith("{\"defect\"")) return yield* differ("a defect", "none", expected!)
    const [rows, otherRows] = dumps.map((dump, index) => names[index]!.rows(dump))
    if (rows!.join("\n") !== otherRows!.join("\n")) {
      const only = (mine: ReadonlyArray<string>, theirs: ReadonlyArray<string>) =>
        mine.filter((row) => !theirs.includes(row)).join("\n           ") || "no such row"
      return yield* differ("other rows", only(rows!, otherRows!), only(otherRows!, rows!))
    }
    for (const violations of [Invariants.check(dumps[1]!), Invariants.checkStep(before, dumps[0]!)]) {
      if (violations.length > 0) return yield* differ("unsound", "none", Invariants.format(violations))
    }
    before = dumps[0]!
    counted()
  }
})

/**
 * Compares as many operations. A difference dies with its seed and the shortest sequence that shows it.
 */
export const explore = Effect.fnUntraced(function*(
  reference: Subject,
  other: Subject,
  options: {
    readonly operations: number
    readonly seed: number
    readonly length?: number
    readonly maxShrinks?: number
  }
): Effect.fn.Return<number> {
  let done = 0
  const property = (commands: ReadonlyArray<Command>) =>
    Effect.as(compare(reference, other, commands, () => done++), true)
  const arbitrary = Commands.sequence(options.length ?? 100)
  let seed = options.seed - 1
  let result: Arbitrary.CheckResult<ReadonlyArray<Command>, Difference>
  do {
    seed++
    result = yield* Arbitrary.checkEffect(arbitrary, property, {
      runs: 10,
      size: 100,
      seed,
      maxShrinks: options.maxShrinks ?? 500
    })
  } while (result._tag === "Passed" && done < options.operations)
  if (result._tag === "Passed") return done
  if (result._tag !== "Falsified") return yield* Effect.die(new Error(`the exploration ended with ${result._tag}`))
  const { failure, shrunkInput } = result
  const problem = failure._tag === "PropertyError" ? failure.error.message : "it returned false"
  return yield* Effect.die(
    new Error(
      `${reference.name} and ${other.name} differ (seed ${seed}): ${problem}\n\n` +
        `it.effect("...", () => replay(${JSON.stringify(shrunkInput)}))\n`
    )
  )
})

// --- internal

/** Of several rows with the same instant, which come first is chance: then the command takes all of them. */
const withoutTies = (command: Command, dump: Invariants.Dump, now: DateTime.Utc): Command =>
  command._tag === "together"
    ? { ...command, commands: command.commands.map((inner) => simple(inner, dump, now, true)) }
    : simple(command, dump, now, false)

const simple = (command: Simple, dump: Invariants.Dump, now: DateTime.Utc, together: boolean): Simple => {
  if (command._tag === "cleanup") return { ...command, one: false }
  if (command._tag !== "claim" || command.limit === 0) return command
  const until = (instants: ReadonlyArray<DateTime.Utc | null>) =>
    instants.flatMap((instant) => instant?.epochMilliseconds ?? []).filter((instant) =>
      instant <= now.epochMilliseconds
    )
  const expired = until(dump.runs.flatMap((run) => run.state === "running" ? [run.claimExpiresAt] : []))
  const due = until(
    dump.runs.flatMap((run) => run.state === "pending" || run.state === "sleeping" ? [run.availableAt] : [])
  )
  return together || expired.length > 0 || new Set(due).size < due.length ? { ...command, limit: 50 } : command
}
