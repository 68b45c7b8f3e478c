/** The operations of the client, above all their unhappy paths, on any store. */
import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, Fiber, Layer, Option, Schema } from "effect"
import { Absurd, Task } from "effect-absurd"
import { Dump } from "../support/Dump.ts"
import { TestTime } from "../support/TestTime.ts"
import { onRuns } from "./BadInputRows.ts"
import { onQueues } from "./BadInputRowsOfOperators.ts"
import * as BadInputWorld from "./BadInputWorld.ts"
import * as Fixture from "./Fixture.ts"

const claimOne = (queue: string) => Effect.map(Absurd.claimTask({ queue, claimTimeout: "24 hours" }), Fixture.only)

/** What an operation says to an id that there is not. */
const outcomeOf = <A, E extends { readonly _tag: string }, R>(self: Effect.Effect<A, E, R>) =>
  Effect.match(self, {
    onFailure: (error): unknown => ({ tag: error._tag, kind: (error as { readonly kind?: string }).kind }),
    onSuccess: (answer): unknown => Option.isOption(answer) ? "none" : answer
  })

const noTask = { tag: "NotFound", kind: "task" }
const noRun = { tag: "NotFound", kind: "run" }
const noWorkflowRun = { tag: "NotFound", kind: "workflow run" }

export const suite = (name: string, subject: Layer.Layer<Absurd.Absurd | TestTime | Dump, unknown>) =>
  layer(Layer.provideMerge(BadInputWorld.layer, subject), { concurrent: false })(name, (it) => {
    // Without pg_cron the last two are refused before anybody asks for the queue.
    it.effect.each(onQueues.filter(([operation]) => !operation.endsWith("Cron")))(
      "%s with a queue that there is not",
      ([operation, act]) =>
        Effect.gen(function*() {
          const world = yield* BadInputWorld.TheWorld
          const { all } = yield* Dump
          const before = yield* all
          assert.deepStrictEqual(
            yield* outcomeOf(Effect.asVoid(act("nowhere", world))),
            operation === "dropQueue" ? undefined : { tag: "NotFound", kind: "queue" }
          )
          assert.isTrue(before === (yield* all), "something was stored")
        })
    )

    it.effect("ids that there are not, for every operation that takes one", () =>
      Effect.gen(function*() {
        const { queue } = yield* BadInputWorld.TheWorld
        const [taskId, runId, at] = [Fixture.unknownTask, Fixture.unknownRun, { queue }]
        const { all } = yield* Dump
        const before = yield* all
        const answers = {
          getTaskStatus: yield* outcomeOf(Absurd.getTaskStatus(taskId, at)),
          getTaskResult: yield* outcomeOf(Absurd.getTaskResult(taskId, at)),
          awaitTaskResult: yield* outcomeOf(Absurd.awaitTaskResult(taskId, at)),
          cancelTask: yield* outcomeOf(Absurd.cancelTask(taskId, at)),
          retryTask: yield* outcomeOf(Absurd.retryTask(taskId, at)),
          listRuns: yield* outcomeOf(Absurd.listRuns(taskId, at)),
          listWaits: yield* outcomeOf(Absurd.listWaits(taskId, at)),
          getAllCheckpoints: yield* outcomeOf(Absurd.getAllCheckpoints(taskId, at)),
          getCheckpoint: yield* outcomeOf(Absurd.getCheckpoint(taskId, "s", at)),
          findTask: yield* outcomeOf(Absurd.findTask("unknown", at)),
          readEvent: yield* outcomeOf(Absurd.readEvent("unknown", at)),
          getRunStatus: yield* outcomeOf(Absurd.getRunStatus(runId, at)),
          cancelRun: yield* outcomeOf(Absurd.cancelRun(runId, at)),
          getCheckpointsForRun: yield* outcomeOf(Absurd.getCheckpointsForRun(runId, at)),
          getRunCheckpoint: yield* outcomeOf(Absurd.getRunCheckpoint(runId, "s", at)),
          getWorkflowRun: yield* outcomeOf(Absurd.getWorkflowRun("unknown")),
          updateWorkflowRunStatus: yield* outcomeOf(Absurd.updateWorkflowRunStatus("unknown", "running"))
        }
        assert.deepStrictEqual(answers, {
          getTaskStatus: noTask,
          getTaskResult: noTask,
          awaitTaskResult: noTask,
          cancelTask: noTask,
          retryTask: noTask,
          listRuns: [],
          listWaits: [],
          getAllCheckpoints: [],
          getCheckpoint: "none",
          findTask: "none",
          readEvent: "none",
          getRunStatus: noRun,
          cancelRun: noRun,
          getCheckpointsForRun: noRun,
          getRunCheckpoint: noRun,
          getWorkflowRun: noWorkflowRun,
          updateWorkflowRunStatus: noWorkflowRun
        })
        assert.isTrue(before === (yield* all), "something was stored")
      }))

    it.effect.each(onRuns)("%s with a run or a queue that there is not", ([, act]) =>
      Effect.gen(function*() {
        const { run } = yield* BadInputWorld.TheWorld
        const on = (change: object) => outcomeOf(act({} as never, { ...run, ...change } as never))
        assert.deepStrictEqual(yield* on({ runId: Fixture.unknownRun }), noRun)
        assert.deepStrictEqual(yield* on({ queue: "nowhere" }), { tag: "NotFound", kind: "queue" })
      }))

    it.effect("a spawned task carries its workflow run to whoever claims it", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const one = yield* Absurd.spawnTask("job", 1, { queue, workflowRunId: "flow-1", headers: { tenant: "a" } })
        const [two, three] = yield* Absurd.spawnTasks([
          { name: "job", params: 2, headers: { workflowRunId: "flow-2" } },
          { name: "job", params: 3 }
        ], { queue })
        assert.deepStrictEqual([one, two, three].map((_) => _?.workflowRunId), ["flow-1", "flow-2", three?.runId])
        const claimed = yield* Absurd.claimTask({ queue, qty: 10 })
        const headers = new Map(claimed.map((run) => [run.params, run.headers]))
        assert.deepStrictEqual(headers.get(1), { tenant: "a", workflowRunId: "flow-1" })
        assert.deepStrictEqual(headers.get(2), { workflowRunId: "flow-2" })
        assert.deepStrictEqual(headers.get(3), {})
      }))

    it.effect("a taken key tells the workflow run that is stored, whatever was asked for", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const spawn = (idempotencyKey: string, workflowRunId?: string) =>
          Absurd.spawnTask("job", null, { queue, idempotencyKey, workflowRunId, retryStrategy: { kind: "none" } })
        yield* spawn("with", "flow-1")
        assert.strictEqual((yield* spawn("with", "flow-2")).workflowRunId, "flow-1")
        assert.strictEqual((yield* spawn("with")).workflowRunId, "flow-1")
        yield* Absurd.completeTask(yield* claimOne(queue))
        const first = yield* spawn("without")
        assert.strictEqual((yield* spawn("without", "flow-2")).workflowRunId, first.runId)
        yield* Absurd.failTask(yield* claimOne(queue), "no")
        const again = yield* spawn("without", "flow-2")
        assert.deepInclude(again, { created: false, attempt: 2, workflowRunId: first.runId })
        assert.notStrictEqual(again.runId, first.runId)
        const [both] = yield* Absurd.spawnTasks([
          { name: "job", params: null, idempotencyKey: "with", workflowRunId: "flow-3" }
        ], { queue })
        assert.strictEqual(both?.workflowRunId, "flow-1")
      }))

    it.effect("spawnTasks answers in order, spawns nothing for nothing, and all or none", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        assert.deepStrictEqual(yield* Absurd.spawnTasks([], { queue }), [])
        const tasks = Array.from({ length: 20 }, (_, n) => ({ name: "job", params: n, idempotencyKey: `k${n}` }))
        const spawned = yield* Absurd.spawnTasks(tasks, { queue })
        const again = yield* Absurd.spawnTasks(tasks.toReversed(), { queue })
        assert.deepStrictEqual(again.toReversed().map((_) => _.taskId), spawned.map((_) => _.taskId))
        assert.isTrue(spawned.every((_) => _.created) && again.every((_) => !_.created))
        const conflict = yield* Effect.flip(
          Absurd.spawnTasks([{ name: "job", params: 20, idempotencyKey: "k20" }, { ...tasks[0]!, params: 1 }], {
            queue
          })
        )
        assert.deepInclude(conflict, { _tag: "IdempotencyConflict", key: "k0", differs: "params" })
        assert.isTrue(Option.isNone(yield* Absurd.findTask("k20", { queue })))
        assert.deepStrictEqual(yield* Absurd.findTask("k7", { queue }), Option.some(spawned[7]!.taskId))
        assert.isTrue(Option.isNone(yield* Absurd.findTask("k7", { queue: yield* Fixture.makeQueue })))
      }))

    it.effect("spawnRetryTask tries three times, after 30 and 60 seconds", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const { taskId } = yield* Absurd.spawnRetryTask("job", null, { queue })
        for (const delay of [30_000, 60_000]) {
          yield* Absurd.failTask(yield* claimOne(queue), "no")
          yield* advance(delay - 1)
          assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
          yield* advance(1)
        }
        yield* Absurd.failTask(yield* claimOne(queue), "no")
        const task = yield* Absurd.getTaskStatus(taskId, { queue })
        assert.deepInclude(task, { state: "failed", attempts: 3, maxAttempts: 3 })
      }))

    it.effect("spawnCancellableTask is cancelled when it has waited, or worked, for too long", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const late = yield* Absurd.spawnCancellableTask("late", null, { queue, maxDelay: "1 minute" })
        yield* advance("1 minute")
        assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
        const slow = yield* Absurd.spawnCancellableTask("slow", null, {
          queue,
          maxDelay: "1 minute",
          maxDuration: "10 minutes"
        })
        yield* Effect.flip(Absurd.sleep(yield* claimOne(queue), "1 hour"))
        yield* advance("10 minutes")
        assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
        for (const { taskId } of [late, slow]) {
          assert.strictEqual((yield* Absurd.getTaskStatus(taskId, { queue })).state, "cancelled")
          assert.strictEqual((yield* Effect.flip(Absurd.awaitTaskResult(taskId, { queue })))._tag, "Cancelled")
        }
      }))

    it.effect("scheduleTask hands the same run back until then", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance, now } = yield* TestTime
        yield* Absurd.spawnTask("job", null, { queue })
        const run = yield* claimOne(queue)
        yield* Absurd.scheduleTask(run, DateTime.addDuration(yield* now, "10 minutes"))
        assert.strictEqual((yield* Absurd.getRunStatus(run.runId, { queue })).state, "sleeping")
        yield* advance(Duration.millis(599_999))
        assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
        yield* advance(1)
        assert.deepInclude(yield* claimOne(queue), { runId: run.runId, attempt: 1 })
      }))

    it.effect("cancelRun cancels what is pending or sleeping, cancelTask what runs as well", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const spawn = (delay?: Duration.Input) => Absurd.spawnTask("job", null, { queue, delay })
        const cancelRun = (runId: string) => Absurd.cancelRun(runId, { queue })
        const pending = yield* spawn()
        assert.deepStrictEqual([yield* cancelRun(pending.runId), yield* cancelRun(pending.runId)], [true, false])
        assert.isTrue(yield* cancelRun((yield* spawn("1 day")).runId))
        const running = yield* spawn()
        const run = yield* claimOne(queue)
        assert.isFalse(yield* cancelRun(running.runId))
        assert.strictEqual((yield* Absurd.getRunStatus(running.runId, { queue })).state, "running")
        assert.isTrue(yield* Absurd.cancelTask(running.taskId, { queue }))
        assert.isFalse(yield* Absurd.cancelTask(running.taskId, { queue }))
        assert.strictEqual((yield* Effect.flip(Absurd.completeTask(run)))._tag, "Cancelled")
        const ended = yield* spawn()
        yield* Absurd.completeTask(yield* claimOne(queue))
        assert.deepStrictEqual(
          [yield* cancelRun(ended.runId), yield* Absurd.cancelTask(ended.taskId, { queue })],
          [false, false]
        )
      }))

    it.effect("checkpoints are found by the run that wrote them", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        yield* Absurd.spawnTask("job", null, { queue, retryStrategy: { kind: "none" } })
        const first = yield* claimOne(queue)
        assert.strictEqual(yield* Absurd.saveCheckpointForRun(first, "a", 1), 1)
        yield* Absurd.failTask(first, "no")
        const second = yield* claimOne(queue)
        assert.strictEqual(yield* Absurd.saveCheckpointForRun(second, "a", 2), 1)
        yield* Absurd.saveCheckpointForRun(second, "b", 2)
        const namesOf = (runId: string) =>
          Effect.map(Absurd.getCheckpointsForRun(runId, { queue }), (all) => all.map((_) => _.name as string))
        assert.deepStrictEqual([yield* namesOf(first.runId), yield* namesOf(second.runId)], [["a"], ["b"]])
        const found = (runId: string, step: string) =>
          Effect.map(Absurd.getRunCheckpoint(runId, step, { queue }), Option.map((_) => _.state))
        assert.deepStrictEqual(yield* found(first.runId, "a"), Option.some(1))
        assert.deepStrictEqual(yield* found(second.runId, "a"), Option.none())
        assert.deepStrictEqual(yield* found(second.runId, "b"), Option.some(2))
      }))

    it.effect("awaitEvent and setRunSleeping register what listWaits tells, and go on with what was emitted", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const { taskId } = yield* Absurd.spawnTask("job", null, { queue })
        const waits = Effect.map(Absurd.listWaits(taskId, { queue }), (all) => all.map((_) => [_.step, _.event]))
        let run = yield* claimOne(queue)
        assert.deepStrictEqual(yield* waits, [])
        const waiting = { shouldSuspend: true, payload: undefined }
        assert.deepStrictEqual(yield* Absurd.awaitEvent(run, "e", { step: "w", timeout: 999 }), waiting)
        assert.deepStrictEqual(yield* waits, [["w", "e"]])
        yield* advance(999)
        assert.deepStrictEqual(yield* Absurd.claimTask({ queue }), [])
        yield* advance(1)
        run = yield* claimOne(queue)
        const timedOut = { shouldSuspend: false, payload: undefined }
        assert.deepStrictEqual(yield* Absurd.awaitEvent(run, "e", { step: "w", timeout: 999 }), timedOut)
        assert.isTrue(yield* Absurd.emitEvent("e", null, { queue }))
        assert.deepStrictEqual(yield* Absurd.awaitEvent(run, "e", { step: "w" }), timedOut)
        const emitted = { shouldSuspend: false, payload: null }
        assert.deepStrictEqual(yield* Absurd.awaitEvent(run, "e"), emitted)
        assert.isFalse(yield* Absurd.setRunSleeping(run, "e"))
        assert.isTrue(yield* Absurd.setRunSleeping(run, "f"))
        assert.deepStrictEqual(yield* waits, [["$awaitEvent:f", "f"]])
        yield* Absurd.emitEvent("f", 1, { queue })
        assert.deepStrictEqual(yield* waits, [])
        assert.strictEqual(yield* Absurd.waitForEvent(yield* claimOne(queue), "f"), 1)
      }))

    it.effect("cleaning deletes what has ended for longer than asked, and no more than asked", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        for (const n of [1, 2, 3]) {
          yield* Absurd.spawnTask("job", n, { queue })
          yield* Absurd.completeTask(yield* claimOne(queue))
          yield* Absurd.emitEvent(`e${n}`, n, { queue })
        }
        yield* Absurd.spawnTask("job", 4, { queue })
        yield* advance("1 hour")
        const both = (options: { readonly ttl: Duration.Input; readonly limit?: number }) =>
          Effect.all([Absurd.cleanupTasks({ queue, ...options }), Absurd.cleanupEvents({ queue, ...options })])
        assert.deepStrictEqual(yield* both({ ttl: "2 hours" }), [0, 0])
        assert.deepStrictEqual(yield* both({ ttl: "30 minutes", limit: 1 }), [1, 1])
        yield* Absurd.setQueuePolicy(queue, { cleanupTtl: Duration.minutes(90) })
        assert.deepStrictEqual(yield* Absurd.cleanupAll(queue), [{ queue, tasks: 0, events: 0 }])
        yield* advance("30 minutes")
        yield* advance(1000)
        assert.deepStrictEqual(yield* Absurd.cleanupAll(queue), [{ queue, tasks: 2, events: 2 }])
        assert.deepStrictEqual(yield* both({ ttl: 0 }), [0, 0])
        assert.strictEqual((yield* claimOne(queue)).params, 4)
      }))

    it.effect("queues: policies, partitions and dropping", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        yield* Absurd.setQueuePolicy(queue, { cleanupTtl: Duration.hours(1), cleanupLimit: 7 })
        const policy = yield* Absurd.getQueuePolicy(queue)
        assert.deepInclude(policy, { storageMode: "unpartitioned", cleanupLimit: 7 })
        assert.strictEqual(Duration.toHours(policy.cleanupTtl), 1)
        yield* Absurd.setQueuePolicy(queue, { partitionLookahead: Duration.days(9 * 365 - 2) })
        const partitioned: string = Fixture.freshQueue()
        yield* Absurd.createQueue(partitioned, { storage: "partitioned" })
        for (const each of [queue, partitioned]) {
          yield* Absurd.ensurePartitions(each)
          assert.deepStrictEqual(yield* Absurd.listDetachCandidates(each), [])
          assert.deepStrictEqual(yield* Absurd.detachPartitions(each), [])
          yield* Absurd.dropQueue(each)
          yield* Absurd.dropQueue(each)
          assert.notInclude(yield* Absurd.listQueues, each)
        }
      }))

    it.effect("workflow runs are listed page by page, and cleaned once they have ended", () =>
      Effect.gen(function*() {
        const { advance } = yield* TestTime
        const tag = `tag${Fixture.fresh()}`
        const ids: Array<string> = []
        for (const n of [1, 2, 3]) {
          ids.unshift(yield* Absurd.createWorkflowRun("flow", `${n}`, { tags: [tag] }))
          yield* advance("1 second")
        }
        const pages: Array<ReadonlyArray<string>> = []
        let after: Absurd.ListWorkflowRunsOptions["after"]
        while (true) {
          const page = yield* Absurd.listWorkflowRuns({ tag, limit: 2, after })
          if (page.length === 0) break
          pages.push(page.map((run) => run.id))
          after = page.at(-1)
        }
        assert.deepStrictEqual(pages, [ids.slice(0, 2), ids.slice(2)])
        yield* Absurd.updateWorkflowRunStatus(ids[2]!, "completed", { result: 1 })
        const final = yield* Effect.flip(Absurd.updateWorkflowRunStatus(ids[2]!, "failed"))
        assert.deepInclude(final, { _tag: "InvalidState", state: "completed" })
        assert.strictEqual(yield* Absurd.cleanupWorkflowRuns({ ttl: "1 hour" }), 0)
        yield* advance("2 hours")
        assert.strictEqual(yield* Absurd.cleanupWorkflowRuns({ ttl: "1 hour" }), 1)
        assert.deepStrictEqual((yield* Absurd.listWorkflowRuns({ tag })).map((run) => run.id), ids.slice(0, 2))
      }))

    it.effect("waiting for a task outside of tasks ends with Timeout, and not before", () =>
      Effect.gen(function*() {
        const queue = yield* Fixture.makeQueue
        const { advance } = yield* TestTime
        const Job = Task.make("job", { queue, params: {} })
        const job = yield* Job.spawn({})
        const waits = [
          Absurd.awaitTaskResult(job.taskId, { queue, timeout: "10 seconds" }),
          job.awaitFor("10 seconds")
        ]
        for (const wait of waits) {
          const fiber = yield* Effect.forkChild(Effect.flip(wait), { startImmediately: true })
          yield* advance(9_999)
          assert.isUndefined(fiber.pollUnsafe())
          yield* advance(1)
          const error = yield* Fiber.join(fiber)
          assert.strictEqual(error._tag, "Timeout")
          assert.include(error.message, job.taskId)
        }
      }))

    const text = Schema.Union([Schema.String, Schema.String.check(Schema.isPattern(/^[a-zA-Z0-9._-]{0,6}$/))])
    it.effect.prop("names and versions of workflow runs are as their patterns say", { name: text, version: text }, (
      { name, version }
    ) =>
      Effect.gen(function*() {
        const created = (name: string, version: string) =>
          Effect.match(Absurd.createWorkflowRun(name, version), {
            onSuccess: () => "created",
            onFailure: (error) => error._tag === "InvalidInput" ? error.field : error._tag
          })
        const isName = /^[a-z][a-z0-9_]*$/.test(name) && !name.includes("__")
        const isVersion = /^[a-zA-Z0-9._-]+$/.test(version) && !version.includes("__")
        assert.strictEqual(yield* created(name, "1.0.0-rc_1"), isName ? "created" : "name")
        assert.strictEqual(yield* created("order_fulfilment", version), isVersion ? "created" : "version")
      }), { arbitrary: { runs: 60 } })
  })
