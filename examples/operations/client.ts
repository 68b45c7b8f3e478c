import { Config, Effect, Layer } from "effect"
import { Absurd, PostgresDriver } from "effect-absurd"

/** One client for the whole program: a layer is built once, however many layers are provided with it. */
export const Client = Absurd.layer

/** The same under other names of variables. */
export const Named = Absurd.layerConfig({
  queue: Config.String("MAIL_QUEUE"),
  workerId: Config.String("HOSTNAME").pipe(Config.withDefault("mailer"))
})

/** By options of the program. */
export const ByOptions = Absurd.layerWith({ queue: "emails", workerId: "mailer" })

/** On a driver with settings of its own: this one works behind a pooler that knows no LISTEN. */
export const Polling = Absurd.layerDriver({ queue: "emails" }).pipe(
  Layer.provide(PostgresDriver.layerWith({ notifications: false }))
)

/** Without a database. */
export const Tests = Absurd.layerMemoryWith({ queue: "emails" })

/** The same with the default queue, `absurd_default`. */
export const PlainTests = Absurd.layerMemory

/** The queue is there before anything that is provided with this. */
export const Queues = Absurd.layerQueue("emails")

/** Spawns on the client's own queue. */
export const example = Effect.gen(function*() {
  const { taskId } = yield* Absurd.spawnTask("send-email", { to: "ada@example.com" })
  const [run] = yield* Absurd.claimTask()
  const queues = yield* Absurd.listQueues
  // Both emails or none.
  const undone = yield* Effect.flip(Absurd.withTransaction(Effect.gen(function*() {
    yield* Absurd.spawnTask("send-email", { to: "bob@example.com" })
    yield* Absurd.spawnTask("send-email", { to: "nobody", copies: Number.NaN })
  })))
  const others = yield* Absurd.claimTask()
  return { taskId, run: run!, queues, undone: undone._tag, others }
}).pipe(Effect.provide(Queues))
