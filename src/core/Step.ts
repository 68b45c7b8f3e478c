/**
 * What a task does durably: steps that run once, and sleeps that outlive the process.
 *
 * A step is known by its name. A name that is used again in the same run is numbered (`charge`, `charge#2`), in the order
 * of use, as the SDKs of other languages do.
 *
 * @since 0.1.0
 */
import { Context, type DateTime, Duration, Effect, Option, type Schedule, type Schema } from "effect"
import { CurrentRun } from "./CurrentRun.ts"
import { CurrentStep } from "./CurrentStep.ts"
import { InvalidUse, Timeout } from "./Errors.ts"
import { type CheckpointName, StepName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as NameScope from "./NameScope.ts"
import { atEndOfHistory, once } from "./Replay.ts"
import * as StepExit from "./StepExit.ts"
import * as Stored from "./Stored.ts"
import * as Telemetry from "./Telemetry.ts"

export { withCompensation } from "./Compensation.ts"
export { race, timeout } from "./Race.ts"

/**
 * How the effect of a step is tried, while the step has not been stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface Policy<E, T extends Duration.Input> {
  /**
   * Tries a failed effect again, in this claim of the run: no attempt of the task is spent, and a crash starts the schedule
   * anew. It holds the worker's slot meanwhile, so use it for short pauses, and the retry policy of the task for long ones.
   * None by default.
   */
  readonly retry?: Schedule.Schedule<unknown, NoInfer<E> | TimeoutOf<T>> | undefined
  /** How long each try may take; then it is interrupted and fails with `Timeout`. No limit by default. */
  readonly timeout?: T | undefined
}

/**
 * The error that a time limit adds.
 *
 * @since 0.1.0
 * @category models
 */
export type TimeoutOf<T> = [T] extends [never] ? never : Timeout

/**
 * Any effect whose value can be stored as it is; of others it names what is missing.
 *
 * @since 0.1.0
 * @category models
 */
export type Storable<A> = [A] extends [Schema.Json | void] ? unknown
  : { readonly "this is not JSON; give the step a success schema": A }

/**
 * Runs an effect once, and stores what it returns before going on. In later executions of the task the stored value is
 * returned and the effect is not run again.
 *
 * The value is the decode of what was stored, in the first execution too, so both see the same. Without a `success` schema
 * it must be JSON, or nothing.
 *
 * A failure is not stored: it fails the run (unless it is handled), and the next attempt runs the step again. With an
 * `error` schema the typed failure is stored as well, and every later execution fails with it without running the effect.
 * Defects and interruptions are never stored.
 *
 * The checkpoint holds the encoded value, as other SDKs write it; with an `error` schema it holds
 * `{"_tag": "Success", "value": ...}` or `{"_tag": "Failure", "error": ...}`.
 *
 * Dies with `InvalidInput` when the value cannot be stored, with `InvalidUse` when a concurrent step has the same name, and
 * with `DecodeError` or `InvalidUse` when what earlier code has stored under the name does not fit; the run then fails with
 * that as its reason.
 *
 * ```ts
 * import { Effect, Schedule, Schema } from "effect"
 * import { Step } from "effect-absurd"
 *
 * const charge = Step.run("charge", Effect.succeed({ id: "ch_1", at: new Date(0) }), {
 *   success: Schema.Struct({ id: Schema.String, at: Schema.Date }),
 *   timeout: "10 seconds",
 *   retry: Schedule.exponential("100 millis").pipe(Schedule.upTo({ times: 3 }))
 * })
 * ```
 *
 * @since 0.1.0
 * @category steps
 */
