import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Option, Schema } from "effect"
import {
  Driver,
  type NewWorkflowRun,
  type WorkflowRun,
  type WorkflowRunFilter,
  WorkflowRunStatus
} from "../../src/core/Driver.ts"
import { Tag, WorkflowName, WorkflowRunId, WorkflowVersion } from "../../src/core/Identifiers.ts"
import { TestTime } from "../support/TestTime.ts"
import * as Fixture from "./Fixture.ts"

const newRun = (overrides?: Partial<NewWorkflowRun>): NewWorkflowRun => ({
  id: WorkflowRunId.make(`workflow-run-${Fixture.fresh()}`),
  name: WorkflowName.make("order_fulfilment"),
  version: WorkflowVersion.make("1.0.0"),
  inputs: null,
  createdBy: null,
  hash: null,
  tags: [],
  ...overrides
})

const everything: WorkflowRunFilter = {
  name: null,
  version: null,
  status: null,
  tag: null,
  createdFrom: null,
  createdBefore: null,
  after: null,
  limit: 1000
}

const statuses = WorkflowRunStatus.literals
const ends: ReadonlyArray<WorkflowRunStatus> = ["completed", "failed", "cancelled"]

const isFinal = (status: WorkflowRunStatus) => status === "completed" || status === "cancelled"

const transitions = statuses.flatMap((from) => statuses.map((to) => [from, to] as const))

/** What the operations are called with in these tests: the store, and short ways to a run in some status. */
const make = Effect.gen(function*() {
  const driver = yield* Driver
  const time = yield* TestTime
  const change = (id: WorkflowRunId, status: WorkflowRunStatus) =>
    driver.updateWorkflowRun({
      id,
      status,
      result: undefined,
      error: undefined,
      taskCount: undefined,
      startedAt: undefined,
      completedAt: undefined
    })
  const create = Effect.fnUntraced(function*(overrides?: Partial<NewWorkflowRun>, status?: WorkflowRunStatus) {
    const run = newRun(overrides)
    yield* driver.createWorkflowRun(run)
    if (status !== undefined) yield* change(run.id, status)
    return run
  })
  const get = (id: WorkflowRunId) =>
    Effect.map(driver.getWorkflowRun(id), (run) => run ?? assert.fail(`no workflow run ${id}`))
  const list = (filter: Partial<WorkflowRunFilter>) =>
    Effect.map(driver.listWorkflowRuns({ ...everything, ...filter }), (runs) => runs.map((run) => run.id))
  return { driver, time, change, create, get, list }
})

