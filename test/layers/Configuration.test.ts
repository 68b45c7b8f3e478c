/** What the client and the worker read from the configuration. */
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer, Schema, Stream } from "effect"
import { Absurd, Task, Worker } from "effect-absurd"
import * as TestPostgres from "../support/Postgres.ts"

type Values = { readonly [name: string]: unknown }

const configured = (values: Values) => ConfigProvider.layer(ConfigProvider.fromUnknown(values))

/** What a client made under these values goes by. */
const clientOf = <E>(subject: Layer.Layer<Absurd.Absurd, E>, values: Values) =>
  Effect.map(Absurd.Absurd, ({ defaultQueue, workerId }) => [defaultQueue as string, workerId as string]).pipe(
    Effect.provide(Layer.provide(subject, configured(values)))
  )

const environment = Layer.provide(Absurd.layer, TestPostgres.layer())

const named = Layer.provide(
  Absurd.layerConfig({ queue: Config.String("QUEUE"), workerId: Config.String("HOST") }),
  TestPostgres.layer()
)

describe("Absurd.layer", () => {
  it.effect("has names of its own in an empty environment", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* clientOf(environment, {}), ["absurd_default", "worker"])
    }))

  it.effect("works on ABSURD_DEFAULT_QUEUE, as ABSURD_WORKER_ID", () =>
    Effect.gen(function*() {
      yield* Absurd.createQueue("emails")
      const spawned = yield* Absurd.spawnTask("send", null)
      const [run] = yield* Absurd.claimTask()
      assert.strictEqual(run?.queue, "emails")
      const stored = yield* Absurd.getRunStatus(spawned.runId, { queue: "emails" })
      assert.match(stored.claimedBy ?? "", /^mailer-1:/)
    }).pipe(Effect.provide(
      Layer.provide(environment, configured({ ABSURD_DEFAULT_QUEUE: "emails", ABSURD_WORKER_ID: "mailer-1" }))
    )))

  it.effect.each([["ABSURD_DEFAULT_QUEUE", "queue", "x".repeat(58)], ["ABSURD_WORKER_ID", "workerId", " "]] as const)(
    "refuses a bad %s",
    ([name, field, value]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(clientOf(environment, { [name]: value }))
        assert.deepInclude(error, { _tag: "InvalidInput", field })
      })
  )
})

describe("Absurd.layerConfig", () => {
  it.effect("reads what it is told to read", () =>
    Effect.gen(function*() {
      const values = { QUEUE: "orders", HOST: "host-7", ABSURD_DEFAULT_QUEUE: "emails" }
      assert.deepStrictEqual(yield* clientOf(named, values), ["orders", "host-7"])
    }))

  it.effect("listens for hints, unless it is told not to", () =>
    Effect.gen(function*() {
      const subject = Layer.provide(
        Absurd.layerConfig({ notifications: Config.Boolean("LISTEN") }),
        TestPostgres.layer()
      )
      const isSilent = (values: Values) =>
        Absurd.Absurd.useSync(({ driver }) => driver.signals === Stream.never).pipe(
          Effect.provide(Layer.provide(subject, configured(values)))
        )
      assert.isTrue(yield* isSilent({ LISTEN: "false" }))
      assert.isFalse(yield* isSilent({ LISTEN: "true" }))
    }))

  it.effect("fails with ConfigError when something is missing, and with InvalidInput when it is bad", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Effect.flip(clientOf(named, { QUEUE: "orders" })))._tag, "ConfigError")
      const bad = yield* Effect.flip(clientOf(named, { QUEUE: " ", HOST: "host-7" }))
      assert.deepInclude(bad, { _tag: "InvalidInput", field: "queue" })
    }))
})

describe("Worker.layerConfig", () => {
  const worker = (values: Values) =>
    Worker.layerConfig({ queue: Config.String("QUEUE"), concurrency: Config.Int("CONCURRENCY") }).pipe(
      Layer.provide(configured(values))
    )

  it.live("works as it is told to", () =>
    Effect.gen(function*() {
      yield* Absurd.createQueue("orders")
      const Double = Task.make("double", { queue: "orders", params: Schema.Int, success: Schema.Int })
      const live = worker({ QUEUE: "orders", CONCURRENCY: "3" }).pipe(
        Layer.provide(Double.toLayer((n) => Effect.succeed(2 * n)))
      )
      const doubled = yield* Effect.flatMap(Double.spawn(21), (task) => task.await).pipe(Effect.provide(live))
      assert.strictEqual(doubled, 42)
    }).pipe(Effect.provide(Absurd.layerMemory)))

  it.effect("fails with ConfigError for what is missing or no number, and with InvalidInput for what is bad", () =>
    Effect.gen(function*() {
      const errorOf = (values: Values) => Effect.flip(Effect.scoped(Layer.build(worker(values))))
      assert.strictEqual((yield* errorOf({ QUEUE: "orders" }))._tag, "ConfigError")
      assert.strictEqual((yield* errorOf({ QUEUE: "orders", CONCURRENCY: "many" }))._tag, "ConfigError")
      const bad = yield* errorOf({ QUEUE: "orders", CONCURRENCY: "0" })
      assert.deepInclude(bad, { _tag: "InvalidInput", field: "concurrency" })
    }).pipe(Effect.provide(Absurd.layerMemory)))
})
