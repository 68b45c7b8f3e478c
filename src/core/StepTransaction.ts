/**
 * A step whose writes to the database and whose checkpoint are one commit.
 *
 * @since 0.1.0
 */
import { Effect, type Schema } from "effect"
import { CurrentRun, modified } from "./CurrentRun.ts"
import { InvalidUse } from "./Errors.ts"
import { StepName } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import { once } from "./Replay.ts"
import type { Storable } from "./Step.ts"
import * as Stored from "./Stored.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * Runs an effect in a transaction of the store, once: what it writes and the step's checkpoint are committed together, and
 * only while the run holds its claim. In later executions the stored value is returned and the effect is not run again.
 *
 * On PostgreSQL, statements of the same `SqlClient` join the transaction, which is READ COMMITTED; so do `spawn`, `emit`
 * and everything else of the client. What is not written to the store, such as a call of a service, is not undone and may
 * happen more than once.
 *
 * A failure, a defect and an interruption undo all of it, and nothing is stored. When a statement has failed, the
 * transaction can only be undone: a failure that the effect catches must have happened in a `sql.withTransaction` of its
 * own, or the step dies with `DriverError`.
 *
 * Steps, sleeps and waits inside die with `InvalidUse`, and so does this within a transaction. Keep it short: its
 * connection and its locks are held until it ends.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { SqlClient } from "effect/sql"
 * import { Step } from "effect-absurd"
 *
 * const book = (account: string, amount: number) =>
 *   Step.transaction("book", Effect.gen(function*() {
 *     const sql = yield* SqlClient.SqlClient
 *     yield* sql`insert into ledger (account, amount) values (${account}, ${amount})`
 *   }))
 * ```
 *
 * @since 0.1.0
 * @category steps
 */
export const transaction: {
  <A, E, R>(
    name: string,
    effect: Effect.Effect<A, E, R> & Storable<A>
  ): Effect.Effect<A, E, R | CurrentRun>
  <S extends Schema.Constraint, E, R>(
    name: string,
    effect: Effect.Effect<S["Type"], E, R>,
    options: { readonly success: S }
  ): Effect.Effect<S["Type"], E, R | CurrentRun | S["DecodingServices"] | S["EncodingServices"]>
} = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>,
  options?: { readonly success: Schema.Constraint }
): Effect.Effect<A, E, R | CurrentRun> => {
  const slot = `result of step "${name}"`
  const codec = (options === undefined ? Stored.json(slot) : Stored.codec(slot, options.success)) as Stored.Codec<A>
  return Effect.gen(function*() {
    const run = yield* CurrentRun
    const base = yield* Effect.orDie(checkName(name))
    return yield* run.named(base, (checkpoint) => {
      const inside = Effect.flatMap(
        Effect.provideService(effect, CurrentRun, withoutSteps(run, name)),
        (value) => Effect.orDie(codec.encode(value))
      )
      const decoded = (state: Schema.Json) => Effect.orDie(codec.decode(state))
      const recalled = (state: Schema.Json) =>
        Effect.orDie(Stored.recalled(codec, `result of step "${checkpoint}"`).decode(state))
      const done = Effect.flatMap(run.transact(checkpoint, inside), decoded)
      return once(
        run,
        checkpoint,
        (stored) => Telemetry.stepping(run, checkpoint, true, recalled(stored)),
        Telemetry.stepping(run, checkpoint, false, done)
      )
    })
  })
}

// --- internal

const checkName = Input.check("step", StepName)

/** The run as it is inside: a checkpoint of another step would be undone with the transaction, but remembered. */
const withoutSteps = (run: CurrentRun["Service"], transaction: string): CurrentRun["Service"] => {
  const refuse = (step: string) =>
    Effect.die(
      new InvalidUse({
        step,
        problem: `it is inside the transaction "${transaction}", which is a step itself; move it before or after`
      })
    )
  return modified(run, {
    transacting: true,
    named: refuse,
    begin: refuse,
    remember: refuse,
    transact: refuse,
    wait: ({ step }) => refuse(step),
    snooze: () => refuse(transaction)
  })
}
