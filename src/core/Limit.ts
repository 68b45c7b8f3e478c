/**
 * Limits on how many tasks of a key run at a time, and on how many start in a while, over all workers of a queue.
 *
 * A limit is data, like a task. Tasks name it in their definition; the store keeps to it: a task that may not run yet waits there,
 * and holds no slot of a worker while it does.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Pipeable, type Schema } from "effect"
import { Absurd, resolveQueue } from "./Absurd.ts"
import type * as Driver from "./Driver.ts"
import { type DriverError, InvalidInput, NotFound } from "./Errors.ts"
import { LimitKey, LimitName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as LimitStore from "./LimitStore.ts"

const TypeId = "~effect-absurd/core/Limit"

/**
 * What a limit allows for each of its keys. At least one of the two.
 *
 * @since 0.1.0
 * @category models
 */
export interface Figures {
  /** How many tasks run at a time, from 1 to 1,000,000; any number by default. Those that sleep or wait do not count. */
  readonly concurrency?: number | undefined
  /** How many tasks start in a while; any number by default. Every attempt is a start, and so is going on after a sleep or wait. */
  readonly rate?: Rate | undefined
}

/**
 * How often tasks start. However a window of that length is laid, at most `limit` of them start in it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Rate {
  /** From 1 to 1,000,000. */
  readonly limit: number
  /** From a millisecond to ten years. */
  readonly window: Duration.Input
  /**
   * How many may start at once after a pause, from 1 to `limit`; 1 by default. The others are spread over the window, so a
   * larger burst makes the gaps behind it wider: `window / (limit - burst + 1)`.
   */
  readonly burst?: number | undefined
}

/**
 * A definition of a limit.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limit extends Pipeable.Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  readonly figures: Figures
}

/**
 * The limit of one task, and the key under which it counts. Without a key all tasks of the limit in a queue count together.
 *
 * @since 0.1.0
 * @category models
 */
export interface TaskLimit {
  readonly with: Limit
  readonly key?: string | undefined
}

/**
 * The limit of a definition of a task, with the key made of the params.
 *
 * @since 0.1.0
 * @category models
 */
export interface OfParams<in Params> {
  readonly with: Limit
  /** What is counted apart, for example a tenant or an API key; by default all tasks of the limit count together. */
  readonly key?: ((params: Params) => string) | undefined
}

/**
 * Defines a limit. Tasks of one queue that name the same limit share it; queues share nothing. What cannot be a limit is refused by
 * the spawn that would store it.
 *
 * ```ts
 * import { Schema } from "effect"
 * import { Limit, Task } from "effect-absurd"
 *
 * const PerTenant = Limit.make("per-tenant", { concurrency: 5 })
 *
 * const Import = Task.make("import", {
 *   params: { tenant: Schema.String, file: Schema.String },
 *   limit: { with: PerTenant, key: ({ tenant }) => tenant }
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (name: string, figures: Figures): Limit => ({
  ...Pipeable.Prototype,
  [TypeId]: TypeId,
  name,
  figures
})

/**
 * A limit as it is at present, over all of its keys.
 *
 * @since 0.1.0
 * @category models
 */
export interface Status {
  readonly name: string
  /** What holds. */
  readonly figures: LimitStore.LimitFigures
  /** What the task that was spawned last asked for. */
  readonly declared: LimitStore.LimitFigures
  /** Whether what holds was set by {@link override}. */
  readonly isOverridden: boolean
  /** How many tasks are running, or may be claimed by what the limit says. */
  readonly admitted: number
  /** How many tasks wait for the limit. */
  readonly waiting: number
}

/**
 * The limits of a queue, by name. One is known once a task that has it was spawned.
 *
 * @since 0.1.0
 * @category operations
 */
export const list = Effect.fn("Limit.list")(function*(
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<ReadonlyArray<Status>, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const rows = yield* driver.listLimits(yield* resolveQueue(options?.queue))
  return rows.map(({ admitted, figures, name, override, waiting }) => ({
    name,
    figures: override ?? figures,
    declared: figures,
    isOverridden: override !== null,
    admitted,
    waiting
  }))
})

/**
 * The keys of a limit that have tasks: at most `limit` (100 by default) of them, those with most waiting tasks first.
 *
 * @since 0.1.0
 * @category operations
 */
export const keys = Effect.fn("Limit.keys")(function*(
  self: Limit | string,
  options?: { readonly queue?: string | undefined; readonly limit?: number | undefined }
): Effect.fn.Return<ReadonlyArray<Driver.LimitKeyRow>, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  return yield* driver.listLimitKeys({
    queue: yield* resolveQueue(options?.queue),
    name: yield* nameOf(self),
    limit: yield* Input.integer("limit", options?.limit ?? 100, { minimum: 1, maximum: 10_000 })
  })
})

