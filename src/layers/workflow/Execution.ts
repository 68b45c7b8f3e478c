/**
 * One claimed run of a workflow: executes the body, again and again until it is complete or sleeps in the store.
 *
 * States: claimed → attempting the body (each attempt has an instance of its own) → completing, or suspending → asleep in
 * the store, or back to attempting when something it waits for is there already. From any state it may be cut off: when its
 * lease is lost, its task is cancelled, or the process lets go of it. A body that is cut off is abandoned in the sense of
 * Effect's engine: its scopes close, the workflow's finalizers are skipped.
 */
import { Clock, Context, DateTime, Deferred, Duration, Effect, Exit, Fiber, type Schema, Scope } from "effect"
import { SecureRandom } from "effect/crypto"
import { Workflow, WorkflowEngine } from "effect/workflow"
import type * as Driver from "../../core/Driver.ts"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import type { CheckpointName, EventName, TaskId } from "../../core/Identifiers.ts"
import * as Encoding from "./Encoding.ts"
import { type Environment, mayBeRepeated, outageBackoff, type Registration } from "./Environment.ts"
import * as Names from "./Names.ts"

type Instance = WorkflowEngine.WorkflowInstance["Service"]

/**
 * Why a run was cut off.
 *
 * - `Lost`: it is somebody else's now, or nobody's.
 * - `Released`: this process lets go of it; it is to be handed back.
 * - `Faulted`: the store refused to work for it.
 */
export type Cut = "Lost" | "Released" | "Faulted"

export interface Execution {
  readonly claimed: Driver.Claimed
  readonly registration: Registration
  readonly executionId: string
  /** All that is stored of the execution, as far as this process knows. */
  readonly checkpoints: Map<string, Schema.Json>
  /** The steps of timers that are due. */
  readonly fired: Set<string>
  /** The store's clock when this process's clock stood at zero; never behind the store's. */
  readonly epochMillis: number
  /** Whether an interrupt is known; `killed` when the execution must not even complete by itself. */
  interrupted: boolean
  killed: boolean
  attempt: Attempt
  cut: Cut | undefined
  readonly cutOff: Deferred.Deferred<void>
  /** When the lease surely still holds, on this process's clock. */
  heldUntil: number
  readonly finished: Deferred.Deferred<void>
  /** In-process timers of clocks, by the deferred's name. */
  readonly timers: Set<string>
  readonly timerScope: Scope.Closeable
}

/** One attempt at the body. */
export interface Attempt {
  readonly instance: Instance
  /** Deferreds that activities wait for: they wake the execution once it sleeps, and do not preempt it before. */
  readonly activityAwaits: Map<string, number>
  /** Deferreds that this attempt has found without a result. */
  readonly parked: Set<string>
  /** Deferreds whose result this attempt was given. Effect counts them as awaited until the surrounding race is over. */
  readonly seen: Set<string>
  /** Child executions that this attempt waits for. */
  readonly children: Map<string, TaskId>
  /** As long as the body may be interrupted: its finalizers must not be. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** Whether a completion interrupted the body, so that the next attempt can see it. */
  preempted: boolean
}

/** The execution whose body, activity or finalizer the current fiber is. */
export const Current = Context.Reference<Execution | undefined>(
  "effect-absurd/layers/workflow/Execution/Current",
  { defaultValue: () => undefined }
)

/** `sentAt` is this process's clock before the claim was sent. */
export const make = (
  claimed: Driver.Claimed,
  registration: Registration,
  options: { readonly executionId: string; readonly sentAt: number; readonly lease: Duration.Duration }
): Execution => {
  const { executionId, lease, sentAt } = options
  const checkpoints = new Map<string, Schema.Json>()
  for (const { name, state } of claimed.checkpoints) checkpoints.set(name, state)
  return {
    claimed,
    registration,
    executionId,
    checkpoints,
    fired: new Set(),
    epochMillis: claimed.claimedAt.epochMilliseconds - sentAt,
    interrupted: false,
    killed: false,
    attempt: makeAttempt(registration.workflow, executionId),
    cut: undefined,
    cutOff: Deferred.makeUnsafe(),
    heldUntil: sentAt + Duration.toMillis(lease),
    finished: Deferred.makeUnsafe(),
    timers: new Set(),
    timerScope: Scope.makeUnsafe()
  }
}

