/**
 * Storing a checkpoint in one commit with whatever else a program writes to the store.
 *
 * @since 0.1.0
 */
import { Effect, Exit, type Schema } from "effect"
import type * as Driver from "./Driver.ts"
import { DriverError, InvalidUse, type NotFound } from "./Errors.ts"
import type { CheckpointName, QueueName, TaskId } from "./Identifiers.ts"
import * as Lease from "./Lease.ts"

/**
 * What one run needs for its transactions.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly driver: Driver.Driver["Service"]
  readonly queue: QueueName
  readonly taskId: TaskId
  readonly held: typeof Driver.Held.Type
  readonly lease: Lease.Lease
  /** Returns while nobody else can have the run; ends it otherwise. */
  readonly ensureHeld: Effect.Effect<void>
  /** Repeats a fenced request until the store has answered, and ends the run when it no longer holds the claim. */
  readonly persist: <A extends { readonly outcome: Driver.Outcome }>(
    request: Effect.Effect<A, DriverError | NotFound>
  ) => Effect.Effect<A>
  /** Remembers what is stored, for the rest of this claim. */
  readonly stored: (name: CheckpointName, state: Schema.Json) => unknown
}

/**
 * Runs an effect in a transaction of the store, and stores what it returns as a checkpoint in the same commit. A failure
 * undoes all of it and is not stored.
 *
 * The commit happens only under the claim. The run's row is locked no sooner than for the checkpoint, at the end: the
 * worker's heartbeats renew many leases with one statement, which must not wait for a program's transaction. The claim is
 * asked for before, so that a worker that has lost it does not begin.
 *
 * When the store does not say whether it has committed, the transaction is tried again: if it had been committed the
 * checkpoint is there, and whatever the second try did is undone.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make =
  ({ driver, ensureHeld, held, lease, persist, queue, stored, taskId }: Options) =>
  <E, R>(name: CheckpointName, self: Effect.Effect<Schema.Json, E, R>): Effect.Effect<Schema.Json, E, R> =>
    Effect.gen(function*() {
      if (yield* driver.inTransaction) {
        const problem = "it is inside a transaction, with which it would be undone; take it out of it"
        return yield* Effect.die(new InvalidUse({ step: name, problem }))
      }
      const context = yield* Effect.context<R>()
      let begun = false

      const renew = Effect.suspend(() => {
        const sentAt = lease.now()
        return Effect.map(
          driver.extend({ queue, runs: [{ ...held, lease: lease.duration }] }),
          ([outcome = "notFound"]) => {
            if (outcome === "applied") Lease.renewed(lease, sentAt)
            return { outcome }
          }
        )
      })
      const committed = Effect.map(
        driver.getCheckpoints({ queue, taskId, name, includePending: false }),
        ([checkpoint]) => checkpoint?.state
      )
      const attempt = driver.withTransaction(Effect.gen(function*() {
        // Whatever time it took to get a connection.
        yield* ensureHeld
        const state = yield* Effect.mapError(self, (error) => new Undone<E>({ _tag: "Failed", error }))
        const extendBy = Lease.extension(lease)
        const [set] = yield* driver.setCheckpoints({ queue, checkpoints: [{ ...held, name, state, extendBy }] })
        const outcome = set?.outcome ?? "notFound"
        if (outcome !== "applied") return yield* Effect.fail(new Undone<E>({ _tag: "Refused", outcome }))
        if (set?.existing !== undefined) {
          return yield* Effect.fail(new Undone<E>({ _tag: "Stored", state: set.existing }))
        }
        return state
      }))

      const once: Effect.Effect<Answer<E>, DriverError | NotFound, R> = Effect.gen(function*() {
        const earlier = begun ? yield* committed : undefined
        begun = true
        if (earlier !== undefined) return applied<E>(Exit.succeed(earlier))
        return yield* Effect.matchEffect(attempt, {
          onSuccess: (state) => Effect.succeed(applied<E>(Exit.succeed(state))),
          onFailure: (error) => {
            if (!(error instanceof Undone)) return refuse(error)
            const { why } = error
            if (why._tag === "Failed") return Effect.succeed(applied<E>(Exit.fail(why.error)))
            if (why._tag === "Stored") return Effect.succeed(applied<E>(Exit.succeed(why.state)))
            return Effect.succeed({ outcome: why.outcome, exit: undefined })
          }
        })
      })

      yield* persist(renew)
      const { exit } = yield* persist(Effect.provideContext(once, context))
      if (exit === undefined) return yield* Effect.never
      if (Exit.isSuccess(exit)) stored(name, exit.value)
      return yield* exit
    })

// --- internal

interface Answer<E> {
  readonly outcome: Driver.Outcome
  /** Undefined when the outcome is not `applied`. */
  readonly exit: Exit.Exit<Schema.Json, E> | undefined
}

const applied = <E>(exit: Exit.Exit<Schema.Json, E>): Answer<E> => ({ outcome: "applied", exit })

/** Why a transaction is undone, told apart from everything that the store says. */
class Undone<E> {
  readonly why:
    | { readonly _tag: "Failed"; readonly error: E }
    | { readonly _tag: "Refused"; readonly outcome: Driver.Outcome }
    | { readonly _tag: "Stored"; readonly state: Schema.Json }
  constructor(why: Undone<E>["why"]) {
    this.why = why
  }
}

/**
 * What the store refuses here is the program's doing: a statement whose failure was caught and has spoilt the transaction,
 * or a constraint that is checked at the commit. It counts as a failed attempt, where the run would otherwise be put back.
 */
const refuse = (error: DriverError | NotFound): Effect.Effect<never, DriverError | NotFound> =>
  error instanceof DriverError && error.reason._tag === "Rejected" ? Effect.die(error) : Effect.fail(error)
