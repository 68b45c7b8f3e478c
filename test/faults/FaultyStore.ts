/** The store in memory behind a connection that a test can break, request by request. */
import { Effect, Layer } from "effect"
import { Absurd, Driver, Errors } from "effect-absurd"
import * as CheckedMemory from "../support/CheckedMemory.ts"
import * as TestTime from "../support/TestTime.ts"

/**
 * - `refused`: the request never reaches the store.
 * - `lost`: it is carried out, and its answer is lost.
 * - `silent`: it never reaches the store, and nobody says so.
 * - `readOnly`: the store refuses it, and would answer it if it wrote nothing.
 * - `late`: it takes two and a half seconds to reach the store, whatever becomes of who sent it.
 */
export type Fault = "refused" | "readOnly" | "lost" | "silent" | "late"

export interface Faults {
  /** What happens to the next request of an operation. */
  decide: (operation: string) => Fault | undefined
  /** Every request, in order. */
  readonly log: Array<string>
}

/** A fault for the first `count` requests of an operation. */
export const first = (operation: string, fault: Fault, count = 1): Faults["decide"] => {
  let left = count
  return (name) => name === operation && left-- > 0 ? fault : undefined
}

const cause = new Error("connection lost")
const unavailable = (operation: string) =>
  new Errors.DriverError({ operation, reason: new Errors.Unavailable({ cause }) })
const readOnly = (operation: string) =>
  new Errors.DriverError({ operation, reason: new Errors.ReadOnly({ cause: new Error("read-only transaction") }) })
const unknown = (operation: string) =>
  new Errors.DriverError({ operation, reason: new Errors.OutcomeUnknown({ cause }) })

/** A driver whose requests meet the faults. */
export const wrap = (driver: Driver.Driver["Service"], faults: Faults): Driver.Driver["Service"] => {
  const through =
    <Args extends ReadonlyArray<unknown>, A, E, R>(name: string, send: (...args: Args) => Effect.Effect<A, E, R>) =>
    (...args: Args): Effect.Effect<A, E | Errors.DriverError, R> =>
      Effect.suspend(() => {
        faults.log.push(name)
        switch (faults.decide(name)) {
          case undefined:
            return send(...args)
          case "refused":
            return Effect.fail(unavailable(name))
          case "readOnly":
            return Effect.fail(readOnly(name))
          case "silent":
            return Effect.never
          case "late":
            return Effect.uninterruptible(Effect.delay(send(...args), "2500 millis"))
          case "lost":
            return Effect.andThen(send(...args), Effect.fail(unknown(name)))
        }
      })
  const extend = through("extend", driver.extend)
  return {
    ...driver,
    claim: through("claim", driver.claim),
    claimedWith: through("claimedWith", driver.claimedWith),
    complete: through("complete", driver.complete),
    fail: through("fail", driver.fail),
    setCheckpoints: through("setCheckpoints", driver.setCheckpoints),
    release: through("release", driver.release),
    suspend: through("suspend", driver.suspend),
    spawn: through("spawn", driver.spawn),
    emit: through("emit", driver.emit),
    readEvents: through("readEvents", driver.readEvents),
    findTask: through("findTask", driver.findTask),
    listWaits: through("listWaits", driver.listWaits),
    extend,
    heartbeats: Effect.succeed({ extend }),
    listQueues: through("listQueues", () => driver.listQueues)(),
    probe: through("probe", driver.probe),
    getRun: through("getRun", driver.getRun),
    results: through("results", driver.results)
  }
}

/** A client over a fresh store, with the faults that the test decides on. */
export const make = () => {
  const faults: Faults = { decide: () => undefined, log: [] }
  const client = Absurd.layerDriver().pipe(
    Layer.provide(
      Layer.effect(Driver.Driver, Effect.map(Driver.Driver, (driver) => wrap(driver, faults))).pipe(
        Layer.provide(CheckedMemory.layer)
      )
    )
  )
  return { faults, layer: Layer.merge(client, TestTime.layerMemory) }
}
