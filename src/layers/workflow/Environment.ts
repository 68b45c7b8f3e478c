/** What the parts of an engine share. */
import { Clock, Deferred, Duration, Effect, Exit, Latch, type Scope } from "effect"
import type { Workflow, WorkflowEngine } from "effect/workflow"
import type { Absurd } from "../../core/Absurd.ts"
import type { TaskResult } from "../../core/Driver.ts"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import type { QueueName, TaskId } from "../../core/Identifiers.ts"
import * as Outage from "../../core/Outage.ts"
import type { Execution } from "./Execution.ts"

export interface Settings {
  readonly queue: QueueName
  readonly concurrency: number
  readonly lease: Duration.Duration
  readonly pollInterval: Duration.Duration
  readonly maxAttempts: number
  readonly shutdownGrace: Duration.Duration
}

/** A workflow that this process can execute. */
export interface Registration {
  readonly workflow: Workflow.Any
  readonly execute: (
    payload: object,
    executionId: string
  ) => Effect.Effect<unknown, unknown, WorkflowEngine.WorkflowInstance | WorkflowEngine.WorkflowEngine>
  /** Puts the services of the registration under those of the fiber. */
  readonly provide: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

export interface Environment {
  readonly settings: Settings
  readonly absurd: Absurd["Service"]
  readonly workflows: Map<string, Registration>
  /** Names of tasks that were claimed although nothing is registered for them. They are not claimed again. */
  readonly unknown: Set<string>
  /** The executions that run in this process, by their ids. */
  readonly live: Map<string, Execution>
  /** The tasks whose ends are being stored here. Nobody else need tell of them. */
  readonly ending: Set<string>
  /** Opened when something may have become due. A hint: the claim loop polls as well. */
  readonly wake: Latch.Latch
  /** Opened when a slot is free or a workflow was registered. */
  readonly changed: Latch.Latch
  readonly observers: Observers
}

/**
 * Outside of an execution the contract has no place for errors of the infrastructure: outages are waited for, as long as the
 * caller does, and anything else is a defect. All that an engine asks may be asked twice: it is fenced, or the first answer
 * stays. Within a transaction nothing is asked again, for a failure has ended it.
 */
export const ask = <A>(
  { absurd: { driver, outage } }: Environment,
  operation: string,
  request: Effect.Effect<A, DriverError | NotFound>
): Effect.Effect<A> =>
  Effect.flatMap(driver.inTransaction, (inTransaction) =>
    Effect.orDie(
      inTransaction ? request : outage.persist(Outage.answerWithin(request, operation, Outage.answerLimit))
    ))

/** The same for what travels with the requests of others, and so is waited for no longer than any of them. */
export const askTogether = <A>(
  { absurd: { driver, outage } }: Environment,
  request: Effect.Effect<A, DriverError | NotFound>
): Effect.Effect<A> =>
  Effect.flatMap(
    driver.inTransaction,
    (inTransaction) => Effect.orDie(inTransaction ? request : outage.persist(request))
  )

// --- observers

/** Tells those who wait in this process that a run of a task has ended, and what the task came to, if that is known. */
export interface Observers {
  readonly notify: (taskId: string, result?: TaskResult) => void
  /**
   * Completed at the next notification, or without one after the poll interval; an interruption once the engine has closed.
   * Forget it with `unsubscribe`.
   */
  readonly subscribe: (taskId: TaskId) => Subscription
}

export interface Subscription {
  readonly next: Deferred.Deferred<TaskResult | undefined>
  readonly unsubscribe: () => void
}

/** One fiber looks after the intervals of all who wait, for there may be thousands. */
export const makeObservers = Effect.fnUntraced(function*(
  pollInterval: Duration.Duration
): Effect.fn.Return<Observers, never, Scope.Scope> {
  const waiting = new Map<string, Set<Waiting>>()
  /** In the order in which their intervals end. */
  const all = new Set<Waiting>()
  const some = Latch.makeUnsafe(false)
  const clock = yield* Clock.Clock
  const interval = Duration.toMillis(pollInterval)
  let closed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const { next } of all) Deferred.doneUnsafe(next, Exit.interrupt())
    })
  )
  yield* Effect.forkScoped(Effect.gen(function*() {
    while (true) {
      yield* some.await
      const now = nowMillis(clock)
      let first: Waiting | undefined
      for (const one of all) {
        if (one.until > now) {
          first = one
          break
        }
        all.delete(one)
        Deferred.doneUnsafe(one.next, Exit.succeed(undefined))
      }
      if (first === undefined) some.closeUnsafe()
      else yield* Effect.sleep(Duration.millis(first.until - now))
    }
  }))
  return {
    notify: (taskId, result) => {
      for (const { next } of waiting.get(taskId) ?? []) Deferred.doneUnsafe(next, Exit.succeed(result))
    },
    subscribe: (taskId) => {
      const one: Waiting = { next: Deferred.makeUnsafe(), until: nowMillis(clock) + interval }
      if (closed) Deferred.doneUnsafe(one.next, Exit.interrupt())
      const ofTask = waiting.get(taskId) ?? new Set()
      waiting.set(taskId, ofTask.add(one))
      all.add(one)
      some.openUnsafe()
      return {
        next: one.next,
        unsubscribe: () => {
          all.delete(one)
          ofTask.delete(one)
          if (ofTask.size === 0 && waiting.get(taskId) === ofTask) waiting.delete(taskId)
        }
      }
    }
  }
})

// --- internal

interface Waiting {
  readonly next: Deferred.Deferred<TaskResult | undefined>
  /** In monotonic milliseconds. */
  readonly until: number
}

const nowMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe() / 1_000n) / 1_000
