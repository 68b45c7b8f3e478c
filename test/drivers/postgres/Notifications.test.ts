/** Listening on a connection that dies without a word, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Stream } from "effect"
import { MemoryDriver } from "effect-absurd"
import type { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Driver } from "../../../src/core/Driver.ts"
import * as Outage from "../../../src/core/Outage.ts"
import * as Signals from "../../../src/core/Signals.ts"
import * as Notifications from "../../../src/drivers/postgres/Notifications.ts"

interface Listener {
  readonly heard: Queue.Queue<{ readonly payload: string }>
  alive: boolean
}

/** A client whose listening connections die when the test says so. What it notifies reaches those that live. */
const makeClient = (config: object = { maxConnections: 4 }) => {
  const listeners: Array<Listener> = []
  const notify = (payload: string) => {
    for (const { alive, heard } of listeners) if (alive) Queue.offerUnsafe(heard, { payload })
  }
  const statement = () => Effect.sync(() => notify("p:"))
  const client = Object.assign(statement, {
    config,
    listen: () =>
      Effect.map(Queue.unbounded<{ readonly payload: string }>(), (heard) => {
        listeners.push({ heard, alive: true })
        return heard
      })
  })
  return { client: client as unknown as SqlClient.SqlClient, listeners, notify }
}

const pass = (seconds: number) => Effect.repeat(TestClock.adjust("1 second"), { times: seconds - 1 })

describe("a listener", () => {
  it.effect("that is silent is given up within fifteen seconds, whenever it dies", () =>
    Effect.gen(function*() {
      for (let second = 0; second < 10; second++) {
        const { client, listeners } = makeClient()
        const fiber = yield* Effect.forkChild(Effect.flip(Stream.runDrain(Notifications.signals(client))))
        yield* pass(second + 1)
        listeners[0]!.alive = false
        yield* pass(15)
        assert.isDefined(fiber.pollUnsafe(), `dead since second ${second}`)
        const error = yield* Fiber.join(fiber)
        assert.include(error.message, "silent")
      }
    }))

  it.effect("that hears is kept, and one that is given up is replaced, and everybody told to look", () =>
    Effect.gen(function*() {
      const { client, listeners, notify } = makeClient()
      const driver: Driver["Service"] = { ...(yield* Driver), signals: Notifications.signals(client) }
      const signals = yield* Signals.make(driver, yield* Outage.make(driver))
      const hints: Array<string> = []
      yield* signals.subscribe((hint) => hints.push(hint._tag))
      yield* pass(600)
      assert.strictEqual(listeners.length, 1)
      // What came before it could hear.
      assert.deepStrictEqual(hints.splice(0), ["Gap"])
      listeners[0]!.alive = false
      notify("w:orders")
      yield* pass(16)
      assert.strictEqual(listeners.length, 2)
      // When the first one was given up, and when the second one could hear.
      assert.deepStrictEqual(hints.splice(0), ["Gap", "Gap"])
      notify("w:orders")
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(hints, ["Work"])
      yield* pass(600)
      assert.strictEqual(listeners.length, 2)
    }).pipe(Effect.provide(MemoryDriver.layer)))

  it.effect("takes no connection of a pool that is small, or whose connections are shared", () =>
    Effect.gen(function*() {
      for (
        const [config, listening] of [
          [{}, 1],
          [{ maxConnections: 3 }, 0],
          [{ maxConnections: 10, multiplex: true }, 0],
          [{ maxConnections: 10, multiplex: false }, 1]
        ] as const
      ) {
        const { client, listeners } = makeClient(config)
        yield* Effect.forkChild(Stream.runDrain(Notifications.signals(client)))
        yield* pass(1)
        assert.strictEqual(listeners.length, listening, JSON.stringify(config))
      }
    }))
})
