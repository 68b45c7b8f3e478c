/** Reading what is there. */
import { Duration, Effect, Schema } from "effect"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Drawn from "../Drawn.ts"
import { operation } from "../Operation.ts"

export const operations = {
  read: operation({
    fields: { task: Drawn.Task, run: Drawn.Run, step: Schema.NullOr(Drawn.Step), key: Drawn.Key },
    weight: () => 2,
    touches: "nothing",
    perform: (place, { key, run, step, task }) => {
      const { driver, names, queue } = place
      const taskId = Drawn.task(place, task)
      return Effect.all({
        results: driver.results({ queue, taskIds: [taskId, Fixture.unknownTask, taskId] }),
        task: driver.getTask({ queue, taskId }),
        run: driver.getRun({ queue, runId: Drawn.held(place, run).runId }),
        found: driver.findTask({ queue, idempotencyKey: Fixture.key(key) }),
        runs: driver.listRuns({ queue, taskId }),
        waits: Effect.map(driver.listWaits({ queue, taskId }), (waits) => ({
          inOrder: waits.every(({ step }, index) => index === 0 || waits[index - 1]!.step < step),
          // Those for several tasks are named by ids, which are in another order elsewhere.
          waits: names.sorted(waits)
        })),
        checkpoints: Effect.map(
          driver.getCheckpoints({
            queue,
            taskId,
            name: step === null ? null : Fixture.step(step),
            includePending: true
          }),
          (all) => names.inOrder(taskId, all)
        )
      })
    }
  }),
  load: operation({
    fields: {},
    weight: () => 1.5,
    touches: "nothing",
    perform: ({ driver, queue }) =>
      Effect.map(driver.queueLoad(queue), (load) => ({
        ...load,
        oldest: load.oldest === null ? null : Duration.toMillis(load.oldest)
      }))
  })
}
