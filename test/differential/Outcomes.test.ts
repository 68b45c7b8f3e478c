/** That what is compared where changes are judged is worth comparing: every operation, applied and refused. */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as Budget from "./Budget.ts"
import { alphabet } from "./Command.ts"
import * as Differential from "./Differential.ts"
import * as Outcomes from "./Outcomes.ts"
import * as Replay from "./Replay.ts"

/** Operations under a claim: about as many of them are applied as are refused. */
const fenced = ["complete", "fail", "checkpoint", "extend", "release", "suspend"]
const refusals = ["leaseLost", "cancelled", "notFound"]

/** How often each outcome is told of at least. */
const least: { readonly [outcome: string]: number } = {
  ...Object.fromEntries(fenced.map((tag) => [`${tag} applied`, 100])),
  ...Object.fromEntries(fenced.map((tag) => [`${tag} leaseLost`, 50])),
  ...Object.fromEntries(fenced.map((tag) => [`${tag} notFound`, 50])),
  ...Object.fromEntries(fenced.map((tag) => [`${tag} cancelled`, 5])),
  "checkpoint existing": 50,
  "suspend sleeps": 300,
  "suspend Waiting": 300,
  "suspend Due": 30,
  "suspend Emitted": 20,
  "suspend TimedOut": 40,
  "suspend Ended": 25,
  "suspend DriverError": 30,
  "spawn created": 1000,
  "spawn found": 200,
  "spawn IdempotencyConflict": 200,
  "spawn NotFound": 30,
  "revisePending revised": 100,
  "revisePending none": 60,
  "claim some": 600,
  "claim none": 300,
  "claimedWith some": 20,
  "claimedWith none": 80,
  "emit woke": 60,
  "emit alone": 80,
  "emit again": 8,
  "readEvent answered": 4,
  "readEvent null": 80,
  "cancelTask cancelled": 80,
  "cancelTask ended before": 8,
  "cancelTask NotFound": 40,
  "cancelRun cancelled": 25,
  "cancelRun ended before": 40,
  "cancelRun NotFound": 60,
  "retryTask created": 15,
  "retryTask found": 10,
  "retryTask InvalidState": 25,
  "retryTask InvalidInput": 1,
  "retryTask NotFound": 40,
  "cleanupTasks some": 50,
  "cleanupTasks none": 50,
  "cleanupEvents some": 15,
  "cleanupEvents none": 30,
  "createQueue InvalidState": 5,
  "setPolicy InvalidInput": 40,
  "setPolicy InvalidState": 8,
  "setPolicy null": 60,
  "pause true": 40,
  "pause false": 100,
  "createWorkflowRun InvalidState": 12,
  "createWorkflowRun null": 150,
  "updateWorkflowRun InvalidState": 25,
  "updateWorkflowRun NotFound": 30,
  "updateWorkflowRun null": 100,
  "cleanupWorkflowRuns some": 12,
  "putSchedule true": 100,
  "putSchedule false": 60,
  "deleteSchedule true": 10,
  "advanceSchedule true": 50,
  "advanceSchedule false": 50,
  "overrideLimit true": 60,
  "overrideLimit false": 10,
  "listLimits some": 100,
  "listLimits waits": 20,
  "listLimits overridden": 20,
  "listLimits none": 25,
  "listLimitKeys answered": 8,
  "heartbeat applied": 50,
  "heartbeat leaseLost": 25,
  "listTasks answered": 60,
  "countTasks good": 4,
  "readEvents answered": 8,
  "detach false": 10,
  "cron InvalidState": 10,
  "together withTransaction committed": 150,
  "together withTransaction undone": 150,
  "together exclusively committed": 35,
  "together exclusively undone": 35,
  "together nested": 100
}

class Counted extends Context.Service<Counted, Outcomes.Counts>()("test/differential/Counted") {}

const counted = Layer.effect(
  Counted,
  Effect.gen(function*() {
    const counts = new Outcomes.Counts()
    yield* Differential.explore(yield* Replay.memory, yield* Replay.memory, {
      seed: Budget.ciSeed,
      operations: Budget.ciOperations,
      told: counts.told
    })
    return counts
  })
)

layer(counted, { timeout: 300_000 })("what is compared", (it) => {
  it.effect("has every outcome, and not by luck", () =>
    Effect.gen(function*() {
      const counts = yield* Counted
      const rare = Object.entries(least).filter(([outcome, count]) => counts.of(outcome) < count)
      assert.deepStrictEqual(rare.map(([outcome, count]) => `${outcome}: ${counts.of(outcome)} < ${count}`), [])
    }))

  it.effect("has every operation of the alphabet", () =>
    Effect.gen(function*() {
      const counts = yield* Counted
      const seen = new Set([...counts.counts.keys()].map((outcome) => outcome.split(" ")[0]))
      assert.deepStrictEqual(Object.keys(alphabet).filter((tag) => !seen.has(tag)), [])
    }))

  it.effect("is applied about as often as it is refused", () =>
    Effect.gen(function*() {
      const counts = yield* Counted
      for (const tag of fenced) {
        const refused = refusals.reduce((sum, refusal) => sum + counts.of(`${tag} ${refusal}`), 0)
        const share = counts.of(`${tag} applied`) / (counts.of(`${tag} applied`) + refused)
        assert.isTrue(share > 1 / 3 && share < 2 / 3, `${tag}: ${share}`)
      }
    }))
})
