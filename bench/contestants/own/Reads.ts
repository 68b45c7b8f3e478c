/** What it takes to resume. */
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Layer, Logger, Redacted, Schema } from "effect"
import { Absurd, Driver, Event, PostgresDriver, Step, Task, Worker } from "effect-absurd"
import { queue } from "../AbsurdTables.ts"
import type { Own } from "./Own.ts"

const Go = Event.make("go", { queue })
const Long = Task.make("long", { params: { count: Schema.Int }, queue })

/** Tells the name of each call before it is made. */
const watched = (driver: Driver.Driver["Service"], onCall: (name: string) => void): Driver.Driver["Service"] =>
  new Proxy(driver, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== "function") return member
      return (...args: ReadonlyArray<unknown>): unknown => {
        onCall(String(name))
        return Reflect.apply(member, target, args)
      }
    }
  })

/** The calls between the claim of the task, which is one of them, and its last line. */
export const reads = (url: string): Own["reads"] => (checkpoints) => {
  let calls = 0
  const driver = Layer.effect(
    Driver.Driver,
    Effect.map(PostgresDriver.make({ notifications: false }), (driver) => watched(driver, () => calls++))
  )
  const program = Effect.gen(function*() {
    const ended = yield* Deferred.make<number>()
    const handler = Long.toLayer(Effect.fnUntraced(function*({ count }) {
      for (let index = 0; index < count; index++) yield* Step.run(`step ${index}`, Effect.succeed(index))
      yield* Go.wait("")
      yield* Effect.suspend(() => Deferred.succeed(ended, calls))
    }))
    yield* Long.spawn({ count: checkpoints })
    yield* Effect.provide(Worker.runOnce(), handler)
    yield* Go.emit("", undefined)
    calls = 0
    yield* Effect.provide(Worker.runOnce(), handler)
    return yield* Deferred.await(ended)
  })
  return Effect.runPromise(program.pipe(
    Effect.provide(
      Absurd.layerDriver({ queue }).pipe(
        Layer.provide(driver),
        Layer.provide(PgClient.layer({ url: Redacted.make(url) })),
        Layer.provide(Logger.layer([]))
      )
    )
  ))
}
