/**
 * What is known to go wrong in the SQL of the original, one entry for each finding that concerns SQL: either the fault is
 * gone here, or other programs rely on the behaviour, and then the entry holds it fast, together with what our own door
 * does instead.
 *
 * Findings that are about programs or about error texts have no entry: U23 to U26.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../support/Postgres.ts"
import * as Sessions from "./Sessions.ts"

const { batch, failure, query, untilBlocked } = Sessions

interface Subject {
  readonly client: pg.Client
  readonly queue: string
  readonly task: string
  readonly run: string
}

/** `:q`, `:run` and `:task` in a statement are those of the subject. */
const bound = ({ queue, run, task }: Subject, text: string) =>
  text.replaceAll(":q", `'${queue}'`).replaceAll(":run", `'${run}'`).replaceAll(":task", `'${task}'`)

const call = (subject: Subject, text: string) => query(subject.client, bound(subject, text))

const refusal = (subject: Subject, text: string) =>
  Effect.map(failure(subject.client, bound(subject, text)), ({ code, message }) => `${code} ${message}`)

/** Every statement is refused with these words, and none of them leaves anything behind. */
const refuses = (subject: Subject, words: string, texts: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const before = yield* Sessions.contents(subject.client, subject.queue)
    for (const text of texts) assert.include(yield* refusal(subject, text), words, text)
    assert.deepStrictEqual(yield* Sessions.contents(subject.client, subject.queue), before)
  })

const spawnTask = (client: pg.Client, queue: string, options: object = {}) =>
  query(client, "select * from absurd.spawn_task($1, 'task', '1', $2)", [queue, JSON.stringify(options)]).pipe(
    Effect.map(([row]): Subject => ({ client, queue, task: String(row?.["task_id"]), run: String(row?.["run_id"]) }))
  )

/** A task of a queue of its own, at a time that stands still. */
const spawned = (options: object = {}) =>
  Effect.gen(function*() {
    const client = yield* Sessions.session
    yield* query(client, "set absurd.fake_now = '2026-01-05T00:00:00Z'")
    return yield* spawnTask(client, yield* Sessions.queue(client), options)
  })

const claimed = (subject: Subject, lease = 60, limit = 1) =>
  call(subject, `select * from absurd.claim_task(:q, 'worker', ${lease}, ${limit})`)

/** The same, claimed for a minute. */
const running = (options: object = {}) => Effect.tap(spawned(options), (subject) => claimed(subject))

const pass = ({ client }: Subject, interval: string) =>
  query(client, "select set_config('absurd.fake_now', (absurd.current_time() + $1::interval)::text, false)", [interval])

const rowOf = (subject: Subject) => Sessions.run(subject.client, subject.queue, subject.run)

const stateOf = (subject: Subject) =>
  Effect.map(call(subject, "select state from absurd.get_task_result(:q, :task)"), ([row]) => row?.["state"])

const unknown = "'00000000-0000-7000-8000-000000000000'"

const setCheckpoint = (task: string, value = "1", extend = "null") =>
  `select absurd.set_task_checkpoint_state(:q, ${task}, 'step', '${value}', :run, ${extend})`

const awaitEvent = (step: string, timeout = "null") =>
  `select should_suspend, payload from absurd.await_event(:q, :task, :run, '${step}', 'event', ${timeout})`

const spawnWith = (options: string) => `select * from absurd.spawn_task(:q, 'task', '1', '${options}')`

type Finding = readonly [
  id: string,
  what: string,
  test: Effect.Effect<void, unknown, TestPostgres.TestDatabase | Scope.Scope>
]