/** Ends the run in this process, whatever it is doing. The first reason stays. */
export const cutOff = (self: Execution, cut: Cut): void => {
  if (self.cut !== undefined) return
  self.cut = cut
  self.attempt.instance.abandoned = true
  Deferred.doneUnsafe(self.cutOff, Exit.void)
  self.attempt.fiber?.interruptUnsafe()
}

/**
 * Ends the attempt when it waits for this deferred, which must have a result in the store or be a clock that is due. What the
 * attempt was given already Effect may still count as awaited, but it tells nothing new.
 */
export const preempt = ({ attempt }: Execution, name: string): void => {
  if (attempt.fiber === undefined || attempt.seen.has(name) || !attempt.instance.awaitedDeferreds.has(name)) return
  attempt.instance.suspended = true
  attempt.preempted = true
  attempt.fiber.interruptUnsafe()
}

/** Ends the execution where it is, with an interruption as its result. */
export const kill = (self: Execution): void => {
  self.interrupted = true
  self.killed = true
  self.attempt.fiber?.interruptUnsafe()
}

/** The store's clock in milliseconds, never behind it. */
export const storeMillis = (self: Execution): Effect.Effect<number> =>
  Effect.map(Clock.currentTimeMillis, (millis) => millis + self.epochMillis)

/**
 * Repeats a request until the store has answered. When it refuses, or the run is cut off, the result is an interruption: code
 * of the workflow never sees an error of the infrastructure, and finalizers do not hang.
 */
export const request = <A>(
  self: Execution,
  effect: Effect.Effect<A, DriverError | NotFound>
): Effect.Effect<A> =>
  Effect.suspend(() => {
    if (self.cut !== undefined) return Effect.interrupt
    // Who gives up a statement gives up its connection; so a body that is preempted lets it end by itself.
    const answered = Effect.forkDetach(effect).pipe(
      Effect.flatMap(Fiber.join),
      Effect.retry({
        schedule: outageBackoff,
        while: mayBeRepeated
      }),
      Effect.catch((error) =>
        Effect.logError("The store refused to work for this execution; putting it back", error).pipe(
          Effect.andThen(Effect.sync(() => cutOff(self, "Faulted"))),
          Effect.andThen(Effect.interrupt)
        )
      )
    )
    return Effect.raceFirst(
      Effect.interruptible(answered),
      Effect.interruptible(Effect.andThen(Deferred.await(self.cutOff), Effect.interrupt))
    )
  })

/** Like {@link request}, for operations under the claim: one that does not apply cuts the run off. */
export const held = <A extends { readonly outcome: Driver.Outcome }>(
  self: Execution,
  effect: Effect.Effect<A, DriverError | NotFound>
): Effect.Effect<A> =>
  Effect.flatMap(request(self, effect), (answer) => {
    if (answer.outcome === "applied") return Effect.succeed(answer)
    cutOff(self, "Lost")
    return Effect.interrupt
  })

/** Writes a checkpoint, and returns what is stored: what was there before stays. */
export const store = (
  environment: Environment,
  self: Execution,
  name: CheckpointName,
  state: Schema.Json
): Effect.Effect<Schema.Json> => {
  const { absurd, settings } = environment
  const { runId, token } = self.claimed
  const write = absurd.coalesced.setCheckpoint(settings.queue, { runId, token, name, state, extendBy: settings.lease })
  return Effect.map(held(self, write), ({ existing }) => {
    const stored = existing === undefined ? state : existing
    self.checkpoints.set(name, stored)
    return stored
  })
}

/** Executes the run to its end, in the store or in this process. */
export const run = (environment: Environment, self: Execution): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { registration } = self
    yield* learnInterrupt(environment, self)
    const payload = yield* Effect.exit(
      registration.provide(Encoding.decodePayload(registration.workflow, self.claimed.params))
    )
    if (Exit.isFailure(payload)) return yield* complete(environment, self, Exit.die(payload.cause))
    while (true) {
      const ended = yield* attemptBody(self, payload.value)
      if (self.cut !== undefined) return
      // The body was interrupted before it started.
      if (ended === undefined) continue
      if (!(ended instanceof Workflow.Suspended)) return yield* complete(environment, self, ended)
      // What preempted the body may have been given to it, and then no wait would tell of it again.
      if (!self.attempt.preempted && (yield* suspend(environment, self, ended))) return
    }
  }).pipe(
    // What is left is an interruption of `request`: the run was cut off.
    Effect.exit,
    Effect.andThen(Scope.close(self.timerScope, Exit.void)),
    Effect.andThen(Effect.suspend(() => handBack(environment, self)))
  )

