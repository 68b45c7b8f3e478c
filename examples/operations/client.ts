import { Config, Effect } from "effect"
import { Absurd } from "effect-absurd"

/** One client for the whole program: a layer is built once, however many layers are provided with it. */
export const Client = Absurd.layer

/** The same under other names of variables. */
export const Named = Absurd.layerConfig({
  queue: Config.String("MAIL_QUEUE"),
  workerId: Config.String("HOSTNAME").pipe(Config.withDefault("mailer"))
})

/** Without a database, and with options in the program. */
export const Tests = Absurd.layerMemoryWith({ queue: "emails" })

/** The queue is there before anything that is provided with this. */
export const Queues = Absurd.layerQueue("emails")

/** Spawns on the client's own queue. */
export const example = Effect.gen(function*() {
  const { taskId } = yield* Absurd.spawnTask("send-email", { to: "ada@example.com" })
  const [run] = yield* Absurd.claimTask()
  const queues = yield* Absurd.listQueues
  return { taskId, run: run!, queues }
}).pipe(Effect.provide(Queues))
