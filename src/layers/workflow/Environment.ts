/** What the parts of an engine share. */
import { Deferred, Effect, Exit, type Latch, type Scope } from "effect"
import type { Duration } from "effect/Duration"
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
  readonly lease: Duration
  readonly pollInterval: Duration
  readonly maxAttempts: number
  readonly shutdownGrace: Duration
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

// --- observers

/** Tells those who wait in this process that a run of a task has ended, and what the task came to, if that is known. */
export interface Observers {
  readonly notify: (taskId: string, result?: TaskResult) => void
  /** Completed at the next notification; an interruption once the engine has closed. Forget it with `unsubscribe`. */
  readonly subscribe: (taskId: TaskId) => Subscription
}

export interface Subscription {
  readonly next: Deferred.Deferred<TaskResult | undefined>
  readonly unsubscribe: () => void
}

export const makeObservers: Effect.Effect<Observers, never, Scope.Scope> = Effect.gen(function*() {
  const waiting = new Map<string, Set<Deferred.Deferred<TaskResult | undefined>>>()
  let closed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const all of waiting.values()) for (const next of all) Deferred.doneUnsafe(next, Exit.interrupt())
    })
  )
  return {
    notify: (taskId, result) => {
      for (const next of waiting.get(taskId) ?? []) Deferred.doneUnsafe(next, Exit.succeed(result))
    },
    subscribe: (taskId) => {
      const next = Deferred.makeUnsafe<TaskResult | undefined>()
      if (closed) Deferred.doneUnsafe(next, Exit.interrupt())
      const all = waiting.get(taskId) ?? new Set()
      waiting.set(taskId, all.add(next))
      return {
        next,
        unsubscribe: () => {
          all.delete(next)
          if (all.size === 0 && waiting.get(taskId) === all) waiting.delete(taskId)
        }
      }
    }
  }
})
