/**
 * Running operations one at a time, alone or in transactions.
 *
 * An operation is a synchronous function, so nothing can come between its reads and its writes. While a transaction is open,
 * operations from outside it wait; those of the fibers inside join it, fibers that they fork included. What fails is undone:
 * an operation by itself, a nested transaction to where it began, a transaction as a whole.
 *
 * @since 0.1.0
 */
import { Context, Effect, Exit, type Fiber, Result, Semaphore } from "effect"
import type { Journal } from "./Table.ts"

/**
 * What a caller of {@link make} has to be told.
 *
 * @since 0.1.0
 * @category models
 */
export interface Hooks {
  readonly journal: Journal
  /** How many messages are waiting for the commit. */
  readonly pending: () => number
  /** Forgets those after the first `count`. */
  readonly discard: (count: number) => void
  /** Sends all of them: what they are about is final. */
  readonly deliver: () => void
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Transactions {
  /** Runs an operation, given the calling fiber. Undoes it when it fails or throws; what it throws is a defect. */
  readonly run: <A, E>(operation: (fiber: Fiber.Fiber<unknown, unknown>) => Result.Result<A, E>) => Effect.Effect<A, E>
  readonly withTransaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly inTransaction: Effect.Effect<boolean>
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (hooks: Hooks): Transactions => {
  const { deliver, discard, journal, pending } = hooks
  // A key of its own, so that a transaction of one store is none of another.
  const Current = Context.Reference<Level | undefined>(`effect-absurd/drivers/memory/Transaction/${stores++}`, {
    defaultValue: () => undefined
  })
  const gate = Semaphore.makeUnsafe(1)
  let open: Root | undefined

  const here = (fiber: Fiber.Fiber<unknown, unknown>): Level | undefined => {
    const level = fiber.getRef(Current)
    return level !== undefined && level.root === open ? level : undefined
  }

  const undo = (position: number, messages: number) => {
    journal.rollback(position)
    discard(messages)
  }

  const commit = () => {
    journal.commit()
    deliver()
  }

  const perform = <A, E>(
    fiber: Fiber.Fiber<unknown, unknown>,
    operation: (fiber: Fiber.Fiber<unknown, unknown>) => Result.Result<A, E>
  ): Effect.Effect<A, E> => {
    const position = journal.position
    const messages = pending()
    try {
      const result = operation(fiber)
      if (Result.isFailure(result)) {
        undo(position, messages)
        return Effect.fail(result.failure)
      }
      if (open === undefined) commit()
      return Effect.succeed(result.success)
    } catch (defect) {
      undo(position, messages)
      return Effect.die(defect)
    }
  }

  const begin = (parent: Level | undefined): Level => {
    const root = parent?.root ?? {}
    open = root
    return { root, position: journal.position, messages: pending(), nested: Semaphore.makeUnsafe(1) }
  }

  // A fiber that outlives the transaction in which it began a nested one has nothing left to undo or to commit.
  const end = (level: Level, parent: Level | undefined, exit: Exit.Exit<unknown, unknown>) => {
    if (level.root !== open) return
    if (Exit.isFailure(exit)) undo(level.position, level.messages)
    if (parent !== undefined) return
    open = undefined
    commit()
  }

  return {
    run: (operation) =>
      Effect.withFiber((fiber) =>
        open === undefined || here(fiber) !== undefined
          ? perform(fiber, operation)
          : gate.withPermit(Effect.withFiber((fiber) => perform(fiber, operation)))
      ),
    withTransaction: (self) =>
      Effect.withFiber((fiber) => {
        const parent = here(fiber)
        // Nested transactions of concurrent fibers take turns, as savepoints of one connection have to.
        return (parent?.nested ?? gate).withPermit(
          Effect.uninterruptibleMask((restore) =>
            Effect.suspend(() => {
              const level = begin(parent)
              return Effect.onExit(
                restore(Effect.provideService(self, Current, level)),
                (exit) => Effect.sync(() => end(level, parent, exit))
              )
            })
          )
        )
      }),
    inTransaction: Effect.withFiber((fiber) => Effect.succeed(here(fiber) !== undefined))
  }
}

// --- internal

/** The identity of an outermost transaction. */
type Root = object

interface Level {
  readonly root: Root
  /** Where in the journal it began. */
  readonly position: number
  /** How many messages were waiting when it began. */
  readonly messages: number
  /** Held by the nested transaction that is open. */
  readonly nested: Semaphore.Semaphore
}

let stores = 0
