import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { script } from "../../../../src/drivers/postgres/Installation.ts"
import * as Servers from "./Servers.ts"
import * as Session from "./Session.ts"

/** What the functions use of pg_cron, without anything that runs the jobs. */
const standIn = `
  drop schema if exists cron cascade;
  create schema cron;
  create table cron.job (
    jobid bigint generated always as identity primary key, schedule text not null, command text not null, jobname text
  );
  create function cron.schedule(job_name text, schedule text, command text) returns bigint language sql as $$
    insert into cron.job (jobname, schedule, command) values ($1, $2, $3) returning jobid
  $$;
  create function cron.unschedule(job_id bigint) returns boolean language sql as $$
    with gone as (delete from cron.job where jobid = $1 returning 1) select exists (select from gone)
  $$;
`

const at = (sql: Session.Connection, time: string) => sql.rows("select set_config('absurd.fake_now', $1, false)", time)

const md5 = (sql: Session.Connection, text: string, length: number) =>
  Effect.map(sql.value("select left(md5($1), $2)", text, length), String)

const jobs = (sql: Session.Connection) => sql.rows("select jobname, schedule, command from cron.job order by jobid")

Session.everywhere("cron", (it) => {
  const test = (name: string, body: (sql: Session.Connection) => Effect.Effect<void, unknown, never>) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        const sql = yield* Session.another
        yield* sql.rows(standIn)
        yield* body(sql)
      }))

  it.effect("without pg_cron, what needs it says so and what does not goes on", () =>
    Effect.gen(function*() {
      const sql = yield* Session.another
      yield* sql.rows("drop schema if exists cron cascade")
      yield* sql.rows("select absurd.create_queue('bare')")
      for (const call of ["enable_cron()", "disable_cron()", "schedule_detach_jobs()", "enable_cron('bare')"]) {
        const refused = yield* sql.refusal(`select * from absurd.${call}`)
        assert.strictEqual(refused.code, "P0001")
        assert.match(refused.message, /^pg_cron is not available \(.*\)$/)
      }
      yield* sql.rows("select absurd.drop_queue('bare')")
    }))

  test("enabling schedules three jobs, in order, and replaces those that are there", (sql) =>
    Effect.gen(function*() {
      const first = yield* sql.rows("select job_name from absurd.enable_cron()")
      assert.deepStrictEqual(first.map((row) => row.job_name), [
        "absurd_partitions_all",
        "absurd_cleanup_all",
        "absurd_detach_plan_all"
      ])
      const again = yield* sql.rows("select job_name, job_id::integer from absurd.enable_cron(null, '1 * * * *')")
      assert.deepStrictEqual(again.map((row) => row.job_id), [4, 5, 6])
      assert.deepStrictEqual(yield* jobs(sql), [
        {
          jobname: "absurd_partitions_all",
          schedule: "1 * * * *",
          command: "select absurd.ensure_partitions(null::text)"
        },
        {
          jobname: "absurd_cleanup_all",
          schedule: "17 * * * *",
          command: "select * from absurd.cleanup_all_queues(null::text)"
        },
        {
          jobname: "absurd_detach_plan_all",
          schedule: "29 * * * *",
          command: "select * from absurd.schedule_detach_jobs(null::text)"
        }
      ])
    }))

  test("the jobs of a queue bear its hash and its quoted name, and can be run", (sql) =>
    Effect.gen(function*() {
      yield* sql.rows("select absurd.create_queue($1)", "it's")
      const scope = yield* md5(sql, "it's", 12)
      yield* sql.rows("select * from absurd.enable_cron($1)", "it's")
      const scheduled = yield* jobs(sql)
      assert.deepStrictEqual(scheduled.map((job) => job.jobname), [
        `absurd_partitions_${scope}`,
        `absurd_cleanup_${scope}`,
        `absurd_detach_plan_${scope}`
      ])
      for (const [index, name] of ["ensure_partitions", "cleanup_all_queues", "schedule_detach_jobs"].entries()) {
        const command = String(scheduled[index]?.command)
        assert.include(command, `absurd.${name}('it''s')`)
        yield* sql.rows(command)
      }
    }))

  test("what cannot be scheduled is refused", (sql) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* sql.refusal("select * from absurd.enable_cron('nowhere')"), {
        code: "P0001",
        message: "Queue \"nowhere\" does not exist"
      })
      for (const [index, name] of ["Partition", "Cleanup", "Detach"].entries()) {
        for (const blank of [null, " "]) {
          const schedules = ["a", "b", "c"].map((schedule, other) => other === index ? blank : schedule)
          assert.deepStrictEqual(
            yield* sql.refusal("select * from absurd.enable_cron(null, $1, $2, $3)", ...schedules),
            { code: "P0001", message: `${name} schedule must be provided` }
          )
        }
      }
      assert.deepStrictEqual(yield* jobs(sql), [])
    }))

  test("disabling removes the jobs of its scope alone and returns them", (sql) =>
    Effect.gen(function*() {
      yield* sql.rows("select absurd.create_queue('scoped')")
      const scope = yield* md5(sql, "scoped", 12)
      yield* sql.rows("select * from absurd.enable_cron()")
      yield* sql.rows("select * from absurd.enable_cron('scoped')")
      yield* sql.rows(
        "select cron.schedule(name, '* * * * *', 'select 1') from unnest($1::text[]) as name",
        [`absurd_detach_run_${scope}_x_y`, `absurd_drop_run_${scope}_x_y`, "absurd_drop_run_all_x_y", "another"]
      )
      const removed = yield* sql.column("select job_name from absurd.disable_cron('scoped')")
      assert.sameMembers([...removed], [
        ...["partitions", "cleanup", "detach_plan"].map((kind) => `absurd_${kind}_${scope}`),
        ...["detach", "drop"].map((kind) => `absurd_${kind}_run_${scope}_x_y`)
      ])
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.disable_cron('scoped')"), [])
      assert.lengthOf(yield* sql.rows("select * from absurd.disable_cron()"), 4)
      assert.deepStrictEqual((yield* jobs(sql)).map((job) => job.jobname), ["another"])
    }))

  test("dropping a queue removes its jobs", (sql) =>
    Effect.gen(function*() {
      yield* sql.rows("select absurd.create_queue('dropped')")
      yield* sql.rows("select * from absurd.enable_cron('dropped')")
      yield* sql.rows("select * from absurd.enable_cron()")
      yield* sql.rows("select absurd.drop_queue('dropped')")
      assert.lengthOf(yield* jobs(sql), 3)
    }))

  test("the oldest candidate of each table gets a detach and a drop job, once", (sql) =>
    Effect.gen(function*() {
      yield* at(sql, "2026-01-05T00:00:00Z")
      yield* sql.rows("select absurd.create_queue('Weekly q', 'partitioned')")
      yield* sql.rows("select absurd.set_queue_policy('Weekly q', $1)", { detach_mode: "empty", detach_min_age: "0" })
      yield* at(sql, "2026-01-26T00:00:00Z")
      const planned = yield* sql.rows(
        "select job_name, queue_name, partition_table, job_kind from absurd.schedule_detach_jobs('Weekly q')"
      )
      const scope = yield* md5(sql, "Weekly q", 12)
      const expected = []
      for (const letter of ["c", "r", "t", "w"]) {
        const parent = yield* md5(sql, `${letter}_Weekly q`, 8)
        const candidate = yield* md5(sql, `${letter}_Weekly q:${letter}_Weekly q_601`, 12)
        for (const kind of ["detach", "drop"]) {
          expected.push({
            job_name: `absurd_${kind}_run_${scope}_${parent}_${candidate}`,
            queue_name: "Weekly q",
            partition_table: `${letter}_Weekly q_601`,
            job_kind: kind
          })
        }
      }
      assert.deepStrictEqual(planned, expected)
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.schedule_detach_jobs('Weekly q')"), [])
      assert.deepStrictEqual(yield* sql.rows("select * from absurd.schedule_detach_jobs()"), [])
      const [detach, drop] = (yield* jobs(sql)).filter((job) => String(job.command).includes("t_Weekly q_601"))
      assert.strictEqual(
        detach?.command,
        "alter table absurd.\"t_Weekly q\" detach partition absurd.\"t_Weekly q_601\""
      )
      assert.strictEqual(detach?.schedule, "* * * * *")
      assert.strictEqual(
        drop?.command,
        `select absurd.drop_detached_partition('t_Weekly q_601', '${String(drop?.jobname)}')`
      )
      // As cron would run them, in the wrong order first.
      yield* sql.rows(String(drop?.command))
      assert.strictEqual(yield* sql.value("select to_regclass('absurd.\"t_Weekly q_601\"') is not null"), true)
      yield* sql.rows(String(detach?.command))
      assert.deepStrictEqual(yield* sql.column(String(drop?.command)), [true])
      const names = (yield* jobs(sql)).map((job) => job.jobname)
      assert.notInclude(names, detach?.jobname)
      assert.notInclude(names, drop?.jobname)
      // The next week of that table has its turn.
      assert.deepStrictEqual(
        yield* sql.column("select partition_table from absurd.schedule_detach_jobs('Weekly q')"),
        ["t_Weekly q_602", "t_Weekly q_602"]
      )
    }))

  test("without default partition a week is detached concurrently", (sql) =>
    Effect.gen(function*() {
      yield* at(sql, "2026-01-05T00:00:00Z")
      yield* sql.rows("select absurd.create_queue('nodefault', 'partitioned')")
      yield* sql.rows("select absurd.set_queue_policy('nodefault', $1)", {
        default_partition: "disabled",
        detach_mode: "empty",
        detach_min_age: "0"
      })
      yield* at(sql, "2026-01-06T00:00:00Z")
      yield* sql.rows("select absurd.schedule_detach_jobs('nodefault')")
      const command = String(
        (yield* jobs(sql)).find((job) => /detach.*t_nodefault_/.test(String(job.command)))?.command
      )
      assert.strictEqual(
        command,
        "alter table absurd.t_nodefault detach partition absurd.t_nodefault_601 concurrently"
      )
      yield* sql.rows(command)
      assert.strictEqual(yield* sql.value("select absurd.drop_detached_partition('t_nodefault_601')"), true)
    }))

  test("a drop job whose table is gone ends itself and its twin", (sql) =>
    Effect.gen(function*() {
      yield* sql.rows(
        "select cron.schedule(name, '* * * * *', 'select 1') from unnest($1::text[]) as name",
        ["absurd_detach_run_all_x_y", "absurd_drop_run_all_x_y"]
      )
      const drop = "select absurd.drop_detached_partition('t_never_101', 'absurd_drop_run_all_x_y')"
      assert.strictEqual(yield* sql.value(drop), false)
      assert.deepStrictEqual(yield* jobs(sql), [])
    }))
})

