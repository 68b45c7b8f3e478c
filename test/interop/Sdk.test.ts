/** `absurd-sdk` alone, on a database that this library installed: it must find everything as it expects it. */
import { assert } from "@effect/vitest"
import { type JsonValue, type TaskContext, TimeoutError } from "absurd-sdk"
import { Effect } from "effect"
import * as Interop from "./support/Interop.ts"

Interop.suite("absurd-sdk", (it) => {
  const test = (name: string, body: (shared: Interop.Shared) => Promise<void>) =>
    it.effect(name, () => Effect.flatMap(Interop.Interop, (shared) => Effect.promise(() => body(shared))))

  // --- queues

  test("queues are created, listed and dropped, whatever their names", async ({ client, freshQueue }) => {
    const { sdk } = client(await freshQueue({ create: false }))
    const before = await sdk.listQueues()
    const names = ["with space", "Upper \"quoted\"", "dotted.name", "ünïcode", "q".repeat(57)]
    for (const name of names) {
      await sdk.createQueue(name)
      await sdk.createQueue(name)
    }
    assert.sameMembers(await sdk.listQueues(), [...before, ...names])
    for (const name of names) {
      const { taskID } = await sdk.spawn("t", { name }, { queue: name })
      assert.deepStrictEqual(await sdk.fetchTaskResult(taskID, { queue: name }), { state: "pending" })
      await sdk.dropQueue(name)
      await sdk.dropQueue(name)
    }
    assert.sameMembers(await sdk.listQueues(), before)
  })

  test("the policy of a queue is stored in the units in which it was given", async ({ client, freshQueue }) => {
    const queue = await freshQueue({ create: false })
    const { sdk } = client(queue)
    await sdk.createQueue(queue, {
      cleanupTtl: "35 days",
      cleanupLimit: 17,
      detachMode: "empty",
      detachMinAge: "60 days"
    })
    await sdk.setQueuePolicy(queue, { partitionLookahead: "14 days" })
    assert.deepStrictEqual(await sdk.getQueuePolicy(), {
      queueName: queue,
      storageMode: "unpartitioned",
      partitionLookahead: "14 days",
      partitionLookback: "1 day",
      cleanupTtl: "35 days",
      cleanupLimit: 17,
      detachMode: "empty",
      detachMinAge: "60 days"
    })
    assert.isNull(await sdk.getQueuePolicy("no such queue"))
    await Interop.rejects(sdk.setQueuePolicy(queue, { cleanupLimit: 0 }), /cleanup_limit must be at least 1/)
    await Interop.rejects(sdk.createQueue(queue, { storageMode: "partitioned" }), /already exists with storage mode/)
  })

  test("a partitioned queue works like any other", async ({ client, freshQueue, rows }) => {
    const queue = await freshQueue({ create: false })
    const { sdk, work } = client(queue)
    await sdk.createQueue(queue, { storageMode: "partitioned", partitionLookahead: "7 days" })
    assert.strictEqual((await sdk.getQueuePolicy())?.storageMode, "partitioned")
    sdk.registerTask<{ n: number }>({ name: "double" }, async ({ n }, ctx) => {
      const doubled = await ctx.step("double", async () => n * 2)
      return { doubled, payload: await ctx.awaitEvent("go") }
    })
    const first = await sdk.spawn("double", { n: 21 }, { idempotencyKey: "once" })
    const again = await sdk.spawn("double", { n: 21 }, { idempotencyKey: "once" })
    assert.deepStrictEqual(again, { ...first, created: false })
    await work()
    await sdk.emitEvent("go", "gone")
    await work()
    assert.deepStrictEqual(await sdk.fetchTaskResult(first.taskID), {
      state: "completed",
      result: { doubled: 42, payload: "gone" }
    })
    assert.strictEqual((await rows(`select from absurd."i_${queue}"`)).length, 1)
    await sdk.dropQueue()
    assert.isNull(await sdk.getQueuePolicy())
  })

  // --- tasks

  test("a task is spawned, worked on and awaited", async ({ client, freshQueue, rows }) => {
    const queue = await freshQueue()
    const { sdk, work } = client(queue)
    sdk.registerTask<{ n: number }>({ name: "add" }, async ({ n }, ctx) => ({ n: n + 1, headers: { ...ctx.headers } }))
    const spawned = await sdk.spawn("add", { n: 1 }, { headers: { trace: "t-1", nested: { a: null } } })
    assert.deepInclude(spawned, { attempt: 1, created: true })
    assert.deepStrictEqual(await sdk.fetchTaskResult(spawned.taskID), { state: "pending" })
    const [claimed] = await work()
    assert.deepInclude(claimed, {
      task_id: spawned.taskID,
      run_id: spawned.runID,
      task_name: "add",
      attempt: 1,
      params: { n: 1 },
      headers: { trace: "t-1", nested: { a: null } },
      max_attempts: 5,
      retry_strategy: null,
      wake_event: null,
      event_payload: null
    })
    assert.deepStrictEqual(await sdk.awaitTaskResult(spawned.taskID), {
      state: "completed",
      result: { n: 2, headers: { trace: "t-1", nested: { a: null } } }
    })
    assert.deepStrictEqual(
      await rows(`select state, claimed_by, result from absurd."r_${queue}"`),
      [{ state: "completed", claimed_by: "sdk", result: { n: 2, headers: { trace: "t-1", nested: { a: null } } } }]
    )
    assert.isNull(await sdk.fetchTaskResult("01900000-0000-7000-8000-000000000001"))
    await Interop.rejects(sdk.spawn("unregistered", {}, { queue: "no such queue" }), /does not exist/)
  })

  test("nothing goes in and comes out as JSON null", async ({ client, freshQueue, rows }) => {
    const queue = await freshQueue()
    const { sdk, work } = client(queue)
    const seen: Array<unknown> = []
    sdk.registerTask({ name: "nothing" }, async (params) => {
      seen.push(params)
    })
    const { taskID } = await sdk.spawn("nothing", undefined)
    await work()
    assert.deepStrictEqual(seen, [null])
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "completed", result: null })
    assert.deepStrictEqual(await rows(`select completed_payload::text as text from absurd."t_${queue}"`), [
      { text: "null" }
    ])
  })

  test("an idempotency key leads to one task, in every state of it", async ({ client, freshQueue }) => {
    const { sdk, work } = client(await freshQueue())
    sdk.registerTask({ name: "once" }, async () => "done")
    const first = await sdk.spawn("once", { a: 1 }, { idempotencyKey: "k" })
    assert.deepStrictEqual(await sdk.spawn("once", { a: 2 }, { idempotencyKey: "k" }), { ...first, created: false })
    await work()
    assert.deepStrictEqual(await sdk.spawn("once", { a: 3 }, { idempotencyKey: "k" }), { ...first, created: false })
    assert.isTrue((await sdk.spawn("once", { a: 1 }, { idempotencyKey: "other" })).created)
  })

  test("a spawn and an emit belong to the caller's transaction", async ({ client, freshQueue, pool, rows }) => {
    const queue = await freshQueue()
    const { sdk } = client(queue)
    for (const end of ["rollback", "commit"]) {
      const connection = await pool.connect()
      try {
        const bound = sdk.bindToConnection(connection)
        await connection.query("begin")
        await bound.spawn("t", { end }, { queue })
        await bound.emitEvent("e", end)
        await connection.query(end)
      } finally {
        connection.release()
      }
    }
    assert.deepStrictEqual(await rows(`select params from absurd."t_${queue}"`), [{ params: { end: "commit" } }])
    assert.deepStrictEqual(await rows(`select payload from absurd."e_${queue}"`), [{ payload: "commit" }])
  })

  // --- steps

  test("steps run once, and repeated names are numbered", async ({ client, freshQueue, rows }) => {
    const queue = await freshQueue()
    const { sdk, work } = client(queue)
    const ran: Array<string> = []
    const step = (ctx: TaskContext, name: string, value: JsonValue) =>
      ctx.step(name, async () => {
        ran.push(name)
        return value
      })
    sdk.registerTask({ name: "steps" }, async (_, ctx) => {
      const values = [await step(ctx, "a", 1), await step(ctx, "a", { two: 2 }), await step(ctx, "b", null)]
      const nothing = await ctx.step("undefined", async () => {
        ran.push("undefined")
      })
      if (ran.length < 5) {
        ran.push("failed")
        throw new Error("once")
      }
      return [...values, nothing ?? null]
    })
    const { taskID } = await sdk.spawn("steps", {})
    await work()
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), {
      state: "completed",
      result: [1, { two: 2 }, null, null]
    })
    assert.deepStrictEqual(ran, ["a", "a", "b", "undefined", "failed"])
    assert.deepStrictEqual(
      await rows(`
        select checkpoint_name, c.state, status, attempt
        from absurd."c_${queue}" c join absurd."r_${queue}" r on r.run_id = c.owner_run_id
        order by checkpoint_name collate "C"`),
      [["a", 1], ["a#2", { two: 2 }], ["b", null], ["undefined", null]].map(([checkpoint_name, state]) => ({
        checkpoint_name,
        state,
        status: "committed",
        attempt: 1
      }))
    )
  })

  test("a step may be begun and completed separately", async ({ client, freshQueue }) => {
    const { sdk, work } = client(await freshQueue())
    const done: Array<boolean> = []
    sdk.registerTask({ name: "begin" }, async (_, ctx) => {
      const handle = await ctx.beginStep<number>("part")
      done.push(handle.done)
      const value = await ctx.completeStep(handle, done.length)
      if (done.length === 1) throw new Error("again")
      return value
    })
    const { taskID } = await sdk.spawn("begin", {})
    await work()
    assert.deepStrictEqual(done, [false, true])
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "completed", result: 1 })
  })

  // --- sleeps and events

  test("a task sleeps for a while and until an instant, in one run", async ({ client, freshQueue, pass, rows }) => {
    const queue = await freshQueue()
    const { sdk, work } = client(queue)
    sdk.registerTask({ name: "sleeper" }, async (_, ctx) => {
      const from = await ctx.step("from", async () => Date.now())
      await ctx.sleepFor("nap", 60)
      await ctx.sleepUntil("night", new Date(from + 3_600_000))
      await ctx.sleepUntil("past", new Date(from))
      return (Date.now() - from) / 1000
    })
    const { runID, taskID } = await sdk.spawn("sleeper", {})
    const claims: Array<number> = []
    for (const seconds of [0, 59, 1, 3539, 1]) {
      await pass(seconds)
      claims.push((await work()).length)
    }
    assert.deepStrictEqual(claims, [1, 0, 1, 0, 1])
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "completed", result: 3600 })
    assert.deepStrictEqual(await rows(`select run_id, attempt from absurd."r_${queue}"`), [{
      run_id: runID,
      attempt: 1
    }])
  })

  test("an event wakes a task, whether it comes before or after the wait", async ({ client, freshQueue, rows }) => {
    const queue = await freshQueue()
    const { sdk, work } = client(queue)
    sdk.registerTask({ name: "waiter" }, async (_, ctx) => {
      const early = await ctx.awaitEvent("early")
      const late = await ctx.awaitEvent("late", { stepName: "my wait" })
      return [early, late, await ctx.awaitEvent("late")]
    })
    await sdk.emitEvent("early", { n: 1 })
    await sdk.emitEvent("early", { n: 2 })
    const { taskID } = await sdk.spawn("waiter", {})
    await work()
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "sleeping" })
    assert.deepStrictEqual(await rows(`select step_name, event_name, timeout_at from absurd."w_${queue}"`), [
      { step_name: "my wait", event_name: "late", timeout_at: null }
    ])
    await sdk.emitEvent("late")
    assert.deepStrictEqual(await rows(`select from absurd."w_${queue}"`), [])
    const [claimed] = await work()
    assert.deepInclude(claimed, { wake_event: null, event_payload: null, attempt: 1 })
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "completed", result: [{ n: 1 }, null, null] })
  })

  test("a wait times out with TimeoutError, once", async ({ client, freshQueue, pass }) => {
    const { sdk, work } = client(await freshQueue())
    sdk.registerTask({ name: "impatient" }, async (_, ctx) => {
      try {
        return await ctx.awaitEvent("never", { timeout: 30 })
      } catch (error) {
        if (!(error instanceof TimeoutError)) throw error
      }
      // The mark of the timeout belongs to the run and the event, so the next wait is told of it too.
      const second = await ctx.awaitEvent("never", { timeout: 30 })
      return [second, await ctx.awaitEvent("never", { timeout: 30 })]
    })
    const { taskID } = await sdk.spawn("impatient", {})
    await work()
    await pass(29)
    assert.deepStrictEqual(await work(), [])
    await pass(1)
    const [woken] = await work()
    assert.deepInclude(woken, { wake_event: "never", event_payload: null })
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "sleeping" })
    await sdk.emitEvent("never", "at last")
    await work()
    // What timed out left no checkpoint: the replay's first wait finds the event.
    assert.deepStrictEqual(await sdk.fetchTaskResult(taskID), { state: "completed", result: "at last" })
  })

  test("an unhandled timeout fails the run", async ({ client, freshQueue }) => {
    const { sdk, work } = client(await freshQueue())
    sdk.registerTask({ name: "impatient", defaultMaxAttempts: 1 }, (_, ctx) => ctx.awaitEvent("never", { timeout: 0 }))
    const { taskID } = await sdk.spawn("impatient", {})
    await work()
    const result = await sdk.fetchTaskResult(taskID)
    assert.deepInclude(result !== null && "failure" in result ? result.failure : null, {
      name: "TimeoutError",
      message: `Timed out waiting for event "never"`
    })
  })

  test("a task emits to another and awaits a result of another queue", async ({ client, freshQueue }) => {
    const [parents, children] = [await freshQueue(), await freshQueue()]
    const parent = client(parents)
    const child = client(children)
    child.sdk.registerTask({ name: "child", queue: children }, async () => "from the child")
    const spawned = await child.sdk.spawn("child", {})
    await child.work()
    parent.sdk.registerTask({ name: "parent" }, async (_, ctx) => {
      await ctx.emitEvent("parent is here", { who: ctx.taskID })
      return (await ctx.awaitTaskResult(spawned.taskID, { queue: children, timeout: 5 })) as JsonValue
    })
    parent.sdk.registerTask({ name: "listener" }, (_, ctx) => ctx.awaitEvent("parent is here"))
    const listener = await parent.sdk.spawn("listener", {})
    const { taskID } = await parent.sdk.spawn("parent", {})
    await parent.work()
    assert.deepStrictEqual(await parent.sdk.fetchTaskResult(listener.taskID), {
      state: "completed",
      result: { who: taskID }
    })
    assert.deepStrictEqual(await parent.sdk.fetchTaskResult(taskID), {
      state: "completed",
      result: { state: "completed", result: "from the child" }
    })
  })
})
