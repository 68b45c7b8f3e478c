/** Spawning tasks, and revising those that have not been started. */
import { Schema } from "effect"
import { SpawnItem } from "../../../src/core/Driver.ts"
import * as RetryStrategy from "../../../src/core/RetryStrategy.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Drawn from "../Drawn.ts"
import * as LimitHeaders from "../LimitHeaders.ts"
import { operation, type Place } from "../Operation.ts"

const strategies = {
  none: RetryStrategy.none,
  fixed: RetryStrategy.fixed("1500 millis"),
  exponential: RetryStrategy.exponential({ base: "1 second", factor: 3 }),
  capped: RetryStrategy.exponential({ base: "100 millis", factor: 10, max: "2 seconds" })
}
const cancellations = {
  delay: { max_delay: 5 },
  duration: { max_duration: 5 },
  both: { max_delay: 60, max_duration: 3600 }
}

const Item = SpawnItem.mapFields((fields) => ({
  ...fields,
  name: Schema.Literals(["one", "two"]),
  params: Drawn.Json,
  headers: Schema.Boolean,
  limit: LimitHeaders.Limit,
  retryStrategy: Schema.NullOr(Schema.Literals(["none", "fixed", "exponential", "capped"])),
  maxAttempts: Drawn.oneOf([null, 1, 2, 3]),
  cancellation: Drawn.oneOf([null, null, null, "delay", "duration", "both"]),
  idempotencyKey: Drawn.oneOf([null, null, ...Drawn.keyNames]),
  delay: Schema.NullOr(Drawn.Until)
}))

const itemOf = (place: Place, { limit, ...drawn }: typeof Item.Type): SpawnItem => ({
  ...drawn,
  name: Fixture.task(drawn.name),
  params: Drawn.json(drawn.params),
  headers: drawn.headers || limit !== null
    ? { ...(drawn.headers ? { trace: "t", n: [1] } : {}), ...LimitHeaders.headersOf(limit) }
    : null,
  retryStrategy: drawn.retryStrategy === null ? null : strategies[drawn.retryStrategy],
  cancellation: drawn.cancellation === null ? null : cancellations[drawn.cancellation],
  idempotencyKey: drawn.idempotencyKey === null ? null : Fixture.key(drawn.idempotencyKey),
  delay: drawn.delay === null ? null : Drawn.until(place, drawn.delay)
})

export const operations = {
  spawn: operation({
    fields: { tasks: Schema.Array(Item).check(Schema.isMinLength(1), Schema.isMaxLength(3)) },
    weight: ({ dump, open }) =>
      open.length < 6 ? 8 : open.length < 9 && dump.limitedRuns.some(({ state }) => state === "running") ? 6 : 2,
    // A key that is taken, with what its task was spawned with: mostly nobody wants a conflict.
    aim: ({ tasks }, { dump, tasks: known }, chance) => ({
      tasks: tasks.map((drawn) => {
        const item = { ...drawn, limit: LimitHeaders.joining(drawn.limit, dump, chance) }
        const owner = known.find(({ row }) => row.idempotencyKey === item.idempotencyKey)?.row
        const params = Drawn.Json.literals.find((text) =>
          JSON.stringify(Drawn.json(text)) === JSON.stringify(owner?.params)
        )
        return item.idempotencyKey === null || owner === undefined || params === undefined || chance.happens(0.3)
          ? item
          : { ...item, name: owner.name === "one" ? "one" : "two", params }
      })
    }),
    perform: (place, { tasks }) =>
      place.driver.spawn({ queue: place.queue, tasks: tasks.map((item) => itemOf(place, item)) })
  }),
  revisePending: operation({
    fields: { key: Drawn.Key, task: Item, keepDue: Schema.Boolean },
    weight: ({ open }) => open.some(({ row }) => row.idempotencyKey !== null && row.firstStartedAt === null) ? 4 : 0.5,
    aim: ({ task }, { open }, chance) => {
      const found = chance.pick(open.filter(({ row }) => row.idempotencyKey !== null && row.firstStartedAt === null))
      const key = Drawn.keyNames.find((name) => name === found?.row.idempotencyKey)
      return key === undefined || chance.happens(0.3)
        ? {}
        : { key, task: { ...task, name: found?.row.name === "one" ? "one" : "two" } }
    },
    perform: (place, { keepDue, key, task }) =>
      place.driver.revisePending({ queue: place.queue, key: Fixture.key(key), task: itemOf(place, task), keepDue })
  })
}
