/**
 * How a failure is stored: in a form that every SDK can show, with the typed error of the task beside it.
 *
 * @since 0.1.0
 */
import { Cause, Effect, Predicate, type Schema } from "effect"
import { storableText } from "./Stored.ts"
import type * as Stored from "./Stored.ts"

/**
 * The stored form. `error` is the task's own typed error, encoded by its schema; `final` says that another attempt would
 * meet the same failure.
 *
 * @since 0.1.0
 * @category models
 */
export interface Failure {
  readonly name: string
  readonly message: string
  readonly stack: string | null
  readonly error?: Schema.Json | undefined
}

/**
 * Describes any thrown, failed or returned thing without ever failing itself: what cannot be read is left out, what cannot
 * be stored is replaced, what is too long is cut.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromUnknown = (error: unknown): Failure => ({
  name: read(() => nameOf(error)) ?? "Error",
  message: read(() => messageOf(error)) ?? "",
  stack: read(() => error instanceof Error ? error.stack : undefined) ?? null
})

/**
 * Describes the cause with which a handler ended. Its typed error, if it has one, is encoded by `codec`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromCause = <E, RE>(
  cause: Cause.Cause<E>,
  codec: Stored.Codec<E, unknown, RE>
): Effect.Effect<Failure, never, RE> => {
  const described = fromUnknown(Cause.squash(cause))
  const failed = cause.reasons.find(Cause.isFailReason)
  if (failed === undefined) return Effect.succeed(described)
  return Effect.suspend(() => codec.encode(failed.error)).pipe(
    Effect.map((error): Failure => ({ ...described, error })),
    // A library error that the task's schema does not describe is stored by its description alone.
    Effect.catch(() => Effect.succeed(described)),
    Effect.catchCause((cause) =>
      Effect.as(
        Effect.logError("The error schema of the task died; storing the failure without its typed error", cause),
        described
      )
    )
  )
}

/**
 * The encoded typed error within a stored failure, or undefined.
 *
 * @since 0.1.0
 * @category destructors
 */
export const typedError = (stored: Schema.Json): Schema.Json | undefined =>
  Predicate.isObject(stored) && "error" in stored ? stored["error"] as Schema.Json : undefined

/** The stored form as JSON. @since 0.1.0 @category destructors */
export const toJson = (self: Failure): Schema.Json => ({
  name: self.name,
  message: self.message,
  stack: self.stack,
  ...(self.error === undefined ? {} : { error: self.error })
})

// --- internal

const read = (get: () => string | undefined): string | undefined => {
  try {
    const text = get()
    return text === undefined ? undefined : storableText(String(text))
  } catch {
    return undefined
  }
}

const nameOf = (error: unknown): string | undefined => {
  if (Predicate.hasProperty(error, "_tag") && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : undefined
}

const messageOf = (error: unknown): string | undefined => {
  if (Predicate.hasProperty(error, "message") && typeof error.message === "string") return error.message
  if (typeof error === "string") return error
  return typeof error === "object" ? JSON.stringify(error) : String(error)
}
