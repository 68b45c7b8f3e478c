/** What only workers ask for. */
import { Duration, Effect, Schema } from "effect"
import { ExtendItem } from "../../../src/core/Driver.ts"
import { DriverError, Unavailable } from "../../../src/core/Errors.ts"
import * as Drawn from "../Drawn.ts"
import { operation } from "../Operation.ts"

const Beat = ExtendItem.mapFields(({ runId: _runId, token: _token, ...fields }) => ({
  ...fields,
  run: Drawn.Run,
  lease: Drawn.Lease
}))

export const operations = {
  heartbeat: operation({
    fields: { runs: Schema.Array(Beat).check(Schema.isMinLength(1), Schema.isMaxLength(2)) },
    weight: ({ held }) => held.length > 0 ? 1 : 0.1,
    perform: (place, { runs }) =>
      Effect.scoped(Effect.flatMap(place.driver.heartbeats, ({ extend }) =>
        extend({
          queue: place.queue,
          runs: runs.map(({ lease, run, ...fields }) => ({
            ...fields,
            ...Drawn.held(place, run),
            lease: Duration.millis(lease)
          }))
        })))
  }),
  inTransaction: operation({
    fields: {},
    weight: () => 0.2,
    touches: "nothing",
    perform: ({ driver }) => driver.inTransaction
  }),
  probe: operation({
    fields: {},
    weight: () => 0.2,
    touches: "nothing",
    // It is about connections, and a transaction has one.
    alone: true,
    perform: ({ driver }) =>
      driver.probe(new DriverError({ operation: "claim", reason: new Unavailable({ cause: "none" }) }))
  })
}
