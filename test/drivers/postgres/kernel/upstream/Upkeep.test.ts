/** Claims that find nothing, cleaning, partitions, the clock and rights. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Sessions from "../Sessions.ts"
import * as Findings from "./Findings.ts"

const { failure, query } = Sessions
const { awaitEvent, call, claimed, pass, spawnTask, spawned, stateOf } = Findings

Findings.suite("upkeep", [
  [
    "U11",
    "a time to live of centuries keeps no queue from being cleaned",
    Effect.gen(function*() {
      const subject = yield* spawned()
      yield* call(subject, "select absurd.cancel_task(:q, :task)")
      const long = yield* Sessions.queue(subject.client)
      yield* query(subject.client, "select absurd.set_queue_policy($1, '{\"cleanup_ttl\": \"5000 years\"}')", [long])
      yield* pass(subject, "31 days")
      const rows = yield* query(
        subject.client,
        "select * from absurd.cleanup_all_queues() where queue_name = any ($1)",
        [
          [subject.queue, long]
        ]
      )
      assert.sameDeepMembers([...rows], [
        { queue_name: subject.queue, tasks_deleted: 1, events_deleted: 0 },
        { queue_name: long, tasks_deleted: 0, events_deleted: 0 }
      ])
    })
  ],
  [
    "U12",
    "a queue whose tables would bear the names of another's partitions is refused",
    Effect.gen(function*() {
      const { client } = yield* spawned()
      yield* query(client, "select absurd.create_queue('foo', 'partitioned')")
      for (const name of ["foo_d", "foo_646", "foo_602"]) {
        assert.include((yield* failure(client, `select absurd.create_queue('${name}')`)).message, "cannot be created")
      }
      yield* query(client, "select absurd.drop_queue('foo_d')")
      yield* query(client, "select absurd.spawn_task('foo', 'task', '1')")
    })
  ],
  [
    "U13",
    "an overdue task that somebody has locked is left for later",
    Effect.gen(function*() {
      const subject = yield* spawned({ cancellation: { max_delay: 1 } })
      const next = yield* spawnTask(subject.client, subject.queue)
      const holder = yield* Sessions.session
      yield* query(holder, "begin")
      yield* query(holder, `select from absurd.t_${subject.queue} where task_id = $1 for update`, [subject.task])
      yield* pass(subject, "1 minute")
      yield* query(subject.client, "set lock_timeout = '1s'")
      assert.deepStrictEqual((yield* claimed(subject, 60, 5)).map((row) => row["task_id"]), [next.task])
    })
  ],
  [
    "U14",
    "every question of an idle claim has an index of its own, which ended tasks are not in",
    Effect.gen(function*() {
      const { client, queue } = yield* spawned()
      const indexes = yield* query(
        client,
        "select right(indexname, 3) as name, indexdef from pg_indexes where tablename in ($1, $2) and indexdef like '% WHERE %'",
        [`t_${queue}`, `r_${queue}`]
      )
      const open = indexes.filter((row) => ["cdi", "cei", "sai"].includes(String(row["name"])))
      assert.lengthOf(open, 3)
      for (const { indexdef } of open) assert.notInclude(String(indexdef), "completed")
    })
  ],
  [
    "U17",
    "a week is kept whole while one of its tasks may go on",
    Effect.gen(function*() {
      const { client } = yield* spawned()
      yield* query(client, "select absurd.create_queue('weeks', 'partitioned')")
      yield* query(
        client,
        `select absurd.set_queue_policy('weeks',
          '{"default_partition": "disabled", "detach_mode": "empty", "detach_min_age": "1 day"}')`
      )
      const subject = yield* spawnTask(client, "weeks")
      yield* claimed(subject)
      yield* call(subject, awaitEvent("step"))
      yield* pass(subject, "21 days")
      const candidates = call(subject, "select partition_table from absurd.list_detach_candidates(:q)")
      assert.deepStrictEqual((yield* candidates).filter((row) => String(row["partition_table"]).endsWith("_602")), [])
      yield* call(subject, "select absurd.emit_event(:q, 'event', '1')")
      assert.strictEqual(yield* stateOf(subject), "pending")
    })
  ],
  [
    "U18",
    "whoever may call the functions may set their clock; our driver does not start on one that is set",
    Effect.gen(function*() {
      const { client } = yield* spawned()
      assert.deepStrictEqual(
        yield* query(client, "select absurd.current_time() = '2026-01-05T00:00:00Z' as set"),
        [{ set: true }]
      )
    })
  ],
  [
    "U19",
    "functions run with the rights of the caller",
    Effect.gen(function*() {
      const { client } = yield* spawned()
      assert.deepStrictEqual(
        yield* query(
          client,
          `select oid::regprocedure::text from pg_proc
           where pronamespace in ('absurd'::regnamespace, 'absurd_effect'::regnamespace) and prosecdef`
        ),
        []
      )
    })
  ]
])
