/** Reading what is there. */
import { Duration, Effect, Schema } from "effect"
import { State } from "../../../src/core/Identifiers.ts"
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
  readEvents: operation({
    fields: { events: Schema.Array(Drawn.Event).check(Schema.isMaxLength(4)) },
    weight: () => 0.4,
    touches: "nothing",
    perform: ({ driver, names, queue }, { events }) =>
      Effect.map(
        driver.readEvents({ queue, events: events.map((name) => Fixture.event(name)) }),
        (found) => names.sorted(found)
      )
  }),
  listTasks: operation({
    fields: {
      name: Drawn.oneOf([null, null, "one", "two", "three"]),
      states: Schema.NullOr(Schema.Array(State).check(Schema.isMinLength(1), Schema.isMaxLength(3))),
      outcome: Drawn.oneOf([null, null, null, "good", "bad", "{\"a\": 1}", "{\"a\":1}"]),
      before: Schema.NullOr(Drawn.Task),
      limit: Schema.Literals([1, 2, 50])
    },
    weight: () => 0.5,
    touches: "nothing",
    // In a transaction there may be tasks that nobody knows yet.
    alone: true,
    perform: (place, { before, limit, ...filter }) => {
      const { driver, known, names, queue } = place
      const spawned = known.dump.runs.filter(({ attempt }) => attempt === 1).map(({ createdAt }) =>
        +createdAt.epochMilliseconds
      )
      // Of tasks of one instant, which come first is chance.
      if (new Set(spawned).size < spawned.length) {
        return Effect.map(
          driver.listTasks({ ...filter, queue, before: null, limit: 1000 }),
          (tasks) => names.sorted(tasks)
        )
      }
      return driver.listTasks({
        ...filter,
        queue,
        before: before === null ? null : Drawn.task(place, before),
        limit
      })
    }
  }),
  countTasks: operation({
    fields: {},
    weight: () => 0.3,
    touches: "nothing",
    perform: ({ driver, names, queue }) => Effect.map(driver.countTasks(queue), (counts) => names.sorted(counts))
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
