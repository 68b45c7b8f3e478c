/** Making queues and looking after them. */
import { Duration, Effect, Schema } from "effect"
import { QueuePolicy } from "../../../src/core/Driver.ts"
import * as Drawn from "../Drawn.ts"
import { operation } from "../Operation.ts"

const Span = Drawn.oneOf([null, null, null, null, -1000, 0, 1000, 60_000, 86_400_000])

const Policy = QueuePolicy.mapFields(({ storageMode: _storageMode, ...fields }) => ({
  ...fields,
  defaultPartition: Drawn.oneOf([null, null, null, "enabled", "disabled"]),
  partitionLookahead: Span,
  partitionLookback: Span,
  cleanupTtl: Drawn.oneOf([null, 0, 0, 1000, 60_000, -1000]),
  cleanupLimit: Drawn.oneOf([null, null, 1, 1, 50, 0]),
  detachMode: Drawn.oneOf([null, "none", "empty"]),
  detachMinAge: Span
}))

const span = (millis: number | null) => millis === null ? undefined : Duration.millis(millis)

// A partitioned queue takes much longer to make.
const unpartitioned = Array.from({ length: 9 }, () => "unpartitioned" as const)

const Cleanup = { millis: Schema.Literals([0, 0, 0, 1, 1000, 60_000]), limit: Schema.Literals([0, 1, 1, 1, 2, 50]) }

export const operations = {
  createQueue: operation({
    fields: { storage: Schema.Literals([...unpartitioned, "partitioned"]) },
    weight: ({ exists }) => exists ? 0.3 : 6,
    alone: true,
    perform: ({ driver, queue }, { storage }) => driver.createQueue({ queue, storage })
  }),
  dropQueue: operation({
    fields: {},
    // Only the third queue, or there would be nothing left to do.
    weight: ({ dump, exists, world }) => exists && dump === world.queues.c ? 4 : 0,
    alone: true,
    perform: ({ driver, queue }) => driver.dropQueue(queue)
  }),
  listQueues: operation({
    fields: {},
    weight: () => 0.3,
    touches: "nothing",
    perform: ({ driver }) => driver.listQueues
  }),
  setPolicy: operation({
    fields: Policy.fields,
    weight: () => 1,
    // One mistake at a time, for which of several is told first is not promised, and not in most of them.
    aim: (policy, _, chance) => {
      const sound = chance.happens(0.6)
      const spans = ["partitionLookahead", "partitionLookback", "detachMinAge", "cleanupTtl"] as const
      const wrong = sound ? undefined : chance.pick([...spans, "cleanupLimit", "defaultPartition"] as const)
      const of = <Name extends typeof spans[number]>(name: Name) =>
        wrong === name ? -1000 as const : policy[name] === -1000 ? null : policy[name]
      return {
        partitionLookahead: of("partitionLookahead"),
        partitionLookback: of("partitionLookback"),
        detachMinAge: of("detachMinAge"),
        cleanupTtl: of("cleanupTtl"),
        cleanupLimit: wrong === "cleanupLimit"
          ? 0 as const
          : policy.cleanupLimit === 0
          ? 1 as const
          : policy.cleanupLimit,
        defaultPartition: wrong === "defaultPartition" ? policy.defaultPartition ?? "enabled" as const : null
      }
    },
    perform: ({ driver, queue }, policy) =>
      driver.setQueuePolicy(queue, {
        defaultPartition: policy.defaultPartition ?? undefined,
        partitionLookahead: span(policy.partitionLookahead),
        partitionLookback: span(policy.partitionLookback),
        cleanupTtl: span(policy.cleanupTtl),
        cleanupLimit: policy.cleanupLimit ?? undefined,
        detachMode: policy.detachMode ?? undefined,
        detachMinAge: span(policy.detachMinAge)
      }).pipe(
        // SQL names the policy as a whole.
        Effect.mapError((error) => error._tag === "InvalidInput" ? { _tag: "InvalidInput", field: "policy" } : error)
      )
  }),
  getPolicy: operation({
    fields: {},
    weight: () => 0.6,
    touches: "nothing",
    perform: ({ driver, queue }) => driver.getQueuePolicy(queue)
  }),
  pause: operation({
    fields: { paused: Schema.Literals([true, false, false, false, false, false]) },
    weight: () => 1.5,
    perform: ({ driver, queue }, { paused }) => driver.setPaused({ queue, paused })
  }),
  cleanupTasks: operation({
    fields: Cleanup,
    weight: ({ open, tasks }) => tasks.length - open.length > 1 ? 2 : 0.3,
    perform: ({ driver, queue }, { limit, millis }) =>
      driver.cleanupTasks({ queue, ttl: Duration.millis(millis), limit })
  }),
  cleanupEvents: operation({
    fields: Cleanup,
    weight: ({ dump }) => dump.events.length > 1 ? 2 : 0.3,
    perform: ({ driver, queue }, { limit, millis }) =>
      driver.cleanupEvents({ queue, ttl: Duration.millis(millis), limit })
  }),
  cleanupAll: operation({
    fields: { all: Schema.Boolean },
    weight: () => 0.7,
    touches: "every queue",
    perform: ({ driver, queue }, { all }) => driver.cleanupAll(all ? null : queue)
  }),
  detach: operation({
    fields: { all: Schema.Boolean },
    weight: () => 0.15,
    touches: "nothing",
    alone: true,
    // Which partitions there are is nothing that stores have in common.
    perform: ({ driver, queue }, { all }) =>
      Effect.all([
        driver.detachPartition({ queue, parent: `t_${queue}`, partition: `t_${queue}_none` }),
        Effect.asVoid(driver.listDetachCandidates(all ? null : queue))
      ])
  }),
  cron: operation({
    fields: { enable: Schema.Boolean, all: Schema.Boolean },
    weight: () => 0.15,
    touches: "nothing",
    // There is no scheduler in either, which each store says in its own words.
    perform: ({ driver, queue }, { all, enable }) => {
      const of = all ? null : queue
      const daily = "5 0 * * *"
      return Effect.mapError(
        enable ? driver.enableCron(of, { partitions: daily, cleanup: daily, detach: daily }) : driver.disableCron(of),
        (error) => error._tag === "InvalidState" ? { _tag: error._tag, id: error.id } : error
      )
    }
  }),
  ensurePartitions: operation({
    fields: {},
    weight: () => 0.15,
    alone: true,
    perform: ({ driver, queue }) => Effect.asVoid(driver.ensurePartitions(queue))
  })
}
