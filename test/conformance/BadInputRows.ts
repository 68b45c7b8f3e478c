/** Spawning and claiming with what they must refuse. */
import { DateTime, type Effect } from "effect"
import { Absurd, type Errors } from "effect-absurd"
import * as Bad from "./BadInputs.ts"
import type { World } from "./BadInputWorld.ts"

/** One call that must fail. */
export interface Row {
  readonly operation: string
  readonly given: string
  /** The tag of the error. */
  readonly tag: string
  /** The field that an `InvalidInput` names. */
  readonly field: string | undefined
  readonly act: (world: World) => Effect.Effect<unknown, { readonly _tag: string }, Absurd.Absurd>
}

export type Answer = Effect.Effect<unknown, Errors.Unhandled | Errors.Sleep, Absurd.Absurd>

export type Act = (world: World, input: never) => Answer

export const each = (
  operation: string,
  field: string,
  inputs: ReadonlyArray<Bad.Given>,
  act: Act
): ReadonlyArray<Row> =>
  inputs.map(([given, input]) => ({
    operation,
    given: `${given} for ${field}`,
    tag: "InvalidInput",
    field,
    act: (world) => act(world, input as never)
  }))

export const payloads = (operation: string, field: string, act: Act): ReadonlyArray<Row> =>
  Bad.payloads.map(([given, input, place]) => ({
    operation,
    given: `${given} in ${field}`,
    tag: "InvalidInput",
    field: field + place,
    act: (world) => act(world, input as never)
  }))

export const refused = (operation: string, given: string, tag: string, act: Act): Row => ({
  operation,
  given,
  tag,
  field: undefined,
  act: (world) => act(world, undefined as never)
})

const spawn = (options: Absurd.SpawnOptions) => (world: World) =>
  Absurd.spawnTask("job", null, { queue: world.queue, ...options })

/** Of bad names those that are JSON. */
const storable = (inputs: ReadonlyArray<Bad.Given>) =>
  inputs.filter(([, input]) => typeof input !== "string" || (input.isWellFormed() && !input.includes("\u0000")))

/** An option of a spawn under which each of the inputs is refused. */
const spawnOption = (name: keyof Absurd.SpawnOptions, field: string, inputs: ReadonlyArray<Bad.Given>) =>
  each("spawnTask", field, inputs, (world, input) => spawn({ [name]: input })(world))

const strategies: ReadonlyArray<readonly [field: string, given: string, input: unknown]> = [
  ["retry.kind", "a kind that there is not", { kind: "weird", base_seconds: 1 }],
  ["retry.kind", "no kind", {}],
  ["retry.kind", "an array", []],
  ["retry.kind", "a text", "fixed"],
  ["retry.base", "no base", { kind: "fixed" }],
  ["retry.base", "a text", { kind: "fixed", base_seconds: "5" }],
  ["retry.base", "a number that is none", { kind: "fixed", base_seconds: NaN }],
  ["retry.base", "a negative number", { kind: "exponential", base_seconds: -1, factor: 2 }],
  ["retry.base", "an enormous number", { kind: "exponential", base_seconds: 1e18, factor: 2 }],
  ["retry.factor", "no factor", { kind: "exponential", base_seconds: 1 }],
  ["retry.factor", "an infinite number", { kind: "exponential", base_seconds: 1, factor: Infinity }],
  ["retry.max", "a number that is none", { kind: "exponential", base_seconds: 1, factor: 2, max_seconds: NaN }]
]

