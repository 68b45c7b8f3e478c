/**
 * The one session of an in-process PostgreSQL, offered to `@effect/sql-pg` as a stream that speaks the wire protocol.
 *
 * States of the session: not attached → attached to a stream (from its startup packet until it is destroyed), and while
 * attached idle (between transactions) or busy (a transaction is open, or a statement is half told). A stream that
 * comes after another one finds a session as good as new. Subscriptions to channels belong to the session and not to
 * a stream, and change only while it is idle, so that no transaction can undo them.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Cause, Effect, Queue, type Scope } from "effect"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import { Duplex } from "node:stream"

/** What is needed of the engine: whole protocol messages in, all that it answers out. */
export interface Engine {
  readonly execProtocolRawSync: (message: Uint8Array) => Uint8Array
}

type Notifications = Queue.Queue<PgConnection.Notification, SqlError>

export interface Session {
  /** A new stream; it takes the session over from the one before it. */
  readonly connect: () => Duplex
  /**
   * The notifications of a channel from now on. In a transaction of the caller's own (`inTransaction`) it does not wait
   * until the subscription holds, which is when that transaction ends.
   */
  readonly listen: (
    channel: string,
    inTransaction: boolean
  ) => Effect.Effect<Queue.Dequeue<PgConnection.Notification, SqlError>, SqlError, Scope.Scope>
  /** Ends the session: nothing reaches the engine any more. */
  readonly close: Effect.Effect<void>
}

export const make = (engine: Engine): Session => {
  const session = new SessionImpl(engine)
  return {
    connect: () => new SessionStream(session),
    listen: (channel, inTransaction) => listen(session, channel, inTransaction),
    close: Effect.sync(() => session.close())
  }
}

// --- internal

const Message = { notification: 0x41, query: 0x51, terminate: 0x58, ready: 0x5a }
const Startup = { cancel: 80877102, tls: 80877103 }
const idleStatus = 0x49
const maxChannelBytes = 63

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const listen = Effect.fnUntraced(function*(session: SessionImpl, channel: string, inTransaction: boolean) {
  const bytes = encoder.encode(channel).byteLength
  if (bytes === 0 || bytes > maxChannelBytes || channel.includes("\0")) {
    const message = `A channel name has 1 to ${maxChannelBytes} UTF-8 bytes and no NUL`
    return yield* new SqlError({
      reason: new UnknownError({ cause: new Error(message), message, operation: "listen" })
    })
  }
  const queue: Notifications = yield* Queue.unbounded<PgConnection.Notification, SqlError>()
  yield* Effect.addFinalizer(() =>
    Effect.andThen(Effect.sync(() => session.unsubscribe(channel, queue)), Queue.shutdown(queue))
  )
  yield* Effect.callback<void, SqlError>((resume) => {
    session.subscribe(channel, queue, (failure) => resume(failure === undefined ? Effect.void : Effect.fail(failure)))
    if (inTransaction) resume(Effect.void)
  })
  return queue
})

class SessionImpl {
  private readonly engine: Engine
  private attached: SessionStream | undefined
  private idle = true
  private failure: SqlError | undefined
  private readonly subscribers = new Map<string, Set<Notifications>>()
  private readonly listening = new Set<string>()
  private waiting: Array<(failure?: SqlError) => void> = []

  constructor(engine: Engine) {
    this.engine = engine
  }

  attach(stream: SessionStream): void {
    const before = this.attached
    if (before !== undefined) {
      this.detach(before)
      before.destroy()
    }
    this.attached = stream
  }

  /** What a session that ends leaves behind would be met by the next one: its transaction, statements and settings. */
  detach(stream: SessionStream): void {
    if (this.attached !== stream) return
    this.attached = undefined
    if (this.failure !== undefined) return
    // A statement that failed half told makes the engine skip everything up to the next Sync.
    this.run(sync)
    this.run(statement("ROLLBACK"))
    this.run(statement("DISCARD ALL"))
    this.listening.clear()
    this.settle()
  }

  isAttached(stream: SessionStream): boolean {
    return this.attached === stream && this.failure === undefined
  }

  /** Carries out whole messages for the attached stream. */
  execute(messages: Uint8Array): Uint8Array {
    this.idle = false
    const answer = this.run(messages)
    this.settle()
    return answer
  }

  subscribe(channel: string, queue: Notifications, onSettled: (failure?: SqlError) => void): void {
    if (this.failure !== undefined) return onSettled(this.failure)
    const queues = this.subscribers.get(channel) ?? new Set()
    this.subscribers.set(channel, queues.add(queue))
    this.waiting.push(onSettled)
    this.settle()
  }

  unsubscribe(channel: string, queue: Notifications): void {
    const queues = this.subscribers.get(channel)
    if (queues === undefined) return
    queues.delete(queue)
    if (queues.size === 0) this.subscribers.delete(channel)
    this.settle()
  }

  close(): void {
    this.end(new Error("The embedded store has been closed"))
  }