export const run: {
  <A, E, R, T extends Duration.Input = never>(
    name: string,
    effect: Effect.Effect<A, E, R> & Storable<A>,
    options?: Policy<E, T>
  ): Effect.Effect<A, E | TimeoutOf<T>, R | CurrentRun>
  <S extends Schema.Constraint, E, R, T extends Duration.Input = never>(
    name: string,
    effect: Effect.Effect<S["Type"], E, R>,
    options: Policy<E, T> & { readonly success: S; readonly error?: undefined }
  ): Effect.Effect<S["Type"], E | TimeoutOf<T>, R | CurrentRun | S["DecodingServices"] | S["EncodingServices"]>
  <S extends Schema.Constraint, F extends Schema.Constraint, R, T extends Duration.Input = never>(
    name: string,
    effect: Effect.Effect<S["Type"], F["Type"], R>,
    options: Policy<F["Type"], T> & { readonly success: S; readonly error: F }
  ): Effect.Effect<
    S["Type"],
    F["Type"] | TimeoutOf<T>,
    | R
    | CurrentRun
    | S["DecodingServices"]
    | S["EncodingServices"]
    | F["DecodingServices"]
    | F["EncodingServices"]
  >
} = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>,
  options?: Policy<E, Duration.Input> & {
    readonly success?: Schema.Constraint | undefined
    readonly error?: Schema.Constraint | undefined
  }
): Effect.Effect<A, E | Timeout, R | CurrentRun> => {
  const slot = `result of step "${name}"`
  const codecs: StepExit.Codecs<A, E | Timeout> = {
    success: (options?.success === undefined
      ? Stored.json(slot)
      : Stored.eagerCodec(slot, options.success)) as Stored.EagerCodec<A>,
    failure: options?.error === undefined
      ? undefined
      : Stored.eagerCodec(`error of step "${name}"`, options.error) as Stored.EagerCodec<E | Timeout>
  }
  // Steps are most of what many tasks do: what needs no wait is done at once, and not as a step of the fiber.
  return Effect.withFiber((fiber): Effect.Effect<A, E | Timeout, R> => {
    const run = Context.getUnsafe(fiber.context, CurrentRun)
    const limits = fiber.getRef(Stored.Limits)
    return Effect.flatMapEager(checkNameOrDie(name), (base) =>
      run.named(base, (checkpoint) => {
        const body: Effect.Effect<A, E, R> = Effect.andThen(run.ensureHeld, effect)
        const executed = Effect.flatMap(
          Effect.exit(tried(name, body, options)),
          (exit) =>
            Effect.flatMapEager(StepExit.encode(codecs, limits, exit), (encoded) =>
              encoded === undefined
                ? exit
                : Effect.flatMap(
                  run.remember(checkpoint, encoded),
                  (stored) => StepExit.decode(codecs, checkpoint, stored)
                ))
        )
        return once(
          run,
          checkpoint,
          (stored) => Telemetry.stepping(run, checkpoint, true, StepExit.recall(codecs, checkpoint, stored)),
          Telemetry.stepping(run, checkpoint, false, executed, { name: unnumbered(checkpoint), checkpoint })
        )
      }))
  })
}

/**
 * A key for systems outside that recognise a repeated request: the same in every execution of the task, different for
 * every task and name (within its {@link scoped} branch).
 *
 * Within the effect of a step it is the step's own key, without a name or with that of the step: a step in a loop has
 * another one in each round, as its checkpoint has. Without a name it dies with `InvalidUse` elsewhere.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Step } from "effect-absurd"
 *
 * const charge = (pay: (key: string) => Effect.Effect<string>) =>
 *   Step.run("charge", Effect.flatMap(Step.idempotencyKey(), pay))
 * ```
 *
 * @since 0.1.0
 * @category steps
 */
export const idempotencyKey = (name?: string): Effect.Effect<string, never, CurrentRun> =>
  Effect.gen(function*() {
    const { taskId } = yield* CurrentRun
    const current = yield* CurrentStep
    if (name === undefined) {
      if (current !== undefined) return `${taskId}:${current.checkpoint}`
      const problem = "it is asked for outside of steps; ask within Step.run, or give a name"
      return yield* Effect.die(new InvalidUse({ step: "idempotencyKey", problem }))
    }
    const own = NameScope.within(yield* NameScope.NameScope, yield* Effect.orDie(checkName(name)))
    return `${taskId}:${current?.name === own ? current.checkpoint : own}`
  })

/**
 * A step that has begun: whether it was completed in an earlier execution, and what completes it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Begun<A, R = never> {
  /** The name of its checkpoint. */
  readonly checkpoint: CheckpointName
  /** The value it was completed with, as of when it began. */
  readonly completed: Option.Option<A>
  /** Stores the value and returns what every later execution sees. The first value stays. */
  readonly complete: (value: A) => Effect.Effect<A, never, R>
}

/**
 * Begins a step that is completed later, for work that does not fit into one effect. Until then its name is in use: another
 * fiber that uses it dies with `InvalidUse`.
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Step } from "effect-absurd"
 *
 * const upload = (send: Effect.Effect<string>) =>
 *   Effect.gen(function*() {
 *     const step = yield* Step.begin("upload")
 *     if (Option.isSome(step.completed)) return step.completed.value
 *     return yield* step.complete(yield* send)
 *   })
 * ```
 *
 * @since 0.1.0
 * @category steps
 */
export const begin: {
  (name: string): Effect.Effect<Begun<Schema.Json>, never, CurrentRun>
  <S extends Schema.Constraint>(
    name: string,
    options: { readonly success: S }
  ): Effect.Effect<
    Begun<S["Type"], S["DecodingServices"] | S["EncodingServices"]>,
    never,
    CurrentRun | S["DecodingServices"]
  >
} = <A>(
  name: string,
  options?: { readonly success: Schema.Constraint }
): Effect.Effect<Begun<A>, never, CurrentRun> => {
  const slot = `result of step "${name}"`
  const codec = (options === undefined ? Stored.json(slot) : Stored.codec(slot, options.success)) as Stored.Codec<A>
  return Effect.gen(function*() {
    const run = yield* CurrentRun
    const base = yield* Effect.orDie(checkName(name))
    const { free, name: checkpoint } = yield* run.begin(base)
    const stored = run.recall(checkpoint)
    yield* stored === undefined ? atEndOfHistory(run.ensureHeld) : free
    return {
      checkpoint,
      completed: stored === undefined
        ? Option.none()
        : Option.some(yield* Effect.orDie(Stored.recalled(codec, `result of step "${checkpoint}"`).decode(stored))),
      complete: (value) =>
        Effect.orDie(codec.encode(value)).pipe(
          Effect.flatMap((encoded) => run.remember(checkpoint, encoded)),
          Effect.tap(() => free),
          Effect.flatMap((encoded) => Effect.orDie(codec.decode(encoded)))
        )
    }
  })
}