const spawning: ReadonlyArray<Row> = [
  ...each("spawnTask", "task", Bad.names(256), ({ queue }, name) => Absurd.spawnTask(name, null, { queue })),
  ...each("spawnTask", "params", [["undefined", undefined]], ({ queue }, it) => Absurd.spawnTask("job", it, { queue })),
  ...payloads("spawnTask", "params", ({ queue }, params) => Absurd.spawnTask("job", params, { queue })),
  ...payloads("spawnTask", "headers", (world, headers) => spawn({ headers })(world)),
  ...spawnOption("headers", "headers", [["a text", "x"], ["an array", ["x"]], ["a number", 1], ["null", null]]),
  ...spawnOption("idempotencyKey", "idempotencyKey", Bad.names(512)),
  ...spawnOption("workflowRunId", "workflowRunId", [...Bad.names(256), ["a megabyte", "x".repeat(1_000_000)]]),
  ...each(
    "spawnTask",
    "workflowRunId",
    storable(Bad.names(256)),
    (world, workflowRunId) => spawn({ headers: { workflowRunId } })(world)
  ),
  ...spawnOption("delay", "delay", Bad.durations),
  ...spawnOption("delay", "delay", Bad.instants.filter(([, input]) => DateTime.isDateTime(input))),
  ...spawnOption("maxAttempts", "maxAttempts", Bad.integers(1, 1_000_000)),
  ...strategies.flatMap(([field, given, input]) => spawnOption("retryStrategy", field, [[given, input]])),
  ...spawnOption("cancellation", "cancellation", [["a text", "1 day"], ["null", null]]),
  ...each(
    "spawnTasks",
    "params[0]",
    [["NaN in one of them", NaN]],
    ({ queue }, it) => Absurd.spawnTasks([{ name: "job", params: 1 }, { name: "job", params: [it] }], { queue })
  ),
  ...each(
    "spawnTasks",
    "task",
    Bad.names(256),
    ({ queue }, name) => Absurd.spawnTasks([{ name: "job", params: 1 }, { name, params: 1 }], { queue })
  ),
  ...each(
    "spawnTasks",
    "workflowRunId",
    Bad.names(256),
    ({ queue }, workflowRunId) =>
      Absurd.spawnTasks([{ name: "job", params: 1 }, { name: "job", params: 1, workflowRunId }], { queue })
  ),
  ...each(
    "spawnRetryTask",
    "retry.base",
    Bad.durations,
    ({ queue }, base) => Absurd.spawnRetryTask("job", null, { queue, base })
  ),
  ...each(
    "spawnRetryTask",
    "retry.base",
    Bad.durations,
    ({ queue }, base) => Absurd.spawnRetryTask("job", null, { queue, base, kind: "fixed" })
  ),
  ...each(
    "spawnRetryTask",
    "retry.max",
    Bad.durations,
    ({ queue }, max) => Absurd.spawnRetryTask("job", null, { queue, max })
  ),
  ...each(
    "spawnRetryTask",
    "retry.factor",
    [["a number that is none", NaN], ["a negative number", -1], ["infinity", Infinity], ["a text", "2"], ["1e7", 1e7]],
    ({ queue }, factor) => Absurd.spawnRetryTask("job", null, { queue, factor })
  ),
  ...each(
    "spawnRetryTask",
    "kind",
    [["a kind that there is not", "weird"], ["a kind without delays", "none"]],
    ({ queue }, kind) => Absurd.spawnRetryTask("job", null, { queue, kind })
  ),
  ...(["maxDelay", "maxDuration"] as const).flatMap((limit) =>
    each(
      "spawnCancellableTask",
      `cancellation.${limit}`,
      [...Bad.durations, ["nothing", 0]],
      ({ queue }, input) => Absurd.spawnCancellableTask("job", null, { queue, [limit]: input })
    )
  ),
  ...each(
    "replaceTask",
    "idempotencyKey",
    Bad.names(512),
    ({ queue }, idempotencyKey) => Absurd.replaceTask("job", null, { queue, idempotencyKey })
  ),
  ...payloads(
    "replaceTask",
    "params",
    ({ key, queue }, params) => Absurd.replaceTask("job", params, { queue, idempotencyKey: key })
  ),
  ...each("findTask", "idempotencyKey", Bad.names(512), ({ queue }, key) => Absurd.findTask(key, { queue })),
  refused(
    "spawnTask",
    "a taken key with another name",
    "IdempotencyConflict",
    ({ key, queue }) => Absurd.spawnTask("another", null, { queue, idempotencyKey: key })
  ),
  refused(
    "spawnTask",
    "a taken key with other params",
    "IdempotencyConflict",
    ({ key, queue }) => Absurd.spawnTask("job", 1, { queue, idempotencyKey: key })
  ),
  refused(
    "spawnTasks",
    "a taken key among others",
    "IdempotencyConflict",
    ({ key, queue }) =>
      Absurd.spawnTasks([{ name: "job", params: 1 }, { name: "job", params: 1, idempotencyKey: key }], { queue })
  )
]

const runs: ReadonlyArray<readonly [given: string, change: { readonly [key: string]: unknown }]> = [
  ["a run that is no id", { runId: "nope" }],
  ["a run without an id", { runId: undefined }],
  ["a run without a token", { token: undefined }],
  ["a run with a blank token", { token: " " }],
  ["a run without a queue", { queue: undefined }],
  ["a run of a queue with NUL", { queue: "a\u0000" }]
]

