/** What can be seen from outside: spans, metrics, logs and outcomes; and that nothing of what is stored is among it. */
import { assert, describe, it, layer as tests } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Metric, Option, Ref, References, Schema, Stream, Tracer } from "effect"
import { Absurd, CurrentRun, Event, Hooks, RetryStrategy, Step, Task, Telemetry, Worker } from "effect-absurd"
import { TestClock } from "effect/testing"
import * as TestPostgres from "../support/Postgres.ts"

const queue = "orders"
const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

/** A tracer that keeps its spans. */
const makeTracer = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const named = (name: string) => spans.filter((span) => span.name === name)
  return { spans, named, layer: Layer.succeed(Tracer.Tracer, tracer) }
}

const drain = (name = queue) =>
  Worker.runOnce({ queue: name }).pipe(Effect.repeat({ until: (results) => results.length === 0 }))

const inStore = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  Effect.andThen(Absurd.createQueue(queue), body).pipe(
    Effect.provide(Absurd.layerMemory),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )

/** The values of a metric, by its labels. */
const measured = (id: string) =>
  Effect.map(
    Metric.snapshot,
    (all) => all.filter((one) => one.id === id).map((one) => ({ labels: one.attributes ?? {}, state: one.state }))
  )

const parentOf = (span: Tracer.Span) => Option.getOrUndefined(span.parent)?.spanId

describe("spans", () => {
  it.effect("go from the spawn over each run to its steps and waits, in one trace", () => {
    const tracer = makeTracer()
    const Order = Task.make("order", { queue, params: {}, retry: RetryStrategy.none })
    let attempts = 0
    const live = Order.toLayer(Effect.fnUntraced(function*() {
      yield* Step.run("charge", Effect.succeed(1))
      yield* Step.sleep("pause", "1 hour")
      if (++attempts === 1) return yield* Effect.die("once more")
    }))
    return inStore(
      Effect.gen(function*() {
        const task = yield* Order.spawn({})
        yield* drain()
        yield* TestClock.adjust("1 hour")
        yield* drain()
        yield* task.await

        const [spawn] = tracer.named("absurd.spawn")
        const runs = tracer.named("absurd.run")
        assert.deepInclude(Object.fromEntries(spawn!.attributes), {
          "absurd.queue": queue,
          "absurd.task": "order",
          "absurd.task_id": task.taskId,
          "absurd.created": true
        })
        assert.deepStrictEqual(
          runs.map((run) => [run.attributes.get("absurd.outcome"), run.attributes.get("absurd.attempt")]),
          [["suspended", 1], ["retried", 1], ["completed", 2]]
        )
        for (const run of runs) {
          assert.strictEqual(run.traceId, spawn!.traceId)
          assert.strictEqual(parentOf(run), spawn!.spanId)
          assert.deepStrictEqual(
            run.links.map((link) => link.span.spanId),
            runs[0]!.links.map((link) => link.span.spanId)
          )
          assert.strictEqual(run.links.length, 1)
        }
        assert.deepStrictEqual(
          tracer.named("absurd.step").map((step) => [parentOf(step), step.attributes.get("absurd.replayed")]),
          runs.map((run, index) => [run.spanId, index > 0])
        )
        assert.deepStrictEqual(
          tracer.named("absurd.sleep").map((sleep) => [parentOf(sleep), sleep.attributes.get("absurd.replayed")]),
          runs.map((run, index) => [run.spanId, index > 0])
        )
        assert.isTrue(tracer.spans.every((span) => span.status._tag === "Ended"))
        assert.deepStrictEqual(
          (yield* measured("absurd_steps")).map(({ labels, state }) => [labels, state]),
          [[{ queue, task: "order", outcome: "success" }, { count: 1, incremental: true }]]
        )
      }).pipe(Effect.provide(live))
    ).pipe(Effect.provide(tracer.layer))
  })

  it.effect("a given traceparent stays, and a task of no trace begins its own in each run", () => {
    const tracer = makeTracer()
    const Plain = Task.make("plain", { queue, params: {} })
    const seen: Array<unknown> = []
    const live = Plain.toLayer(() => CurrentRun.use((run) => Effect.sync(() => void seen.push(run.headers))))
    return inStore(
      Effect.gen(function*() {
        yield* Plain.spawn({})
        yield* Plain.spawn({}, { headers: { traceparent } })
        yield* Effect.provide(drain(), tracer.layer)
        assert.deepStrictEqual(seen, [{}, { traceparent }])
        const [own, given] = tracer.named("absurd.run")
        assert.isUndefined(parentOf(own!))
        assert.strictEqual(given!.traceId, traceparent.split("-")[1])
        assert.strictEqual(parentOf(given!), traceparent.split("-")[2])
      }).pipe(Effect.provide(live))
    )
  })
})

