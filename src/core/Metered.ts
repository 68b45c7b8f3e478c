/**
 * A driver that counts how much each of its requests carries, for `Telemetry.batchSize`.
 *
 * @since 0.1.0
 */
import { Effect, Metric } from "effect"
import type * as Driver from "./Driver.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * The driver, counted. What is sent is counted before its answer is known, each time that it is sent; of a claim, what it
 * brings is counted, unless that is nothing.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (driver: Driver.Driver["Service"]): Driver.Driver["Service"] => ({
  ...driver,
  spawn: carrying("spawn", ({ tasks }) => tasks.length, driver.spawn),
  claim: (request) =>
    Effect.tap(
      driver.claim(request),
      (claimed) => claimed.length === 0 ? Effect.void : Metric.update(claims, claimed.length)
    ),
  complete: carrying("complete", ofRuns, driver.complete),
  fail: carrying("fail", ofRuns, driver.fail),
  setCheckpoints: carrying("setCheckpoints", ({ checkpoints }) => checkpoints.length, driver.setCheckpoints),
  extend: carrying("extend", ofRuns, driver.extend),
  heartbeats: Effect.map(driver.heartbeats, ({ extend }) => ({ extend: carrying("heartbeat", ofRuns, extend) })),
  release: carrying("release", ofRuns, driver.release),
  suspend: carrying("suspend", ({ waits }) => waits.length, driver.suspend),
  results: carrying("results", ({ taskIds }) => taskIds.length, driver.results),
  readEvents: carrying("readEvents", ({ events }) => events.length, driver.readEvents)
})

// --- internal

const sizeOf = (operation: string) => Metric.withAttributes(Telemetry.batchSize, { operation })

const claims = sizeOf("claim")

const ofRuns = ({ runs }: { readonly runs: ReadonlyArray<unknown> }): number => runs.length

const carrying = <Request, A, E>(
  operation: string,
  count: (request: Request) => number,
  send: (request: Request) => Effect.Effect<A, E>
): (request: Request) => Effect.Effect<A, E> => {
  const size = sizeOf(operation)
  return (request) => Effect.andThen(Metric.update(size, count(request)), send(request))
}
