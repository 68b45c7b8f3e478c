/**
 * The outside world of the quick start: a payment provider, a warehouse, a mailer, and a log of what they did, which
 * survives the process so that the story can be told to its end.
 */
import { Clock, Console, Context, DateTime, Effect, FileSystem, Layer } from "effect"

export class Story extends Context.Service<Story, {
  readonly tell: (who: string, what: string) => Effect.Effect<void>
  readonly charge: (orderId: string, amount: number) => Effect.Effect<{ readonly id: string; readonly at: Date }>
  readonly reserve: (sku: string) => Effect.Effect<void>
  readonly notify: (orderId: string, paymentId: string, tracking: string) => Effect.Effect<void>
  /** Tells when the wait ends the claim; a wait that is over goes by without a word. */
  readonly suspending: (what: string) => <A, E, R>(wait: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Here the process is killed, if it is to be. */
  readonly betweenSteps: Effect.Effect<void>
}>()("examples/quickstart/Story") {}

export const layer = (options: {
  /** Every act of the outside world is a line in this file. */
  readonly ledger: string
  /** Kill this process, without warning, between the first two steps. */
  readonly crash: boolean
}): Layer.Layer<Story, never, FileSystem.FileSystem> =>
  Layer.effect(
    Story,
    Effect.gen(function*() {
      const files = yield* FileSystem.FileSystem
      const start = yield* Clock.currentTimeMillis
      const tell = (who: string, what: string) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const seconds = ((now - start) / 1000).toFixed(1).padStart(5)
          return Console.log(`${seconds}s  ${who.padEnd(9)} ${what}`)
        })
      const act = (step: string, what: string) =>
        files.writeFileString(options.ledger, `${step}\n`, { flag: "a" }).pipe(
          Effect.orDie,
          Effect.andThen(tell("step", `${step}: ${what}`))
        )
      return Story.of({
        tell,
        charge: (orderId, amount) =>
          act("charge", `took ${amount} cents for order ${orderId}`).pipe(
            Effect.andThen(DateTime.now),
            Effect.map((now) => ({ id: `ch_${orderId}`, at: DateTime.toDateUtc(now) }))
          ),
        reserve: (sku) => act("reserve", `put one ${sku} aside`),
        notify: (orderId, paymentId, tracking) =>
          act("notify", `told the customer of order ${orderId}, paid by ${paymentId}: tracking ${tracking}`),
        suspending: (what) =>
          Effect.onInterrupt(() => tell("worker", `suspended the run for ${what}; nobody holds it now`)),
        betweenSteps: options.crash
          ? Effect.andThen(
            tell("crash", "this worker kills itself with SIGKILL, between two steps"),
            Effect.sync(() => process.kill(process.pid, "SIGKILL"))
          )
          : Effect.void
      })
    })
  )