/** Looks whether an interrupt was asked for. */
export const learnInterrupt = (environment: Environment, self: Execution): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { absurd: { driver }, settings: { queue } } = environment
    const { taskId } = self.claimed
    if (!self.interrupted && !self.checkpoints.has(Names.interruptStep)) {
      const event = yield* request(self, driver.readEvent({ queue, event: Names.interruptEvent(taskId) }))
      if (event === undefined) return
    }
    self.interrupted = true
    if (self.killed) return
    self.killed = (yield* request(self, driver.readEvent({ queue, event: Names.killEvent(taskId) }))) !== undefined
  })

// --- internal

type Ended = Workflow.Suspended | Exit.Exit<unknown, unknown>

const makeAttempt = (workflow: Workflow.Any, executionId: string): Attempt => ({
  instance: WorkflowEngine.WorkflowInstance.initial(workflow, executionId),
  activityAwaits: new Map(),
  parked: new Set(),
  seen: new Set(),
  children: new Map(),
  fiber: undefined,
  preempted: false
})

/** Runs the body once. Its finalizers have run when this returns. */
const attemptBody = (self: Execution, payload: object): Effect.Effect<Ended | undefined> =>
  Effect.gen(function*() {
    const { executionId, registration } = self
    const attempt = makeAttempt(registration.workflow, executionId)
    self.attempt = attempt
    const { instance } = attempt
    let ended: Ended | undefined
    const body = Effect.suspend(() => registration.execute(payload, executionId)).pipe(
      Effect.onExit((exit) => {
        attempt.fiber = undefined
        return applyInterrupt(self, instance, exit)
      }),
      Workflow.intoResult,
      // Whoever is interrupted ends as interrupted; what it came to is known in here only.
      Effect.onExit((exit) =>
        Effect.sync(() => {
          ended = endOf(exit)
        })
      ),
      Effect.uninterruptible,
      Effect.provideService(WorkflowEngine.WorkflowInstance, instance),
      Effect.provideService(Current, self)
    ) as Effect.Effect<Workflow.Result<unknown, unknown>>
    const fiber = yield* Effect.forkChild(body)
    attempt.fiber = fiber
    if (self.cut !== undefined) fiber.interruptUnsafe()
    yield* Fiber.await(fiber)
    attempt.fiber = undefined
    if (ended instanceof Workflow.Suspended) {
      // The owner-local part of the instance ends here; the workflow itself goes on, perhaps elsewhere.
      instance.abandoned = true
      yield* Scope.close(instance.scope, Exit.void)
    }
    return ended
  })

const endOf = (exit: Exit.Exit<Workflow.Result<unknown, unknown>>): Ended => {
  if (Exit.isFailure(exit)) return exit
  return exit.value._tag === "Complete" ? exit.value.exit : exit.value
}

/**
 * A pending interrupt takes effect where the run would suspend; after an unsafe one the run does not end in any other way.
 */
const applyInterrupt = (
  self: Execution,
  instance: Instance,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<void> => {
  if (!self.interrupted || self.cut !== undefined) return Effect.void
  const wouldSuspend = instance.suspended ||
    (Context.get(instance.workflow.annotations, Workflow.SuspendOnFailure) && Exit.isFailure(exit))
  if (!wouldSuspend && !self.killed) return Effect.void
  instance.interrupted = true
  instance.suspended = false
  return Effect.withFiber((fiber) => Effect.interruptible(Fiber.interrupt(fiber)))
}

const complete = (
  environment: Environment,
  self: Execution,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { claimed: { runId, taskId, token }, registration: { provide, workflow } } = self
    const captured = Context.get(workflow.annotations, Workflow.CaptureDefects)
    const result = yield* provide(Encoding.encodeOutcome(workflow, exit, { captured }))
    const completed = environment.complete({ runId, taskId, token, result })
    yield* held(self, Effect.map(completed, (outcome) => ({ outcome })))
    environment.wake.openUnsafe()
  })