const findings: ReadonlyArray<Finding> = [
  [
    "U1",
    "who names a running run may end it; under our tokens a former holder can change nothing",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const { client, queue, run } = subject
      yield* Sessions.claim(client, queue, "first")
      yield* batch(client, "release", queue, [{ run, token: "first", delay: 0 }])
      yield* Sessions.claim(client, queue, "second")
      const before = yield* Sessions.contents(client, queue)
      const item = {
        run,
        token: "first",
        name: "step",
        state: 1,
        extend: 1,
        lease: 1,
        result: 1,
        reason: 1,
        retry: "never"
      }
      for (const operation of ["set_checkpoints", "extend", "complete", "fail", "release"]) {
        const [answer] = yield* batch(client, operation, queue, [item])
        assert.strictEqual(answer?.["outcome"], "leaseLost", operation)
      }
      assert.deepStrictEqual(yield* Sessions.contents(client, queue), before)
      yield* call(subject, "select absurd.complete_run(:q, :run, '1')")
      assert.strictEqual(yield* stateOf(subject), "completed")
    })
  ],
  [
    "U2",
    "a sleeping run can be failed on the wire, and not under a token",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const { client, queue, run } = subject
      yield* Sessions.claim(client, queue, "mine")
      yield* batch(client, "release", queue, [{ run, token: "mine", delay: 60 }])
      const [answer] = yield* batch(client, "fail", queue, [{ run, token: "mine", reason: 1, retry: "never" }])
      assert.strictEqual(answer?.["outcome"], "leaseLost")
      yield* call(subject, "select absurd.fail_run(:q, :run, '1')")
      assert.strictEqual((yield* rowOf(subject))["state"], "failed")
    })
  ],
  [
    "U3",
    "a checkpoint that waits for whoever fails its run is not stored",
    Effect.gen(function*() {
      const subject = yield* running()
      const sweeper = yield* Sessions.session
      yield* query(sweeper, "begin")
      yield* call({ ...subject, client: sweeper }, "select absurd.fail_run(:q, :run, '1')")
      const late = yield* Effect.forkChild(refusal(subject, setCheckpoint(":task")), { startImmediately: true })
      yield* untilBlocked(sweeper, subject.client)
      yield* query(sweeper, "commit")
      assert.include(yield* Fiber.join(late), "AB002")
      assert.deepStrictEqual(
        yield* call(subject, "select from absurd.get_task_checkpoint_state(:q, :task, 'step')"),
        []
      )
    })
  ],
  [
    "U4",
    "a run writes checkpoints of its own task only, and only while it is running",
    Effect.gen(function*() {
      const subject = yield* running()
      const other = yield* spawnTask(subject.client, subject.queue)
      yield* refuses(subject, "P0001 Run", [setCheckpoint(`'${other.task}'`), setCheckpoint(unknown)])
      yield* refuses(subject, "does not belong to task", [setCheckpoint(`'${other.task}'`), setCheckpoint(unknown)])
      yield* refuses(other, "is not currently running", [setCheckpoint(":task")])
      yield* call(subject, setCheckpoint(":task"))
      yield* call(subject, "select absurd.complete_run(:q, :run, '1')")
      yield* refuses(subject, "is not currently running", [setCheckpoint(":task"), setCheckpoint(unknown)])
    })
  ],
  [
    "U5",
    "an extension may shorten a lease on the wire, and never does under a token",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const { client, queue, run } = subject
      yield* Sessions.claim(client, queue, "mine")
      const lease = Effect.map(
        call(
          subject,
          `select extract(epoch from claim_expires_at - absurd.current_time())::int as lease from absurd.r_${queue}`
        ),
        ([row]) => row?.["lease"]
      )
      yield* batch(client, "extend", queue, [{ run, token: "mine", lease: 30 }])
      yield* batch(client, "set_checkpoints", queue, [{ run, token: "mine", name: "step", state: 1, extend: 30 }])
      assert.strictEqual(yield* lease, 3600)
      yield* call(subject, setCheckpoint(":task", "1", "40"))
      assert.strictEqual(yield* lease, 40)
      yield* call(subject, "select absurd.extend_claim(:q, :run, 30)")
      assert.strictEqual(yield* lease, 30)
    })
  ],
  [
    "U6",
    "a timeout on the wire is told once, to the run and by the event's name",
    Effect.gen(function*() {
      const subject = yield* running()
      const answers: Array<unknown> = []
      for (const step of ["a", "b", "c"]) {
        answers.push((yield* call(subject, awaitEvent(step, "0")))[0])
        if (step === "a") yield* claimed(subject)
      }
      const suspends = { should_suspend: true, payload: null }
      assert.deepStrictEqual(answers, [suspends, { ...suspends, should_suspend: false }, suspends])
      assert.deepStrictEqual(yield* call(subject, "select from absurd.get_task_checkpoint_state(:q, :task, 'a')"), [])
    })
  ],
  [
    "U7",
    "neither emits nor waits where a wake-up could be lost",
    Effect.gen(function*() {
      const subject = yield* running()
      for (const level of ["repeatable read", "serializable"]) {
        yield* query(subject.client, `set default_transaction_isolation = '${level}'`)
        for (const text of ["select absurd.emit_event(:q, 'event', '1')", awaitEvent("step")]) {
          assert.include(
            yield* refusal(subject, text),
            `needs a transaction that is READ COMMITTED, and this one is ${level.toUpperCase()}`
          )
          assert.match(yield* refusal(subject, text), /^P0001 /)
        }
      }
    })
  ],
  [
    "U8",
    "deleting old events leaves those that somebody waits for",
    Effect.gen(function*() {
      const subject = yield* running()
      yield* call(subject, awaitEvent("step"))
      yield* pass(subject, "1 year")
      assert.deepStrictEqual(yield* call(subject, "select absurd.cleanup_events(:q, 0) as n"), [{ n: 0 }])
      yield* call(subject, "select absurd.emit_event(:q, 'event', '1')")
      assert.strictEqual(yield* stateOf(subject), "pending")
    })
  ],
  [
    "U9",
    "a policy that could not be kept is refused, and one that is stored all the same stops nobody",
    Effect.gen(function*() {
      const subject = yield* spawned()
      const bad = ["1.5", "-5", "60.0", "1e12", "\"soon\"", "\"\"", "[]", "{}", "true"]
      for (const key of ["max_delay", "max_duration"]) {
        yield* refuses(
          subject,
          `P0001 cancellation.${key} must be a whole number of seconds`,
          bad.map((value) => spawnWith(`{"cancellation": {"${key}": ${value}}}`))
        )
      }
      yield* refuses(subject, "cancellation must be a JSON object", [spawnWith("{\"cancellation\": 5}")])
      yield* query(subject.client, `update absurd.t_${subject.queue} set cancellation = '{"max_delay": 0.5}'`)
      assert.lengthOf(yield* claimed(subject), 1)
    })
  ],
  [
    "U10",
    "a retry strategy that means nothing is refused, and one that is stored all the same stops nobody",
    Effect.gen(function*() {
      const subject = yield* running()
      const bad = ["\"abc\"", "\"NaN\"", "\"\"", "-1", "\"-1\"", "[]", "{}", "true"]
      for (const key of ["base_seconds", "factor", "max_seconds"]) {
        yield* refuses(
          subject,
          `P0001 retry_strategy.${key} must be a number`,
          bad.map((value) => spawnWith(`{"retry_strategy": {"kind": "exponential", "${key}": ${value}}}`))
        )
      }
      for (const value of ["\"abc\"", "\"NaN\"", "1e300"]) {
        yield* query(
          subject.client,
          `update absurd.t_${subject.queue}
           set retry_strategy = '{"kind": "exponential", "base_seconds": ${value}, "factor": ${value}}'`
        )
        const { queue } = subject
        const next = yield* spawnTask(subject.client, queue)
        yield* pass(subject, "2 minutes")
        const [first] = yield* claimed(subject)
        assert.strictEqual(first?.["task_id"], next.task)
        yield* call(next, "select absurd.complete_run(:q, :run)")
        yield* pass(subject, "20 years")
        yield* claimed(subject)
      }
    })
  ],
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
    "U15",
    "a lease of nothing has no end on the wire",
    Effect.gen(function*() {
      const subject = yield* spawned()
      yield* claimed(subject, 0)
      assert.strictEqual((yield* rowOf(subject))["claim_expires_at"], null)
    })
  ],
  [
    "U16",
    "nothing can be put off to an instant that never comes",
    Effect.gen(function*() {
      const subject = yield* running()
      for (const instant of ["infinity", "-infinity"]) {
        yield* refuses(subject, "P0001 wake_at must be finite", [`select absurd.schedule_run(:q, :run, '${instant}')`])
        yield* refuses(subject, "P0001 retry_at must be finite", [
          `select absurd.fail_run(:q, :run, '1', '${instant}')`
        ])
      }
      assert.include(yield* refusal(subject, "select absurd.schedule_run(:q, :run, null)"), "23502")
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
  ],
  [
    "U20",
    "options that are none are refused; keys that nobody knows are ignored",
    Effect.gen(function*() {
      const subject = yield* spawned()
      yield* refuses(subject, "P0001 options must be a JSON object", [
        ...["[]", "\"text\"", "5"].map(spawnWith),
        "select absurd.retry_task(:q, :task, '[]')"
      ])
      const bad = ["[1]", "\"text\"", "5", "true"]
      for (const key of ["headers", "retry_strategy", "cancellation"]) {
        yield* refuses(
          subject,
          `P0001 ${key} must be a JSON object`,
          bad.map((value) => spawnWith(`{"${key}": ${value}}`))
        )
      }
      yield* refuses(
        subject,
        "P0001 idempotency_key must be a text that is not empty",
        ["\"\"", "42", "[]", "{}", "false"].map((value) => spawnWith(`{"idempotency_key": ${value}}`))
      )
      const nothing = `{"headers": null, "retry_strategy": null, "max_attempts": null, "cancellation": null,
        "idempotency_key": null, "colour": "blue"}`
      for (const options of ["null", "{}", nothing, "{\"retry_strategy\": {\"kind\": \"linear\"}}"]) {
        assert.lengthOf(yield* call(subject, spawnWith(options)), 1)
      }
      assert.lengthOf(yield* call(subject, "select * from absurd.spawn_task(:q, 'task', null, null)"), 1)
    })
  ],
  [
    "U21",
    "a spawn with a key always has ids, also when the owner of the key is being deleted",
    Effect.gen(function*() {
      const subject = yield* spawned({ idempotency_key: "key" })
      yield* call(subject, "select absurd.cancel_task(:q, :task)")
      yield* pass(subject, "1 day")
      const cleaner = yield* Sessions.session
      yield* query(cleaner, "begin")
      yield* query(cleaner, `delete from absurd.t_${subject.queue} where task_id = $1`, [subject.task])
      const spawning = yield* Effect.forkChild(
        spawnTask(subject.client, subject.queue, { idempotency_key: "key" }),
        { startImmediately: true }
      )
      yield* untilBlocked(cleaner, subject.client)
      yield* query(cleaner, "commit")
      const next = yield* Fiber.join(spawning)
      assert.notInclude([subject.task, "null"], next.task)
      assert.notStrictEqual(next.run, "null")
    })
  ],
  [
    "U22",
    "a key finds the task that has it on the wire, whatever else was asked; our door tells the difference",
    Effect.gen(function*() {
      const subject = yield* spawned({ idempotency_key: "key" })
      const found = yield* call(
        subject,
        "select task_id, created from absurd.spawn_task(:q, 'other', '2', '{\"idempotency_key\": \"key\"}')"
      )
      assert.deepStrictEqual(found, [{ task_id: subject.task, created: false }])
      const [refused] = yield* query(subject.client, "select conflict from absurd_effect.spawn($1, $2::jsonb, true)", [
        subject.queue,
        JSON.stringify([{ name: "other", params: 2, idempotency_key: "key" }])
      ])
      assert.deepInclude(refused?.["conflict"], { task: subject.task, differs: "name" })
    })
  ],
  [
    "U27",
    "a holder whose lease has ended goes on until somebody takes the run over",
    Effect.gen(function*() {
      const subject = yield* running()
      yield* pass(subject, "1 hour")
      yield* call(subject, setCheckpoint(":task"))
      yield* call(subject, "select absurd.complete_run(:q, :run, '1')")
      assert.strictEqual(yield* stateOf(subject), "completed")
    })
  ],
  [
    "U28",
    "without a limit and a strategy a task is tried again at once, for ever",
    Effect.gen(function*() {
      const subject = yield* spawned()
      for (let attempt = 1; attempt <= 10; attempt++) {
        const [row] = yield* claimed(subject)
        assert.strictEqual(row?.["attempt"], attempt)
        yield* call({ ...subject, run: String(row?.["run_id"]) }, "select absurd.fail_run(:q, :run, '1')")
      }
      assert.strictEqual(yield* stateOf(subject), "pending")
    })
  ],
  [
    "U29",
    "events are deleted by their age, and then their name is free",
    Effect.gen(function*() {
      const subject = yield* running()
      yield* call(subject, "select absurd.emit_event(:q, 'event', '1')")
      yield* pass(subject, "1 hour")
      assert.deepStrictEqual(yield* call(subject, "select absurd.cleanup_events(:q, 60) as n"), [{ n: 1 }])
      yield* call(subject, "select absurd.emit_event(:q, 'event', '2')")
      assert.deepStrictEqual(yield* call(subject, awaitEvent("step")), [{ should_suspend: false, payload: 2 }])
    })
  ]
]

layer(TestPostgres.layer())("findings about the original's SQL", (it) => {
  for (const [id, what, test] of findings) it.effect(`${id}: ${what}`, () => test)
})
