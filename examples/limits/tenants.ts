import { Effect, Schema } from "effect"
import { Limit, Step, Task } from "effect-absurd"

/** At most two imports of one tenant at a time. */
export const PerTenant = Limit.make("imports-per-tenant", { concurrency: 2 })

/** At most ten calls a minute for each API key. */
export const PerApiKey = Limit.make("calls-per-api-key", { rate: { limit: 10, window: "1 minute" } })

export const Import = Task.make("import", {
  params: { tenant: Schema.String, file: Schema.String },
  success: Schema.String,
  limit: { with: PerTenant, key: ({ tenant }) => tenant }
})

export const Call = Task.make("call", {
  params: { apiKey: Schema.String },
  limit: { with: PerApiKey, key: ({ apiKey }) => apiKey }
})

export const ImportLive = Import.toLayer(Effect.fn(function*({ file, tenant }) {
  // While it sleeps, other imports of the tenant may run.
  yield* Step.sleep("until the file is complete", "10 minutes")
  return yield* Step.run("read", Effect.succeed(`${file} of ${tenant}`))
}))

export const CallLive = Call.toLayer(() => Effect.void)

/** What an operator does when a large tenant is in a hurry. */
export const hurry = Effect.gen(function*() {
  yield* Limit.override(PerTenant, { concurrency: 20 })
  const largest = yield* Limit.keys(PerTenant, { limit: 3 })
  const all = yield* Limit.list()
  yield* Limit.reset(PerTenant)
  return { largest, all }
})
