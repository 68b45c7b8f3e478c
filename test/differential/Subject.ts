/** What is compared: a store, its clock, and everything in it. */
import type { Context, DateTime, Effect } from "effect"
import type { Driver } from "../../src/core/Driver.ts"
import type { DriverError, NotFound } from "../../src/core/Errors.ts"
import type { QueueName } from "../../src/core/Identifiers.ts"
import type { Dump, Violation } from "../../src/core/Invariants.ts"

export interface Subject {
  readonly name: string
  readonly driver: Context.Service.Shape<typeof Driver>
  readonly setTime: (instant: DateTime.Utc) => Effect.Effect<void>
  readonly dump: (queue: QueueName) => Effect.Effect<Dump, NotFound | DriverError>
  /** What the store itself finds wrong, where it can look. */
  readonly doctor?: (queue: QueueName) => Effect.Effect<ReadonlyArray<Violation>, unknown>
}
