/**
 * Installing, on the server of the test run and on every other version of PostgreSQL that this machine has in
 * /usr/lib/postgresql.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import { execFile, execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { promisify } from "node:util"
import { generate, target } from "../../../scripts/generate-sql.ts"
import type { DriverError } from "../../../src/core/Errors.ts"
import * as Installation from "../../../src/drivers/postgres/Installation.ts"
import * as Servers from "./management/Servers.ts"
import * as Session from "./management/Session.ts"

const hasPsql = (() => {
  try {
    return execFileSync("psql", ["--version"]).length > 0
  } catch {
    return false
  }
})()

let counter = 0

/** An empty database whose owner has no other rights, and ways into it as that owner. */
const emptyDatabase = Effect.gen(function*() {
  const location = yield* Servers.Place
  const name = `install_${process.pid}_${++counter}`
  const login = { host: location.socketDirectory, port: location.port }
  const admin = yield* Session.connect({ ...login, user: location.username, database: "postgres" })
  yield* Effect.acquireRelease(
    admin.rows(`create role ${name} login nosuperuser nocreatedb nocreaterole`),
    () => admin.rows(`drop role ${name}`)
  )
  yield* Effect.acquireRelease(
    admin.rows(`create database ${name} owner ${name} template template0`),
    () => admin.rows(`drop database ${name} with (force)`)
  )
  const config = { ...login, user: name, database: name }
  const client = PgClient.layer({ path: location.socketPath, username: name, database: name, maxConnections: 2 })
  const use = <A>(effect: Effect.Effect<A, DriverError, SqlClient.SqlClient>): Effect.Effect<A, DriverError> =>
    Effect.provide(effect, Layer.fresh(Layer.orDie(client)), { local: true })
  return { config, use, sql: yield* Session.connect(config), connect: Session.connect(config) }
})

type Database = Effect.Success<typeof emptyDatabase>

/** Everything that is defined in a schema. */
const definitions = (sql: Session.Connection, schema: string) =>
  sql.rows(
    `
    select 'function' as kind, p.oid::regprocedure::text as name, pg_get_functiondef(p.oid) as definition
    from pg_proc as p where p.pronamespace = to_regnamespace($1)
    union all
    select c.relkind::text, c.relname || coalesce('.' || a.attname, ''), concat_ws(' ',
      format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
      case when c.relkind = 'i' then pg_get_indexdef(c.oid) end, c.reloptions::text)
    from pg_class as c
      left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = to_regnamespace($1)
    order by 1, 2
    `,
    schema
  )

const records = (sql: Session.Connection) =>
  sql.rows("select migration_id, name from absurd_effect.migrations order by 1")

const works = Effect.fnUntraced(function*({ sql, use }: Database) {
  assert.deepStrictEqual(yield* records(sql), [{ migration_id: Installation.version, name: "complete" }])
  yield* use(Installation.check)
  yield* sql.rows("select absurd.create_queue('q')")
  yield* sql.rows("select absurd.create_queue('p', 'partitioned')")
  yield* Effect.forEach(["q", "p"], (queue) =>
    Effect.gen(function*() {
      yield* sql.rows("select absurd.spawn_task($1, 'work', '1')", queue)
      yield* sql.rows("select absurd.complete_run($1, run_id, '2') from absurd.claim_task($1, 'w')", queue)
      assert.strictEqual(yield* sql.value(`select completed_payload::text from absurd.t_${queue}`), "2")
    }))
})

const mismatch = (effect: Effect.Effect<unknown, DriverError>) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(effect)
    assert.strictEqual(error.reason._tag, "SchemaMismatch")
    return error.message
  })

/** A schema absurd that we did not install: ours, made to look like another one. */
const foreign = Effect.fnUntraced(function*({ sql }: Database, version: string | null = "0.4.0") {
  yield* sql.rows(Installation.script)
  yield* sql.rows("select absurd.create_queue('theirs')")
  yield* sql.rows("drop schema absurd_effect cascade")
  yield* setVersion(sql, version)
})

const setVersion = (sql: Session.Connection, version: string | null) =>
  sql.rows(
    `create or replace function absurd.get_schema_version() returns text language sql as $$ select ${
      version === null ? "null" : `'${version}'`
    }::text $$`
  )