describe("metrics", () => {
  it.effect("count a step that is interrupted as that", () => {
    const Order = Task.make("order", { queue, params: {} })
    const live = Order.toLayer(Effect.fnUntraced(function*() {
      const step = yield* Effect.forkChild(Step.run("charge", Effect.never), { startImmediately: true })
      yield* Fiber.interrupt(step)
    }))
    return inStore(
      Effect.gen(function*() {
        yield* Order.spawn({})
        yield* drain()
        assert.deepStrictEqual((yield* measured("absurd_steps")).map(({ labels }) => labels["outcome"]), [
          "interrupted"
        ])
      }).pipe(Effect.provide(live))
    )
  })

  it.effect("tell outcomes, durations, claim latency and the depth of queues", () => {
    const Flaky = Task.make("flaky", { queue, params: { fail: Schema.Boolean }, maxAttempts: 1 })
    const live = Flaky.toLayer(({ fail }) => fail ? Effect.die("no") : Effect.void)
    return inStore(
      Effect.gen(function*() {
        yield* Flaky.spawn({ fail: false })
        yield* Flaky.spawn({ fail: true })
        yield* TestClock.adjust("3 seconds")
        yield* Effect.scoped(Effect.andThen(Layer.build(Telemetry.layerQueues({ queues: [queue] })), Effect.yieldNow))
        assert.sameDeepMembers(yield* measured("absurd_queue_depth"), [
          { labels: { queue, state: "due" }, state: { value: 2 } },
          { labels: { queue, state: "later" }, state: { value: 0 } },
          { labels: { queue, state: "running" }, state: { value: 0 } }
        ])
        assert.deepStrictEqual((yield* measured("absurd_oldest_due")).map(({ state }) => state), [{ value: 3000 }])
        yield* drain()
        assert.sameDeepMembers(yield* measured("absurd_runs"), [
          { labels: { queue, task: "flaky", outcome: "completed" }, state: { count: 1, incremental: true } },
          { labels: { queue, task: "flaky", outcome: "failed" }, state: { count: 1, incremental: true } }
        ])
        const [latency] = yield* measured("absurd_claim_latency")
        assert.deepInclude(latency!.state, { count: 2, min: 3000, max: 3000 })
        const durations = yield* measured("absurd_run_duration")
        assert.deepStrictEqual(durations.map(({ labels }) => labels["time_unit"]), ["milliseconds", "milliseconds"])
        assert.isAbove((yield* measured("absurd_batch_size")).length, 0)
      }).pipe(Effect.provide(live))
    )
  })
})

describe("what is stored stays out of sight", () => {
  it.effect("no params, headers, results, payloads or errors in logs, spans or metrics", () => {
    const tracer = makeTracer()
    const logs: Array<unknown> = []
    const logger = Logger.make((options) => {
      logs.push([
        options.message,
        options.cause,
        options.fiber.getRef(References.CurrentLogAnnotations)
      ])
    })
    const marker = (kind: string) => `MARKER-${kind}`
    class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
    const Ready = Event.make("ready", { payload: Schema.Struct({ text: Schema.String }), queue })
    const Secret = Task.make("secret", {
      queue,
      params: { card: Schema.String },
      success: Schema.String,
      error: Declined,
      maxAttempts: 1
    })
    const live = Secret.toLayer(Effect.fnUntraced(function*({ card }) {
      yield* Step.run(
        "inside",
        Effect.andThen(Effect.logInfo("in the step"), Effect.succeed(marker("checkpoint")))
      )
      if (card === marker("fails")) {
        return yield* Step.run("decline", Effect.fail(new Declined({ reason: marker("error") })))
      }
      if (card === marker("dies")) return yield* Step.run("die", Effect.die(new Error(marker("defect"))))
      yield* Ready.wait("")
      return marker("result")
    }))
    const program = inStore(
      Effect.gen(function*() {
        const headers = { tenant: marker("header") }
        const good = yield* Secret.spawn({ card: marker("params") }, { headers })
        const failing = yield* Secret.spawn({ card: marker("fails") }, { headers })
        const dying = yield* Secret.spawn({ card: marker("dies") }, { headers })
        yield* drain()
        yield* Ready.emit("", { text: marker("payload") })
        yield* drain()
        assert.strictEqual(yield* good.await, marker("result"))
        assert.isTrue((yield* Effect.exit(failing.await))._tag === "Failure")
        assert.isTrue((yield* Effect.exit(dying.await))._tag === "Failure")

        const [entry] = logs.filter((log) => JSON.stringify(log).includes("in the step"))
        assert.deepInclude((entry as ReadonlyArray<unknown>)[2], {
          task: "secret",
          taskId: good.taskId,
          runId: good.runId,
          attempt: 1,
          step: "inside"
        })
        const spans = tracer.spans.map((span) => [span.name, [...span.attributes], span.events, show(span.status)])
        assert.notInclude(show(spans), "MARKER")
        assert.notInclude(show(logs), "MARKER")
        assert.notInclude(yield* Metric.dump, "MARKER")
        // The kind of an error is no secret.
        assert.include(show(tracer.named("absurd.step").map((span) => span.status)), "Declined")
      }).pipe(Effect.provide(live))
    )
    return program.pipe(Effect.provide(Layer.merge(tracer.layer, Logger.layer([logger]))))
  })
})

