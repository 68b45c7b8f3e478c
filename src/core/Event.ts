/**
 * Definitions of events: a name and the schema of the payload.
 *
 * An event is emitted once per key and queue, and keeps its first payload. Whoever waits for it is woken; whoever waits
 * later finds it.
 *
 * @since 0.1.0
 */
import { type Duration, Effect, Pipeable, Schema } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import { CurrentRun } from "./CurrentRun.ts"
import { type DriverError, InvalidInput, type NotFound, Timeout } from "./Errors.ts"
import { CheckpointName, EventName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Stored from "./Stored.ts"

const TypeId = "~effect-absurd/core/Event"

/**
 * A definition of an event.
 *
 * @since 0.1.0
 * @category models
 */
export interface Event<Name extends string, P extends Schema.Constraint> extends Pipeable.Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: Name
  readonly payload: P

  /** The name under which the event of `key` is stored: `name:key`, or just the name for an empty key. */
  readonly nameOf: (key: string) => string

  /**
   * Emits the event of `key`. Returns false, and changes nothing, when it had been emitted before.
   */
  readonly emit: (
    key: string,
    payload: P["Type"]
  ) => Effect.Effect<boolean, InvalidInput | NotFound | DriverError, Absurd | P["EncodingServices"]>

  /**
   * Waits, inside a task, for the event of `key` in the queue of the task. A waiting task holds no worker; it may wait for
   * years. With a `timeout`, rounded up to whole seconds and counted from the first time the task waits here, it fails
   * with `Timeout`; and once it has, every replay does.
   *
   * A payload that does not fit the schema fails the run (with `DecodeError`), not the worker.
   */
  readonly wait: {
    (key: string): Effect.Effect<P["Type"], never, CurrentRun | P["DecodingServices"]>
    (
      key: string,
      options: { readonly timeout: Duration.Input }
    ): Effect.Effect<P["Type"], Timeout, CurrentRun | P["DecodingServices"]>
  }
}

/**
 * Defines an event.
 *
 * ```ts
 * import { Schema } from "effect"
 * import { Event } from "effect-absurd"
 *
 * const Packed = Event.make("shipment.packed", {
 *   payload: Schema.Struct({ tracking: Schema.String })
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <const Name extends string, P extends Schema.Constraint = typeof Schema.Void>(
  name: Name,
  options?: {
    /** The schema of the payload; `Schema.Void` by default. */
    readonly payload?: P | undefined
    /** The queue that `emit` emits to; the client's own by default. */
    readonly queue?: string | undefined
  }
): Event<Name, P> => {
  const payload = (options?.payload ?? Schema.Void) as P
  const codec = Stored.codec(`payload of event "${name}"`, payload)
  const nameOf = (key: string) => key === "" ? name : `${name}:${key}`
  return {
    ...Pipeable.Prototype,
    [TypeId]: TypeId,
    name,
    payload,
    nameOf,
    emit: Effect.fn("Event.emit")(function*(key: string, value: P["Type"]) {
      const { driver } = yield* Absurd
      const { emitted } = yield* driver.emit({
        queue: yield* resolveQueue(options?.queue),
        event: yield* checkEvent(nameOf(key)),
        payload: yield* codec.encode(value)
      })
      return emitted
    }),
    wait: ((key: string, waitOptions?: { readonly timeout: Duration.Input }) =>
      Effect.flatMap(
        waitFor(nameOf(key), waitOptions?.timeout),
        (stored) => Effect.orDie(codec.decode(stored))
      )) as Event<Name, P>["wait"]
  }
}

/**
 * Waits, inside a task, for an event by its full name, and returns the encoded payload.
 *
 * @since 0.1.0
 * @category combinators
 */
export const waitFor = (
  event: string,
  timeout: Duration.Input | undefined
): Effect.Effect<Schema.Json, Timeout, CurrentRun> =>
  Effect.gen(function*() {
    const run = yield* CurrentRun
    const name = yield* Effect.orDie(checkEvent(event))
    const limit = timeout === undefined ? null : yield* Effect.orDie(Input.duration("timeout", timeout))
    // SDKs in other languages wait under this name, so a task may move between them.
    const over = yield* run.named(`$awaitEvent:${name}`, (step) =>
      run.wait({ _tag: "Event", step: CheckpointName.make(step), event: name, timeout: limit }))
    return over._tag === "Emitted" ? over.payload : yield* new Timeout({ subject: `event "${name}"` })
  })

// --- internal

const checkEvent = Input.check("event", EventName)
