/** `absurd-sdk` alone, on a database that this library installed: failures, leases, cancelling and workers. */
import { assert } from "@effect/vitest"
import type { TaskContext } from "absurd-sdk"
import { Effect } from "effect"
import * as Interop from "./support/Interop.ts"

Interop.suite("absurd-sdk, when things go wrong", (it) => {
  const test = (name: string, body: (shared: Interop.Shared) => Promise<void>) =>
    it.effect(name, () => Effect.flatMap(Interop.Interop, (shared) => Effect.promise(() => body(shared))))

  // --- failures and retries

  test("retries follow the strategy, and keep what was thrown", async ({ client, freshQueue, pass, rows }) => {
    const strategies = [
      { strategy: undefined, delays: [0, 0] },
      { strategy: { kind: "none" as const }, delays: [0, 0] },
      { strategy: { kind: "fixed" as const, baseSeconds: 0 }, delays: [0, 0] },
      { strategy: { kind: "fixed" as const, baseSeconds: 7 }, delays: [7, 7] },
      { strategy: { kind: "fixed" as const }, delays: [60, 60] },
      { strategy: { kind: "exponential" as const, baseSeconds: 10, factor: 3 }, delays: [10, 30] },
      { strategy: { kind: "exponential" as const, baseSeconds: 10, factor: 3, maxSeconds: 12 }, delays: [10, 12] },
      { strategy: { kind: "exponential" as const }, delays: [30, 60] }
    ]
    for (const { delays, strategy } of strategies) {
      const queue = await freshQueue()
      const { sdk, work } = client(queue)
      sdk.registerTask({ name: "fails" }, async () => {
        throw new RangeError("out of range")
      })
      const { taskID } = await sdk.spawn("fails", {}, {
        maxAttempts: 3,
        ...(strategy === undefined ? {} : { retryStrategy: strategy })
      })
      for (const delay of [0, ...delays]) {
        if (delay > 0) {
          assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "sleeping" })
          await pass(delay - 1)
          assert.deepStrictEqual(await work(), [])
          await pass(1)
        }
        await work()
      }
      const runs = await rows(`select attempt, state, failure_reason from absurd."r_${queue}" order by attempt`)
      assert.deepStrictEqual(runs.map((run) => [run["attempt"], run["state"]]), [1, 2, 3].map((n) => [n, "failed"]))
      const failure = runs[2]?.["failure_reason"] as Readonly<Record<string, string>>
      assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "failed", failure })
      assert.deepInclude(failure, { name: "RangeError", message: "out of range" })
      assert.include(failure["stack"], "RangeError: out of range")
    }
  })

  test("a failed task is retried in place or as a new task", async ({ client, freshQueue, rows }) => {
    const queue = await freshQueue()
    const { sdk, work } = client(queue)
    const ran: Array<string> = []
    let healthy = false
    sdk.registerTask({ name: "flaky", defaultMaxAttempts: 1 }, async (_, ctx) => {
      await ctx.step("first", async () => {
        ran.push("first")
      })
      if (!healthy) throw "not an Error"
      return "well"
    })
    const inPlace = await sdk.spawn("flaky", { a: 1 }, { headers: { h: null } })
    await Interop.rejects(sdk.retryTask(inPlace.taskID), /is not currently failed/)
    // The refused session may have the task locked for a moment after it has answered, and a claim passes over what is.
    await rows(`select from absurd."t_${queue}" for update`)
    await work()
    assert.deepStrictEqual(await sdk.fetchTaskResult(inPlace.taskID), {
      state: "failed",
      failure: { message: "not an Error" }
    })
    await Interop.rejects(sdk.retryTask(inPlace.taskID, { maxAttempts: 1 }), /must be greater than current attempts/)
    const anew = await sdk.retryTask(inPlace.taskID, { spawnNewTask: true })
    assert.deepInclude(anew, { created: true, attempt: 1 })
    assert.notStrictEqual(anew.taskID, inPlace.taskID)
    const revived = await sdk.retryTask(inPlace.taskID)
    assert.deepInclude(revived, { taskID: inPlace.taskID, created: false, attempt: 2 })
    healthy = true
    await work()
    for (const { taskID } of [inPlace, anew]) {
      assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "completed", result: "well" })
    }
    assert.deepStrictEqual(ran, ["first", "first"])
    assert.deepStrictEqual(
      await rows(`select params, headers, max_attempts from absurd."t_${queue}" order by max_attempts`),
      [{ params: { a: 1 }, headers: { h: null }, max_attempts: 1 }, {
        params: { a: 1 },
        headers: { h: null },
        max_attempts: 2
      }]
    )
  })

  // --- leases and cancelling

  test("a heartbeat and a checkpoint renew the lease", async ({ client, freshQueue, pass, rows }) => {
    const queue = await freshQueue()
    const { sdk, work } = client(queue)
    const leases: Array<unknown> = []
    const lease = async () => {
      const [row] = await rows(`
        select extract(epoch from claim_expires_at - absurd.current_time())::int as seconds from absurd."r_${queue}"`)
      leases.push(row?.["seconds"])
    }
    sdk.registerTask({ name: "long", defaultMaxAttempts: 1 }, async (_, ctx) => {
      await lease()
      await ctx.heartbeat(500)
      await lease()
      await pass(10)
      await ctx.heartbeat()
      await lease()
      await pass(10)
      await ctx.step("s", async () => 1)
      await lease()
      await ctx.heartbeat(0)
    })
    const { taskID } = await sdk.spawn("long", {})
    await work()
    assert.deepStrictEqual(leases, [120, 500, 120, 120])
    const result = await sdk.fetchTaskResult(taskID)
    assert.deepInclude(result !== null && "failure" in result ? result.failure : null, {
      message: "extend_by must be > 0"
    })
  })

  test("who loses the lease can no longer change the run", async ({ client, freshQueue, pass, rows }) => {
    const queue = await freshQueue()
    const { sdk, log, work } = client(queue)
    sdk.registerTask({ name: "slow" }, async (_, ctx) => {
      await ctx.step("late", async () => "late")
      return "slow"
    })
    const { taskID } = await sdk.spawn("slow", {})
    const [stalled] = await sdk.claimTasks({ claimTimeout: 60, workerId: "stalled" })
    assert.isDefined(stalled)
    await pass(60)
    const [taken] = await sdk.claimTasks({ claimTimeout: 60, workerId: "taker" })
    assert.deepInclude(taken, { task_id: taskID, attempt: 2 })
    await sdk.executeTask(stalled, 60)
    assert.deepStrictEqual(await rows(`select from absurd."c_${queue}"`), [])
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "running" })
    await pass(60)
    await work()
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "completed", result: "slow" })
    assert.deepStrictEqual(log, [])
    const runs = await rows(`select state, claimed_by, failure_reason from absurd."r_${queue}" order by attempt`)
    assert.deepStrictEqual(runs.map((run) => run["state"]), ["failed", "failed", "completed"])
    assert.deepInclude(runs[0]?.["failure_reason"], { name: "$ClaimTimeout", workerId: "stalled", attempt: 1 })
  })

  test("pending, sleeping and running tasks are cancelled", async ({ client, freshQueue, rows }) => {
    const queue = await freshQueue()
    const { sdk, log, work } = client(queue)
    const reached: Array<string> = []
    const cancelHere = (how: (ctx: TaskContext) => Promise<unknown>) => async (_: unknown, ctx: TaskContext) => {
      await ctx.step("before", async () => 1)
      await sdk.cancelTask(ctx.taskID)
      await how(ctx)
      reached.push("after the cancellation")
    }
    sdk.registerTask({ name: "sleeps" }, (_, ctx) => ctx.sleepFor("nap", 60))
    sdk.registerTask({ name: "waits" }, (_, ctx) => ctx.awaitEvent("never"))
    sdk.registerTask({ name: "checkpoints" }, cancelHere((ctx) => ctx.step("after", async () => 1)))
    sdk.registerTask({ name: "beats" }, cancelHere((ctx) => ctx.heartbeat()))
    sdk.registerTask({ name: "awaits" }, cancelHere((ctx) => ctx.awaitEvent("never")))
    sdk.registerTask({ name: "returns" }, async (_, ctx) => {
      await sdk.cancelTask(ctx.taskID)
      return "too late"
    })
    sdk.registerTask({ name: "throws" }, async (_, ctx) => {
      await sdk.cancelTask(ctx.taskID)
      throw new Error("too late")
    })
    const ids: Array<string> = []
    for (const name of ["sleeps", "waits", "checkpoints", "beats", "awaits", "returns", "throws"]) {
      ids.push((await sdk.spawn(name, {})).taskID)
    }
    await work()
    const pending = (await sdk.spawn("sleeps", {})).taskID
    for (const id of [...ids, pending]) {
      await sdk.cancelTask(id)
      assert.deepStrictEqual(await sdk.fetchTaskResult(id), { state: "cancelled" })
      await Interop.rejects(sdk.retryTask(id), /is not currently failed/)
    }
    assert.deepStrictEqual(reached, [])
    assert.deepStrictEqual(await rows(`select distinct state, claimed_by from absurd."r_${queue}"`), [
      { state: "cancelled", claimed_by: null }
    ])
    assert.deepStrictEqual(await rows(`select from absurd."w_${queue}"`), [])
    assert.strictEqual((await rows(`select from absurd."c_${queue}" where checkpoint_name = 'before'`)).length, 3)
    assert.deepStrictEqual(log.filter((line) => !line.includes("too late")), [])
    await Interop.rejects(sdk.cancelTask("01900000-0000-7000-8000-000000000001"), /not found in queue/)
  })

  test("cancellation policies are enforced by whoever claims", async ({ client, freshQueue, pass }) => {
    const { sdk, work } = client(await freshQueue())
    sdk.registerTask({ name: "sleeps" }, (_, ctx) => ctx.sleepFor("nap", 3600))
    const started = await sdk.spawn("sleeps", {}, { cancellation: { maxDuration: 100 } })
    await work()
    const delayed = await sdk.spawn("sleeps", {}, { cancellation: { maxDelay: 100 } })
    await pass(99)
    assert.deepStrictEqual(await sdk.fetchTaskResult(started.taskID), { state: "sleeping" })
    await pass(1)
    assert.deepStrictEqual(await work(), [])
    for (const { taskID } of [started, delayed]) {
      assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "cancelled" })
    }
  })

  test("an unknown task is put back for 15 to 30 seconds, at no cost", async ({ client, freshQueue, pass, rows }) => {
    const queue = await freshQueue()
    const { sdk, log, work } = client(queue)
    await sdk.spawn("from the future", {}, { queue })
    await work()
    assert.match(log.join(), /claimed unknown task "from the future"/)
    await pass(14)
    assert.deepStrictEqual(await work(), [])
    await pass(16)
    const [claimed] = await sdk.claimTasks()
    assert.deepInclude(claimed, { attempt: 1, task_name: "from the future" })
    assert.strictEqual((await rows(`select from absurd."r_${queue}"`)).length, 1)
  })

  // --- workers and hooks

  test("workBatch takes as many as told, oldest first", async ({ client, freshQueue }) => {
    const { sdk } = client(await freshQueue())
    const seen: Array<number> = []
    sdk.registerTask<number>({ name: "n" }, async (n) => {
      seen.push(n)
    })
    for (let n = 0; n < 5; n++) await sdk.spawn("n", n)
    await sdk.workBatch("batch", 60, 3)
    assert.deepStrictEqual(seen, [0, 1, 2])
    await sdk.workBatch("batch", 60, 3)
    assert.deepStrictEqual(seen, [0, 1, 2, 3, 4])
  })

  test("startWorker polls until it is closed", async ({ client, freshQueue }) => {
    const { sdk, log } = client(await freshQueue())
    sdk.registerTask<number>({ name: "n" }, async (n, ctx) => {
      await ctx.step("s", async () => n)
      return n
    })
    const worker = await sdk.startWorker({ concurrency: 4, pollInterval: 0.01 })
    const spawned = await Promise.all(Array.from({ length: 20 }, (_, n) => sdk.spawn("n", n)))
    for (const [n, { taskID }] of spawned.entries()) {
      assert.deepStrictEqual(await sdk.awaitTaskResult(taskID), { state: "completed", result: n })
    }
    await worker.close()
    assert.deepStrictEqual(log, [])
  })

  test("hooks add headers and wrap executions", async ({ client, freshQueue }) => {
    const wrapped: Array<string> = []
    const { sdk, work } = client(await freshQueue(), {
      hooks: {
        beforeSpawn: (name, _, options) => ({ ...options, headers: { ...options.headers, trace: `trace of ${name}` } }),
        wrapTaskExecution: async (ctx, execute) => {
          wrapped.push(String(ctx.headers["trace"]))
          return await execute()
        }
      }
    })
    sdk.registerTask({ name: "hooked" }, async (_, ctx) => ({ ...ctx.headers }))
    const { taskID } = await sdk.spawn("hooked", {}, { headers: { own: 1 } })
    await work()
    assert.deepStrictEqual(wrapped, ["trace of hooked"])
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), {
      state: "completed",
      result: { own: 1, trace: "trace of hooked" }
    })
  })
})
