/** Overriding the limits of tasks, and looking at them. */
import { Schema } from "effect"
import { LimitName } from "../../../src/core/Identifiers.ts"
import * as Drawn from "../Drawn.ts"
import * as LimitHeaders from "../LimitHeaders.ts"
import { operation } from "../Operation.ts"

const Name = Drawn.oneOf([...LimitHeaders.limitNames, ...LimitHeaders.limitNames, "unknown"])

export const operations = {
  overrideLimit: operation({
    fields: { name: Name, figures: Schema.Union([LimitHeaders.Figures, Schema.Null]) },
    weight: ({ dump }) => dump.limits.length > 0 ? 1.2 : 0.3,
    aim: (_, { dump }, chance) => {
      const { limits } = dump
      const name = LimitHeaders.limitNames.find((name) => name === chance.pick(limits)?.name)
      // What is taken back has to be there.
      const override = limits.find((limit) => limit.name === name)?.override ?? null
      const back = override !== null && chance.happens(0.4) ? { figures: null } : {}
      return name === undefined || chance.happens(0.2) ? {} : { name, ...back }
    },
    perform: ({ driver, queue }, { figures, name }) =>
      driver.overrideLimit({
        queue,
        name: LimitName.make(name),
        figures: figures === null ? null : LimitHeaders.figuresOf(figures)
      })
  }),
  listLimits: operation({
    fields: {},
    weight: ({ dump }) => dump.limitedRuns.some(({ state }) => state === "waiting") ? 3 : 0.5,
    touches: "nothing",
    perform: ({ driver, queue }) => driver.listLimits(queue)
  }),
  listLimitKeys: operation({
    fields: { name: Name, limit: Schema.Literals([1, 1, 2, 50]) },
    weight: ({ dump }) => dump.limitedRuns.length > 0 ? 0.7 : 0.1,
    touches: "nothing",
    perform: ({ driver, queue }, { limit, name }) => driver.listLimitKeys({ queue, name: LimitName.make(name), limit })
  })
}
