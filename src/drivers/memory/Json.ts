/**
 * JSON as PostgreSQL's `jsonb` keeps it.
 *
 * Values are copied on the way in and on the way out, so nobody who holds one can change what is stored.
 *
 * @since 0.1.0
 */
import type { Schema } from "effect"

/**
 * A copy in normal form: keys by length, then by bytes, `-0` as `0`, members that are undefined left out, and whatever JSON
 * cannot hold as null.
 *
 * @since 0.1.0
 * @category constructors
 */
export const normalize = (value: unknown): Schema.Json => {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value
    case "number":
      return Number.isFinite(value) ? value + 0 : null
    case "object":
      if (value === null) return null
      return Array.isArray(value) ? Array.from(value, normalize) : normalizeObject(value)
    default:
      return null
  }
}

/**
 * A copy of a value that is in normal form.
 *
 * @since 0.1.0
 * @category constructors
 */
export const copy = (value: Schema.Json): Schema.Json => {
  if (typeof value !== "object" || value === null) return value
  if (isArray(value)) return value.map(copy)
  const out: Record<string, Schema.Json> = {}
  for (const key of Object.keys(value)) put(out, key, copy(value[key]!))
  return out
}

/**
 * Whether two values in normal form are the same.
 *
 * @since 0.1.0
 * @category combinators
 */
export const equals = (a: Schema.Json, b: Schema.Json): boolean =>
  a === b || (typeof a === "object" && typeof b === "object" && JSON.stringify(a) === JSON.stringify(b))

/**
 * The member of an object as text, as `->>` would give it: undefined when there is none, when it is null, or when `value` is
 * no object.
 *
 * @since 0.1.0
 * @category combinators
 */
export const textAt = (value: Schema.Json, key: string): string | undefined => {
  const member = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined
  if (member === undefined || member === null) return undefined
  return typeof member === "string" ? member : JSON.stringify(member)
}

/**
 * Whether a value is an object, no array and not null.
 *
 * @since 0.1.0
 * @category guards
 */
export const isObject = (value: Schema.Json): value is { readonly [key: string]: Schema.Json } =>
  typeof value === "object" && value !== null && !isArray(value)

// --- internal

const isArray = (value: Schema.Json): value is ReadonlyArray<Schema.Json> => Array.isArray(value)

const encoder = new TextEncoder()

const normalizeObject = (value: object): Schema.Json => {
  const keys = Object.keys(value)
  if (keys.length > 1) keys.sort(byLengthThenBytes)
  const out: Record<string, Schema.Json> = {}
  for (const key of keys) {
    const member: unknown = Reflect.get(value, key)
    if (member !== undefined) put(out, key, normalize(member))
  }
  return out
}

// Plain assignment to this key would change the prototype instead of adding a member.
const put = (out: Record<string, Schema.Json>, key: string, value: Schema.Json) => {
  if (key === "__proto__") {
    Object.defineProperty(out, key, { value, enumerable: true, writable: true, configurable: true })
  } else out[key] = value
}

const isAscii = (text: string): boolean => {
  for (let place = 0; place < text.length; place++) {
    if (text.charCodeAt(place) > 0x7f) return false
  }
  return true
}

const byLengthThenBytes = (a: string, b: string): number => {
  // In ASCII the number and the order of characters are those of the bytes.
  if (isAscii(a) && isAscii(b)) return a.length - b.length || (a < b ? -1 : 1)
  const left = encoder.encode(a)
  const right = encoder.encode(b)
  if (left.length !== right.length) return left.length - right.length
  const different = left.findIndex((byte, place) => byte !== right[place])
  return different === -1 ? 0 : left[different]! - right[different]!
}
