/**
 * Durable races: the first of several branches wins, once and for every replay.
 *
 * @since 0.1.0
 */
import { DateTime, type Duration, Effect, Exit, Schema } from "effect"
import { dual } from "effect/Function"
import { CurrentRun } from "./CurrentRun.ts"
import { InvalidUse, Timeout } from "./Errors.ts"
import { CheckpointName, StepName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as NameScope from "./NameScope.ts"
import { Replay } from "./Replay.ts"

/**
 * Runs the branches at once; the first that ends decides, and the others are interrupted. The checkpoint `name` remembers
 * which one it was: every later execution runs that branch alone, whose steps and waits then return what they returned
 * before. When the branch fails, so does the race; that is remembered if the program deals with the failure and goes on, and
 * otherwise, like the failure of a step, it is not: the next attempt races again.
 *
 * The names within a branch are put under `name/branch/`, so branches may use the same names. When all branches wait, the
 * run is suspended once for all of them. When several branches could win at the same moment, the one named first does.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Event, Step } from "effect-absurd"
 *
 * const Approved = Event.make("approved")
 *
 * const decision = Step.race("decision", {
 *   approved: Effect.as(Approved.wait("42"), true),
 *   tooLate: Effect.as(Step.sleep("a month", "30 days"), false)
 * })
 * ```
 *
 * @since 0.1.0
 * @category races
 */
export const race = <const Branches extends { readonly [branch: string]: Effect.Effect<unknown, unknown, unknown> }>(
  name: string,
  branches: Branches
): Effect.Effect<
  Effect.Success<Branches[keyof Branches]>,
  Effect.Error<Branches[keyof Branches]>,
  Effect.Services<Branches[keyof Branches]> | CurrentRun
> => {
  type Branch = Branches[keyof Branches]
  type A = Effect.Success<Branch>
  type E = Effect.Error<Branch>
  type R = Effect.Services<Branch>
  return decided<A, E, R>(name, branches as { readonly [branch: string]: Effect.Effect<A, E, R> })
}

/**
 * Limits how long an effect of steps and waits may take, counted from the first time the task comes here, over suspensions
 * and restarts: fails with `Timeout` once `duration` has passed, and then does so in every later execution without running
 * the effect; once the effect has succeeded, or has failed and the program has gone on, it never does. Steps that run when
 * the time is up are interrupted.
 *
 * The names within the effect are put under `name/within/`. The deadline is stored before the effect starts.
 *
 * ```ts
 * import { Event, Step } from "effect-absurd"
 *
 * const Paid = Event.make("paid")
 *
 * const paid = Paid.wait("42").pipe(Step.timeout("payment", "7 days"))
 * ```
 *
 * @since 0.1.0
 * @category races
 */
export const timeout: {
  (
    name: string,
    duration: Duration.Input
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Timeout, R | CurrentRun>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    name: string,
    duration: Duration.Input
  ): Effect.Effect<A, E | Timeout, R | CurrentRun>
} = dual(
  3,
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    name: string,
    duration: Duration.Input
  ): Effect.Effect<A, E | Timeout, R | CurrentRun> =>
    Effect.flatten(decided<Effect.Effect<A, Timeout>, E, R | CurrentRun>(name, {
      within: Effect.map(self, Effect.succeed),
      deadline: Effect.as(deadline(duration), Effect.fail(new Timeout({ subject: `"${name}"` })))
    }))
)

/**
 * Whether a name lies in a branch of a race that another branch has won: it is not executed in any later execution.
 *
 * @since 0.1.0
 * @category guards
 */
export const hasLost = (run: CurrentRun["Service"], name: CheckpointName): boolean => {
  const parts = name.split("/")
  return parts.slice(0, -2).some((own, index) => {
    const race = [...parts.slice(0, index), own.replace(/~([0-9]+)$/, "#$1")].join("/")
    const decision = run.recall(CheckpointName.make(race))
    return isDecided(decision) && decision.winner !== parts[index + 1]
  })
}

// --- internal

const checkName = Input.check("step", StepName)

const decided = <A, E, R>(
  name: string,
  branches: { readonly [branch: string]: Effect.Effect<A, E, R> }
): Effect.Effect<A, E, R | CurrentRun> =>
  Effect.gen(function*() {
    const run = yield* CurrentRun
    const base = yield* Effect.orDie(checkName(name))
    const names = Object.keys(branches)
    if (names.length === 0) {
      return yield* Effect.die(new InvalidUse({ step: name, problem: "a race needs at least one branch" }))
    }
    const path = yield* NameScope.NameScope
    const replay = yield* Replay
    return yield* run.named(base, (checkpoint) => {
      // With the number that a repeated name gets, so that a race within a loop keeps its branches apart.
      const own = checkpoint.slice(path.length).replace(/#([0-9]+)$/, "~$1")
      const branch = (key: string) => NameScope.enter(NameScope.enter(branches[key]!, key), own)
      // Losers, too, may have done what is to be undone.
      const aside = (keys: ReadonlyArray<string>) =>
        replay === undefined ? Effect.void : Effect.forEach(keys, (key) => replay.aside(branch(key)), { discard: true })
      const stored = run.recall(checkpoint)
      if (stored !== undefined) {
        return Effect.flatMap(winnerOf(name, names, stored), (winner) =>
          Effect.andThen(aside(names.filter((key) => key !== winner)), branch(winner)))
      }
      if (replay !== undefined) {
        return Effect.andThen(aside(names), replay.end)
      }
      const contenders = names.map((key) =>
        Effect.map(Effect.exit(branch(key)), (exit) => ({ key, exit }))
      )
      return Effect.flatMap(Effect.raceAllFirst(contenders), ({ exit, key }) => {
        if (Exit.isSuccess(exit)) return Effect.as(run.remember(checkpoint, { winner: key }), exit.value)
        run.rememberNext(checkpoint, { winner: key })
        return exit
      })
    }, "group")
  })

const Decided = Schema.Struct({ winner: Schema.String })
const decode = Schema.decodeUnknownEffect(Decided)
const isDecided = Schema.is(Decided)

const winnerOf = (name: string, branches: ReadonlyArray<string>, stored: Schema.Json): Effect.Effect<string> =>
  Effect.matchEffect(decode(stored), {
    onSuccess: ({ winner }) =>
      branches.includes(winner) ? Effect.succeed(winner) : otherSteps(name, `was won by the branch "${winner}"`),
    onFailure: () => otherSteps(name, "was no race")
  })

const otherSteps = (name: string, what: string) =>
  Effect.die(
    new InvalidUse({
      step: name,
      problem: `in an earlier execution of this task it ${what}, which this program does not have; ` +
        `keep it for tasks that have begun, or give the new code another name`
    })
  )

/** Returns when `duration` has passed since the first time. The end is stored before anything else happens. */
const deadline = (duration: Duration.Input): Effect.Effect<void, never, CurrentRun> =>
  Effect.gen(function*() {
    const run = yield* CurrentRun
    const length = yield* Effect.orDie(Input.duration("duration", duration))
    yield* run.named("$timer", (step) =>
      Effect.gen(function*() {
        if (run.recall(step) === undefined) {
          yield* run.remember(step, DateTime.formatIso(DateTime.addDuration(yield* run.now, length)))
        }
        yield* run.wait({ _tag: "Timer", step: CheckpointName.make(step), until: length })
      }))
  })
