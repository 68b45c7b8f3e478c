/**
 * Tasks to spawn, in the words of the kernel.
 *
 * @since 0.1.0
 */
import { DateTime, Duration, Predicate, type Schema } from "effect"
import type { SpawnItem } from "../../core/Driver.ts"
import * as Rows from "./Rows.ts"

/** The task, without what it has not. @since 0.1.0 */
export const encode = (item: SpawnItem) => ({
  ...common(item),
  params: item.params,
  ...(item.idempotencyKey === null ? {} : { idempotency_key: item.idempotencyKey })
})

/**
 * Tasks without keys that differ in nothing but their params: what they have in common, and the params of each. Undefined for
 * others.
 *
 * @since 0.1.0
 */
export const alike = (
  items: ReadonlyArray<SpawnItem>
): { readonly task: object; readonly params: ReadonlyArray<Schema.Json> } | undefined => {
  const [first] = items
  return first !== undefined && first.idempotencyKey === null &&
      items.every((item) => item === first || like(item, first))
    ? { task: common(first), params: items.map(({ params }) => params) }
    : undefined
}

// --- internal

const common = ({ cancellation, delay, headers, maxAttempts, name, retryStrategy }: SpawnItem) => ({
  name,
  ...(headers === null ? {} : { headers }),
  ...(retryStrategy === null ? {} : { retry_strategy: retryStrategy }),
  ...(maxAttempts === null ? {} : { max_attempts: maxAttempts }),
  ...(cancellation === null ? {} : { cancellation }),
  ...(delay === null ? {} : Rows.dueItem(delay))
})

const like = (a: SpawnItem, b: SpawnItem): boolean =>
  a.idempotencyKey === null && a.name === b.name && a.maxAttempts === b.maxAttempts &&
  sameJson(a.headers, b.headers) && sameJson(a.retryStrategy, b.retryStrategy) &&
  sameJson(a.cancellation, b.cancellation) && sameDelay(a.delay, b.delay)

const sameDelay = (a: SpawnItem["delay"], b: SpawnItem["delay"]): boolean => {
  if (a === b) return true
  if (a === null || b === null) return false
  if (DateTime.isDateTime(a)) return DateTime.isDateTime(b) && DateTime.Equivalence(a, b)
  return !DateTime.isDateTime(b) && Duration.Equivalence(a, b)
}

/** Of what is JSON, or lacks some members. Those that are the same object, as is usual, need no look. */
const sameJson = (a: unknown, b: unknown): boolean => {
  if (a === b) return true
  if (!Predicate.isObjectOrArray(a) || !Predicate.isObjectOrArray(b) || Array.isArray(a) !== Array.isArray(b)) {
    return false
  }
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameJson(Reflect.get(a, key), Reflect.get(b, key)))
}
