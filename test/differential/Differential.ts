/**
 * The same sequence of operations on two stores. After each of them the answers must be the same, everything in the store
 * must be the same, and it must be sound.
 */
import { Data, DateTime, Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import { hasEnded } from "../../src/core/Driver.ts"
import type { QueueName } from "../../src/core/Identifiers.ts"
import * as Invariants from "../../src/core/Invariants.ts"
import * as Fixture from "../conformance/Fixture.ts"
import * as TestTime from "../support/TestTime.ts"
import { type Command, draw, operationOf, type Simple } from "./Command.ts"
import * as Known from "./Known.ts"
import * as Names from "./Names.ts"
import { perform } from "./Perform.ts"
import * as Shrinking from "./Shrinking.ts"
import type { Subject } from "./Subject.ts"
import { withoutTies } from "./Ties.ts"

export class Difference extends Data.TaggedError("Difference")<{
  readonly place: number
  readonly command: Command
  readonly what: "another answer" | "a defect" | "other rows" | "unsound"
  readonly expected: string
  readonly actual: string
}> {
  override get message(): string {
    return `${this.what} after command ${this.place} (${this.command._tag})\n  expected ${this.expected}\n  actual   ${this.actual}`
  }
}

/** A difference that was found, with the shortest sequence that shows it. */
export class Found extends Data.TaggedError("Found")<{
  readonly reference: string
  readonly other: string
  readonly seed: number
  readonly difference: Difference
  readonly commands: ReadonlyArray<Command>
}> {
  override get message(): string {
    return `${this.reference} and ${this.other} differ (seed ${this.seed}): ${this.difference.message}\n\n` +
      `it.effect("...", () => replay(${JSON.stringify(this.commands)}))\n`
  }
}

/** What is told of every operation that was compared: the answer is that of both stores. */
export type Told = (command: Command, answer: unknown) => void

/** Fails with the first difference. The commands are given, or the next one is drawn. */
export const compare = (
  reference: Subject,
  other: Subject,
  next: (place: number, knownOf: (queue: Known.QueueRef) => Known.Known) => Effect.Effect<Command | undefined>,
  told: Told = () => {}
): Effect.Effect<void, Difference> =>
  Effect.suspend(() => {
    const comparison = new Comparison([reference, other])
    const step: Effect.Effect<boolean, Difference> = Effect.gen(function*() {
      const command = yield* next(comparison.place, (queue) => comparison.known(queue))
      if (command === undefined) return false
      const answer = yield* comparison.step(command)
      told(command, answer)
      return true
    })
    return comparison.begin.pipe(
      Effect.andThen(Effect.repeat(step, { while: (goesOn) => goesOn })),
      Effect.andThen(comparison.finish),
      Effect.ensuring(Effect.ignore(comparison.tidy))
    )
  })

/** {@link compare} for a sequence that is known. */
export const compareAll = (reference: Subject, other: Subject, commands: ReadonlyArray<Command>) =>
  compare(reference, other, (place) => Effect.succeed(commands[place]))

/** Compares as many operations. A difference fails with its seed and the shortest sequence that shows it. */
export const explore = Effect.fnUntraced(function*(
  reference: Subject,
  other: Subject,
  options: {
    readonly operations: number
    readonly seed: number
    readonly length?: number
    readonly maxShrinks?: number
    readonly told?: Told
  }
): Effect.fn.Return<number, Found> {
  const { length = 160, maxShrinks = 500, operations, told = () => {} } = options
  const counter = { done: 0 }
  for (let seed = options.seed; counter.done < operations; seed++) {
    const commands: Array<Command> = []
    const drawn = yield* draw(seed)
    const compared = compare(
      reference,
      other,
      (place, knownOf) =>
        place >= length ?
          Effect.undefined :
          Effect.tap(drawn.next(knownOf), (command) => Effect.sync(() => commands.push(command))),
      (command, answer) => {
        counter.done++
        told(command, answer)
      }
    )
    yield* Effect.catch(compared, (difference) =>
      Effect.gen(function*() {
        const shown = (shorter: ReadonlyArray<Command>) => Effect.flip(compareAll(reference, other, shorter))
        const shortest = yield* Shrinking.shrink({ commands, difference }, shown, maxShrinks)
        return yield* new Found({ reference: reference.name, other: other.name, seed, ...shortest })
      }))
  }
  return counter.done
})

// --- internal

/** How often the queues that a command is not about are looked at. */
const lookAround = 20

class Comparison {
  place = 0
  private readonly subjects: readonly [Subject, Subject]
  private readonly names = [new Names.Names(), new Names.Names()] as const
  private readonly queues: { readonly [Q in Known.QueueRef]: QueueName }
  private now = TestTime.start
  private world: Known.World = {
    queues: { a: Known.empty, b: Known.empty, c: undefined },
    workflowRuns: [],
    schedules: []
  }

  constructor(subjects: readonly [Subject, Subject]) {
    this.subjects = subjects
    const prefix = Fixture.freshQueue()
    const of = (ref: Known.QueueRef) => `${prefix}${ref}` as QueueName
    this.queues = { a: of("a"), b: of("b"), c: of("c") }
  }

  get begin(): Effect.Effect<void> {
    // Partitioned queues cost much more to make.
    const storage = Fixture.fresh() % 16 === 0 ? "partitioned" : "unpartitioned"
    return Effect.orDie(Effect.andThen(
      this.setTime(this.now),
      Effect.forEach(this.subjects, ({ driver }) =>
        Effect.andThen(
          driver.createQueue({ queue: this.queues.a, storage }),
          driver.createQueue({ queue: this.queues.b, storage: "unpartitioned" })
        ), { discard: true })
    ))
  }

  /** What a command will find. */
  known(queue: Known.QueueRef): Known.Known {
    return Known.make(this.world, this.names[0], DateTime.addDuration(this.now, Duration.millis(1)), queue)
  }

  /** The canonical answer. */
  step(drawn: Command): Effect.Effect<unknown, Difference> {
    return Effect.gen({ self: this }, function*() {
      // Without ties of instants, whose order would be chance.
      const pause = 1 + (drawn._tag === "advance" ? drawn.millis : 0)
      this.now = DateTime.addDuration(this.now, Duration.millis(pause))
      // Nobody looks at a clock before the next command.
      if (drawn._tag !== "advance") yield* this.setTime(this.now)
      const command = withoutTies(drawn, this.world, this.now)
      const answers: Array<unknown> = []
      const worlds: Array<Known.World> = []
      const known = (queue: Known.QueueRef) => Known.make(this.world, this.names[0], this.now, queue)
      for (const [index, subject] of this.subjects.entries()) {
        const names = this.names[index]!
        const placeOf = (inner: Simple, part: number) => ({
          driver: subject.driver,
          queue: this.queues[inner.queue],
          queueOf: (ref: Known.QueueRef) => this.queues[ref],
          known: known(inner.queue),
          names,
          start: TestTime.start,
          number: `${this.place}.${part}`
        })
        const answer = Names.essence(yield* Effect.exit(perform(placeOf, command)))
        const world = yield* this.look(subject, command)
        for (const ref of Known.queueRefs) {
          const dump = world.queues[ref]
          if (dump !== undefined && dump !== this.world.queues[ref]) names.learn(answer, dump)
        }
        worlds.push(world)
        answers.push(answer)
      }
      return yield* this.judge(command, answers, worlds)
    })
  }

  /** Fails when the rest is not the same in the end, or when the doctor of the other store finds something. */
  get finish(): Effect.Effect<void, Difference> {
    return Effect.gen({ self: this }, function*() {
      const command: Command = { _tag: "cleanupAll", queue: "a", all: true }
      const { doctor } = this.subjects[1]
      const worlds = yield* Effect.forEach(this.subjects, (subject) => this.look(subject, command))
      yield* this.judge(command, [null, null], worlds)
      for (const ref of Known.queueRefs) {
        if (doctor === undefined || this.world.queues[ref] === undefined) continue
        const found = yield* Effect.orDie(doctor(this.queues[ref]))
        if (found.length > 0) return yield* this.differ(command, "unsound", "none", Invariants.format(found))
      }
    })
  }

  /** Leaves both stores as empty as they were. */
  get tidy(): Effect.Effect<void, unknown> {
    const empty = ({ driver }: Subject) =>
      Effect.gen({ self: this }, function*() {
        for (const queue of Object.values(this.queues)) yield* driver.dropQueue(queue)
        for (const { name } of yield* driver.listSchedules) yield* driver.deleteSchedule(name)
        for (const { id, status } of yield* driver.listWorkflowRuns(everything)) {
          if (!hasEnded(status)) yield* driver.updateWorkflowRun({ ...unchanged, id, status: "cancelled" })
        }
      })
    return this.setTime(DateTime.addDuration(this.now, Duration.days(1))).pipe(
      Effect.andThen(Effect.forEach(this.subjects, empty)),
      Effect.andThen(this.setTime(DateTime.addDuration(this.now, Duration.days(2)))),
      Effect.andThen(
        Effect.forEach(
          this.subjects,
          ({ driver }) => driver.cleanupWorkflowRuns({ ttl: Duration.millis(1), limit: 1000 })
        )
      ),
      Effect.asVoid
    )
  }

  private setTime(now: DateTime.Utc): Effect.Effect<void> {
    return Effect.andThen(
      Effect.forEach(this.subjects, (subject) => subject.setTime(now), { discard: true }),
      TestClock.setTime(now.epochMilliseconds)
    )
  }

  /** What a store holds after a command, as far as the command may have changed it. */
  private look(subject: Subject, command: Command): Effect.Effect<Known.World> {
    return Effect.gen({ self: this }, function*() {
      const commands = command._tag === "together" ? command.commands : [command]
      const touched = new Set(commands.map(({ _tag }) => operationOf(_tag).touches ?? "its queue"))
      const around = touched.has("every queue") || this.place % lookAround === lookAround - 1
      const queues: { [Q in Known.QueueRef]: Invariants.Dump | undefined } = { ...this.world.queues }
      for (const ref of Known.queueRefs) {
        const isAbout = touched.has("its queue") && commands.some(({ queue }) => queue === ref)
        if (!isAbout && !around) continue
        queues[ref] = yield* subject.dump(this.queues[ref]).pipe(
          Effect.catchTag("NotFound", () => Effect.undefined),
          Effect.orDie
        )
      }
      const { driver } = subject
      return {
        queues,
        workflowRuns: touched.has("workflowRuns")
          ? yield* Effect.orDie(driver.listWorkflowRuns(everything))
          : this.world.workflowRuns,
        schedules: touched.has("schedules") ? yield* Effect.orDie(driver.listSchedules) : this.world.schedules
      }
    })
  }

  private judge(
    command: Command,
    answers: ReadonlyArray<unknown>,
    worlds: ReadonlyArray<Known.World>
  ): Effect.Effect<unknown, Difference> {
    const [expected, actual] = answers.map((answer, index) => this.names[index]!.canonical(answer))
    if (expected !== actual) return this.differ(command, "another answer", expected!, actual!)
    if (expected!.startsWith("{\"defect\"")) return this.differ(command, "a defect", "none", expected!)
    // What was not looked at is the same object in both.
    for (const ref of Known.queueRefs) {
      const dumps = worlds.map(({ queues }) => queues[ref])
      const before = this.world.queues[ref]
      if (dumps[0] === before && dumps[1] === before) continue
      const rows = dumps.map((dump, index) => dump === undefined ? ["no queue"] : this.names[index]!.rows(dump))
      const difference = differenceOf(rows[0]!, rows[1]!)
      if (difference !== undefined) return this.differ(command, "other rows", ...difference)
      if (dumps[0] === undefined || dumps[1] === undefined) continue
      const steps = Invariants.checkStep(before ?? Known.empty, dumps[0])
        .filter(({ id }) => id !== "S3" || !mayGiveBackAndClaim(command))
      const violations = [...Invariants.check(dumps[1]), ...steps]
      if (violations.length > 0) return this.differ(command, "unsound", "none", Invariants.format(violations))
    }
    for (const kind of ["schedules", "workflowRuns"] as const) {
      if (worlds[0]![kind] === this.world[kind]) continue
      const rows = worlds.map((world, index) => world[kind].map((row) => this.names[index]!.canonical(row)))
      const difference = differenceOf(rows[0]!, rows[1]!)
      if (difference !== undefined) return this.differ(command, "other rows", ...difference)
    }
    this.world = worlds[0]!
    this.place++
    return Effect.succeed(answers[0])
  }

  private differ(command: Command, what: Difference["what"], expected: string, actual: string) {
    return Effect.fail(new Difference({ place: this.place, command, what, expected, actual }))
  }
}

/** Whether a run may come from one claim to another without being seen in between. */
const mayGiveBackAndClaim = (command: Command): boolean =>
  command._tag === "together" && command.commands.some(({ _tag }) => _tag === "claim") &&
  command.commands.some(({ _tag }) => _tag === "release" || _tag === "suspend")

const differenceOf = (expected: ReadonlyArray<string>, actual: ReadonlyArray<string>) => {
  if (expected.join("\n") === actual.join("\n")) return undefined
  const only = (mine: ReadonlyArray<string>, theirs: ReadonlyArray<string>) =>
    mine.filter((row) => !theirs.includes(row)).join("\n           ") || "no such row"
  return [only(expected, actual), only(actual, expected)] as const
}

const everything = {
  name: null,
  version: null,
  status: null,
  tag: null,
  createdFrom: null,
  createdBefore: null,
  after: null,
  limit: 1000
}

const unchanged = {
  result: undefined,
  error: undefined,
  taskCount: undefined,
  startedAt: undefined,
  completedAt: undefined
}