const test = (
  name: string,
  body: (database: Database) => Effect.Effect<void, unknown, Scope.Scope>
) => [name, Effect.flatMap(emptyDatabase, body)] as const

/** What a version of PostgreSQL might do differently. */
const tests = [
  test("the layer installs, and finds it installed", (database) =>
    Effect.gen(function*() {
      const { sql, use } = database
      assert.deepStrictEqual(yield* use(Installation.status), {
        installed: undefined,
        mode: "complete",
        hasQueues: false
      })
      yield* use(Effect.scoped(Layer.build(Installation.layer)))
      const before = yield* definitions(sql, "absurd")
      const kernel = yield* definitions(sql, "absurd_effect")
      assert.isAbove(kernel.length, 10)
      yield* use(Installation.install)
      assert.deepStrictEqual(yield* definitions(sql, "absurd"), before)
      yield* works(database)
      assert.deepStrictEqual(yield* use(Installation.status), {
        installed: Installation.version,
        mode: "complete",
        hasQueues: true
      })
    })),

  test("ten that start at once all find it installed", (database) =>
    Effect.gen(function*() {
      const all = Array.from({ length: 10 })
      yield* Effect.forEach(all, () => database.use(Installation.install), { concurrency: 10, discard: true })
      yield* works(database)
    })),

  test("ten layers and ten scripts at once", (database) =>
    Effect.gen(function*() {
      const sessions = yield* Effect.forEach(Array.from({ length: 10 }), () => database.connect)
      yield* Effect.forEach(
        sessions,
        (session) =>
          Effect.all([session.rows(Installation.script), database.use(Installation.install)], { concurrency: 2 }),
        { concurrency: 10, discard: true }
      )
      yield* works(database)
    })),

  test("the script is one query, and can be applied again to a database in use", (database) =>
    Effect.gen(function*() {
      yield* database.sql.rows(Installation.script)
      yield* works(database)
      const before = yield* definitions(database.sql, "absurd")
      yield* database.sql.rows(Installation.script)
      assert.deepStrictEqual(yield* definitions(database.sql, "absurd"), before)
      assert.strictEqual(yield* database.sql.value("select count(*)::integer from absurd.t_q"), 1)
      yield* database.use(Installation.install)
      assert.lengthOf(yield* records(database.sql), 1)
    })),

  test("the script belongs to the transaction it is applied in", (database) =>
    Effect.gen(function*() {
      const { sql } = database
      yield* sql.rows("begin")
      yield* sql.rows(Installation.script)
      yield* sql.rows("select absurd.create_queue('undone')")
      yield* sql.rows("rollback")
      assert.strictEqual(yield* sql.value("select to_regnamespace('absurd') is null"), true)
      yield* sql.rows("begin")
      yield* sql.rows(Installation.script)
      yield* sql.rows("commit")
      yield* works(database)
    })),

  test("the layer belongs to the transaction it is built in", ({ sql, use }) =>
    Effect.gen(function*() {
      const undone = Effect.gen(function*() {
        const client = yield* SqlClient.SqlClient
        yield* client.withTransaction(Effect.andThen(Installation.install, Effect.fail("undone" as const))).pipe(
          Effect.catchIf((error) => error === "undone", () => Effect.void),
          Effect.orDie
        )
      })
      yield* use(undone)
      assert.strictEqual(yield* sql.value("select to_regnamespace('absurd') is null"), true)
    })),

  test("a role that may not create schemas is told so", ({ sql, use }) =>
    Effect.gen(function*() {
      yield* sql.rows(
        "do $$ begin execute format('revoke create on database %I from current_user', current_database()); end $$"
      )
      const error = yield* Effect.flip(use(Installation.install))
      assert.strictEqual(error.reason._tag, "Rejected")
      assert.include(error.message, "permission denied for database")
    })),

  test("nothing is installed", ({ use }) =>
    Effect.gen(function*() {
      const message = yield* mismatch(use(Installation.check))
      assert.include(message, "The schema is not installed")
      assert.include(message, "Installation.script")
    })),

  ...(hasPsql ? ["", "--single-transaction"] : []).map((option) =>
    test(`psql applies what the command prints, twice ${option}`, (database) =>
      Effect.gen(function*() {
        const { database: name, host, port, user } = database.config
        const args = ["-X", "-v", "ON_ERROR_STOP=1", ...(option === "" ? [] : [option]), "-f", "-"]
        for (let time = 0; time < 2; time++) {
          const output = execFileSync("psql", ["-h", host, "-p", String(port), "-U", user, "-d", name, "-q", ...args], {
            input: yield* printed,
            stdio: ["pipe", "pipe", "pipe"]
          })
          assert.strictEqual(output.toString(), "")
        }
        yield* works(database)
      }))
  )
]

