/** What the parts of an engine share. */
import { Deferred, Effect, Exit, type Latch, Schedule, type Scope } from "effect"
import type { Duration } from "effect/Duration"
import type { Workflow, WorkflowEngine } from "effect/workflow"
import type { Absurd } from "../../core/Absurd.ts"
import * as Batch from "../../core/Batch.ts"
import type * as Driver from "../../core/Driver.ts"
import type { DriverError, NotFound } from "../../core/Errors.ts"
import type { QueueName, TaskId } from "../../core/Identifiers.ts"
import type { Execution } from "./Execution.ts"
import * as Names from "./Names.ts"

export interface Settings {
  readonly queue: QueueName
  readonly concurrency: number
  readonly lease: Duration
  readonly pollInterval: Duration
  readonly maxAttempts: number
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
  /** The executions that run in this process, by their ids. */
  readonly live: Map<string, Execution>
  /** Opened when something may have become due. A hint: the claim loop polls as well. */
  readonly wake: Latch.Latch
  /** Opened when a slot is free or a workflow was registered. */
  readonly changed: Latch.Latch
  /** Completes a run and tells it to everybody who waits for it, in one commit. */
  readonly complete: (item: Completion) => Effect.Effect<Driver.Outcome, DriverError | NotFound>
  readonly observers: Observers
}

export interface Completion extends Driver.Held {
  readonly taskId: TaskId
  readonly result: (typeof Driver.CompleteItem.Type)["result"]
}

/** At most two attempts per second, soon after the first failure, spread so that many workers do not return at once. */
export const outageBackoff = Schedule.jittered(
  Schedule.min([Schedule.exponential("500 millis", 1.5), Schedule.spaced("5 seconds")])
)

/**
 * Outside of an execution the contract has no place for errors of the infrastructure: outages are waited for, as long as the
 * caller does, and anything else is a defect.
 */
export const ask = <A>(effect: Effect.Effect<A, DriverError | NotFound>): Effect.Effect<A> =>
  Effect.orDie(Effect.retry(effect, {
    schedule: outageBackoff,
    while: mayBeRepeated
  }))

/** All that an engine asks of the store may be asked twice: it is fenced, or the first answer stays. */
export const mayBeRepeated = (error: DriverError | NotFound): boolean =>
  error._tag === "DriverError" && (error.isRetryable || error.reason._tag === "OutcomeUnknown")

/** Many ends travel together. Those who wait in here are interrupted when the engine closes. */
export const makeCompletions = (absurd: Absurd["Service"], queue: QueueName) =>
  Batch.make({
    send: (items: ReadonlyArray<Completion>) =>
      absurd.driver.withTransaction(Effect.gen(function*() {
        const outcomes = yield* absurd.driver.complete({
          queue,
          runs: items.map(({ result, runId, token }) => ({ runId, token, result }))
        })
        for (const [index, { result, taskId }] of items.entries()) {
          if (outcomes[index] !== "applied") continue
          yield* absurd.driver.emit({ queue, event: Names.doneEvent(taskId), payload: result })
        }
        return outcomes
      }))
  })

// --- observers

/** Tells those who wait in this process that a run of a task has ended. */
export interface Observers {
  readonly notify: (taskId: TaskId) => void
  /** Completed at the next notification; an interruption once the engine has closed. Forget it with `unsubscribe`. */
  readonly subscribe: (taskId: TaskId) => Subscription
}

export interface Subscription {
  readonly next: Deferred.Deferred<void>
  readonly unsubscribe: () => void
}

export const makeObservers: Effect.Effect<Observers, never, Scope.Scope> = Effect.gen(function*() {
  const waiting = new Map<TaskId, Set<Deferred.Deferred<void>>>()
  let closed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const all of waiting.values()) for (const next of all) Deferred.doneUnsafe(next, Exit.interrupt())
    })
  )
  return {
    notify: (taskId) => {
      for (const next of waiting.get(taskId) ?? []) Deferred.doneUnsafe(next, Exit.void)
    },
    subscribe: (taskId) => {
      const next = Deferred.makeUnsafe<void>()
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
