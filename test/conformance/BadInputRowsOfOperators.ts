/** The operations of those who look after a store, with what they must refuse. */
import { DateTime, Duration } from "effect"
import { Absurd } from "effect-absurd"
import { type Answer, each, payloads, refused, type Row } from "./BadInputRows.ts"
import * as Bad from "./BadInputs.ts"
import type { World } from "./BadInputWorld.ts"

const byTask: ReadonlyArray<readonly [string, (taskId: string, at: { queue: string }) => Answer]> = [
  ["getTaskStatus", Absurd.getTaskStatus],
  ["getTaskResult", Absurd.getTaskResult],
  ["awaitTaskResult", Absurd.awaitTaskResult],
  ["cancelTask", Absurd.cancelTask],
  ["listRuns", Absurd.listRuns],
  ["listWaits", Absurd.listWaits],
  ["getAllCheckpoints", Absurd.getAllCheckpoints],
  ["getCheckpoint", (taskId, at) => Absurd.getCheckpoint(taskId, "s", at)],
  ["retryTask", Absurd.retryTask]
]

const byRun: ReadonlyArray<readonly [string, (runId: string, at: { queue: string }) => Answer]> = [
  ["getRunStatus", Absurd.getRunStatus],
  ["cancelRun", Absurd.cancelRun],
  ["getCheckpointsForRun", Absurd.getCheckpointsForRun],
  ["getRunCheckpoint", (runId, at) => Absurd.getRunCheckpoint(runId, "s", at)]
]

const inspecting: ReadonlyArray<Row> = [
  ...byTask.flatMap(([operation, act]) => each(operation, "taskId", Bad.ids, ({ queue }, id) => act(id, { queue }))),
  ...byRun.flatMap(([operation, act]) => each(operation, "runId", Bad.ids, ({ queue }, id) => act(id, { queue }))),
  ...each(
    "getCheckpoint",
    "step",
    Bad.names(700),
    ({ queue, run }, step) => Absurd.getCheckpoint(run.taskId, step, { queue })
  ),
  ...each(
    "getRunCheckpoint",
    "step",
    Bad.names(700),
    ({ queue, run }, step) => Absurd.getRunCheckpoint(run.runId, step, { queue })
  ),
  ...each(
    "awaitTaskResult",
    "timeout",
    Bad.durations,
    ({ queue, run }, timeout) => Absurd.awaitTaskResult(run.taskId, { queue, timeout })
  ),
  ...each(
    "retryTask",
    "maxAttempts",
    Bad.integers(1, 1_000_000),
    ({ failed, queue }, maxAttempts) => Absurd.retryTask(failed, { queue, maxAttempts })
  ),
  refused("retryTask", "a task that runs", "InvalidState", ({ queue, run }) => Absurd.retryTask(run.taskId, { queue })),
  refused(
    "retryTask",
    "a limit that leaves no attempt",
    "InvalidInput",
    ({ failed, queue }) => Absurd.retryTask(failed, { queue, maxAttempts: 1 })
  ),
  ...(["cleanupTasks", "cleanupEvents"] as const).flatMap((operation) => [
    ...each(operation, "ttl", Bad.durations, ({ queue }, ttl) => Absurd[operation]({ queue, ttl })),
    ...each(
      operation,
      "limit",
      Bad.integers(1, 1_000_000),
      ({ queue }, limit) => Absurd[operation]({ queue, ttl: 0, limit })
    )
  ])
]

export const onQueues: ReadonlyArray<
  readonly [operation: string, act: (queue: string, world: World) => Answer]