export const onRuns: ReadonlyArray<readonly [operation: string, act: Act]> = [
  ["completeTask", (_, run) => Absurd.completeTask(run)],
  ["failTask", (_, run) => Absurd.failTask(run, "no")],
  ["extendClaim", (_, run) => Absurd.extendClaim(run, "1 minute")],
  ["scheduleTask", (_, run) => Absurd.scheduleTask(run, DateTime.makeUnsafe(0))],
  ["sleep", (_, run) => Absurd.sleep(run, "1 minute")],
  ["setCheckpoint", (_, run) => Absurd.setCheckpoint(run, "s", 1)],
  ["saveCheckpointForRun", (_, run) => Absurd.saveCheckpointForRun(run, "s", 1)],
  ["awaitEvent", (_, run) => Absurd.awaitEvent(run, "e")],
  ["waitForEvent", (_, run) => Absurd.waitForEvent(run, "e")],
  ["setRunSleeping", (_, run) => Absurd.setRunSleeping(run, "e")]
]

const claiming: ReadonlyArray<Row> = [
  ...each("claimTask", "workerId", Bad.names(128), ({ queue }, workerId) => Absurd.claimTask({ queue, workerId })),
  ...each(
    "claimTask",
    "claimTimeout",
    Bad.leases,
    ({ queue }, claimTimeout) => Absurd.claimTask({ queue, claimTimeout })
  ),
  ...each("claimTask", "qty", Bad.integers(1, 1000), ({ queue }, qty) => Absurd.claimTask({ queue, qty })),
  ...onRuns.flatMap(([operation, act]) => [
    ...each(operation, "run", [["undefined", undefined], ["a text", "run"]], act),
    ...runs.flatMap(([given, change]) =>
      each(
        operation,
        "run",
        [[given, change]],
        (world, change) => act(world, { ...world.run, ...(change as object) } as never)
      )
    )
  ]),
  ...payloads("completeTask", "result", ({ run }, result) => Absurd.completeTask(run, result)),
  ...payloads("failTask", "reason", ({ run }, reason) => Absurd.failTask(run, reason)),
  ...each("failTask", "retryAt", Bad.instants, ({ run }, retryAt) => Absurd.failTask(run, "no", { retryAt })),
  ...each("extendClaim", "duration", Bad.leases, ({ run }, duration) => Absurd.extendClaim(run, duration)),
  ...each("scheduleTask", "instant", Bad.instants, ({ run }, instant) => Absurd.scheduleTask(run, instant)),
  ...each("sleep", "duration", Bad.durations, ({ run }, duration) => Absurd.sleep(run, duration)),
  ...each("sleep", "step", Bad.steps, ({ run }, step) => Absurd.sleep(run, "1 minute", { step })),
  ...(["setCheckpoint", "saveCheckpointForRun"] as const).flatMap((operation) => [
    ...each(operation, "step", Bad.steps, ({ run }, step) => Absurd[operation](run, step, 1)),
    ...payloads(operation, "state", ({ run }, state) => Absurd[operation](run, "s", state)),
    ...each(
      operation,
      "extendClaimBy",
      Bad.leases,
      ({ run }, extendClaimBy) => Absurd[operation](run, "s", 1, { extendClaimBy })
    )
  ]),
  ...(["awaitEvent", "waitForEvent"] as const).flatMap((operation) => [
    ...each(operation, "event", Bad.names(512), ({ run }, event) => Absurd[operation](run, event)),
    ...each(operation, "step", Bad.steps, ({ run }, step) => Absurd[operation](run, "e", { step })),
    ...each(operation, "timeout", Bad.durations, ({ run }, timeout) => Absurd[operation](run, "e", { timeout }))
  ]),
  ...each("setRunSleeping", "event", Bad.names(512), ({ run }, event) => Absurd.setRunSleeping(run, event)),
  ...each("emitEvent", "event", Bad.names(512), ({ queue }, event) => Absurd.emitEvent(event, null, { queue })),
  ...payloads("emitEvent", "payload", ({ queue }, payload) => Absurd.emitEvent("e", payload, { queue })),
  ...each("readEvent", "event", Bad.names(512), ({ queue }, event) => Absurd.readEvent(event, { queue }))
]

export const rows: ReadonlyArray<Row> = [...spawning, ...claiming]
