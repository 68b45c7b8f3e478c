/** Ending runs and tasks, and going on with what failed. */
import { Duration, Schema } from "effect"
import { CompleteItem, FailItem, type Retry } from "../../../src/core/Driver.ts"
import * as Drawn from "../Drawn.ts"
import type { Known } from "../Known.ts"
import { operation, type Place } from "../Operation.ts"

const Completed = CompleteItem.mapFields(({ runId: _runId, token: _token, ...fields }) => ({
  ...fields,
  run: Drawn.Run,
  result: Drawn.Json
}))
const Failed = FailItem.mapFields(({ runId: _runId, token: _token, ...fields }) => ({
  ...fields,
  run: Drawn.Run,
  reason: Drawn.Json,
  retry: Schema.Struct({ kind: Schema.Literals(["Stored", "Stored", "After", "At", "Never"]), millis: Drawn.Millis })
}))

const retryOf = (place: Place, { kind, millis }: typeof Failed.Type["retry"]): Retry => {
  switch (kind) {
    case "After":
      return { _tag: "After", delay: Duration.millis(millis) }
    case "At":
      return { _tag: "At", instant: Drawn.instant(place, millis) }
    default:
      return { _tag: kind }
  }
}

/** The places, among the tasks that have not ended, of those that a run waits for. */
const awaitedTasks = ({ dump, open }: Known): ReadonlyArray<number> => {
  const events = new Set(dump.waits.map(({ event }) => event))
  return open.flatMap(({ row }, place) =>
    events.has(`$task:${row.taskId}`) || events.has(`$settled:${row.taskId}`) ? [place] : []
  )
}

export const operations = {
  complete: operation({
    fields: { runs: Schema.Array(Completed).check(Schema.isMinLength(1), Schema.isMaxLength(2)) },
    weight: ({ held }) => held.length > 0 ? 5 : 0.3,
    perform: (place, { runs }) =>
      place.driver.complete({
        queue: place.queue,
        runs: runs.map(({ result, run, ...fields }) => ({
          ...fields,
          ...Drawn.held(place, run),
          result: Drawn.json(result)
        }))
      })
  }),
  fail: operation({
    fields: { runs: Schema.Array(Failed).check(Schema.isMinLength(1), Schema.isMaxLength(2)) },
    weight: ({ held }) => held.length > 0 ? 6 : 0.3,
    perform: (place, { runs }) =>
      place.driver.fail({
        queue: place.queue,
        runs: runs.map(({ reason, retry, run, ...fields }) => ({
          ...fields,
          ...Drawn.held(place, run),
          reason: Drawn.json(reason),
          retry: retryOf(place, retry)
        }))
      })
  }),
  cancelTask: operation({
    fields: { task: Drawn.Task },
    weight: (known) => awaitedTasks(known).length > 0 ? 3 : 0.8,
    // What somebody waits for.
    aim: ({ task }, known, chance) => {
      const n = chance.pick(awaitedTasks(known))
      return n === undefined || chance.happens(0.4) ? {} : { task: { ...task, pick: "open", n } }
    },
    perform: (place, { task }) => place.driver.cancelTask({ queue: place.queue, taskId: Drawn.task(place, task) })
  }),
  cancelRun: operation({
    fields: { run: Drawn.Run },
    weight: () => 1,
    aim: ({ run }, _, chance) => chance.happens(0.5) ? { run: { ...run, pick: "other" } } : {},
    perform: (place, { run }) => place.driver.cancelRun({ queue: place.queue, runId: Drawn.held(place, run).runId })
  }),
  retryTask: operation({
    fields: {
      task: Drawn.FailedTask,
      maxAttempts: Drawn.oneOf([null, null, 1, 3, 9]),
      spawnNew: Schema.Boolean
    },
    weight: ({ tasks }) => tasks.some(({ row }) => row.state === "failed") ? 2.5 : 0.5,
    perform: (place, { task, ...fields }) =>
      place.driver.retryTask({ ...fields, queue: place.queue, taskId: Drawn.task(place, task) })
  })
}
