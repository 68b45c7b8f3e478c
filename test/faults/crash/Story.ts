/** The task of the crash test: six steps, with a sleep and a wait for an event between them. */
import { Effect, Schema } from "effect"
import { Event, RetryStrategy, Step, Task } from "effect-absurd"

export const queue = "crash"

export const Go = Event.make("go", { queue, payload: Schema.Int })

export const Journey = Task.make("journey", {
  queue,
  params: { n: Schema.Int, waits: Schema.Boolean },
  success: Schema.Int,
  maxAttempts: 1000,
  retry: RetryStrategy.none,
  idempotencyKey: ({ n }) => String(n)
})

export const layer = (write: (line: string) => Effect.Effect<void>) =>
  Journey.toLayer(Effect.fn(function*({ n, waits }) {
    const step = (name: string) =>
      Step.run(
        name,
        Effect.andThen(write(`begin ${process.pid} ${n} ${name}`), Effect.as(Effect.sleep("5 millis"), n))
      ).pipe(
        Effect.tap(write(`done ${process.pid} ${n} ${name}`))
      )
    yield* step("one")
    yield* step("two")
    yield* Step.sleep("nap", "50 millis")
    yield* step("three")
    if (waits) yield* write(`got ${process.pid} ${n} ${yield* Go.wait(String(n))}`)
    yield* step("four")
    yield* step("five")
    yield* step("six")
    return n
  }))
