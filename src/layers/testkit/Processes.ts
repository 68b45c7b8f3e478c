/**
 * Processes that can die between any two calls of the store, and empty stores to try that on.
 *
 * @since 0.1.0
 */
import { Context, Deferred, Effect, type Exit, Fiber, type Scope, Stream } from "effect"
import * as Client from "../../core/Absurd.ts"
import type { Coalesced } from "../../core/Coalesced.ts"
import { Driver } from "../../core/Driver.ts"
import type { InvalidInput } from "../../core/Errors.ts"
import { QueueName } from "../../core/Identifiers.ts"
import * as MemoryDriver from "../../drivers/memory/MemoryDriver.ts"
import * as Fate from "./Fate.ts"
import * as TimeOfTest from "./TimeOfTest.ts"

/**
 * The processes of a test.
 *
 * @since 0.1.0
 * @category services
 */
export class Processes extends Context.Service<Processes, {
  /**
   * Runs an effect, and what it starts, in an empty store with the same handlers, and on a clock of its own that begins at
   * the present. Everything else keeps its store and its clock.
   */
  readonly isolated: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * Runs an effect as a process: undefined when it died. Nothing that it does after that reaches the store; it is
   * interrupted, so its finalizers run. The tasks that it was running may have one attempt more.
   */
  readonly run: <A, E, R>(
    self: Effect.Effect<A, E, R>,
    fate: Fate.Fate
  ) => Effect.Effect<Exit.Exit<A, E> | undefined, never, R>
}>()("effect-absurd/AbsurdTest/Processes") {}

/**
 * A client on a store in memory, of which a fiber may have another one. `prepare` is run in each empty store.
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
    const own = yield* MemoryDriver.make
    const base = yield* Effect.provideService(Client.make(options), Driver, own.driver)
    // A key of its own, so that a place in one test store is none in another.
    const Here = Context.Reference<Place>(`effect-absurd/AbsurdTest/Place/${places++}`, {
      defaultValue: () => ({ ...own, coalesced: base.coalesced })
    })
    const absurd: Client.Absurd["Service"] = {
      ...base,
      driver: here(own.driver, (fiber) => fiber.getRef(Here).driver),
      coalesced: here(base.coalesced, (fiber) => fiber.getRef(Here).coalesced)
    }
    const prepared = Effect.provideService(prepare, Client.Absurd, absurd)
    yield* prepared

    const isolated: Processes["Service"]["isolated"] = (self) =>
      TimeOfTest.apart(Effect.flatMap(MemoryDriver.make, (fresh) =>
        Effect.provideService(Effect.andThen(Effect.orDie(prepared), self), Here, {
          ...fresh,
          coalesced: unbatched(fresh.driver)
        })))

    const run: Processes["Service"]["run"] = (self, fate) =>
      Effect.gen(function*() {
        const place = yield* Here
        const died = Deferred.makeUnsafe<void>()
        const driver = Fate.mortal(place.driver, fate, died)
        const coalesced = unbatched(driver)
        // The process keeps the store as it had it when it died, whatever it still does.
        const fiber = yield* Fate.watched(self, fate, yield* storedIn(place)).pipe(
          Effect.provideService(Client.Absurd, { ...base, driver, coalesced }),
          Effect.provideService(Here, { ...place, driver, coalesced }),
          Effect.forkDetach
        )
        yield* Effect.raceFirst(Fiber.await(fiber), Deferred.await(died)).pipe(
          Effect.onInterrupt(() =>
            Effect.sync(() => fiber.interruptUnsafe())
          )
        )
        if (!Deferred.isDoneUnsafe(died)) return yield* Fiber.await(fiber)
        fiber.interruptUnsafe()
        // Its finalizers get their turn, but nobody waits for a dead process.
        for (let turns = 0; turns < 100 && fiber.pollUnsafe() === undefined; turns++) yield* Effect.yieldNow
        yield* forEachQueue(place, place.forgiveAttempts)
        return undefined
      })

    return {
      absurd,
      store: here(own.store, (fiber) => fiber.getRef(Here).store),
      processes: Processes.of({ isolated, run })
    }
  })

// --- internal

/** Where a fiber finds the store. */
interface Place extends MemoryDriver.Made {
  readonly coalesced: Coalesced
}

let places = 0

/** The checkpoints that there are. */
const storedIn = (place: Place): Effect.Effect<ReadonlySet<string>> =>
  Effect.map(
    forEachQueue(place, place.store.dump),
    (dumps) => new Set(dumps.flatMap(({ checkpoints }) => checkpoints.map(Fate.keyOf)))
  )

const forEachQueue = <A, E>({ driver }: Place, use: (queue: QueueName) => Effect.Effect<A, E>) =>
  Effect.orDie(Effect.flatMap(driver.listQueues, Effect.forEach((name) => use(QueueName.make(name)))))

/** A service whose every call is one of `current`'s, as the calling fiber sees it. */
const here = <S extends object>(service: S, current: (fiber: Fiber.Fiber<unknown, unknown>) => S): S =>
  new Proxy(service, {
    get: (target, key): unknown => {
      const member: unknown = Reflect.get(target, key)
      const now = (fiber: Fiber.Fiber<unknown, unknown>): unknown => Reflect.get(current(fiber), key)
      if (Stream.isStream(member)) {
        return Stream.unwrap(Effect.withFiber((fiber) => Effect.succeed(now(fiber) as Stream.Stream<unknown>)))
      }
      if (Effect.isEffect(member)) return Effect.withFiber((fiber) => now(fiber) as Effect.Effect<unknown>)
      if (typeof member !== "function") return member
      return (...parameters: ReadonlyArray<unknown>) =>
        Effect.withFiber((fiber) =>
          Reflect.apply(now(fiber) as typeof member, current(fiber), parameters) as Effect.Effect<unknown>
        )
    }
  })

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
