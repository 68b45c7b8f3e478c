/**
 * What may be stored, and how typed values become it.
 *
 * A value is checked before any driver is called, and brought into the form in which a store gives it back: numbers are
 * finite, `-0` is `0`, object keys are in the order of PostgreSQL's `jsonb`. So what a step returns when it runs is what
 * every replay of it returns.
 *
 * @since 0.1.0
 */
import { Context, Effect, Exit, Schema } from "effect"
import { DecodeError, InvalidInput } from "./Errors.ts"

/**
 * How large a stored value may be.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limits {
  /** The longest JSON text, in UTF-16 code units; 2 Mi by default. */
  readonly maxLength: number
  /** The deepest nesting of arrays and objects; 512 by default. */
  readonly maxDepth: number
}

/**
 * How large a stored value may be. Provide another value to change it.
 *
 * @since 0.1.0
 * @category references
 */
export const Limits = Context.Reference<Limits>("effect-absurd/core/Stored/Limits", {
  defaultValue: () => ({ maxLength: 2 * 1024 * 1024, maxDepth: 512 })
})

/**
 * The normal form of a JSON value, or `InvalidInput` naming the place within `field` where it cannot be stored: a NUL
 * character or a lone surrogate in a text or key, a number that is not finite, something that is no JSON at all, a value
 * that is too large or too deep.
 *
 * @since 0.1.0
 * @category constructors
 */
export const normalize = (field: string, value: unknown): Effect.Effect<Schema.Json, InvalidInput> =>
  Effect.withFiber((fiber) => normalizeWithin(fiber.getRef(Limits), field, value))

/**
 * {@link normalize} within given limits, at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const normalizeWithin = (
  limits: Limits,
  field: string,
  value: unknown
): Exit.Exit<Schema.Json, InvalidInput> => {
  const walk = new Walk(limits)
  try {
    return Exit.succeed(walk.normalize(value, 0))
  } catch (error) {
    const problem = error instanceof Refused ? error.problem : "could not be read"
    return Exit.fail(new InvalidInput({ field: field + walk.place(), problem }))
  }
}

/**
 * Turns the values of one schema into storable JSON and back.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codec<A, RD = never, RE = never> {
  /** `InvalidInput` when the value does not fit the schema or cannot be stored. */
  readonly encode: (value: A) => Effect.Effect<Schema.Json, InvalidInput, RE>
  /** `DecodeError` when what is stored does not fit the schema. */
  readonly decode: (stored: Schema.Json) => Effect.Effect<A, DecodeError, RD>
}

/**
 * A codec that encodes many values without a step of the fiber for each.
 *
 * @since 0.1.0
 * @category models
 */
export interface EagerCodec<A, RD = never, RE = never> extends Codec<A, RD, RE> {
  /** `encode` within given limits: done at once, and so an `Exit`, unless the schema has to wait for something. */
  readonly encodeWithin: (limits: Limits, value: A) => Effect.Effect<Schema.Json, InvalidInput, RE>
}

/**
 * The codec of `schema`, through its canonical JSON form (`Schema.toCodecJson`), so dates, bigints, options and branded
 * values come back as what they were. `slot` names the value in errors.
 *
 * @since 0.1.0
 * @category constructors
 */
export const codec: <S extends Schema.Constraint>(
  slot: string,
  schema: S
) => Codec<S["Type"], S["DecodingServices"], S["EncodingServices"]> = (slot, schema) => eagerCodec(slot, schema)

/**
 * {@link codec}, for values of which there may be many at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const eagerCodec = <S extends Schema.Constraint>(
  slot: string,
  schema: S
): EagerCodec<S["Type"], S["DecodingServices"], S["EncodingServices"]> => {
  const json = Schema.toCodecJson(schema)
  const encode = Schema.encodeUnknownEffect(json)
  const decode = Schema.decodeUnknownEffect(json)
  const encodeWithin = (limits: Limits, value: S["Type"]) =>
    Effect.flatMapEager(
      Effect.mapErrorEager(encode(value), (error) => InvalidInput.fromSchema(slot, error)),
      (encoded) => normalizeWithin(limits, slot, encoded)
    )
  return {
    encode: (value) => Effect.withFiber((fiber) => encodeWithin(fiber.getRef(Limits), value)),
    encodeWithin,
    decode: (stored) => Effect.mapErrorEager(decode(stored), (error) => DecodeError.fromSchema(slot, error))
  }
}

/**
 * The codec for values that are JSON already. `undefined` is stored as, and comes back as, `null`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const json = (slot: string): EagerCodec<unknown> => ({
  encode: (value) => normalize(slot, value === undefined ? null : value),
  encodeWithin: (limits, value) => normalizeWithin(limits, slot, value === undefined ? null : value),
  decode: Effect.succeed
})

/**
 * The codec, for a value that an earlier execution of a task has stored: when it does not fit, the error says so of `slot`,
 * and what to do where the code has changed meanwhile.
 *
 * @since 0.1.0
 * @category combinators
 */
export const recalled = <A, RD, RE>(self: Codec<A, RD, RE>, slot: string): Codec<A, RD, RE> => ({
  ...self,
  decode: (stored) =>
    Effect.mapError(self.decode(stored), ({ problem }) =>
      new DecodeError({
        slot,
        problem:
          `${problem}; an earlier execution of the task stored it, so keep a schema that fits it for tasks that ` +
          "have begun, or give the new code another name"
      }))
})

