/**
 * How mailboxes keep their messages: events of the recipient's queue, numbered without gaps. See `Mailbox`.
 *
 * @since 0.1.0
 */
import { type Duration, Effect, Option, Schedule, Schema } from "effect"
import { SecureRandom } from "effect/crypto"
import { Absurd, resolveQueue } from "./Absurd.ts"
import { CurrentRun } from "./CurrentRun.ts"
import { type DriverError, type InvalidInput, NotFound, Timeout } from "./Errors.ts"
import { CheckpointName, EventName, isTerminal, MailboxName, type QueueName, TaskId } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Race from "./Race.ts"
import { atEndOfHistory } from "./Replay.ts"

/**
 * Whose mailbox it is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Address {
  readonly queue: QueueName
  readonly taskId: TaskId
  readonly mailbox: MailboxName
}

/**
 * Where a request is answered.
 *
 * @since 0.1.0
 * @category models
 */
export type ReplyTo = NonNullable<Envelope["replyTo"]>

/**
 * Checks who a message is for.
 *
 * @since 0.1.0
 * @category constructors
 */
export const addressOf = Effect.fnUntraced(
  function*(
    mailbox: string,
    to: string | { readonly taskId: string; readonly queue: string },
    queue: string | undefined
  ) {
    const [taskId, own] = typeof to === "string" ? [to, queue] : [to.taskId, to.queue]
    const address: Address = {
      mailbox: yield* checkName(mailbox),
      taskId: yield* checkTaskId(taskId),
      queue: yield* resolveQueue(own)
    }
    return address
  }
)

/**
 * Sends once: inside a task as a step of it, inside a transaction as a part of that. False when the task has ended.
 *
 * @since 0.1.0
 * @category combinators
 */
export const post = (address: Address, envelope: Envelope): Effect.Effect<boolean, NotFound | DriverError, Absurd> =>
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

/**
 * Takes the next message of a mailbox.
 *
 * Its step remembers the number, so a replay takes the same message again. Among those that are waiting at one time each
 * waits for a number of its own. A number that was taken by the loser of a durable race is free again, for in a replay the
 * loser is not executed.
 *
 * @since 0.1.0
 * @category combinators
 */
export const takeNext = (mailbox: string): Effect.Effect<Envelope, never, CurrentRun> =>
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

/**
 * Asks, and waits for what is answered.
 *
 * @since 0.1.0
 * @category combinators
 */
export const request = (
  address: Address,
  message: Schema.Json,
  timeout: Duration.Duration | undefined
): Effect.Effect<Schema.Json, InvalidInput | NotFound | DriverError | Timeout, Absurd> =>
  Effect.flatMap(Effect.serviceOption(CurrentRun), (current) =>
    Option.isSome(current)
      ? requestWithin(current.value, address, message, timeout)
      : requestOutside(address, message, timeout))

/**
 * Answers a request; false when it has an answer.
 *
 * @since 0.1.0
 * @category combinators
 */
export const answerTo = Effect.fnUntraced(function*(replyTo: ReplyTo, answer: Schema.Json) {
  const { driver } = yield* Absurd
  const { emitted } = yield* atEndOfHistory(driver.emit({
    queue: yield* resolveQueue(replyTo.queue),
    event: yield* Input.check("event", EventName)(replyTo.event),
    payload: answer
  }))
  return emitted
})

// --- internal

const checkTaskId = Input.check("to", TaskId)
const checkName = Input.check("mailbox", MailboxName)

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

const eventOf = ({ mailbox, taskId }: Address, n: number) => EventName.make(`$mail:${taskId}:${mailbox}:${n}`)

/** The checkpoint that receives message `n`, in the task that takes it. */
const slotOf = (mailbox: MailboxName, n: number) => CheckpointName.make(`$mail:${mailbox}:${n}`)

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

const sendRequest = (address: Address, message: Schema.Json, replyTo: ReplyTo) =>
  Effect.flatMap(
    post(address, { message, replyTo }),
    (sent) => sent ? Effect.void : Effect.fail(new NotFound({ kind: "task", id: address.taskId }))
  )
