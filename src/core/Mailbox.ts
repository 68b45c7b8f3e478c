/**
 * Mailboxes: many messages to one task, each taken once, in the order in which they were sent.
 *
 * A message is an event of the task's queue, `$mail:` with the task's id, the mailbox's name and the message's number behind
 * it; so it is stored like an event, cleaned up like one, and wakes the task in the commit in which it is sent. Which number
 * comes next is settled by the store: the first write of a number wins, and whoever comes second takes the next number.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Option, Pipeable, Schedule, Schema } from "effect"
import { SecureRandom } from "effect/crypto"
import { Absurd, resolveQueue } from "./Absurd.ts"
import { CurrentRun } from "./CurrentRun.ts"
import { DriverError, InvalidInput, NotFound, Timeout } from "./Errors.ts"
import { CheckpointName, EventName, isTerminal, MailboxName, type QueueName, TaskId } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Race from "./Race.ts"
import { atEndOfHistory } from "./Replay.ts"
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
      const address = yield* addressOf(name, to, options?.queue)
      const id = sendOptions?.id === undefined ? undefined : yield* checkId(sendOptions.id)
      return yield* post(address, {
        ...(id === undefined ? {} : { id }),
        message: yield* codec.encode(value)
      })
    }),
    take: Effect.flatMap(takeNext(name), ({ message }) => Effect.orDie(codec.decode(message)))
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
      const address = yield* addressOf(name, to, options.queue)
      const timeout = askOptions?.timeout === undefined
        ? undefined
        : yield* Input.duration("timeout", askOptions.timeout)
      const stored = yield* request(address, yield* codec.encode(value), timeout)
      return yield* Effect.orDie(replyCodec.decode(stored))
    }),
    take: Effect.flatMap(
      takeNext(name),
      ({ message, replyTo }) =>
        Effect.map(Effect.orDie(codec.decode(message)), (payload): Request<P, R> => ({
          payload,
          reply: (answer) =>
            Effect.flatMap(
              replyCodec.encode(answer),
              (encoded) => replyTo === undefined ? Effect.succeed(false) : answerTo(replyTo, encoded)
            )
        }))
    )
  }
}

// --- internal

const checkTaskId = Input.check("to", TaskId)
const checkName = Input.check("mailbox", MailboxName)
const checkId = Input.check("id", Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(256)))

/** What is stored as the payload of a message's event. */
const Envelope = Schema.Struct({
  id: Schema.optionalKey(Schema.String),
  message: Schema.Json,
  replyTo: Schema.optionalKey(Schema.Struct({ queue: Schema.String, event: Schema.String }))
})
type Envelope = typeof Envelope.Type
const decodeEnvelope = Schema.decodeUnknownEffect(Envelope)
const encodeEnvelope = ({ id, message, replyTo }: Envelope): Schema.Json => ({
  ...(id === undefined ? {} : { id }),
  message,
  ...(replyTo === undefined ? {} : { replyTo: { queue: replyTo.queue, event: replyTo.event } })
})

interface Address {
  readonly queue: QueueName
  readonly taskId: TaskId
  readonly mailbox: MailboxName
}

const addressOf = Effect.fnUntraced(function*(mailbox: string, to: Recipient, queue: string | undefined) {
  const [taskId, own] = typeof to === "string" ? [to, queue] : [to.taskId, to.queue]
  const address: Address = {
    mailbox: yield* checkName(mailbox),
    taskId: yield* checkTaskId(taskId),
    queue: yield* resolveQueue(own)
  }
  return address
})

const eventOf = ({ mailbox, taskId }: Address, n: number) => EventName.make(`$mail:${taskId}:${mailbox}:${n}`)

/** The checkpoint that receives message `n`, in the task that takes it. */
const slotOf = (mailbox: MailboxName, n: number) => CheckpointName.make(`$mail:${mailbox}:${n}`)