> = [
  ["spawnTask", (queue) => Absurd.spawnTask("job", null, { queue })],
  ["spawnTasks", (queue) => Absurd.spawnTasks([{ name: "job", params: null }], { queue })],
  ["spawnRetryTask", (queue) => Absurd.spawnRetryTask("job", null, { queue })],
  ["spawnCancellableTask", (queue) => Absurd.spawnCancellableTask("job", null, { queue })],
  ["replaceTask", (queue) => Absurd.replaceTask("job", null, { queue, idempotencyKey: "k" })],
  ["findTask", (queue) => Absurd.findTask("k", { queue })],
  ["claimTask", (queue) => Absurd.claimTask({ queue })],
  ["emitEvent", (queue) => Absurd.emitEvent("e", null, { queue })],
  ["readEvent", (queue) => Absurd.readEvent("e", { queue })],
  ...byTask.map(([operation, act]) =>
    [operation, (queue: string, world: World) => act(world.run.taskId, { queue })] as const
  ),
  ...byRun.map(([operation, act]) =>
    [operation, (queue: string, world: World) => act(world.run.runId, { queue })] as const
  ),
  ["cleanupTasks", (queue) => Absurd.cleanupTasks({ queue, ttl: 0 })],
  ["cleanupEvents", (queue) => Absurd.cleanupEvents({ queue, ttl: 0 })],
  ["dropQueue", (queue) => Absurd.dropQueue(queue)],
  ["getQueuePolicy", (queue) => Absurd.getQueuePolicy(queue)],
  ["setQueuePolicy", (queue) => Absurd.setQueuePolicy(queue, { cleanupLimit: 1 })],
  ["ensurePartitions", (queue) => Absurd.ensurePartitions(queue)],
  ["listDetachCandidates", (queue) => Absurd.listDetachCandidates(queue)],
  ["detachPartitions", (queue) => Absurd.detachPartitions(queue)],
  ["cleanupAll", (queue) => Absurd.cleanupAll(queue)],
  ["enableCron", (queue) => Absurd.enableCron({ queue })],
  ["disableCron", (queue) => Absurd.disableCron(queue)]
]

const policy = (field: string, given: string, update: object): ReadonlyArray<Row> =>
  each(
    "setQueuePolicy",
    field,
    [[given, update]],
    ({ partitioned }, changed) => Absurd.setQueuePolicy(partitioned, changed)
  )

const queues: ReadonlyArray<Row> = [
  ...onQueues.flatMap(([operation, act]) =>
    each(operation, "queue", Bad.names(57), (world, queue) => act(queue, world))
  ),
  ...each("createQueue", "queue", Bad.newQueues, (_, name) => Absurd.createQueue(name)),
  ...each(
    "createQueue",
    "storage",
    [["a mode that there is not", "weird"], ["a number", 1]],
    (_, storage) => Absurd.createQueue("never_made", { storage })
  ),
  refused(
    "createQueue",
    "the other mode of a queue",
    "InvalidState",
    ({ queue }) => Absurd.createQueue(queue, { storage: "partitioned" })
  ),
  ...Bad.integers(1, 1_000_000).flatMap(([given, cleanupLimit]) => policy("cleanupLimit", given, { cleanupLimit })),
  ...(["cleanupTtl", "detachMinAge", "partitionLookahead", "partitionLookback"] as const).flatMap((field) =>
    Bad.durations.flatMap(([given, value]) => policy(field, given, { cleanupLimit: 7, [field]: value }))
  ),
  ...policy("defaultPartition", "a word that there is not", { defaultPartition: "maybe" }),
  ...policy("detachMode", "a word that there is not", { detachMode: "all" }),
  ...policy("partitionLookahead", "nine years", { partitionLookahead: Duration.days(9 * 365) }),
  ...policy("partitionLookahead", "nine years with what is stored", { partitionLookback: Duration.days(9 * 365 - 28) }),
  ...policy("partitionLookahead", "nine years in two parts", {
    partitionLookahead: Duration.days(5 * 365),
    partitionLookback: Duration.days(4 * 365)
  }),
  refused(
    "setQueuePolicy",
    "a default partition of an unpartitioned queue",
    "InvalidState",
    ({ queue }) => Absurd.setQueuePolicy(queue, { cleanupLimit: 7, defaultPartition: "disabled" })
  )
]

const workflowNames: ReadonlyArray<Bad.Given> = [
  ...Bad.names(256),
  ["a capital", "Order"],
  ["a digit first", "1st"],
  ["an underscore first", "_order"],
  ["a hyphen", "order-fulfilment"],
  ["a space", "order fulfilment"],
  ["two underscores", "order__fulfilment"]
]

const workflowVersions: ReadonlyArray<Bad.Given> = [
  ...Bad.names(256),
  ["a space", "1 0"],
  ["a slash", "1/0"],
  ["a plus", "1.0+x"],
  ["two underscores", "1__0"]
]

