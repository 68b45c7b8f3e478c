/** Tasks, events, steps and workers with what they must refuse. */
import { DateTime, type Duration, Effect, Layer, Schema } from "effect"
import { Event, Step, Task, Worker } from "effect-absurd"
import type { CurrentRun } from "../../src/core/CurrentRun.ts"
import { each, type Row } from "./BadInputRows.ts"
import * as Bad from "./BadInputs.ts"

const job = (options: object, queue: string) => Task.make("job", { queue, params: Schema.Json, ...options })

const Sized = Task.make("sized", { params: { size: Schema.Finite } })

const taskOption = (name: keyof Task.SpawnOptions, field: string, inputs: ReadonlyArray<Bad.Given>) => [
  ...each("Task.spawn", field, inputs, ({ queue }, input) => job({}, queue).spawn(null, { [name]: input })),
  ...each("Task.spawnMany", field, inputs, ({ queue }, input) => job({}, queue).spawnMany([1], { [name]: input }))
]

const tasks: ReadonlyArray<Row> = [
  ...each("Task.spawn", "params of task \"sized\"", [
    ["no object", 1],
    ["a number that is none", { size: NaN }],
    ["a text", { size: "1" }],
    ["nothing", {}]
  ], (_, params) => Sized.spawn(params)),
  ...each("Task.spawn", "task", Bad.names(256), ({ queue }, name) => Task.make(name, { queue, params: {} }).spawn({})),
  ...each("Task.spawn", "queue", Bad.names(57), (_, queue) => job({}, queue).spawn(null)),
  ...taskOption("delay", "delay", [...Bad.durations, ...Bad.instants.filter(([, input]) => input !== 0)]),
  ...taskOption("maxAttempts", "maxAttempts", Bad.integers(1, 1_000_000)),
  ...taskOption("workflowRunId", "workflowRunId", Bad.names(256)),
  ...each(
    "Task.spawn",
    "maxAttempts",
    Bad.integers(1, 1_000_000),
    ({ queue }, maxAttempts) => job({ maxAttempts }, queue).spawn(null)
  ),
  ...each(
    "Task.spawn",
    "cancellation.maxDelay",
    Bad.durations,
    ({ queue }, maxDelay) => job({ cancellation: { maxDelay } }, queue).spawn(null)
  ),
  ...each(
    "Task.spawn",
    "idempotencyKey",
    Bad.names(512),
    ({ queue }, key) => job({ idempotencyKey: () => key }, queue).spawn(null)
  ),
  ...each(
    "Task.spawn",
    "retry.kind",
    [["a kind that there is not", { kind: "weird" }]],
    ({ queue }, retry) => job({ retry }, queue).spawn(null)
  ),
  ...each("Task.handle", "taskId", Bad.ids, ({ queue }, id) => job({}, queue).handle(id)),
  ...each(
    "Task.toLayer",
    "queue",
    Bad.names(57),
    (_, queue) => Effect.scoped(Layer.build(job({}, queue).toLayer(() => Effect.void)))
  )
]

const Packed = Event.make("packed", { payload: Schema.Struct({ weight: Schema.Finite }) })

const events: ReadonlyArray<Row> = [
  ...each("Event.emit", "event", Bad.names(512), (_, name) => Event.make(name).emit("", undefined)),
  ...each(
    "Event.emit",
    "event",
    [["a key that is too long", "x".repeat(512)], ["a key with NUL", "\u0000"]],
    (_, key) => Packed.emit(key, { weight: 1 })
  ),
  ...each("Event.emit", "payload of event \"packed\"", [["no number", { weight: "1" }], ["nothing", undefined]], (
    _,
    payload
  ) => Packed.emit("1", payload)),
  ...each("Event.emit", "queue", Bad.names(57), (_, queue) => Event.make("e", { queue }).emit("1", undefined))
]

const workerOption = (field: string, inputs: ReadonlyArray<Bad.Given>, toOptions: (input: never) => object) => [
  ...each("Worker.runOnce", field, inputs, ({ queue }, input) => Worker.runOnce({ queue, ...toOptions(input) })),
  ...each(
    "Worker.layer",
    field,
    inputs,
    ({ queue }, input) => Effect.scoped(Layer.build(Worker.layer({ queue, ...toOptions(input) })))
  )
]

