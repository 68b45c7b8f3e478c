/**
 * The setting `absurd.fake_now`, which stands in for the store's clock. It is for tests, but every role may set it, for a
 * session, a role or a database; and behind a pooler that shares sessions between clients it reaches whoever comes next.
 *
 * @internal
 */
import { DateTime, Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { ClockTampered, DriverError } from "../../core/Errors.ts"
import { toDriverError } from "./SqlFailure.ts"

/** Sets the clock of the session, in a way that a driver takes for a test's. */
export const set = (sql: SqlClient.SqlClient, instant: DateTime.DateTime): Effect.Effect<void, SqlError.SqlError> =>
  Effect.asVoid(sql`
    SELECT set_config('absurd_effect.allow_fake_now', 'on', false),
      set_config('absurd.fake_now', ${DateTime.formatIso(instant)}, false)`)

/** Fails with `ClockTampered` when the clock of the session is set, unless it was {@link set}. */
export const refuse = (sql: SqlClient.SqlClient): Effect.Effect<void, DriverError> =>
  sql<{ readonly now: string }>`
    SELECT current_setting('absurd.fake_now', true) AS now
    WHERE btrim(current_setting('absurd.fake_now', true), ${" \t\r\n\f\v"}) <> ''
      AND coalesce(current_setting('absurd_effect.allow_fake_now', true), '') <> 'on'`.pipe(
    Effect.mapError((error) => toDriverError("PostgresDriver", "read", error)),
    Effect.flatMap(([found]) =>
      found === undefined
        ? Effect.void
        : Effect.fail(new DriverError({ operation: "PostgresDriver", reason: new ClockTampered({ now: found.now }) }))
    )
  )
