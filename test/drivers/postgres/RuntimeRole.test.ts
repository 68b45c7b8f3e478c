/** A program that runs as a role which owns nothing, with the rights that docs/maintenance.md gives it. */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Schedule, Schema } from "effect"
import { Absurd, Cron, Event, Installation, Maintenance, Step, Task, Worker } from "effect-absurd"
import * as Fs from "node:fs"
import * as TestPostgres from "../../support/Postgres.ts"
import * as TestTime from "../../support/TestTime.ts"

const role = `runtime_${process.pid}`

const docs = Fs.readFileSync(new URL("../../../docs/maintenance.md", import.meta.url), "utf8")

/** The statements of the page, for this role. */
const grants = (/```sql\n(-- As the owner[^]*?)```/.exec(docs)?.[1] ?? "").replaceAll(/\bprograms\b/g, role)

/** A database whose owner has installed the schema, made queues, and given the role its rights. */
const prepared = Layer.effectDiscard(Effect.gen(function*() {
  yield* Installation.install
  const owner = yield* Effect.flatMap(TestPostgres.TestDatabase, TestPostgres.session)
  const query = (text: string) => Effect.promise(() => owner.query(text))
  yield* Effect.acquireRelease(
    query(`create role ${role} login nosuperuser nocreatedb nocreaterole`),
    () => query(`drop owned by ${role}; drop role ${role}`)
  )
  yield* query("select absurd.create_queue('before'), absurd.create_queue('weekly', 'partitioned')")
  yield* query(grants)
  // What is made afterwards can be used as well.
  yield* query("select absurd.create_queue('after'), absurd.create_queue('after weekly', 'partitioned')")
})).pipe(Layer.provide(TestPostgres.layerClient({ maxConnections: 1 })))

const subject = Layer.mergeAll(Absurd.layer, TestTime.layerSql).pipe(
  Layer.provide(TestPostgres.layerClient({ maxConnections: 1, client: { username: role } })),
  Layer.provide(prepared),
  Layer.provideMerge(Layer.effect(TestPostgres.TestDatabase, TestPostgres.emptyDatabase))
)

const define = (queue: string) => ({
  Go: Event.make("go", { queue, payload: Schema.Int }),
  Child: Task.make("child", { queue, params: {}, success: Schema.Int }),
  Job: Task.make("job", { queue, params: { n: Schema.Int }, success: Schema.Int, retry: Schedule.spaced("1 second") })
})

layer(subject, { concurrent: false })("a role that owns nothing", (it) => {
  it.effect.each(["before", "weekly", "after", "after weekly"])(
    "runs everything in the queue \"%s\"",
    (queue) =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime.TestTime
        const { Child, Go, Job } = define(queue)
        let failed = false
        const live = Layer.merge(
          Child.toLayer(() => Effect.succeed(1)),
          Job.toLayer(Effect.fn(function*({ n }) {
            const first = yield* Step.run("first", Effect.succeed(n))
            if (!failed) {
              failed = true
              return yield* Effect.die(new Error("as planned"))
            }
            yield* Step.sleep("nap", "1 minute")
            const child = yield* Step.run(
              "spawn",
              Effect.map(Child.spawn({}, { idempotencyKey: "child" }), (_) => _.taskId),
              {
                success: Schema.String
              }
            )
            assert.isString(child)
            return first + (yield* Go.wait("1"))
          }))
        )
        const work = Worker.runOnce({ queue, concurrency: 10 }).pipe(
          Effect.repeat({ until: (results) => results.length === 0 }),
          Effect.provide(live)
        )
        const job = yield* Job.spawn({ n: 40 })
        for (let turn = 0; turn < 3; turn++) {
          yield* work
          yield* advance("2 minutes")
        }
        yield* Go.emit("1", 2)
        yield* work
        assert.strictEqual(yield* job.await, 42)

        const { taskId } = yield* Absurd.spawnTask("job", { n: 1 }, { queue, maxAttempts: 1 })
        assert.isTrue(yield* Worker.pause(queue))
        assert.lengthOf(yield* Absurd.claimTask({ queue }), 0)
        assert.isTrue(yield* Worker.resume(queue))
        const [run] = yield* Absurd.claimTask({ queue })
        yield* Absurd.extendClaim(run!, "1 hour")
        yield* Absurd.failTask(run!, "no")
        yield* Absurd.retryTask(taskId, { queue })
        yield* Absurd.cancelTask(taskId, { queue })
        assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue })).state, "cancelled")
        yield* advance("1 day")
        assert.isAbove(yield* Absurd.cleanupTasks({ queue, ttl: Duration.hours(1) }), 1)
        assert.isAbove(yield* Absurd.cleanupEvents({ queue, ttl: Duration.hours(1) }), 0)
      })
  )

  it.effect("keeps workflow runs and schedules, and does maintenance", () =>
    Effect.gen(function*() {
      const id = yield* Absurd.createWorkflowRun("nightly", "1")
      yield* Absurd.updateWorkflowRunStatus(id, "completed")
      assert.strictEqual((yield* Absurd.getWorkflowRun(id)).status, "completed")
      yield* Cron.declare(Cron.make("hourly", "0 * * * *", define("before").Child, {}))
      yield* Cron.pause("hourly")
      assert.deepStrictEqual((yield* Cron.list).map(({ name, paused }) => [name, paused]), [["hourly", true]])
      const { workflowRuns } = yield* Maintenance.runOnce({ workflowRunTtl: Duration.zero })
      assert.isAtLeast(workflowRuns, 0)
    }))

  it.effect("makes no queues", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Absurd.createQueue("mine"))
      assert.strictEqual(error._tag, "DriverError")
      assert.include(error.message, "42501")
    }))
})
