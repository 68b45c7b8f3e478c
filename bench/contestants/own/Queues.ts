/** Many queues in one database. */
import { Duration, Effect } from "effect"
import { Absurd, Identifiers, Task } from "effect-absurd"
import type { Pool } from "pg"
import { queue } from "../AbsurdTables.ts"
import type { Own, Runtime } from "./Own.ts"

const Noop = Task.make("noop", { params: {}, queue })

const claim = Effect.gen(function*() {
  const { coalesced, driver } = yield* Absurd.Absurd
  const name = Identifiers.QueueName.make(queue)
  const token = Identifiers.ClaimToken.make("bench")
  yield* Noop.spawn({})
  const [run] = yield* driver.claim({ queue: name, token, lease: Duration.minutes(1), limit: 1 })
  if (run === undefined) return yield* Effect.die(new Error("Nothing was due"))
  yield* coalesced.complete(name, { runId: run.runId, token, result: null })
})

export const claimBeside = (runtime: Runtime, pool: Pool): Own["claimBeside"] => async (queues) => {
  const { rows } = await pool.query<{ count: number }>("select count(*)::int as count from absurd.queues")
  for (let index = rows[0]!.count; index < queues; index++) {
    await runtime.runPromise(Absurd.createQueue(`other_${index}_queue`))
  }
  return () => runtime.runPromise(claim)
}