/**
 * Encodes `value` and decodes the outcome: the value as every replay will see it, with its stored form.
 *
 * @since 0.1.0
 * @category combinators
 */
export const roundTrip = <A, RD, RE>(
  self: Codec<A, RD, RE>,
  value: A
): Effect.Effect<{ readonly stored: Schema.Json; readonly value: A }, InvalidInput | DecodeError, RD | RE> =>
  Effect.flatMap(self.encode(value), (stored) => Effect.map(self.decode(stored), (value) => ({ stored, value })))

/**
 * A text that any store takes, whatever was in it: NUL characters and lone surrogates become U+FFFD, and what is longer
 * than `limit` UTF-16 code units (16 Ki by default) is cut.
 *
 * @since 0.1.0
 * @category constructors
 */
export const storableText = (text: string, limit = 16 * 1024): string =>
  (text.length > limit ? text.slice(0, limit) + "..." : text).replaceAll("\u0000", "\uFFFD").toWellFormed()

// --- internal

class Refused {
  readonly problem: string
  constructor(problem: string) {
    this.problem = problem
  }
}

class Walk {
  private length = 0
  private readonly path: Array<string | number> = []
  private readonly limits: Limits

  constructor(limits: Limits) {
    this.limits = limits
  }

  /** Of a place that is deep inside, the way in and the last steps. */
  place(): string {
    const place = this.path.map((key) => typeof key === "number" ? `[${key}]` : `.${storableText(key, 64)}`).join("")
    return place.length <= 200 ? place : `${place.slice(0, 120)}...${place.slice(-60)}`.toWellFormed()
  }

  normalize(value: unknown, depth: number): Schema.Json {
    if (value === null || typeof value === "boolean") {
      this.grow(5)
      return value
    }
    if (typeof value === "string") return this.text(value)
    if (typeof value === "number") return this.number(value)
    if (typeof value !== "object") throw new Refused(`a ${typeof value} is not JSON; use a schema that encodes it`)
    if (depth >= this.limits.maxDepth) throw new Refused(`is nested more than ${this.limits.maxDepth} levels deep`)
    return Array.isArray(value) ? this.array(value, depth) : this.object(value, depth)
  }

  private grow(by: number) {
    this.length += by
    if (this.length > this.limits.maxLength) {
      this.path.length = 0
      throw new Refused(
        `is longer than ${this.limits.maxLength} characters of JSON; store a reference, or provide Stored.Limits`
      )
    }
  }

  private text(value: string): string {
    this.grow(value.length + 3)
    if (value.includes("\u0000")) throw new Refused("contains a NUL character, which PostgreSQL cannot store")
    if (!value.isWellFormed()) throw new Refused("contains a lone surrogate, which PostgreSQL cannot store")
    return value
  }

  private number(value: number): number {
    if (!Number.isFinite(value)) throw new Refused(`${value} is not JSON; use a schema such as Schema.Number`)
    this.grow(20)
    return value === 0 ? 0 : value
  }

  private array(value: ReadonlyArray<unknown>, depth: number): Schema.Json {
    const out: Array<Schema.Json> = []
    for (let index = 0; index < value.length; index++) {
      this.path.push(index)
      out.push(this.normalize(value[index], depth + 1))
      this.path.pop()
    }
    return out
  }

  private object(value: object, depth: number): Schema.Json {
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) {
      throw new Refused(`an instance of ${prototype.constructor?.name ?? "a class"} is not JSON; use a schema`)
    }
    const keys = Object.keys(value)
    if (!areSorted(keys)) keys.sort(jsonbOrder)
    const out: Record<string, Schema.Json> = {}
    for (const key of keys) {
      this.path.push(key)
      const member = (value as Record<string, unknown>)[key]
      if (member === undefined) {
        this.path.pop()
        continue
      }
      this.text(key)
      const normal = this.normalize(member, depth + 1)
      // Plain assignment to this key would change the prototype instead of adding a member.
      if (key === "__proto__") {
        Object.defineProperty(out, key, { value: normal, enumerable: true, writable: true, configurable: true })
      } else out[key] = normal
      this.path.pop()
    }
    return out
  }
}

const encoder = new TextEncoder()

/** Whether keys are in the order of `jsonb`, as far as that can be told without their bytes: most are, and of ASCII. */
const areSorted = (keys: ReadonlyArray<string>): boolean => {
  if (keys.length < 2) return true
  let before = ""
  for (const key of keys) {
    if (!isAscii(key) || before.length > key.length || (before.length === key.length && before > key)) return false
    before = key
  }
  return true
}

const isAscii = (text: string): boolean => {
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) > 127) return false
  return true
}

/** `jsonb` keeps shorter keys first, and keys of one length in the order of their bytes. */
const jsonbOrder = (a: string, b: string): number => {
  const left = encoder.encode(a)
  const right = encoder.encode(b)
  if (left.length !== right.length) return left.length - right.length
  for (let index = 0; index < left.length; index++) {
    if (left[index] !== right[index]) return left[index]! - right[index]!
  }
  return 0
}