  /** Makes the subscriptions of the engine those that are wanted, once nothing else is going on. */
  private settle(): void {
    if (!this.idle || this.failure !== undefined) return
    try {
      this.resubscribe()
    } catch {
      // The session has ended, and whoever waits for it has been told.
      return
    }
    const waiting = this.waiting
    this.waiting = []
    for (const resume of waiting) resume()
  }

  private resubscribe(): void {
    for (const channel of this.listening) {
      if (this.subscribers.has(channel)) continue
      this.listening.delete(channel)
      this.run(statement(`UNLISTEN ${quote(channel)}`))
    }
    for (const channel of this.subscribers.keys()) {
      if (this.listening.has(channel)) continue
      this.listening.add(channel)
      this.run(statement(`LISTEN ${quote(channel)}`))
    }
  }

  private run(messages: Uint8Array): Uint8Array {
    if (this.failure !== undefined) throw this.failure
    try {
      const answer = this.engine.execProtocolRawSync(messages).slice()
      this.observe(answer)
      return answer
    } catch (cause) {
      this.end(cause)
      throw cause
    }
  }

  /** Follows the transaction status and hands out notifications, which may stand between any two messages. */
  private observe(answer: Uint8Array): void {
    const view = viewOf(answer)
    for (let at = 0; at + 5 <= answer.length; at += 1 + view.getInt32(at + 1)) {
      const type = answer[at]
      if (type === Message.ready) this.idle = answer[at + 5] === idleStatus
      else if (type === Message.notification) this.publish(answer.subarray(at + 5, at + 1 + view.getInt32(at + 1)))
    }
  }

  private publish(body: Uint8Array): void {
    const endOfChannel = body.indexOf(0, 4)
    const channel = decoder.decode(body.subarray(4, endOfChannel))
    const payload = decoder.decode(body.subarray(endOfChannel + 1, body.indexOf(0, endOfChannel + 1)))
    const processId = viewOf(body).getInt32(0)
    for (const queue of this.subscribers.get(channel) ?? []) Queue.offerUnsafe(queue, { processId, channel, payload })
  }

  private end(cause: unknown): void {
    if (this.failure !== undefined) return
    const message = "The embedded store cannot be used any more"
    const failure = new SqlError({ reason: new ConnectionError({ cause, message, operation: "execute" }) })
    this.failure = failure
    for (const queues of this.subscribers.values()) {
      for (const queue of queues) Queue.failCauseUnsafe(queue, Cause.fail(failure))
    }
    this.subscribers.clear()
    const waiting = this.waiting
    this.waiting = []
    for (const resume of waiting) resume(failure)
  }
}

/** The client's end of the session. */
class SessionStream extends Duplex {
  private readonly session: SessionImpl
  private started = false
  private received: Uint8Array = new Uint8Array(0)

  constructor(session: SessionImpl) {
    super({ readableHighWaterMark: 1024 * 1024 })
    this.session = session
  }

  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    // The engine computes on this thread. One turn of the event loop per write lets timers and sockets have theirs.
    setImmediate(() => {
      if (this.destroyed) return done()
      try {
        this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk])
        if (!this.started) this.start()
        if (this.started) this.forward()
        done()
      } catch (cause) {
        done(cause instanceof Error ? cause : new Error("The embedded store has failed", { cause }))
      }
    })
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    try {
      this.session.detach(this)
      done(error)
    } catch (cause) {
      done(error ?? (cause instanceof Error ? cause : new Error("The embedded store has failed", { cause })))
    }
  }

  /** The first packet has no type: a startup, or a request to cancel a statement, which cannot be running right now. */
  private start(): void {
    if (this.received.length < 8) return
    const view = viewOf(this.received)
    const length = view.getInt32(0)
    if (this.received.length < length) return
    const packet = this.received.subarray(0, length)
    this.received = this.received.subarray(length)
    switch (view.getInt32(4)) {
      case Startup.cancel:
        this.destroy()
        return
      case Startup.tls:
        this.push("N")
        return this.start()
      default:
        this.session.attach(this)
        this.started = true
        this.push(this.session.execute(packet))
    }
  }

  /** The engine takes the end of its input for the end of the session, so it gets whole messages only. */
  private forward(): void {
    const view = viewOf(this.received)
    let end = 0
    let terminated = false
    while (!terminated && end + 5 <= this.received.length) {
      const next = end + 1 + view.getInt32(end + 1)
      if (next > this.received.length) break
      terminated = this.received[end] === Message.terminate
      if (!terminated) end = next
    }
    const messages = this.received.subarray(0, end)
    this.received = this.received.subarray(end)
    if (messages.length > 0) {
      if (!this.session.isAttached(this)) throw new Error("The session of the embedded store is not this stream's")
      this.push(this.session.execute(messages))
    }
    if (terminated) this.destroy()
  }
}

const sync = Uint8Array.of(0x53, 0, 0, 0, 4)

const quote = (channel: string): string => `"${channel.replaceAll("\"", "\"\"")}"`

const statement = (sql: string): Uint8Array => {
  const text = encoder.encode(sql)
  const message = new Uint8Array(text.length + 6)
  message[0] = Message.query
  viewOf(message).setInt32(1, text.length + 5)
  message.set(text, 5)
  return message
}