/**
 * Makes other figures hold than those of the code, for all keys of the limit in a queue, until {@link reset}: also for tasks that
 * wait already, and whatever programs ask for that are started later. Tasks that are running are left alone. `NotFound` while
 * no task with the limit was ever spawned.
 *
 * @since 0.1.0
 * @category operations
 */
export const override = Effect.fn("Limit.override")(function*(
  self: Limit | string,
  figures: Figures,
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<void, InvalidInput | NotFound | DriverError, Absurd> {
  yield* change(self, yield* validate("figures", figures), options)
})

/**
 * Makes the figures of the code hold again.
 *
 * @since 0.1.0
 * @category operations
 */
export const reset = Effect.fn("Limit.reset")(function*(
  self: Limit | string,
  options?: { readonly queue?: string | undefined }
): Effect.fn.Return<void, InvalidInput | NotFound | DriverError, Absurd> {
  yield* change(self, null, options)
})

/**
 * What the header of a task with this limit holds; `InvalidInput` when the name, the key or a figure cannot be one.
 *
 * @since 0.1.0
 * @category conversions
 */
export const stored = (limit: TaskLimit): Effect.Effect<LimitStore.TaskLimit, InvalidInput> =>
  Effect.gen(function*() {
    if (!isLimit(limit?.with)) {
      return yield* new InvalidInput({
        field: "limit",
        problem: "must be an object with a limit of Limit.make as `with`"
      })
    }
    const { figures, name } = limit.with
    if (limit.key === "") return yield* new InvalidInput({ field: "limit.key", problem: "must not be empty" })
    return {
      name: yield* checkName(name),
      key: yield* checkKey(limit.key ?? ""),
      ...(yield* validate("limit", figures))
    }
  })

/**
 * A limit that comes in the headers of a task, or `InvalidInput`.
 *
 * @since 0.1.0
 * @category conversions
 */
export const check: (header: Schema.Json) => Effect.Effect<LimitStore.TaskLimit, InvalidInput> = (header) =>
  Effect.flatMap(checkHeader(header), (limit) => {
    const { concurrency, rate } = limit
    return Effect.as(
      validate(`headers.${LimitStore.limitHeader}`, {
        concurrency: concurrency ?? undefined,
        rate: rate === null ? undefined : { ...rate, window: Duration.seconds(rate.seconds) }
      }),
      limit
    )
  })

// --- internal

const checkName = Input.check("limit.name", LimitName)
const checkKey = Input.check("limit.key", LimitKey)
const checkHeader = Input.check(`headers.${LimitStore.limitHeader}`, LimitStore.TaskLimit)

const isLimit = (value: unknown): value is Limit => typeof value === "object" && value !== null && TypeId in value

const nameOf = (self: Limit | string) => checkName(isLimit(self) ? self.name : self)

const change = Effect.fnUntraced(function*(
  self: Limit | string,
  figures: LimitStore.LimitFigures | null,
  options: { readonly queue?: string | undefined } | undefined
) {
  const { driver } = yield* Absurd
  const name = yield* nameOf(self)
  const exists = yield* driver.overrideLimit({ queue: yield* resolveQueue(options?.queue), name, figures })
  if (!exists) return yield* new NotFound({ kind: "limit", id: name })
})

const million = { minimum: 1, maximum: 1_000_000 }

const validate = Effect.fnUntraced(function*(
  field: string,
  figures: Figures
): Effect.fn.Return<LimitStore.LimitFigures, InvalidInput> {
  if (typeof figures !== "object" || figures === null) {
    return yield* new InvalidInput({ field, problem: "must be an object of concurrency and rate" })
  }
  const { concurrency, rate } = figures
  if (concurrency === undefined && rate === undefined) {
    return yield* new InvalidInput({ field, problem: "must limit something: give it a concurrency, a rate or both" })
  }
  return {
    concurrency: concurrency === undefined
      ? null
      : yield* Input.integer(`${field}.concurrency`, concurrency, million),
    rate: rate === undefined ? null : yield* validateRate(`${field}.rate`, rate)
  }
})

const validateRate = Effect.fnUntraced(function*(field: string, rate: Rate) {
  if (typeof rate !== "object" || rate === null) {
    return yield* new InvalidInput({ field, problem: "must be an object of limit and window" })
  }
  const limit = yield* Input.integer(`${field}.limit`, rate.limit, million)
  const window = yield* Input.duration(`${field}.window`, rate.window, { minimum: "1 millis" })
  const burst = yield* Input.integer(`${field}.burst`, rate.burst ?? 1, { minimum: 1, maximum: limit })
  return { limit, seconds: Duration.toSeconds(window), burst }
})