/** What is the same on all of them. */
const refusals = [
  test("a newer version is refused by all", ({ sql, use }) =>
    Effect.gen(function*() {
      yield* use(Installation.install)
      yield* sql.rows("insert into absurd_effect.migrations (migration_id, name) values (99, 'complete')")
      assert.include(yield* mismatch(use(Installation.check)), "The schema has version 99")
      assert.include(yield* mismatch(use(Installation.install)), "Use a newer version of effect-absurd")
      assert.include((yield* sql.refusal(Installation.script)).message, "the schema has version 99")
    })),

  test("an older version is refused by the check and upgraded by the layer", (database) =>
    Effect.gen(function*() {
      const { sql, use } = database
      yield* use(Installation.install)
      yield* sql.rows("update absurd_effect.migrations set migration_id = 0")
      yield* sql.rows("drop function absurd.list_queues()")
      assert.include(yield* mismatch(use(Installation.check)), "The schema has version 0")
      yield* use(Installation.install)
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.list_queues()"), [])
      yield* sql.rows("delete from absurd_effect.migrations where migration_id = 0")
      yield* works(database)
    })),

  test("a schema that was removed is reported, and the script brings it back", (database) =>
    Effect.gen(function*() {
      const { sql, use } = database
      yield* use(Installation.install)
      yield* sql.rows("drop schema absurd cascade")
      assert.include(yield* mismatch(use(Installation.check)), "drop schema absurd_effect cascade")
      assert.include(yield* mismatch(use(Installation.install)), "has been removed")
      yield* sql.rows(Installation.script)
      yield* works(database)
    })),

  test("beside another installation only the kernel is added", (database) =>
    Effect.gen(function*() {
      const { sql, use } = database
      yield* foreign(database)
      const before = yield* definitions(sql, "absurd")
      const refused = yield* sql.refusal(Installation.script)
      assert.include(refused.message, "this database needs the additive one")
      yield* use(Installation.install)
      assert.deepStrictEqual(yield* definitions(sql, "absurd"), before)
      assert.deepStrictEqual(yield* records(sql), [{ migration_id: Installation.version, name: "additive" }])
      assert.isAbove((yield* definitions(sql, "absurd_effect")).length, 10)
      yield* use(Installation.check)
      yield* use(Installation.install)
      yield* sql.rows(Installation.additiveScript)
      assert.deepStrictEqual(yield* definitions(sql, "absurd"), before)
      assert.include((yield* sql.refusal(Installation.script)).message, "needs the additive one")
    })),

  test("the additive script is for databases with another installation only", (database) =>
    Effect.gen(function*() {
      assert.include(
        (yield* database.sql.refusal(Installation.additiveScript)).message,
        "this database needs the complete one"
      )
      yield* foreign(database, "main")
      yield* database.sql.rows(Installation.additiveScript)
      yield* database.use(Installation.check)
      assert.strictEqual((yield* database.use(Installation.status)).mode, "additive")
    })),

  ...([
    [
      "the function absurd.await_event(text,uuid,uuid,text,text,integer) is missing",
      "drop function absurd.await_event"
    ],
    ["the column claimed_by of absurd.r_theirs is missing", "alter table absurd.r_theirs drop column claimed_by"],
    ["the column payload of absurd.e_theirs is missing", "drop table absurd.e_theirs"],
    [
      "its version is 0.3.2",
      "create or replace function absurd.get_schema_version() returns text language sql as 'select ''0.3.2''::text'"
    ]
  ] as const).map(([problem, change]) =>
    test(`another installation is refused when ${problem}`, (database) =>
      Effect.gen(function*() {
        yield* foreign(database)
        yield* database.sql.rows(change)
        assert.include(yield* mismatch(database.use(Installation.install)), problem)
        const refused = yield* database.sql.refusal(Installation.additiveScript)
        assert.include(refused.message, problem.replace(/^its version is (.*)/, "its version, \"$1\", is not known"))
        assert.strictEqual(yield* database.sql.value("select to_regnamespace('absurd_effect') is null"), true)
      }))
  ),

  ...["main", "0.4.0", "v0.4.0", `effect-absurd ${Installation.version}`].map((version) =>
    test(`another installation is accepted when its version is ${version}`, (database) =>
      Effect.gen(function*() {
        yield* foreign(database, version)
        yield* database.use(Installation.install)
        yield* database.use(Installation.check)
        yield* database.sql.rows(Installation.additiveScript)
      }))
  ),

  ...["banana", "", null, "9.9.9", "1.0.0", "4", "0.4", "0.5.0", "0.4.1", "0.4.0-rc.1", "0.3.9", "mainly"].map((
    version
  ) =>
    test(`another installation is refused when its version is ${JSON.stringify(version)}`, (database) =>
      Effect.gen(function*() {
        const { sql, use } = database
        const problem = version === null ? "it does not say its version" : `its version is ${version || "empty"}`
        yield* foreign(database, version)
        const message = yield* mismatch(use(Installation.install))
        assert.include(message, problem)
        assert.include(message, version === "0.3.9" ? "Bring it up to Absurd 0.4.0" : "Installation.AcceptedVersions")
        const refused = yield* sql.refusal(Installation.additiveScript)
        assert.include(refused.message, `its version, ${version === null ? "null" : `"${version}"`}, is not known`)
        assert.strictEqual(yield* sql.value("select to_regnamespace('absurd_effect') is null"), true)

        // One that was fine when the kernel was installed, and has been upgraded since.
        yield* setVersion(sql, "0.4.0")
        yield* use(Installation.install)
        yield* setVersion(sql, version)
        assert.include(yield* mismatch(use(Installation.check)), problem)
        assert.include(yield* mismatch(use(Installation.install)), problem)
      }))
  ),

  test("a version is accepted by name, by the layer and the check as by the script", (database) =>
    Effect.gen(function*() {
      const { sql, use } = database
      yield* foreign(database, "0.5.0")
      const accepting = (versions: ReadonlyArray<string>) =>
        Effect.provideService(Installation.AcceptedVersions, versions)
      yield* mismatch(use(Installation.install).pipe(accepting(["0.5.1", "0.6.0"])))
      yield* use(Installation.install).pipe(accepting(["0.6.0", "0.5.0"]))
      yield* use(Installation.check).pipe(accepting(["0.5.0"]))
      assert.include((yield* sql.refusal(Installation.additiveScript)).message, "\"0.5.0\", is not known")
      yield* sql.rows("set absurd_effect.accepted_version = '0.5.0'")
      yield* sql.rows(Installation.additiveScript)
    }))
]

const print = async (): Promise<string> => {
  const program = Path.join(import.meta.dirname, "../../../src/cli/schema.ts")
  const { stdout } = await promisify(execFile)(process.execPath, ["--conditions=source", program], {
    maxBuffer: 10_000_000
  })
  return stdout
}

let output: Promise<string> | undefined

const printed = Effect.promise(() => output ??= print())

for (const [index, [name, place]] of Servers.all.entries()) {
  layer(place, { concurrent: false })(`Installation on ${name}`, (it) => {
    for (const [name, body] of index === 0 ? [...tests, ...refusals] : tests) it.effect(name, () => body)
  })
}

describe("Installation", () => {
  it.effect("the command prints the script", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* printed, Installation.script)
    }))

  it.effect("the generated file is what the generator makes of the SQL files", () =>
    Effect.gen(function*() {
      const [expected, found] = yield* Effect.promise(() =>
        Promise.all([generate(), Fs.promises.readFile(target, "utf8")])
      )
      assert.strictEqual(found, expected, "run: npm run generate")
    }))
})
