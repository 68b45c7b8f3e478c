/**
 * The store in memory, which looks after every operation whether all in the queue is as it must be, and came to be so as it
 * may.
 */
import { Context, Effect, Exit, Layer } from "effect"
import { Absurd } from "effect-absurd"
import { type Claimed, Driver } from "../../src/core/Driver.ts"
import { QueueName } from "../../src/core/Identifiers.ts"
import * as Invariants from "../../src/core/Invariants.ts"
import * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"

type Call = Effect.Effect<unknown, unknown, unknown>

/** A driver that dies with the violations when there are any, or tells of them. */
export const checked = (
  driver: Driver["Service"],
  store: MemoryDriver.MemoryStore["Service"],
  tell: (violations: ReadonlyArray<Invariants.Violation>) => Effect.Effect<void> = (violations) =>
    Effect.die(new Error(`unsound: ${Invariants.format(violations)}`))
): Driver["Service"] => {
  const known = new Map<QueueName, Invariants.Dump>()
  const writes = new Map<QueueName, number>()
  const check = (queue: QueueName, inAnswer: (after: Invariants.Dump) => ReadonlyArray<Invariants.Violation>) =>
    Effect.gen(function*() {
      const written = yield* store.writes(queue)
      const before = known.get(queue)
      // Nothing has been written since it was found sound: all that is to be looked at is the answer.
      if (before !== undefined && writes.get(queue) === written) return inAnswer(before)
      const after = yield* store.dump(queue)
      known.set(queue, after)
      writes.set(queue, written)
      return [
        ...Invariants.check(after),
        ...(before === undefined ? [] : Invariants.checkStep(before, after)),
        ...inAnswer(after),
        ...Invariants.checkQueues(known)
      ]
    }).pipe(Effect.matchEffect({
      onFailure: () => Effect.sync(() => known.delete(queue)),
      onSuccess: (found) => found.length === 0 ? Effect.void : tell(found)
    }))
  return new Proxy(driver, {
    get: (target, key): unknown => {
      const member: unknown = Reflect.get(target, key)
      if (typeof member !== "function") return member
      return (...parameters: ReadonlyArray<unknown>) => {
        const call = Reflect.apply(member, target, parameters) as Call
        // What is undone goes back to a state that was seen before the one that was seen last.
        if (key === "withTransaction" || key === "exclusively") return Effect.onError(call, () => forget(known))
        if (key === "dropQueue") return Effect.andThen(forget(known), call)
        const queue = queueOf(parameters[0])
        return queue === undefined ?
          call :
          Effect.onExit(call, (exit) =>
            check(queue, (after) =>
              key === "claim" && Exit.isSuccess(exit)
                ? Invariants.checkClaim(parameters[0] as ClaimRequest, exit.value as ReadonlyArray<Claimed>, after)
                : []))
      }
    }
  })
}

export const layer: Layer.Layer<Driver | MemoryDriver.MemoryStore> = Layer.effectContext(
  Effect.map(
    MemoryDriver.make,
    ({ driver, store }) =>
      Context.make(Driver, checked(driver, store)).pipe(Context.add(MemoryDriver.MemoryStore, store))
  )
)

/** `Absurd.layerMemory` on such a store. */
export const layerAbsurd = Layer.provideMerge(Layer.orDie(Absurd.layerDriver()), layer)

// --- internal

type ClaimRequest = Parameters<typeof Invariants.checkClaim>[0]

const queueOf = (request: unknown): QueueName | undefined =>
  typeof request === "object" && request !== null && "queue" in request && typeof request.queue === "string"
    ? QueueName.make(request.queue)
    : undefined

const forget = (known: Map<QueueName, Invariants.Dump>) => Effect.sync(() => known.clear())
