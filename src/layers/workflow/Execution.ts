/** One claimed run of a workflow: what this process knows of it, and how it talks to the store about it. */
import { Clock, Context, Deferred, Effect, type Fiber, type Schema, Scope } from "effect"
import { type Workflow, WorkflowEngine } from "effect/workflow"
import type { Absurd } from "../../core/Absurd.ts"
import type * as Driver from "../../core/Driver.ts"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import type { CheckpointName, EventName, TaskId } from "../../core/Identifiers.ts"
import * as Lease from "../../core/Lease.ts"
import * as Outage from "../../core/Outage.ts"
import type { Environment, Registration } from "./Environment.ts"
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
  /** What this process knows of its claim. */
  readonly lease: Lease.Lease
  readonly absurd: Absurd["Service"]
  /** All that is stored of the execution, as far as this process knows. */
  readonly checkpoints: Map<string, Schema.Json>
  /** The steps of timers that are due. */
  readonly fired: Set<string>
  /**
   * The store's clock when this process's monotonic clock stood at zero: at most the first, for the claim was not made before
   * it was sent; at least the second, for it was made before its answer came. Under load they are far apart.
   */
  readonly epochAtMost: number
  epochAtLeast: number
  /** Whether an interrupt is known; `killed` when the execution must not even complete by itself. */
  interrupted: boolean
  killed: boolean
  attempt: Attempt
  cut: Cut | undefined
  /** Who must not wait any longer when the run is cut off. */
  readonly onCut: Set<() => void>
  /** What is being stored, whether or not somebody waits for it. */
  readonly writing: Set<Fiber.Fiber<unknown>>
  /** Whether the store is being told how the run ends or sleeps. Then only its answer counts. */
  settling: boolean
  readonly finished: Deferred.Deferred<void>
  /** In-process timers of clocks, by the deferred's name. */
  readonly timers: Set<string>
  readonly timerScope: Scope.Closeable
}

/** One attempt at the body. */
export interface Attempt {
  begun: boolean
  readonly instance: Instance
  /** Deferreds that activities wait for: they wake the execution once it sleeps, and do not preempt it before. */
  readonly activityAwaits: Map<string, number>
  /** Deferreds that this attempt has found without a result. */
  readonly parked: Set<string>
  /** Deferreds whose result this attempt was given. Effect counts them as awaited until the surrounding race is over. */
  readonly seen: Set<string>
  /** Deferreds of clocks whose due time is being stored, or was when the body came to its end before it could await them. */
  readonly clocks: Set<string>
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

/** `sentAt` is this process's monotonic clock before the claim was sent. */
export const make = (
  environment: Environment,
  claimed: Driver.Claimed,
  registration: Registration,
  options: { readonly executionId: string; readonly sentAt: number; readonly lease: Lease.Lease }
): Execution => {
  const { executionId, lease, sentAt } = options
  const checkpoints = new Map<string, Schema.Json>()
  for (const { name, state } of claimed.checkpoints) checkpoints.set(name, state)
  return {
    claimed,
    registration,
    executionId,
    lease,
    absurd: environment.absurd,
    checkpoints,
    fired: new Set(),
    epochAtMost: claimed.claimedAt.epochMilliseconds - sentAt,
    epochAtLeast: -Infinity,
    interrupted: false,
    killed: false,
    attempt: makeAttempt(registration.workflow, executionId),
    cut: undefined,
    onCut: new Set(),
    writing: new Set(),
    settling: false,
    finished: Deferred.makeUnsafe(),
    timers: new Set(),
    timerScope: Scope.makeUnsafe()
  }
}

export const makeAttempt = (workflow: Workflow.Any, executionId: string): Attempt => ({
  begun: false,
  instance: WorkflowEngine.WorkflowInstance.initial(workflow, executionId),
  activityAwaits: new Map(),
  parked: new Set(),
  seen: new Set(),
  clocks: new Set(),
  children: new Map(),
  fiber: undefined,
  preempted: false
})

/** Ends the run in this process, whatever it is doing. The first reason stays. */
export const cutOff = (self: Execution, cut: Cut): void => {
  if (self.cut !== undefined) return
  self.cut = cut
  self.attempt.instance.abandoned = true
  for (const tell of self.onCut) tell()
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

/** To be called once, when the claim's answer is there. */
export const begin = (self: Execution): Effect.Effect<void> =>
  Effect.map(preciseMillis, (millis) => {
    self.epochAtLeast = self.claimed.claimedAt.epochMilliseconds - millis
  })

/** The store's clock in milliseconds, or what it will be soon: what begins now must not be over too early. */
export const storeMillisAtMost = (self: Execution): Effect.Effect<number> =>
  Effect.map(preciseMillis, (millis) => millis + self.epochAtMost)

/** The store's clock in milliseconds, or what it was lately: nothing is due before it is due there. */
export const storeMillisAtLeast = (self: Execution): Effect.Effect<number> =>
  Effect.map(preciseMillis, (millis) => millis + self.epochAtLeast)

// Whole milliseconds would be late by up to one at the claim, and so early ever after; nanoseconds may be no exact numbers.
const preciseMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos / 1_000n) / 1_000)

/**
 * Repeats a request until the store has answered. When it refuses, or the run is cut off, the result is an interruption: code
 * of the workflow never sees an error of the infrastructure, and finalizers do not hang.
 */
