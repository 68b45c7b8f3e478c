/**
 * Installing the schema, and asking whether it is installed.
 *
 * {@link layer} installs or upgrades when a program starts; {@link script} is the same as one SQL statement, for those who
 * let other tools or other people change their databases. Either may be used, in any order and any number of times.
 * Neither needs a superuser or an extension; the role has to be allowed to create schemas in the database.
 *
 * Where the schema `absurd` of another installation of Absurd is found, only the schema `absurd_effect` is added and
 * nothing in `absurd` is touched. A version of it that this library is not tested with is refused; see
 * {@link AcceptedVersions}.
 *
 * @since 0.1.0
 */
import { Context, Effect, Layer, Schema } from "effect"
import { Migrator, SqlClient, SqlError, SqlSchema } from "effect/sql"
import { DriverError, Rejected, SchemaMismatch } from "../../core/Errors.ts"
import * as Foreign from "./Foreign.ts"
import { completeSql, kernelSql } from "./Sql.generated.ts"
import { toDriverError } from "./SqlFailure.ts"

/**
 * The version of the schema that this library installs and needs.
 *
 * @since 0.1.0
 */
export const version = 1

/**
 * `complete` when the schema `absurd` is ours, `additive` when it belongs to another installation of Absurd.
 *
 * @since 0.1.0
 */
export type Mode = typeof Mode.Type

/**
 * What is installed in a database.
 *
 * @since 0.1.0
 */
export interface Status {
  /** The version that was installed, undefined when there is none. */
  readonly installed: number | undefined
  /** How it was, or would be, installed. */
  readonly mode: Mode
  /** Whether the schema `absurd` has its table of queues. */
  readonly hasQueues: boolean
}

/**
 * Versions of another installation of Absurd, as `absurd.get_schema_version()` tells them, that are accepted although this
 * library is not tested with them; none by default.
 *
 * **Example**
 *
 * ```ts
 * Layer.provide(Layer.succeed(Installation.AcceptedVersions, ["0.5.0"]))
 * ```
 *
 * It has to be there for {@link layer} as well as for the client, which looks too.
 *
 * @since 0.1.0
 * @category references
 */
export const AcceptedVersions = Context.Reference<ReadonlyArray<string>>(
  "effect-absurd/drivers/postgres/Installation/AcceptedVersions",
  { defaultValue: () => [] }
)

/**
 * Reads what is installed, whatever that is.
 *
 * @since 0.1.0
 */
export const status: Effect.Effect<Status, DriverError, SqlClient.SqlClient> = Effect.suspend(() => readStatus).pipe(
  Effect.catchTag("SqlError", refail)
)

/**
 * Succeeds when the version that this library needs is installed, and the schema of another installation of Absurd, where
 * there is one, has what is needed; otherwise fails with a `DriverError` whose reason is `SchemaMismatch` and says what to
 * do.
 *
 * @since 0.1.0
 */
export const check: Effect.Effect<void, DriverError, SqlClient.SqlClient> = Effect.flatMap(
  status,
  ({ hasQueues, installed, mode }) => {
    if (installed === undefined) return mismatch("The schema is not installed", remedy)
    if (installed > version) return refuseNewer(installed)
    if (installed < version) return mismatch(`The schema has version ${installed}, but ${version} is needed`, remedy)
    if (!hasQueues) return refuseIncomplete
    return mode === "additive" ? requireForeign : Effect.void
  }
)

/**
 * Installs the schema, or upgrades it to the version of this library. Does nothing when that is installed. Any number of
 * processes may do so at once; all of it happens in one transaction.
 *
 * Fails with `SchemaMismatch`, having changed nothing, when a newer version is installed or when the schema of another
 * installation of Absurd lacks what is needed, or has become one of which this library knows nothing.
 *
 * @since 0.1.0
 */
export const install: Effect.Effect<void, DriverError, SqlClient.SqlClient> = Effect.gen(function*() {
  const { hasQueues, installed, mode } = yield* status
  if (installed !== undefined && installed > version) return yield* refuseNewer(installed)
  if (installed !== undefined && !hasQueues) return yield* refuseIncomplete
  if (mode === "additive") yield* requireForeign
  if (installed === version) return
  yield* migrate(mode)
})