const workflows: ReadonlyArray<Row> = [
  ...each("createWorkflowRun", "name", workflowNames, (_, name) => Absurd.createWorkflowRun(name, "1")),
  ...each("createWorkflowRun", "version", workflowVersions, (_, version) => Absurd.createWorkflowRun("flow", version)),
  ...payloads("createWorkflowRun", "inputs", (_, inputs) => Absurd.createWorkflowRun("flow", "1", { inputs })),
  ...(["runId", "createdBy", "hash"] as const).flatMap((field) =>
    each(
      "createWorkflowRun",
      field,
      Bad.names(256),
      (_, value) => Absurd.createWorkflowRun("flow", "1", { [field]: value })
    )
  ),
  ...each(
    "createWorkflowRun",
    "tags",
    Bad.names(256),
    (_, tag) => Absurd.createWorkflowRun("flow", "1", { tags: ["a", tag] })
  ),
  ...each(
    "createWorkflowRun",
    "tags",
    [["65 of them", Array.from({ length: 65 }, (_, n) => `t${n}`)]],
    (_, tags) => Absurd.createWorkflowRun("flow", "1", { tags })
  ),
  refused(
    "createWorkflowRun",
    "the id of another run",
    "InvalidState",
    ({ workflowRun }) => Absurd.createWorkflowRun("another", "1", { runId: workflowRun })
  ),
  ...each("updateWorkflowRunStatus", "runId", Bad.names(256), (_, id) => Absurd.updateWorkflowRunStatus(id, "running")),
  ...each(
    "updateWorkflowRunStatus",
    "status",
    [["a word that there is not", "sleeping"]],
    ({ workflowRun }, status) => Absurd.updateWorkflowRunStatus(workflowRun, status)
  ),
  ...(["result", "error"] as const).flatMap((field) =>
    payloads(
      "updateWorkflowRunStatus",
      field,
      ({ workflowRun }, value) => Absurd.updateWorkflowRunStatus(workflowRun, "completed", { [field]: value })
    )
  ),
  ...(["startedAt", "completedAt"] as const).flatMap((field) =>
    each(
      "updateWorkflowRunStatus",
      field,
      Bad.instants,
      ({ workflowRun }, value) => Absurd.updateWorkflowRunStatus(workflowRun, "completed", { [field]: value })
    )
  ),
  ...each("updateWorkflowRunStatus", "completedAt", [["one of a run that goes on", DateTime.makeUnsafe(0)]], (
    { workflowRun },
    completedAt
  ) => Absurd.updateWorkflowRunStatus(workflowRun, "running", { completedAt })),
  ...each(
    "updateWorkflowRunStatus",
    "taskCount",
    Bad.integers(0, 2_147_483_647),
    ({ workflowRun }, taskCount) => Absurd.updateWorkflowRunStatus(workflowRun, "running", { taskCount })
  ),
  ...each("getWorkflowRun", "runId", Bad.names(256), (_, id) => Absurd.getWorkflowRun(id)),
  ...each("listWorkflowRuns", "name", workflowNames, (_, name) => Absurd.listWorkflowRuns({ name })),
  ...each("listWorkflowRuns", "version", workflowVersions, (_, version) => Absurd.listWorkflowRuns({ version })),
  ...each(
    "listWorkflowRuns",
    "status",
    [["a word that there is not", "sleeping"]],
    (_, status) => Absurd.listWorkflowRuns({ status })
  ),
  ...each("listWorkflowRuns", "tag", Bad.names(256), (_, tag) => Absurd.listWorkflowRuns({ tag })),
  ...(["createdFrom", "createdBefore"] as const).flatMap((field) =>
    each("listWorkflowRuns", field, Bad.instants, (_, value) => Absurd.listWorkflowRuns({ [field]: value }))
  ),
  ...each(
    "listWorkflowRuns",
    "after.createdAt",
    Bad.instants,
    ({ workflowRun }, createdAt) => Absurd.listWorkflowRuns({ after: { createdAt, id: workflowRun } })
  ),
  ...each(
    "listWorkflowRuns",
    "after.id",
    Bad.names(256),
    (_, id) => Absurd.listWorkflowRuns({ after: { createdAt: DateTime.makeUnsafe(0), id } })
  ),
  ...each("listWorkflowRuns", "limit", Bad.integers(1, 1000), (_, limit) => Absurd.listWorkflowRuns({ limit })),
  ...each("cleanupWorkflowRuns", "ttl", Bad.durations, (_, ttl) => Absurd.cleanupWorkflowRuns({ ttl })),
  ...each(
    "cleanupWorkflowRuns",
    "limit",
    Bad.integers(1, 1_000_000),
    (_, limit) => Absurd.cleanupWorkflowRuns({ ttl: 0, limit })
  )
]

export const rows: ReadonlyArray<Row> = [...inspecting, ...queues, ...workflows]
