import { Effect } from "effect"
import { Worker } from "effect-absurd"

/** Works off what is due, for at most ten rounds: for a function that a timer starts, or a job that ends. */
export const workOff = Effect.gen(function*() {
  let done = 0
  for (let round = 0; round < 10; round++) {
    const results = yield* Worker.runOnce({ queue: "emails", concurrency: 50 })
    if (results.length === 0) break
    done += results.length
  }
  return done
})

/** What an operator does while the mail server is being repaired. */
export const withoutEmails = <A, E, R>(repair: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    yield* Worker.pause("emails")
    const repaired = yield* repair
    const { due, paused } = yield* Worker.load("emails")
    yield* Worker.resume("emails")
    return { repaired, due, paused }
  })
