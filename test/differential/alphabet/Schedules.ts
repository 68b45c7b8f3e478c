/** Schedules, which are in no queue. */
import { Effect, Schema } from "effect"
import * as Drawn from "../Drawn.ts"
import { operation } from "../Operation.ts"

const Name = Schema.Literals(["s1", "s2"])
const Definition = Schema.Literals(["1", "{\"b\":1,\"a\":[null,-0.5]}", "\"x\""])
const touches = "schedules"

export const operations = {
  putSchedule: operation({
    fields: { name: Name, definition: Definition, declared: Schema.Boolean },
    weight: ({ world }) => world.schedules.length < 2 ? 1.5 : 0.7,
    touches,
    perform: ({ driver }, { definition, ...fields }) =>
      driver.putSchedule({ ...fields, definition: Drawn.json(definition) })
  }),
  pauseSchedule: operation({
    fields: { name: Name, paused: Schema.Boolean },
    weight: () => 0.5,
    touches,
    perform: ({ driver }, fields) => driver.pauseSchedule(fields)
  }),
  deleteSchedule: operation({
    fields: { name: Name },
    weight: ({ world }) => world.schedules.length > 0 ? 0.4 : 0.2,
    touches,
    perform: ({ driver }, { name }) => driver.deleteSchedule(name)
  }),
  dueSchedules: operation({
    fields: {},
    weight: () => 0.7,
    touches,
    perform: ({ driver }) => driver.dueSchedules
  }),
  advanceSchedule: operation({
    fields: {
      name: Name,
      stale: Schema.Literals([false, false, false, true]),
      after: Drawn.Millis,
      next: Drawn.Millis,
      lastTask: Schema.NullOr(Drawn.Task)
    },
    weight: ({ world }) => world.schedules.length > 0 ? 1.5 : 0.3,
    touches,
    aim: ({ name }, { world }, chance) =>
      world.schedules.some((found) => found.name === name) || chance.happens(0.3)
        ? {}
        : { name: name === "s1" ? "s2" as const : "s1" as const },
    perform: (place, { after, lastTask, name, next, stale }) =>
      Effect.gen(function*() {
        // Each store counts its revisions by itself.
        const revision = (yield* place.driver.listSchedules).find((found) => found.name === name)?.revision ?? 0
        return yield* place.driver.advanceSchedule({
          name,
          revision: stale ? revision - 1 : revision,
          after: Drawn.instant(place, after),
          next: Drawn.instant(place, next),
          lastTask: lastTask === null ? null : Drawn.task(place, lastTask)
        })
      })
  })
}
