import { Effect } from "effect"
import { Absurd } from "effect-absurd"

/** Spawning tasks by name; typed definitions (`Task.make`) do the same with schemas. */
export const example = Effect.gen(function*() {
  const order = yield* Absurd.spawnTask("fulfil-order", { orderId: "42" }, {
    idempotencyKey: "order-42",
    headers: { tenant: "acme" },
    maxAttempts: 10,
    delay: "5 seconds"
  })
  // The key is taken: this is the same task.
  const again = yield* Absurd.spawnTask("fulfil-order", { orderId: "42" }, { idempotencyKey: "order-42" })

  // Many in one round trip, all or none.
  const emails = yield* Absurd.spawnTasks([
    { name: "send-email", params: { to: "ada@example.com" } },
    { name: "send-email", params: { to: "bob@example.com" } }
  ])

  const retried = yield* Absurd.spawnRetryTask("call-carrier", null, {
    maxAttempts: 5,
    base: "10 seconds",
    max: "1 hour"
  })
  const limited = yield* Absurd.spawnCancellableTask("quote", null, { maxDelay: "1 hour", maxDuration: "1 day" })

  // A burst of calls starts one task, five seconds after the last of them, with the last params.
  const index = (version: number) =>
    Absurd.replaceTask("index-page", { version }, { idempotencyKey: "page-7", delay: "5 seconds" })
  yield* index(1)
  const replaced = yield* index(2)

  const found = yield* Absurd.findTask("order-42")
  return { order, again, emails, retried, limited, replaced, found }
})
