/**
 * Processes that can die between any two calls of the store, and empty stores to try that on.
 *
 * @since 0.1.0
 */
import { Context, Deferred, Effect, type Exit, Fiber, type Scope } from "effect"
import * as Client from "../../core/Absurd.ts"
import type { Coalesced } from "../../core/Coalesced.ts"
import { Driver } from "../../core/Driver.ts"
import type { InvalidInput } from "../../core/Errors.ts"
import * as MemoryDriver from "../../drivers/memory/MemoryDriver.ts"
import { delegate } from "./TestStore.ts"

/**
 * What a process did to the store, and where it is to die. A point is the moment before or after a call.
 *
 * @since 0.1.0
 * @category models
 */
export interface Fate {
  /** The point, counted from 0 over all processes with this fate, at which the process dies; undefined for never. */
  readonly dieAt: number | undefined
  /** What each point that was reached is: `before complete`, `after complete`. */
  readonly points: Array<string>
  /** Checkpoints that were written again although they had been committed. */
  readonly repeated: Array<string>
}

/**
 * The processes of a test.
 *
 * @since 0.1.0
 * @category services
 */
export class Processes extends Context.Service<Processes, {
  /** Runs an effect in an empty store, with the same handlers. */
  readonly isolated: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * Runs an effect as a process: undefined when it died. Nothing that it does after that reaches the store; it is
   * interrupted, so its finalizers run.
   */
  readonly run: <A, E, R>(
    self: Effect.Effect<A, E, R>,
    fate: Fate
  ) => Effect.Effect<Exit.Exit<A, E> | undefined, never, R>
}>()("effect-absurd/AbsurdTest/Processes") {}

/**
 * A client on a store in memory that can be exchanged. `prepare` is run in each empty store.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <E>(
  options: Client.Options,
  prepare: Effect.Effect<void, E, Client.Absurd>
): Effect.Effect<
  {
    readonly absurd: Client.Absurd["Service"]
    readonly store: MemoryDriver.MemoryStore["Service"]
    readonly processes: Processes["Service"]
  },
  E | InvalidInput,
  Scope.Scope
> =>
  Effect.gen(function*() {
    let world = yield* MemoryDriver.make
    const base = yield* Effect.provideService(Client.make(options), Driver, delegate(() => world.driver))
    let client = base
    const absurd = delegate(() => client)
    const prepared = Effect.provideService(prepare, Client.Absurd, absurd)
    yield* prepared

    const isolated: Processes["Service"]["isolated"] = (self) =>
      Effect.flatMap(MemoryDriver.make, (fresh) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            const before = world
            world = fresh
            return before
          }),
          () => Effect.andThen(Effect.orDie(prepared), self),
          (before) =>
            Effect.sync(() => {
              world = before
            })
        ))

    const run: Processes["Service"]["run"] = (self, fate) =>
      Effect.gen(function*() {
        const died = Deferred.makeUnsafe<void>()
        const driver = mortal(world.driver, fate, died)
        const process = { ...base, driver, coalesced: unbatched(driver) }
        client = process
        // The worker keeps the client with which it died, whatever it still does.
        const fiber = yield* Effect.forkDetach(Effect.provideService(self, Client.Absurd, process))
        yield* Effect.raceFirst(Fiber.await(fiber), Deferred.await(died)).pipe(
          Effect.onInterrupt(() => Effect.sync(() => fiber.interruptUnsafe()))
        )
        if (!Deferred.isDoneUnsafe(died)) return yield* Fiber.await(fiber)
        fiber.interruptUnsafe()
        // Its finalizers get their turn, but nobody waits for a dead process.
        for (let turns = 0; turns < 100 && fiber.pollUnsafe() === undefined; turns++) yield* Effect.yieldNow
        return undefined
      }).pipe(Effect.ensuring(Effect.sync(() => {
        client = base
      })))

    return {
      absurd,
      store: delegate(() => world.store),
      processes: Processes.of({ isolated, run })
    }
  })

// --- internal

/** Asks the store for each item by itself, in the fiber of the caller: where a process dies must not be a matter of chance. */
const unbatched = (driver: Driver["Service"]): Coalesced => {
  const first = <A>(answers: ReadonlyArray<A>): A => answers[0]!
  return {
    spawn: (queue, item) => Effect.map(driver.spawn({ queue, tasks: [item] }), first),
    complete: (queue, item) => Effect.map(driver.complete({ queue, runs: [item] }), first),
    fail: (queue, item) => Effect.map(driver.fail({ queue, runs: [item] }), first),
    setCheckpoint: (queue, item) => Effect.map(driver.setCheckpoints({ queue, checkpoints: [item] }), first),
    extend: (queue, item) => Effect.map(driver.extend({ queue, runs: [item] }), first),
    release: (queue, item) => Effect.map(driver.release({ queue, runs: [item] }), first),
    result: (queue, taskId) => Effect.map(driver.results({ queue, taskIds: [taskId] }), ([row]) => row),
    readEvent: (queue, event) => driver.readEvent({ queue, event })
  }
}

/** Never goes on, but lets go of the fiber when the process is swept away, in a finalizer as well. */
const halt: Effect.Effect<never> = Effect.interruptible(Effect.never)

// Who drives a process asks for the queues, and these say nothing about a run.
const passed: ReadonlySet<string> = new Set(["inTransaction", "signals", "heartbeats", "listQueues"])

type Call = Effect.Effect<unknown, unknown, unknown>

/** The driver as one process sees it, until it dies. */
const mortal = (driver: Driver["Service"], fate: Fate, died: Deferred.Deferred<void>): Driver["Service"] => {
  const point = (what: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (Deferred.isDoneUnsafe(died)) return halt
      fate.points.push(what)
      if (fate.points.length - 1 !== fate.dieAt) return Effect.void
      Deferred.doneUnsafe(died, Effect.void)
      return halt
    })
  const around = (name: string, call: Call): Call =>
    Effect.andThen(
      point(`before ${name}`),
      Effect.flatMap(Effect.exit(call), (exit) => Effect.andThen(point(`after ${name}`), exit))
    )
  const watched: Driver["Service"] = {
    ...driver,
    setCheckpoints: (request) =>
      Effect.tap(
        driver.setCheckpoints(request),
        (answers) =>
          Effect.sync(() =>
            answers.forEach(({ existing }, place) => {
              const name = request.checkpoints[place]?.name
              if (existing !== undefined && name !== undefined) fate.repeated.push(name)
            })
          )
      )
  }
  return new Proxy(watched, {
    get: (target, key): unknown => {
      const member: unknown = Reflect.get(target, key)
      if (typeof key !== "string" || passed.has(key)) return member
      if (typeof member !== "function") return Effect.isEffect(member) ? around(key, member) : member
      return (...parameters: ReadonlyArray<unknown>) => around(key, Reflect.apply(member, target, parameters) as Call)
    }
  })
}
