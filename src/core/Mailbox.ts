/**
 * Mailboxes: many messages to one task, each taken once, in the order in which they were sent.
 *
 * A message is an event of the task's queue, `$mail:` with the task's id, the mailbox's name and the message's number behind
 * it; so it is stored like an event, cleaned up like one, and wakes the task in the commit in which it is sent. Which number
 * comes next is settled by the store: the first write of a number wins, and whoever comes second takes the next number.
 *
 * @since 0.1.0
 */
import { type Duration, Effect, Pipeable, Schema } from "effect"
import type { Absurd } from "./Absurd.ts"
import type { CurrentRun } from "./CurrentRun.ts"
import type { DriverError, InvalidInput, NotFound, Timeout } from "./Errors.ts"
import * as Input from "./Input.ts"
import * as Mail from "./Mail.ts"
import * as Stored from "./Stored.ts"

const TypeId = "~effect-absurd/core/Mailbox"

/**
 * Who a message is for: a task by its id, in the mailbox's queue, or by its handle.
 *
 * @since 0.1.0
 * @category models
 */
export type Recipient = string | { readonly taskId: string; readonly queue: string }

/**
 * How a message is sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface SendOptions {
  /**
   * Makes it safe to send again what may have been sent: a message with the same id, at most 256 characters, is sent to the
   * mailbox once. It costs a look at each message that was sent before.
   */
  readonly id?: string | undefined
}

/**
 * Why a message could not be sent. `NotFound` is about the queue or the task.
 *
 * @since 0.1.0
 * @category models
 */
export type SendError = InvalidInput | NotFound | DriverError

/**
 * A mailbox that every task may have.
 *
 * @since 0.1.0
 * @category models
 */
export interface Mailbox<Name extends string, P extends Schema.Constraint> extends Pipeable.Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: Name
  readonly payload: P

  /**
   * Puts a message behind all that were sent before. Returns false, and stores nothing, when the task has ended already.
   *
   * Inside a task it is a step: it is sent once, whatever happens to the sender. Inside a transaction of the store it is
   * sent when that commits. Otherwise, when the store's answer was lost (`DriverError` with the reason `OutcomeUnknown`), it
   * may have been sent; give it an id to send it again.
   */
  readonly send: (
    to: Recipient,
    payload: P["Type"],
    options?: SendOptions
  ) => Effect.Effect<boolean, SendError, Absurd | P["EncodingServices"]>

  /**
   * Takes the next message, inside the task: waits for it durably, as long as it takes, and returns the same one in every
   * replay. A message that is being waited for when the wait is given up (by `Step.race` or `Step.timeout`) is there for
   * the next take.
   *
   * A message that does not fit the schema fails the run (with `DecodeError`), not the worker.
   */
  readonly take: Effect.Effect<P["Type"], never, CurrentRun | P["DecodingServices"]>
}

/**
 * A message that wants an answer.
 *
 * @since 0.1.0
 * @category models
 */
export interface Request<P extends Schema.Constraint, R extends Schema.Constraint> {
  readonly payload: P["Type"]
  /** Answers. The first answer stays: returns false, and changes nothing, when there was one. */
  readonly reply: (
    answer: R["Type"]
  ) => Effect.Effect<boolean, InvalidInput | NotFound | DriverError, Absurd | R["EncodingServices"]>
}

/**
 * A mailbox whose messages want answers.
 *
 * @since 0.1.0
 * @category models
 */
export interface RequestMailbox<Name extends string, P extends Schema.Constraint, R extends Schema.Constraint>
  extends Pipeable.Pipeable
{
  readonly [TypeId]: typeof TypeId
  readonly name: Name
  readonly payload: P
  readonly reply: R

  /**
   * Sends a message and waits for the answer. Inside a task both are durable: it is asked once, and the waiting task holds
   * no worker. Fails with `NotFound` when the task has ended or does not exist, and with `Timeout` when there is no answer
   * after `timeout`, which is counted from the first time on; no limit by default.
   */
  readonly ask: (
    to: Recipient,
    payload: P["Type"],
    options?: { readonly timeout?: Duration.Input | undefined }
  ) => Effect.Effect<R["Type"], SendError | Timeout, Absurd | P["EncodingServices"] | R["DecodingServices"]>

  /** Takes the next message, inside the task. See {@link Mailbox}. */
  readonly take: Effect.Effect<Request<P, R>, never, CurrentRun | P["DecodingServices"]>
}