export const request = <A>(
  self: Execution,
  operation: string,
  effect: Effect.Effect<A, DriverError | NotFound>
): Effect.Effect<A> => answered(self, Outage.answerWithin(effect, operation, Outage.answerLimit))

/**
 * The same for what travels with the requests of others, and so is waited for no longer than any of them. What is `lasting`
 * is carried out even if nobody waits for it any more, through outages as well, unless the run is cut off.
 */
export const send = <A>(
  self: Execution,
  operation: string,
  effect: Effect.Effect<A, DriverError | NotFound>,
  options?: { readonly lasting: boolean }
): Effect.Effect<A> =>
  Effect.flatMap(
    self.absurd.driver.inTransaction,
    (inTransaction) => inTransaction ? request(self, operation, effect) : answered(self, effect, options)
  )

/** For requests under the claim: one that does not apply cuts the run off. */
export const held = <A extends { readonly outcome: Driver.Outcome }>(
  self: Execution,
  request: Effect.Effect<A>
): Effect.Effect<A> =>
  Effect.flatMap(request, (answer) => {
    if (answer.outcome === "applied") return Effect.succeed(answer)
    cutOff(self, "Lost")
    return Effect.interrupt
  })

/** Like {@link held}, for what ends the run in this process: nothing but the answer says whether it did. */
export const settle = <A extends { readonly outcome: Driver.Outcome }>(
  self: Execution,
  request: Effect.Effect<A>
): Effect.Effect<A> =>
  Effect.suspend(() => {
    self.settling = true
    return Effect.ensuring(
      held(self, request),
      Effect.sync(() => {
        self.settling = false
      })
    )
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
  const write = Effect.suspend(() => {
    const sentAt = self.lease.now()
    const extendBy = Lease.extension(self.lease)
    const item = { runId, token, name, state, extendBy }
    return Effect.map(absurd.coalesced.setCheckpoint(settings.queue, item), ({ existing, outcome }) => {
      const stored = existing === undefined ? state : existing
      if (outcome === "applied") {
        self.checkpoints.set(name, stored)
        if (extendBy !== null) Lease.renewed(self.lease, sentAt)
      }
      return { outcome, stored }
    })
  })
  return Effect.map(held(self, send(self, "setCheckpoint", write, { lasting: true })), ({ stored }) => stored)
}

/** Returns when nothing is being stored: the body may have been ended by one part of it while another one waited for that. */
export const written = (self: Execution): Effect.Effect<void> =>
  Effect.suspend(() => {
    for (const fiber of self.writing) return Effect.andThen(Effect.exit(untilCut(self, fiber)), written(self))
    return self.cut === undefined ? Effect.void : Effect.interrupt
  })

/**
 * Whether nobody else can have the run; it is cut off otherwise. A process that was stopped may go on after its run was taken
 * over, and would begin what somebody else has stored already.
 */
export const isHeld = (self: Execution): boolean => {
  if (Lease.holds(self.lease)) return true
  cutOff(self, "Lost")
  return false
}

/** Looks whether an interrupt was asked for. */
export const learnInterrupt = (environment: Environment, self: Execution): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { absurd: { coalesced }, settings: { queue } } = environment
    const { taskId } = self.claimed
    const isEmitted = (event: EventName) =>
      Effect.map(send(self, "readEvent", coalesced.readEvent(queue, event)), (found) => found !== undefined)
    if (!self.interrupted && !self.checkpoints.has(Names.interruptStep)) {
      if (!(yield* isEmitted(Names.interruptEvent(taskId)))) return
    }
    self.interrupted = true
    if (!self.killed) self.killed = yield* isEmitted(Names.killEvent(taskId))
  })

// --- internal

/**
 * The answer, or an interruption when the run is cut off before it comes. Who gives up a statement gives up its connection; so
 * one that nobody waits for any more ends by itself.
 *
 * One fiber for each request must do, for most of what an execution does are requests.
 */
const answered = <A>(
  self: Execution,
  request: Effect.Effect<A, DriverError | NotFound>,
  { lasting = false }: { readonly lasting?: boolean } = {}
): Effect.Effect<A> =>
  Effect.suspend(() => {
    let left = false
    const once = Effect.suspend(() => self.cut !== undefined || (left && !lasting) ? Effect.interrupt : request)
    const sent = Effect.catch(self.absurd.outage.persist(once), (error) => {
      if (left && !lasting) return Effect.interrupt
      cutOff(self, "Faulted")
      return Effect.andThen(
        Effect.logError("The store refused to work for this execution; putting it back", error),
        Effect.interrupt
      )
    })
    return Effect.withFiber((parent) => {
      const fiber = Effect.runForkWith(parent.context)(sent)
      if (lasting) {
        self.writing.add(fiber)
        fiber.addObserver(() => self.writing.delete(fiber))
      }
      return untilCut(self, fiber, () => {
        left = true
      })
    })
  })

/** What the fiber came to, or an interruption when the run is cut off before that. */
const untilCut = <A>(self: Execution, fiber: Fiber.Fiber<A>, onLeave?: () => void): Effect.Effect<A> =>
  Effect.callback<A>((resume) => {
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return resume(exit)
    if (self.cut !== undefined) return resume(Effect.interrupt)
    const cut = () => resume(Effect.interrupt)
    self.onCut.add(cut)
    const ignore = fiber.addObserver((exit) => {
      self.onCut.delete(cut)
      resume(exit)
    })
    return Effect.sync(() => {
      self.onCut.delete(cut)
      ignore()
      onLeave?.()
    })
  })