/** Sends once: inside a task as a step of it, inside a transaction as a part of that. */
const post = (address: Address, envelope: Envelope): Effect.Effect<boolean, NotFound | DriverError, Absurd> =>
  Effect.flatMap(Effect.serviceOption(CurrentRun), (current) => {
    if (Option.isNone(current) || current.value.transacting) return append(address, envelope)
    const run = current.value
    return run.named(`$send:${address.mailbox}`, (step) => {
      const stored = run.recall(step)
      if (stored !== undefined) return Effect.succeed(stored === true)
      return Effect.map(
        atEndOfHistory(run.transact(step, append(address, envelope))),
        (sent) => sent === true
      )
    })
  })

const append = Effect.fnUntraced(function*(address: Address, envelope: Envelope) {
  const { driver } = yield* Absurd
  const { queue, taskId } = address
  const task = yield* driver.getTask({ queue, taskId })
  if (task === undefined) return yield* new NotFound({ kind: "task", id: taskId })
  if (isTerminal(task.state)) return false
  const payload = encodeEnvelope(envelope)
  const first = envelope.id === undefined ? yield* firstFree(address) : 1
  for (let n = first;; n++) {
    if (envelope.id !== undefined) {
      const sent = yield* sentAs(address, n)
      if (sent !== undefined) {
        if (sent.id === envelope.id) return true
        continue
      }
    }
    const { emitted } = yield* driver.emit({ queue, event: eventOf(address, n), payload })
    if (emitted) return true
    // Somebody else was first; it may even have been this message.
    if (envelope.id !== undefined) n--
  }
})

/** Message `n`, from its event or, once that has been cleaned up, from the task that has taken it. */
const sentAs = Effect.fnUntraced(function*(address: Address, n: number) {
  const { driver } = yield* Absurd
  const { mailbox, queue, taskId } = address
  const event = yield* driver.readEvent({ queue, event: eventOf(address, n) })
  if (event !== undefined) return yield* Effect.orDie(decodeEnvelope(event.payload))
  const [taken] = yield* driver.getCheckpoints({ queue, taskId, name: slotOf(mailbox, n), includePending: false })
  return taken === undefined ? undefined : yield* Effect.orDie(decodeEnvelope(taken.state))
})

/** The first number that no message has, found in logarithmically many looks: the numbers have no gaps. */
const firstFree = Effect.fnUntraced(function*(address: Address) {
  const isTaken = (n: number) => Effect.map(sentAs(address, n), (sent) => sent !== undefined)
  let taken = 0
  let free = 1
  while (yield* isTaken(free)) {
    taken = free
    free *= 2
  }
  while (free - taken > 1) {
    const middle = Math.floor((taken + free) / 2)
    if (yield* isTaken(middle)) taken = middle
    else free = middle
  }
  return free
})

/**
 * Takes the next message of a mailbox.
 *
 * Its step remembers the number, so a replay takes the same message again. Among those that are waiting at one time each
 * waits for a number of its own. A number that was taken by the loser of a durable race is free again, for in a replay the
 * loser is not executed.
 */
const takeNext = (mailbox: string): Effect.Effect<Envelope, never, CurrentRun> =>
  Effect.gen(function*() {
    const run = yield* CurrentRun
    const name = yield* Effect.orDie(checkName(mailbox))
    const takers = takersOf(run, name)
    return yield* run.named(`$take:${name}`, (step) =>
      Effect.gen(function*() {
        const known = run.recall(step)
        if (typeof known === "number") {
          takers.set(known, step)
          const stored = run.recall(slotOf(name, known))
          if (stored !== undefined) return yield* Effect.orDie(decodeEnvelope(stored))
        }
        const n = typeof known === "number" ? known : nextOf(run, takers)
        takers.set(n, step)
        const { taskId } = run
        const event = eventOf({ taskId, mailbox: name, queue: run.queue }, n)
        const over = yield* run.wait({ _tag: "Event", step: slotOf(name, n), event, timeout: null }).pipe(
          Effect.onInterrupt(() => Effect.sync(() => takers.delete(n)))
        )
        if (over._tag !== "Emitted") return yield* Effect.die(new Error(`A message cannot end as ${over._tag}`))
        yield* run.remember(step, n)
        return yield* Effect.orDie(decodeEnvelope(over.payload))
      }))
  })

