/** The store in memory, which looks after every operation whether all in the queue is as it must be. */
import { Context, Effect, Layer } from "effect"
import { Driver } from "../../src/core/Driver.ts"
import { QueueName } from "../../src/core/Identifiers.ts"
import * as Invariants from "../../src/core/Invariants.ts"
import * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"

type Call = Effect.Effect<unknown, unknown, unknown>

const queueOf = (request: unknown): QueueName | undefined =>
  typeof request === "object" && request !== null && "queue" in request && typeof request.queue === "string"
    ? QueueName.make(request.queue)
    : undefined

/** A driver that dies with the violations when there are any. */
export const checked = (
  driver: Driver["Service"],
  store: MemoryDriver.MemoryStore["Service"]
): Driver["Service"] => {
  const check = (queue: QueueName) =>
    store.dump(queue).pipe(
      Effect.map(Invariants.check),
      Effect.orElseSucceed(() => []),
      Effect.flatMap((found) =>
        found.length === 0 ? Effect.void : Effect.die(new Error(`unsound: ${Invariants.format(found)}`))
      )
    )
  return new Proxy(driver, {
    get: (target, key): unknown => {
      const member: unknown = Reflect.get(target, key)
      if (typeof member !== "function" || key === "withTransaction") return member
      return (...parameters: ReadonlyArray<unknown>) => {
        const call = Reflect.apply(member, target, parameters) as Call
        const queue = queueOf(parameters[0])
        return queue === undefined ? call : Effect.onExit(call, () => check(queue))
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
