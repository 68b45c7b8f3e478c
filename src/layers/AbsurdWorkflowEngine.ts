/**
 * Effect's `Workflow` on Absurd: programs that are written against `effect/workflow` run on the store that tasks run on, with
 * no cluster, shards or addresses of runners.
 *
 * `effect/workflow` is marked unstable by Effect, and so is what it asks of an engine; a minor version of Effect may need a
 * newer version of this module.
 *
 * @since 0.1.0
 */
import { type Duration, Effect, Latch, Layer, type Scope } from "effect"
import { PersistedQueue } from "effect/persistence"
import { WorkflowEngine } from "effect/workflow"
import { Absurd, resolveQueue } from "../core/Absurd.ts"
import type { DriverError, InvalidInput, NotFound } from "../core/Errors.ts"
import * as Input from "../core/Input.ts"
import * as Engine from "./workflow/Engine.ts"
import { type Environment, makeObservers } from "./workflow/Environment.ts"
import * as Listing from "./workflow/Listing.ts"
import * as QueueStore from "./workflow/QueueStore.ts"
import * as Runs from "./workflow/Runs.ts"

/**
 * How an engine works.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * The queue of the executions; the client's own by default. It must exist, hold nothing but executions, and be the same in
   * every process that starts, executes, completes or looks at them.
   */
  readonly queue?: string | undefined
  /**
   * How many executions run at once in this process, from 1 to 10,000; 10 by default. One that is suspended does not count.
   */
  readonly concurrency?: number | undefined
  /**
   * How long a run stays claimed without a sign of life, from 1 second to 24 hours; 1 minute by default. It is renewed three
   * times within that, so this is how soon the work of a dead process is taken up, not how long an activity may take.
   */
  readonly lease?: Duration.Input | undefined
  /**
   * How long the engine waits before it looks again for work and for what other processes have done, at least 10 ms; 250 ms
   * by default.
   */
  readonly pollInterval?: Duration.Input | undefined
  /**
   * How often an execution may be cut off by the death of its process before it ends with a defect, from 1 to 1,000,000; 100
   * by default. Suspensions, replays and graceful stops do not count.
   */
  readonly maxAttempts?: number | undefined
  /**
   * How long the engine may take to stop, at least 1 second; 30 seconds by default. Its executions are cut off at once, and
   * this is the time for their finalizers and for handing them back. What is left by then others take up when its lease ends.
   */
  readonly shutdownGrace?: Duration.Input | undefined
}

/**
 * Starts an engine in the current scope. It executes the workflows that are registered with it; a process that registers none
 * can still start, poll, interrupt and resume executions and complete their deferreds.
 *
 * When the scope closes, executions that are running are abandoned as Effect understands it (local scopes close, the
 * workflow's own finalizers are skipped) and handed back: another process goes on with them at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<WorkflowEngine.WorkflowEngine["Service"], InvalidInput, Absurd | Scope.Scope> {
  const absurd = yield* Absurd
  const settings = {
    queue: yield* resolveQueue(options.queue),
    concurrency: yield* Input.integer("concurrency", options.concurrency ?? 10, { minimum: 1, maximum: 10_000 }),
    lease: yield* checkLease(options.lease),
    pollInterval: yield* checkPollInterval(options.pollInterval),
    maxAttempts: yield* Input.integer("maxAttempts", options.maxAttempts ?? 100, { minimum: 1, maximum: 1_000_000 }),
    shutdownGrace: yield* Input.duration("shutdownGrace", options.shutdownGrace ?? "30 seconds", {
      minimum: "1 second"
    })
  }
  const environment: Environment = {
    settings,
    absurd,
    workflows: new Map(),
    unknown: new Set(),
    live: new Map(),
    ending: new Set(),
    wake: Latch.makeUnsafe(false),
    changed: Latch.makeUnsafe(false),
    observers: yield* makeObservers(settings.pollInterval)
  }
  yield* Runs.make(environment)
  return Engine.make(environment)
})

/**
 * Effect's `WorkflowEngine` on the client in context. Give it to the layers of workflows (`Workflow.toLayer`) and to whatever
 * executes them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options?: Options
): Layer.Layer<WorkflowEngine.WorkflowEngine, InvalidInput, Absurd> =>
  Layer.effect(WorkflowEngine.WorkflowEngine, make(options))

/**
 * The executions of a queue, the newest first: for people who look what has failed, since the tasks of failed executions are
 * completed ones.
 *
 * **Gotchas**
 *
 * An outcome that is rare is looked for in the whole queue, and no index helps.
 *
 * @since 0.1.0
 * @category operating
 */
export const list = (options: Listing.ListOptions = {}): Effect.Effect<
  ReadonlyArray<Listing.Listed>,
  InvalidInput | NotFound | DriverError,
  Absurd
> => Listing.list(options)

/**
 * How many executions there are in a queue, by workflow and outcome; none is told of that there are none of.
 *
 * **Gotchas**
 *
 * Reads the whole queue. What executions come to from now on the metric `absurd_runs` counts as well.
 *
 * @since 0.1.0
 * @category operating
 */
export const count = (
  options: { readonly queue?: string | undefined } = {}
): Effect.Effect<ReadonlyArray<Listing.Count>, InvalidInput | NotFound | DriverError, Absurd> => Listing.count(options)

export type { Count, Listed, ListOptions, Outcome } from "./workflow/Listing.ts"

/**
 * How a store of queues works.
 *
 * @since 0.1.0
 * @category models
 */
export interface QueueStoreOptions {
  /**
   * The queue in which the elements of all persisted queues are tasks; the client's own by default. It must exist, and should
   * hold nothing else.
   */
  readonly queue?: string | undefined
  /**
   * How long an element stays taken without a sign of life, from 1 second to 24 hours; 1 minute by default. It is renewed
   * three times within that, so this is how soon the element of a dead process is delivered again.
   */
  readonly lease?: Duration.Input | undefined
  /** How long is waited before it is looked again for elements, at least 10 ms; 250 ms by default. */
  readonly pollInterval?: Duration.Input | undefined
}

/**
 * The store of Effect's `PersistedQueue`, and so of `DurableQueue`, on the client in context.
 *
 * An element is a task: its name is that of the persisted queue, its idempotency key the two of them. An offer joins the
 * caller's transaction. An element that fails is delivered again until its attempts are used up, and then its task has failed;
 * one whose taking is interrupted has lost no attempt.
 *
 * **Gotchas**
 *
 * `PersistedQueue.layerCleanup` deletes here what has ended before `timeToLive` and `failedTimeToLive`, and nothing without the
 * second, since ends are deleted by their age, whatever they were. The policy of the queue can do the same.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerQueueStore = (
  options: QueueStoreOptions = {}
): Layer.Layer<PersistedQueue.PersistedQueueStore, InvalidInput, Absurd> =>
  Layer.effect(
    PersistedQueue.PersistedQueueStore,
    Effect.gen(function*() {
      const absurd = yield* Absurd
      return yield* QueueStore.make(absurd, {
        queue: yield* resolveQueue(options.queue),
        lease: yield* checkLease(options.lease),
        pollInterval: yield* checkPollInterval(options.pollInterval)
      })
    })
  )

// --- internal

const checkLease = (lease: Duration.Input | undefined) =>
  Input.duration("lease", lease ?? "1 minute", { minimum: "1 second", maximum: "24 hours" })

const checkPollInterval = (pollInterval: Duration.Input | undefined) =>
  Input.duration("pollInterval", pollInterval ?? "250 millis", { minimum: "10 millis" })