/**
 * Puts `branch/` before the names of all steps, sleeps and waits of an effect. Branches that run at the same time and use
 * the same names are told apart by it, in every execution, whichever is the first to arrive.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Step } from "effect-absurd"
 *
 * const ship = (item: string) => Step.run("ship", Effect.succeed(`shipped ${item}`))
 *
 * const all = Effect.forEach(["a", "b"], (item) => Step.scoped(item)(ship(item)), { concurrency: "unbounded" })
 * ```
 *
 * @since 0.1.0
 * @category steps
 */
export const scoped = (branch: string) => <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  NameScope.enter(self, branch)

/**
 * Sleeps for `duration`, counted from the first time the task comes here. A sleeping task holds no worker; it may sleep for
 * up to ten years. A zero duration does not sleep.
 *
 * @since 0.1.0
 * @category waits
 */
export const sleep = (name: string, duration: Duration.Input): Effect.Effect<void, never, CurrentRun> =>
  Effect.flatMap(
    Effect.orDie(Input.duration("duration", duration)),
    (length) => Duration.isZero(length) ? Effect.void : sleepOn(name, length)
  )

/**
 * Sleeps until `instant` of the store's clock, in the years 1970 to 9999. The instant of the first time the task comes here
 * counts. One that has passed does not sleep.
 *
 * @since 0.1.0
 * @category waits
 */
export const sleepUntil = (name: string, instant: DateTime.DateTime): Effect.Effect<void, never, CurrentRun> =>
  Effect.flatMap(Effect.orDie(Input.instant("instant", instant)), (until) => sleepOn(name, until))

/**
 * Renews the lease of the run. Workers do so by themselves; call it to ask for a lease longer than the worker's.
 *
 * @since 0.1.0
 * @category runs
 */
export const heartbeat = (lease?: Duration.Input): Effect.Effect<void, never, CurrentRun> =>
  Effect.flatMap(CurrentRun, (run) =>
    lease === undefined ? run.heartbeat() : Effect.flatMap(
      Effect.orDie(Input.duration("lease", lease, { minimum: "1 second", maximum: "24 hours" })),
      run.heartbeat
    ))

/**
 * Ends this execution and lets the task begin anew after `duration`, at most ten years: with what its steps have stored, and
 * without having spent an attempt. The code after it is not reached; no code of the handler can catch it, and finalizers
 * run. Meanwhile the task holds no worker.
 *
 * For a task that finds that it came too early. It is no step: whoever comes here again snoozes again, so let something
 * decide that changes. Use {@link sleep} to wait once.
 *
 * @since 0.1.0
 * @category waits
 */
export const snooze = (duration: Duration.Input): Effect.Effect<never, never, CurrentRun> =>
  Effect.flatMap(
    Effect.orDie(Input.duration("duration", duration)),
    (length) => Effect.flatMap(CurrentRun, (run) => run.snooze(length))
  )

export { transaction } from "./StepTransaction.ts"

// --- internal

/** No name of a step ends like this by itself. */
const unnumbered = (checkpoint: CheckpointName): string =>
  checkpoint.includes("#") ? checkpoint.replace(/#[0-9]+$/, "") : checkpoint

const checkName = Input.check("step", StepName)
const checkNameOrDie = (name: string) => Effect.catchEager(checkName(name), Effect.die)

const tried = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>,
  options: Policy<E, Duration.Input> | undefined
): Effect.Effect<A, E | Timeout, R> => {
  const limit = options?.timeout
  const limited: Effect.Effect<A, E | Timeout, R> = limit === undefined ? effect : Effect.flatMap(
    Effect.orDie(Input.duration("timeout", limit)),
    (duration) =>
      Effect.timeoutOrElse(effect, {
        duration,
        orElse: () => Effect.fail(new Timeout({ subject: `step "${name}"` }))
      })
  )
  return options?.retry === undefined ? limited : Effect.retry(limited, options.retry)
}

const sleepOn = (name: string, until: Duration.Duration | DateTime.Utc) =>
  Effect.flatMap(
    CurrentRun,
    (run) =>
      Effect.flatMap(Effect.orDie(checkName(name)), (base) =>
        Effect.asVoid(run.named(base, (step) => run.wait({ _tag: "Timer", step, until }))))
  )