export const suite = (name: string, subject: Layer.Layer<Driver | TestTime, unknown>) =>
  layer(subject, { concurrent: false })(name, (it) => {
    it.effect.prop(
      "a new workflow run is pending and keeps all it was created with",
      {
        inputs: Fixture.StorableJson,
        createdBy: Schema.NullOr(Schema.Literals(["ada", "größe 队列"])),
        tags: Schema.UniqueArray(Schema.Literals(["a", "b", "{c}", "\"d\", e", "NULL", "\\"]))
      },
      ({ createdBy, inputs, tags }) =>
        Effect.gen(function*() {
          const { create, get, time } = yield* make
          const run = yield* create({ inputs, createdBy, tags: tags.map((tag) => Tag.make(tag)), hash: createdBy })
          const now = yield* time.now
          assert.deepStrictEqual(yield* get(run.id), {
            ...run,
            status: "pending",
            result: null,
            error: null,
            taskCount: null,
            createdAt: now,
            updatedAt: now,
            startedAt: null,
            completedAt: null
          })
        }),
      { arbitrary: { runs: 25 } }
    )

    it.effect("an unknown workflow run is not there, and cannot be updated", () =>
      Effect.gen(function*() {
        const { change, driver } = yield* make
        const { id } = newRun()
        assert.isUndefined(yield* driver.getWorkflowRun(id))
        const error = yield* Effect.flip(change(id, "running"))
        assert.deepInclude(error, { _tag: "NotFound", kind: "workflow run", id })
      }))

    it.effect("creating a workflow run again changes nothing", () =>
      Effect.gen(function*() {
        const { create, driver, get, time } = yield* make
        const run = yield* create({ inputs: { a: [1], b: 2 } }, "running")
        const before = yield* get(run.id)
        yield* time.advance("1 second")
        yield* driver.createWorkflowRun({ ...run, inputs: { b: 2, a: [1] } })
        assert.deepStrictEqual(yield* get(run.id), before)
      }))

    it.effect.each<Partial<NewWorkflowRun>>([
      { name: WorkflowName.make("refund") },
      { version: WorkflowVersion.make("2") },
      { inputs: 1 }
    ])("the id of a workflow run is taken for one with %j", (difference) =>
      Effect.gen(function*() {
        const { create, driver, get } = yield* make
        const run = yield* create()
        const before = yield* get(run.id)
        const error = yield* Effect.flip(driver.createWorkflowRun({ ...run, ...difference }))
        assert.deepInclude(error, { _tag: "InvalidState", operation: "createWorkflowRun", id: run.id })
        assert.deepStrictEqual(yield* get(run.id), before)
      }))

    it.effect.each(transitions)("from %s to %s", ([from, to]) =>
      Effect.gen(function*() {
        const { change, create, get, time } = yield* make
        const run = yield* create({}, from)
        const before = yield* get(run.id)
        assert.strictEqual(before.status, from)
        yield* time.advance("1 minute")
        const exit = yield* Effect.result(change(run.id, to))
        const after = yield* get(run.id)
        if (isFinal(from) && from !== to) {
          assert.deepInclude(exit, { _tag: "Failure" })
          assert.deepStrictEqual(after, before)
          return
        }
        const now = yield* time.now
        assert.deepInclude(exit, { _tag: "Success" })
        assert.deepStrictEqual(after, {
          ...before,
          status: to,
          updatedAt: now,
          startedAt: before.startedAt ?? (to === "running" ? now : null),
          completedAt: ends.includes(to) ? before.completedAt ?? now : null
        })
      }))

    it.effect("an update changes what it names, and the instants that it gives", () =>
      Effect.gen(function*() {
        const { create, driver, get } = yield* make
        const run = yield* create({}, "running")
        const before = yield* get(run.id)
        const [startedAt, completedAt] = [
          DateTime.makeUnsafe("2001-02-03T04:05:06.789Z"),
          DateTime.makeUnsafe("2030-12-31T23:59:59.001Z")
        ]
        const change = {
          id: run.id,
          status: "completed" as const,
          result: { done: true },
          error: undefined,
          taskCount: 3,
          startedAt,
          completedAt
        }
        yield* driver.updateWorkflowRun(change)
        const completed = yield* get(run.id)
        assert.deepStrictEqual(completed, {
          ...before,
          status: "completed",
          result: { done: true },
          taskCount: 3,
          startedAt,
          completedAt
        })
        yield* driver.updateWorkflowRun({
          ...change,
          result: undefined,
          error: { message: "late" },
          taskCount: undefined,
          startedAt: undefined,
          completedAt: undefined
        })
        assert.deepStrictEqual(yield* get(run.id), { ...completed, error: { message: "late" } })
      }))

    it.effect("workflow runs are listed by what they are asked for, the newest first", () =>
      Effect.gen(function*() {
        const { create, list, time } = yield* make
        const name = WorkflowName.make(`listed_${Fixture.fresh()}`)
        const [version, tag] = [WorkflowVersion.make("2.0"), Tag.make("urgent")]
        const first = yield* create({ name })
        yield* time.advance("1 hour")
        const from = yield* time.now
        const second = yield* create({ name, version }, "failed")
        yield* time.advance("1 hour")
        const before = yield* time.now
        const third = yield* create({ name, tags: [Tag.make("eu"), tag] })
        assert.deepStrictEqual(yield* list({ name }), [third.id, second.id, first.id])
        assert.deepStrictEqual(yield* list({ name, limit: 2 }), [third.id, second.id])
        assert.deepStrictEqual(yield* list({ name, version }), [second.id])
        assert.deepStrictEqual(yield* list({ name, status: "pending" }), [third.id, first.id])
        assert.deepStrictEqual(yield* list({ name, tag }), [third.id])
        assert.deepStrictEqual(yield* list({ name, createdFrom: from }), [third.id, second.id])
        assert.deepStrictEqual(yield* list({ name, createdBefore: before }), [second.id, first.id])
        assert.deepStrictEqual(yield* list({ name, createdFrom: from, createdBefore: before }), [second.id])
        assert.deepStrictEqual(yield* list({ name, version, tag }), [])
        assert.includeMembers(yield* list({ tag }), [third.id])
        assert.includeMembers(yield* list({}), [third.id, second.id, first.id])
      }))

    it.effect("pages of a list tell every workflow run once, also those of one millisecond and after a deletion", () =>
      Effect.gen(function*() {
        const { create, driver, list, time } = yield* make
        const name = WorkflowName.make(`paged_${Fixture.fresh()}`)
        for (let index = 0; index < 7; index++) {
          yield* create({ name }, index === 3 ? "completed" : undefined)
          if (index % 3 === 2) yield* time.advance("1 millis")
        }
        const all = yield* list({ name })
        assert.lengthOf(all, 7)
        const pages: Array<string> = []
        let after: WorkflowRunFilter["after"] = null
        for (;;) {
          const page: ReadonlyArray<WorkflowRun> = yield* driver.listWorkflowRuns({
            ...everything,
            name,
            after,
            limit: 2
          })
          const last = page.at(-1)
          if (last === undefined) break
          pages.push(...page.map((run) => run.id))
          // What was the last of a page is gone when the next one is asked for.
          if (last.status === "completed") {
            yield* time.advance("1 second")
            assert.isAtLeast(yield* driver.cleanupWorkflowRuns({ ttl: Duration.zero, limit: 1000 }), 1)
          }
          after = last
        }
        assert.deepStrictEqual(pages, all)
        assert.isTrue((yield* list({ name })).length === 6)
      }))

    it.effect("cleaning deletes what ended longer ago than the time to live, the oldest end first", () =>
      Effect.gen(function*() {
        const { create, driver, list, time } = yield* make
        const ttl = Duration.days(10)
        // Whatever other tests have left behind.
        yield* time.advance("60 days")
        yield* driver.cleanupWorkflowRuns({ ttl: Duration.zero, limit: 1_000_000 })
        const name = WorkflowName.make(`cleaned_${Fixture.fresh()}`)
        const pending = yield* create({ name })
        const running = yield* create({ name }, "running")
        const ended: Array<WorkflowRunId> = []
        for (const status of ends) {
          ended.push((yield* create({ name }, status)).id)
          yield* time.advance("1 day")
        }
        const cleanup = (limit: number) => driver.cleanupWorkflowRuns({ ttl, limit })
        assert.strictEqual(yield* cleanup(10), 0)
        yield* time.advance("7 days")
        assert.strictEqual(yield* cleanup(10), 0, "exactly the time to live is not longer")
        yield* time.advance("2 days")
        assert.strictEqual(yield* cleanup(1), 1)
        assert.notInclude(yield* list({ name }), ended[0]!)
        yield* time.advance("10 days")
        assert.strictEqual(yield* cleanup(10), 2)
        assert.strictEqual(yield* cleanup(10), 0)
        assert.sameMembers([...yield* list({ name })], [pending.id, running.id])
      }))

    it.effect("a failed workflow run that goes on is not cleaned", () =>
      Effect.gen(function*() {
        const { change, create, driver, get, time } = yield* make
        const run = yield* create({}, "failed")
        yield* change(run.id, "running")
        yield* time.advance("100 days")
        yield* driver.cleanupWorkflowRuns({ ttl: Duration.days(1), limit: 1000 })
        assert.strictEqual((yield* get(run.id)).status, "running")
      }))

    it.effect("what a transaction does to workflow runs is undone with it", () =>
      Effect.gen(function*() {
        const { change, create, driver, get } = yield* make
        const kept = yield* create()
        const before = yield* get(kept.id)
        const lost = newRun()
        const error = yield* driver.withTransaction(Effect.gen(function*() {
          yield* driver.createWorkflowRun(lost)
          yield* change(kept.id, "cancelled")
          assert.strictEqual((yield* get(lost.id)).status, "pending")
          return yield* Effect.fail("undo" as const)
        })).pipe(Effect.flip)
        assert.strictEqual(error, "undo")
        assert.isTrue(Option.isNone(Option.fromUndefinedOr(yield* driver.getWorkflowRun(lost.id))))
        assert.deepStrictEqual(yield* get(kept.id), before)
      }))
  })