/** Puts the run to sleep until the first of its waits is over; false when one already is, so that the body goes on. */
const suspend = (environment: Environment, self: Execution, suspended: Workflow.Suspended): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    yield* storeFailure(environment, self, suspended)
    const { absurd: { driver }, settings: { queue } } = environment
    const { runId, token } = self.claimed
    const waits = waitsOf(self, suspended)
    const answer = yield* held(self, driver.suspend({ queue, runId, token, waits }))
    for (const [index, state] of answer.waits.entries()) {
      const { step } = waits[index]!
      if (state._tag === "Emitted") self.checkpoints.set(step, state.payload)
      if (state._tag === "Due") self.fired.add(step)
    }
    if (answer.suspended) return true
    if (self.checkpoints.has(Names.interruptStep)) yield* learnInterrupt(environment, self)
    return false
  })

/** What the run waits for: an interrupt, a resume, and, unless it has failed, everything that its last attempt parked on. */
const waitsOf = (self: Execution, suspended: Workflow.Suspended): ReadonlyArray<Driver.Wait> => {
  const { attempt: { activityAwaits, children, instance, seen }, checkpoints, claimed: { taskId } } = self
  const waits: Array<Driver.Wait> = []
  const event = (step: CheckpointName, event: EventName) => waits.push({ _tag: "Event", step, event, timeout: null })
  const suspension = SecureRandom.uuidV7Unsafe()
  event(Names.resumeStep(suspension), Names.resumeEvent(taskId, suspension))
  event(Names.interruptStep, Names.interruptEvent(taskId))
  if (suspended.failed === true) return waits
  for (const name of new Set([...instance.awaitedDeferreds.keys(), ...activityAwaits.keys()])) {
    if (seen.has(name)) continue
    const clock = Names.clockStep(name)
    event(Names.deferredStep(name), Names.deferredEvent(self.executionId, name))
    if (checkpoints.has(clock)) waits.push({ _tag: "Timer", step: clock, until: Duration.zero })
  }
  for (const [executionId, childTaskId] of children) {
    event(Names.childStep(executionId), Names.doneEvent(childTaskId))
  }
  if (children.size > 0) waits.push(nextLook(self))
  return waits
}

/**
 * A child whose task was cancelled, or whose process died too often, ends without telling it. So parents look after
 * their children from time to time: after a minute, then half as often each time, at least daily.
 */
const nextLook = (self: Execution): Driver.Wait => {
  let number = 0
  while (self.fired.has(Names.lookStep(number)) || isPast(self, self.checkpoints.get(Names.lookStep(number)))) number++
  const until = Duration.min(Duration.times(Duration.minutes(1), 2 ** Math.min(number, 20)), Duration.days(1))
  return { _tag: "Timer", step: Names.lookStep(number), until }
}

const isPast = (self: Execution, iso: Schema.Json | undefined): boolean =>
  typeof iso === "string" && DateTime.makeUnsafe(iso).epochMilliseconds <= self.claimed.claimedAt.epochMilliseconds

/** What `poll` tells of an execution that failed and sleeps. Nothing is stored for the many that never do. */
const storeFailure = (environment: Environment, self: Execution, suspended: Workflow.Suspended): Effect.Effect<void> =>
  Effect.gen(function*() {
    let number = 0
    while (self.checkpoints.has(Names.failureStep(number))) number++
    const failure = yield* Encoding.encodeSuspended(suspended)
    const last = number === 0 ? noFailure : self.checkpoints.get(Names.failureStep(number - 1))
    if (JSON.stringify(last) === JSON.stringify(failure)) return
    yield* store(environment, self, Names.failureStep(number), failure)
  })

const noFailure: Schema.Json = { cause: null, failed: false }

/** What cannot be handed back now comes back by itself when its lease ends. */
const handBack = (environment: Environment, self: Execution): Effect.Effect<void> => {
  if (self.cut !== "Released" && self.cut !== "Faulted") return Effect.void
  const { runId, token } = self.claimed
  const until = self.cut === "Released" ? Duration.zero : Duration.seconds(15)
  return environment.absurd.coalesced.release(environment.settings.queue, { runId, token, until }).pipe(
    Effect.catch((error: DriverError | NotFound) => Effect.logWarning("Could not hand the execution back", error)),
    Effect.asVoid
  )
}