/**
 * The same with the real pg_cron, on every version in /usr/lib/postgresql that has its library, for example after
 * `apt-get install postgresql-15-cron`. All of it is covered by the stand-in too. Where nothing has it, the report says so.
 */
const withCron = Servers.installed.filter(([, bin]) => Fs.existsSync(Path.join(bin, "../lib/pg_cron.so")))

if (withCron.length === 0) {
  describe("pg_cron itself", () => {
    it.skip("needs its library in /usr/lib/postgresql: apt-get install postgresql-15-cron", () => {})
  })
}

for (const [version, bin] of withCron) {
  const settings = { shared_preload_libraries: "pg_cron", "cron.database_name": "postgres" }
  layer(Servers.layerInstalled(bin, settings), { concurrent: false })(`pg_cron on PostgreSQL ${version}`, (it) => {
    it.effect("jobs are scheduled, replaced, run and removed", () =>
      Effect.gen(function*() {
        const { port, socketDirectory: host, username: user } = yield* Servers.Place
        const sql = yield* Session.connect({ host, port, user, database: "postgres" })
        yield* sql.rows("create extension pg_cron")
        yield* sql.rows(script)
        yield* sql.rows("select set_config('absurd.fake_now', '2026-01-05T00:00:00Z', false)")
        yield* sql.rows("select absurd.create_queue('q', 'partitioned')")
        yield* sql.rows("select absurd.set_queue_policy('q', $1)", {
          detach_mode: "empty",
          detach_min_age: "0",
          default_partition: "disabled"
        })
        const names = sql.column("select jobname from cron.job order by jobname")

        yield* sql.rows("select * from absurd.enable_cron('q')")
        yield* sql.rows("select * from absurd.enable_cron('q', '7 * * * *')")
        assert.lengthOf(yield* names, 3)
        assert.deepStrictEqual(
          yield* sql.column("select schedule from cron.job where jobname like 'absurd_partitions_%'"),
          ["7 * * * *"]
        )
        const commands = yield* sql.column("select command from cron.job order by jobname")
        for (const command of commands) yield* sql.rows(String(command))

        yield* sql.rows("select set_config('absurd.fake_now', '2026-01-20T00:00:00Z', false)")
        assert.lengthOf(yield* sql.rows("select * from absurd.schedule_detach_jobs('q')"), 8)
        assert.lengthOf(yield* sql.rows("select * from absurd.schedule_detach_jobs('q')"), 0)
        const planned = yield* sql.column("select command from cron.job where jobname ~ '_run_' order by jobname")
        for (const command of planned) yield* sql.rows(String(command))
        assert.strictEqual(yield* sql.value("select to_regclass('absurd.t_q_601') is null"), true)
        assert.lengthOf(yield* names, 3)

        yield* sql.rows("select * from absurd.schedule_detach_jobs('q')")
        assert.lengthOf(yield* sql.rows("select * from absurd.disable_cron('q')"), 11)
        assert.lengthOf(yield* sql.rows("select * from absurd.disable_cron('q')"), 0)
        yield* sql.rows("select * from absurd.enable_cron('q')")
        yield* sql.rows("select absurd.drop_queue('q')")
        assert.deepStrictEqual(yield* names, [])
      }))
  })
}
