import { Duration, Effect } from "effect"
import { Absurd } from "effect-absurd"

/** Queues, their policies, and their upkeep. */
export const example = Effect.gen(function*() {
  yield* Absurd.createQueue("emails")
  yield* Absurd.createQueue("events", { storage: "partitioned" })
  const queues = yield* Absurd.listQueues

  yield* Absurd.setQueuePolicy("events", { cleanupTtl: Duration.days(14), detachMode: "empty" })
  const policy = yield* Absurd.getQueuePolicy("events")

  yield* Absurd.ensurePartitions("events")
  const candidates = yield* Absurd.listDetachCandidates("events")
  const detached = yield* Absurd.detachPartitions("events")
  const cleaned = yield* Absurd.cleanupAll("events")

  // Needs PostgreSQL's extension pg_cron.
  const enabled = yield* Effect.exit(Absurd.enableCron({ queue: "events", cleanup: "*/10 * * * *" }))
  const disabled = yield* Effect.exit(Absurd.disableCron("events"))

  yield* Absurd.dropQueue("events")
  yield* Absurd.dropQueue("emails")
  return { queues, policy, candidates, detached, cleaned, enabled, disabled }
})