/** Who has taken, or waits for, which number, in this execution. */
type Takers = Map<number, CheckpointName>

const takersOf = (run: CurrentRun["Service"], mailbox: MailboxName): Takers => {
  const key = `mailbox:${mailbox}`
  const known = run.notes.get(key) as Takers | undefined
  const takers: Takers = known ?? new Map()
  run.notes.set(key, takers)
  return takers
}

const nextOf = (run: CurrentRun["Service"], takers: Takers): number => {
  for (let n = 1;; n++) {
    const taker = takers.get(n)
    if (taker === undefined || Race.hasLost(run, taker)) return n
  }
}

/** Asks, and waits for what is answered. */
const request = (
  address: Address,
  message: Schema.Json,
  timeout: Duration.Duration | undefined
): Effect.Effect<Schema.Json, SendError | Timeout, Absurd> =>
  Effect.flatMap(Effect.serviceOption(CurrentRun), (current) =>
    Option.isSome(current)
      ? requestWithin(current.value, address, message, timeout)
      : requestOutside(address, message, timeout))

const requestWithin = (
  run: CurrentRun["Service"],
  address: Address,
  message: Schema.Json,
  timeout: Duration.Duration | undefined
) =>
  run.named(`$ask:${address.mailbox}`, (step) =>
    Effect.gen(function*() {
      // The checkpoint's name may be longer than an event's.
      const event = yield* Effect.orDie(checkReply(`$reply:${run.taskId}:${step}`))
      yield* sendRequest(address, message, { queue: run.queue, event })
      const slot = CheckpointName.make(step)
      const over = yield* run.wait({ _tag: "Event", step: slot, event, timeout: timeout ?? null })
      return over._tag === "Emitted" ? over.payload : yield* new Timeout({ subject: `reply of "${address.mailbox}"` })
    }), "group")

const requestOutside = (address: Address, message: Schema.Json, timeout: Duration.Duration | undefined) =>
  Effect.gen(function*() {
    const { driver } = yield* Absurd
    const event = EventName.make(`$reply:${SecureRandom.uuidV7Unsafe()}`)
    const { queue } = address
    yield* sendRequest(address, message, { queue, event })
    const answered = Effect.flatMap(
      driver.readEvent({ queue, event }),
      (stored) => stored === undefined ? Effect.fail(unanswered) : Effect.succeed(stored.payload)
    ).pipe(
      Effect.retry({
        schedule: pollBackoff,
        while: (error) => error === unanswered || (error._tag === "DriverError" && error.isRetryable)
      }),
      Effect.catchTag("Unanswered", Effect.die)
    )
    return yield* timeout === undefined ? answered : Effect.timeoutOrElse(answered, {
      duration: timeout,
      orElse: () => Effect.fail(new Timeout({ subject: `reply of "${address.mailbox}"` }))
    })
  })

const unanswered = { _tag: "Unanswered" } as const

/** From 20 ms to one second. */
const pollBackoff = Schedule.min([Schedule.exponential("20 millis"), Schedule.spaced("1 second")])

const checkReply = Input.check("step", EventName)

const sendRequest = (address: Address, message: Schema.Json, replyTo: NonNullable<Envelope["replyTo"]>) =>
  Effect.flatMap(
    post(address, { message, replyTo }),
    (sent) => sent ? Effect.void : Effect.fail(new NotFound({ kind: "task", id: address.taskId }))
  )

const answerTo = Effect.fnUntraced(function*(replyTo: NonNullable<Envelope["replyTo"]>, answer: Schema.Json) {
  const { driver } = yield* Absurd
  const { emitted } = yield* atEndOfHistory(driver.emit({
    queue: yield* resolveQueue(replyTo.queue),
    event: yield* Input.check("event", EventName)(replyTo.event),
    payload: answer
  }))
  return emitted
})