/** Everything in a value, causes and messages of errors included. */
const show = (value: unknown): string =>
  JSON.stringify(
    value,
    (_, part: unknown) =>
      typeof part === "bigint" ? String(part) : part instanceof Error ? { ...part, text: String(part) } : part
  )

describe("outcomes", () => {
  it.effect("come after they are stored", () => {
    const Order = Task.make("order", { queue, params: {} })
    return inStore(
      Effect.gen(function*() {
        const first = yield* Worker.outcomes.pipe(
          Stream.mapEffect((outcome) =>
            Effect.map(Absurd.getTaskResult(outcome.taskId, { queue }), ({ state }) => ({ outcome, state }))
          ),
          Stream.runHead,
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.yieldNow
        const task = yield* Order.spawn({})
        yield* drain()
        const { outcome, state } = Option.getOrThrow(yield* Fiber.join(first))
        assert.strictEqual(state, "completed")
        assert.deepStrictEqual(outcome, {
          queue: task.queue,
          task: "order",
          taskId: task.taskId,
          runId: task.runId,
          attempt: 1,
          result: { _tag: "Completed" }
        })
      }).pipe(Effect.provide(Order.toLayer(() => Effect.void)))
    )
  })
})

describe("hooks", () => {
  it.effect("change what is spawned and surround what is executed, the outer first", () =>
    Effect.gen(function*() {
      const seen = yield* Ref.make<ReadonlyArray<string>>([])
      const say = (what: string) => Ref.update(seen, (all) => [...all, what])
      const spawn = (name: string) =>
        Hooks.layerSpawn(({ tasks }, next) =>
          Effect.andThen(
            say(`spawn ${name}`),
            next(tasks.map((task) => ({ ...task, maxAttempts: 1, headers: { ...task.headers, [name]: true } })))
          )
        )
      const execution = (name: string) =>
        Hooks.layerExecution((handler, run) =>
          Effect.ensuring(Effect.andThen(say(`begin ${name} ${run.task}`), handler), say(`end ${name}`))
        )
      const hooks = Layer.mergeAll(spawn("inner"), execution("inner")).pipe(
        Layer.provideMerge(Layer.mergeAll(spawn("outer"), execution("outer")))
      )
      const Order = Task.make("order", { queue, params: {} })
      const live = Order.toLayer(() =>
        CurrentRun.use((run) => say(JSON.stringify(run.headers))).pipe(Effect.andThen(Effect.die("once")))
      )
      yield* inStore(
        Effect.gen(function*() {
          const [task] = yield* Order.spawnMany([{}])
          yield* drain()
          // One attempt, as the hook has it.
          assert.strictEqual((yield* Absurd.getTaskResult(task!.taskId, { queue })).state, "failed")
        }).pipe(Effect.provide(live), Effect.provide(hooks))
      )
      assert.deepStrictEqual(yield* Ref.get(seen), [
        "spawn outer",
        "spawn inner",
        "begin outer order",
        "begin inner order",
        `{"inner":true,"outer":true}`,
        "end inner",
        "end outer"
      ])
    }))
})

tests(Layer.provideMerge(Absurd.layer, TestPostgres.layer()))("on PostgreSQL", (it) => {
  it.effect("a trace goes through the store into another program's tracer", () =>
    Effect.gen(function*() {
      yield* Absurd.createQueue("traced")
      const [producer, consumer] = [makeTracer(), makeTracer()]
      const Order = Task.make("order", { queue: "traced", params: {} })
      yield* Effect.provide(Order.spawn({}), producer.layer)
      yield* drain("traced").pipe(
        Effect.provide(Order.toLayer(() => Step.run("charge", Effect.void))),
        Effect.provide(consumer.layer)
      )
      const [spawn] = producer.named("absurd.spawn")
      const [run] = consumer.named("absurd.run")
      const [step] = consumer.named("absurd.step")
      assert.strictEqual(run!.traceId, spawn!.traceId)
      assert.strictEqual(parentOf(run!), spawn!.spanId)
      assert.strictEqual(step!.traceId, spawn!.traceId)
    }))
})