/**
 * Defines a mailbox. Its name is at most 200 bytes long.
 *
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Mailbox, Task } from "effect-absurd"
 *
 * const Added = Mailbox.make("added", { payload: Schema.Struct({ sku: Schema.String }) })
 *
 * const Cart = Task.make("cart", { params: {}, success: Schema.Array(Schema.String) })
 *
 * const CartLive = Cart.toLayer(Effect.fn(function*() {
 *   const skus: Array<string> = []
 *   while (skus.length < 3) skus.push((yield* Added.take).sku)
 *   return skus
 * }))
 *
 * const program = Effect.gen(function*() {
 *   const cart = yield* Cart.spawn({})
 *   yield* Added.send(cart, { sku: "widget" })
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <const Name extends string, P extends Schema.Constraint = typeof Schema.Void>(
  name: Name,
  options?: {
    /** The schema of the messages; `Schema.Void` by default. */
    readonly payload?: P | undefined
    /** The queue of tasks that are named by their ids; the client's own by default. */
    readonly queue?: string | undefined
  }
): Mailbox<Name, P> => {
  const payload = (options?.payload ?? Schema.Void) as P
  const codec = Stored.codec(`message of mailbox "${name}"`, payload)
  return {
    ...Pipeable.Prototype,
    [TypeId]: TypeId,
    name,
    payload,
    send: Effect.fn("Mailbox.send")(function*(to: Recipient, value: P["Type"], sendOptions?: SendOptions) {
      const address = yield* Mail.addressOf(name, to, options?.queue)
      const id = sendOptions?.id === undefined ? undefined : yield* checkId(sendOptions.id)
      return yield* Mail.post(address, {
        ...(id === undefined ? {} : { id }),
        message: yield* codec.encode(value)
      })
    }),
    take: Effect.flatMap(Mail.takeNext(name), ({ message }) => Effect.orDie(codec.decode(message)))
  }
}

/**
 * Defines a mailbox whose messages want answers. Its name is at most 200 bytes long.
 *
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Mailbox, Task } from "effect-absurd"
 *
 * const Price = Mailbox.requests("price", { payload: Schema.String, reply: Schema.Int })
 *
 * const Shop = Task.make("shop", { params: {} })
 *
 * const ShopLive = Shop.toLayer(Effect.fn(function*() {
 *   const request = yield* Price.take
 *   yield* Effect.orDie(request.reply(request.payload.length * 100))
 * }))
 *
 * const program = Effect.gen(function*() {
 *   const shop = yield* Shop.spawn({})
 *   return yield* Price.ask(shop, "widget", { timeout: "1 minute" })
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const requests = <const Name extends string, P extends Schema.Constraint, R extends Schema.Constraint>(
  name: Name,
  options: {
    /** The schema of the messages. */
    readonly payload: P
    /** The schema of the answers. */
    readonly reply: R
    /** The queue of tasks that are named by their ids; the client's own by default. */
    readonly queue?: string | undefined
  }
): RequestMailbox<Name, P, R> => {
  const codec = Stored.codec(`message of mailbox "${name}"`, options.payload)
  const replyCodec = Stored.codec(`reply of mailbox "${name}"`, options.reply)
  return {
    ...Pipeable.Prototype,
    [TypeId]: TypeId,
    name,
    payload: options.payload,
    reply: options.reply,
    ask: Effect.fn("Mailbox.ask")(function*(
      to: Recipient,
      value: P["Type"],
      askOptions?: { readonly timeout?: Duration.Input | undefined }
    ) {
      const address = yield* Mail.addressOf(name, to, options.queue)
      const timeout = askOptions?.timeout === undefined
        ? undefined
        : yield* Input.duration("timeout", askOptions.timeout)
      const stored = yield* Mail.request(address, yield* codec.encode(value), timeout)
      return yield* Effect.orDie(replyCodec.decode(stored))
    }),
    take: Effect.flatMap(
      Mail.takeNext(name),
      ({ message, replyTo }) =>
        Effect.map(Effect.orDie(codec.decode(message)), (payload): Request<P, R> => ({
          payload,
          reply: (answer) =>
            Effect.flatMap(
              replyCodec.encode(answer),
              (encoded) => replyTo === undefined ? Effect.succeed(false) : Mail.answerTo(replyTo, encoded)
            )
        }))
    )
  }
}

// --- internal

const checkId = Input.check("id", Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(256)))
