/**
 * What is known to go wrong in the SQL of the original, one entry for each finding that concerns SQL: either the fault is
 * gone here, or other programs rely on the behaviour, and then the entry holds it fast, together with what our own door
 * does instead. The entries are in the tests of this folder, by topic.
 *
 * Findings that are about programs or about error texts have no entry: U23 to U26.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import type pg from "pg"
import * as TestPostgres from "../../../../support/Postgres.ts"
import * as Sessions from "../Sessions.ts"

const { failure, query } = Sessions

export interface Subject {
  readonly client: pg.Client
  readonly queue: string
  readonly task: string
  readonly run: string
}

/** `:q`, `:run` and `:task` in a statement are those of the subject. */
const bound = ({ queue, run, task }: Subject, text: string) =>
  text.replaceAll(":q", `'${queue}'`).replaceAll(":run", `'${run}'`).replaceAll(":task", `'${task}'`)

export const call = (subject: Subject, text: string) => query(subject.client, bound(subject, text))

export const refusal = (subject: Subject, text: string) =>
  Effect.map(failure(subject.client, bound(subject, text)), ({ code, message }) => `${code} ${message}`)

/** Every statement is refused with these words, and none of them leaves anything behind. */
export const refuses = (subject: Subject, words: string, texts: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const before = yield* Sessions.contents(subject.client, subject.queue)
    for (const text of texts) assert.include(yield* refusal(subject, text), words, text)
    assert.deepStrictEqual(yield* Sessions.contents(subject.client, subject.queue), before)
  })

export const spawnTask = (client: pg.Client, queue: string, options: object = {}) =>
  query(client, "select * from absurd.spawn_task($1, 'task', '1', $2)", [queue, JSON.stringify(options)]).pipe(
    Effect.map(([row]): Subject => ({ client, queue, task: String(row?.["task_id"]), run: String(row?.["run_id"]) }))
  )

/** A task of a queue of its own, at a time that stands still. */
export const spawned = (options: object = {}) =>
  Effect.gen(function*() {
    const client = yield* Sessions.session
    yield* query(client, "set absurd.fake_now = '2026-01-05T00:00:00Z'")
    return yield* spawnTask(client, yield* Sessions.queue(client), options)
  })

export const claimed = (subject: Subject, lease = 60, limit = 1) =>
  call(subject, `select * from absurd.claim_task(:q, 'worker', ${lease}, ${limit})`)

/** The same, claimed for a minute. */
export const running = (options: object = {}) => Effect.tap(spawned(options), (subject) => claimed(subject))

export const pass = ({ client }: Subject, interval: string) =>
  query(client, "select set_config('absurd.fake_now', (absurd.current_time() + $1::interval)::text, false)", [interval])

export const rowOf = (subject: Subject) => Sessions.run(subject.client, subject.queue, subject.run)

export const stateOf = (subject: Subject) =>
  Effect.map(call(subject, "select state from absurd.get_task_result(:q, :task)"), ([row]) => row?.["state"])

export const unknown = "'00000000-0000-7000-8000-000000000000'"

export const setCheckpoint = (task: string, value = "1", extend = "null") =>
  `select absurd.set_task_checkpoint_state(:q, ${task}, 'step', '${value}', :run, ${extend})`

export const awaitEvent = (step: string, timeout = "null") =>
  `select should_suspend, payload from absurd.await_event(:q, :task, :run, '${step}', 'event', ${timeout})`

export const spawnWith = (options: string) => `select * from absurd.spawn_task(:q, 'task', '1', '${options}')`

export type Finding = readonly [
  id: string,
  what: string,
  test: Effect.Effect<void, unknown, TestPostgres.TestDatabase | Scope.Scope>
]

/** A test for each finding. */
export const suite = (topic: string, findings: ReadonlyArray<Finding>): void =>
  layer(TestPostgres.layer())(`findings about the original's SQL: ${topic}`, (it) => {
    for (const [id, what, test] of findings) it.effect(`${id}: ${what}`, () => test)
  })