const workers: ReadonlyArray<Row> = [
  ...workerOption("queue", Bad.names(57), (queue) => ({ queue })),
  ...workerOption("queues", [["none", {}]], (queues) => ({ queue: undefined, queues })),
  ...workerOption("queues", [["some beside the one", { emails: 1 }]], (queues) => ({ queues })),
  ...workerOption("queues.emails", Bad.integers(1, 1000), (emails) => ({ queue: undefined, queues: { emails } })),
  ...workerOption("concurrency", Bad.integers(1, 10_000), (concurrency) => ({ concurrency })),
  ...workerOption("taskConcurrency.job", Bad.integers(1, 10_000), (job) => ({ taskConcurrency: { job } })),
  ...workerOption("lease", Bad.leases, (lease) => ({ lease })),
  ...workerOption("pollInterval", [...Bad.durations, ["nothing", 0]], (pollInterval) => ({ pollInterval })),
  ...workerOption("shutdownGrace", Bad.durations, (shutdownGrace) => ({ shutdownGrace })),
  ...workerOption("stallAfter", Bad.durations, (stallAfter) => ({ stallAfter }))
]

export const rows: ReadonlyArray<Row> = [...tasks, ...events, ...workers]

/** What a handler does that ends its task with an `InvalidInput` of the field. */
export interface Misuse {
  readonly operation: string
  readonly given: string
  readonly field: string
  readonly act: Effect.Effect<unknown, unknown, CurrentRun>
}

const within = (
  operation: string,
  field: string,
  inputs: ReadonlyArray<Bad.Given>,
  act: (input: never) => Effect.Effect<unknown, unknown, CurrentRun>
): ReadonlyArray<Misuse> =>
  inputs.map(([given, input]) => ({
    operation,
    given: `${given} for ${field}`,
    field,
    act: Effect.suspend(() => act(input as never))
  }))

const results: ReadonlyArray<Misuse> = Bad.payloads.map(([given, input, place]) => ({
  operation: "Step.run",
  given: `${given} as result`,
  field: `result of step "s"${place}`,
  act: Step.run("s", Effect.succeed(input as Schema.Json))
}))

export const misuses: ReadonlyArray<Misuse> = [
  ...within("Step.run", "step", Bad.steps, (name) => Step.run(name, Effect.succeed(1))),
  ...results,
  ...within(
    "Step.run",
    "result of step \"s\"",
    [["no number", "1"], ["nothing", undefined]],
    (value) => Step.run("s", Effect.succeed(value), { success: Schema.Finite })
  ),
  ...within(
    "Step.run",
    "timeout",
    Bad.durations,
    (timeout) => Step.run("s", Effect.never, { timeout: timeout as Duration.Input })
  ),
  ...within("Step.begin", "step", Bad.steps, (name) => Step.begin(name)),
  ...within("Step.idempotencyKey", "step", Bad.steps, (name) => Step.idempotencyKey(name)),
  ...within("Step.sleep", "step", Bad.steps, (name) => Step.sleep(name, "1 day")),
  ...within("Step.sleep", "duration", Bad.durations, (duration) => Step.sleep("s", duration)),
  ...within("Step.sleepUntil", "step", Bad.steps, (name) => Step.sleepUntil(name, DateTime.makeUnsafe(0))),
  ...within("Step.sleepUntil", "instant", Bad.instants, (instant) => Step.sleepUntil("s", instant)),
  ...within("Step.snooze", "duration", Bad.durations, (duration) => Step.snooze(duration)),
  ...within("Step.heartbeat", "lease", Bad.leases, (lease) => Step.heartbeat(lease)),
  ...within("Event.wait", "event", Bad.names(512), (name) => Event.make(name).wait("")),
  ...within("Event.wait", "timeout", Bad.durations, (timeout) => Event.make("e").wait("", { timeout }))
]
