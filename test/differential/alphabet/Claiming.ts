/** Claiming runs, keeping claims, and giving them up. */
import { Duration, Effect, Schema } from "effect"
import { CheckpointItem, Claim, type Claimed, ExtendItem, ReleaseItem } from "../../../src/core/Driver.ts"
import { ClaimToken } from "../../../src/core/Identifiers.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Drawn from "../Drawn.ts"
import { operation, type Place } from "../Operation.ts"

const ClaimFields = Claim.mapFields(({ queue: _queue, token: _token, ...fields }) => ({
  ...fields,
  lease: Drawn.Lease,
  limit: Schema.Literals([0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 50, 50]),
  except: Drawn.oneOf([null, null, null, "one", "two"])
}))

const Checkpoint = CheckpointItem.mapFields(({ runId: _runId, token: _token, ...fields }) => ({
  ...fields,
  run: Drawn.Run,
  name: Drawn.Step,
  state: Drawn.Json,
  extendBy: Schema.NullOr(Drawn.Lease)
}))
const Extension = ExtendItem.mapFields(({ runId: _runId, token: _token, ...fields }) => ({
  ...fields,
  run: Drawn.Run,
  lease: Drawn.Lease
}))
const Released = ReleaseItem.mapFields(({ runId: _runId, token: _token, ...fields }) => ({
  ...fields,
  run: Drawn.Run,
  until: Drawn.Until
}))

/** Claimed runs, and whether those that were due longer come first. `Names` puts equals in an order. */
const oldestFirst = (place: Place, runs: ReadonlyArray<Claimed>) => {
  const waited = runs.map((run) => Duration.toMillis(run.waited))
  const inOrder = waited.every((millis, index) => index === 0 || millis <= waited[index - 1]!)
  return {
    inOrder,
    runs: runs.map((run) => ({ ...run, checkpoints: place.names.inOrder(run.taskId, run.checkpoints) }))
  }
}

export const operations = {
  claim: operation({
    fields: ClaimFields.fields,
    weight: ({ due, held }) => due.length === 0 ? 0.8 : held.length < 3 ? 16 : 5,
    perform: (place, { except, lease, ...fields }) =>
      place.driver.claim({
        ...fields,
        queue: place.queue,
        token: ClaimToken.make(`token${place.number}`),
        lease: Duration.millis(lease),
        ...(except === null ? {} : { except: [except] })
      }).pipe(Effect.map((runs) => oldestFirst(place, runs)))
  }),
  claimedWith: operation({
    fields: { run: Drawn.Run },
    weight: () => 1,
    touches: "nothing",
    perform: (place, { run }) =>
      Effect.map(
        place.driver.claimedWith({ queue: place.queue, token: Drawn.held(place, run).token }),
        (runs) => oldestFirst(place, runs)
      )
  }),
  extend: operation({
    fields: { runs: Schema.Array(Extension).check(Schema.isMinLength(1), Schema.isMaxLength(2)) },
    weight: ({ held }) => held.length > 0 ? 3 : 0.2,
    perform: (place, { runs }) =>
      place.driver.extend({
        queue: place.queue,
        runs: runs.map(({ lease, run, ...fields }) => ({
          ...fields,
          ...Drawn.held(place, run),
          lease: Duration.millis(lease)
        }))
      })
  }),
  release: operation({
    fields: { runs: Schema.Array(Released).check(Schema.isMinLength(1), Schema.isMaxLength(2)) },
    weight: ({ held }) => held.some(({ row }) => row.wakeEvent !== null) ? 9 : held.length > 0 ? 3 : 0.2,
    perform: (place, { runs }) =>
      place.driver.release({
        queue: place.queue,
        runs: runs.map(({ run, until, ...fields }) => ({
          ...fields,
          ...Drawn.held(place, run),
          until: Drawn.until(place, until)
        }))
      })
  }),
  checkpoint: operation({
    fields: { items: Schema.Array(Checkpoint).check(Schema.isMinLength(1), Schema.isMaxLength(3)) },
    weight: ({ held }) => held.length > 0 ? 6 : 0.3,
    perform: (place, { items }) =>
      place.driver.setCheckpoints({
        queue: place.queue,
        checkpoints: items.map(({ extendBy, name, run, state, ...fields }) => ({
          ...fields,
          ...Drawn.held(place, run),
          name: Fixture.step(name),
          state: Drawn.json(state),
          extendBy: extendBy === null ? null : Duration.millis(extendBy)
        }))
      })
  })
}