/**
 * {@link install} as a layer, to be built before those that use the schema.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<never, DriverError, SqlClient.SqlClient> = Layer.effectDiscard(install)

// --- internal

const Mode = Schema.Literals(["complete", "additive"])

const migrationsTable = "absurd_effect.migrations"

const remedy = "Provide Installation.layer, or apply Installation.script with: psql -X -v ON_ERROR_STOP=1 -f -"

const mismatch = (problem: string, remedy: string) =>
  Effect.fail(new DriverError({ operation: "Installation", reason: new SchemaMismatch({ problem, remedy }) }))

const refuseNewer = (installed: number) =>
  mismatch(
    `The schema has version ${installed}, but this library knows versions up to ${version}`,
    "Use a newer version of effect-absurd"
  )

const refuseIncomplete = mismatch(
  "The schema absurd has been removed while absurd_effect is still there",
  `Remove that too, with: drop schema absurd_effect cascade. Then: ${remedy}`
)

const plainClient = Effect.map(SqlClient.SqlClient, (sql) => sql.withoutTransforms())

// Installing again is harmless, so that a lost answer says no more than that the server could not be reached.
function refail(error: SqlError.SqlError) {
  return Effect.fail(toDriverError("Installation", "read", error))
}

const tableExists = (schema: string, table: string) => `
  exists (
    select from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = '${schema}' and c.relname = '${table}'
  )`

const Recorded = Schema.Struct({
  installed: Schema.NullOr(Schema.Int),
  mode: Schema.NullOr(Mode),
  hasQueues: Schema.Boolean
})

// What exists is asked of the catalogue's tables, not of to_regclass(), so that each statement sees one moment.
const readStatus = Effect.gen(function*() {
  const sql = yield* plainClient
  const read = (statement: string) =>
    SqlSchema.findOne({ Request: Schema.Void, Result: Recorded, execute: () => sql.unsafe(statement) })(undefined).pipe(
      Effect.catchTag(["SchemaError", "NoSuchElementError"], Effect.die)
    )
  const isRecorded = yield* sql.unsafe<{ readonly found: boolean }>(
    `select ${tableExists("absurd_effect", "migrations")} as found`
  )
  const { hasQueues, installed, mode } = yield* read(
    `select m.migration_id as installed, m.name as mode, ${tableExists("absurd", "queues")} as "hasQueues"
     from (select) as one left join (${isRecorded[0]?.found === true ? latest : none}) as m on true`
  )
  const status: Status = {
    installed: installed ?? undefined,
    mode: mode ?? (hasQueues ? "additive" : "complete"),
    hasQueues
  }
  return status
})

const latest = `select migration_id, name from ${migrationsTable} order by migration_id desc limit 1`
const none = "select null::integer as migration_id, null::text as name"

const requireForeign = Effect.suspend(() =>
  Effect.gen(function*() {
    const accepted = yield* AcceptedVersions
    const refusal = yield* Foreign.refusal(accepted).pipe(
      Effect.provideServiceEffect(SqlClient.SqlClient, plainClient)
    )
    if (refusal !== undefined) {
      return yield* mismatch(`The schema absurd is not ours and cannot be used: ${refusal.problem}`, refusal.remedy)
    }
  })
).pipe(Effect.catchTag("SqlError", refail))

const sqlOf = (mode: Mode) => mode === "complete" ? completeSql : kernelSql

// sql-pg sends everything as prepared statements, which take one statement only; so the many are executed by one.
const execute = (text: string) => `  execute $absurd_sql$\n${text}\n$absurd_sql$;\n`

const doBlock = (declarations: string, body: string) =>
  `do $absurd_do$\n${declarations}begin\n${body}end\n$absurd_do$;\n`

// Whoever creates the table of versions holds this lock; whoever then installs holds a lock on the table.
const prepare = `
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('effect-absurd installation', 0));
  create schema if not exists absurd_effect;
  create table if not exists ${migrationsTable} (
    migration_id integer primary key,
    created_at timestamp with time zone not null default now(),
    name text not null
  );
`

const migrate = (mode: Mode) =>
  Effect.gen(function*() {
    const sql = yield* plainClient
    yield* sql.unsafe(doBlock("", prepare))
    const apply = sql.unsafe(doBlock("", execute(sqlOf(mode))))
    yield* Migrator.make({})({
      loader: Migrator.fromRecord({ [`${version}_${mode}`]: Effect.asVoid(apply) }),
      table: migrationsTable
    }).pipe(Effect.provideService(SqlClient.SqlClient, sql))
  }).pipe(
    Effect.catchTag("SqlError", refail),
    Effect.catchTag("MigrationError", (error) =>
      SqlError.isSqlError(error.cause)
        ? refail(error.cause)
        : Effect.fail(new DriverError({ operation: "Installation", reason: new Rejected({ cause: error }) })))
  )

const makeScript = (mode: Mode) =>
  `-- effect-absurd, schema version ${version}, ${mode}. Safe to apply again. One statement, so all of it or nothing.\n` +
  doBlock(
    `declare\n  v_installed integer;\n  v_mode text;\n${mode === "additive" ? Foreign.declarations : ""}`,
    `${prepare}
  lock table ${migrationsTable} in access exclusive mode;
  select migration_id, name into v_installed, v_mode
  from ${migrationsTable} order by migration_id desc limit 1;
  if v_installed > ${version} then
    raise exception 'effect-absurd: the schema has version %, but this script installs ${version}', v_installed;
  elsif v_mode is null then
    v_mode := case when ${tableExists("absurd", "queues")} then 'additive' else 'complete' end;
  end if;
  if v_mode <> '${mode}' then
    raise exception 'effect-absurd: this is the ${mode} script, but this database needs the % one', v_mode
      using hint = 'additive is for databases where the schema absurd comes from another installation of Absurd.';
  end if;
${mode === "additive" ? Foreign.guard() : ""}${execute(sqlOf(mode))}
  insert into ${migrationsTable} (migration_id, name) values (${version}, '${mode}') on conflict do nothing;
`
  )

/**
 * What {@link layer} does to a database without another installation of Absurd, as one SQL statement: for
 * `psql -X -v ON_ERROR_STOP=1 -f -`, or as one query of any client, in a transaction or not. It records the version, so
 * that `layer` finds it installed, and refuses databases that it is not for.
 *
 * @since 0.1.0
 */
export const script: string = makeScript("complete")

/**
 * Like {@link script}, for a database where the schema `absurd` comes from another installation of Absurd. Like
 * {@link layer} it refuses one that lacks what is needed, or whose version this library is not tested with, unless the
 * session's setting `absurd_effect.accepted_version` names that version.
 *
 * @since 0.1.0
 */
export const additiveScript: string = makeScript("additive")
