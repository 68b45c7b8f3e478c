/**
 * Workflow runs: a record, beside the queues, of tasks that belong together. Tasks are spawned with the id of their workflow
 * run (`workflowRunId`), which travels in their headers; the status of the run is the program's to tell.
 *
 * @since 0.1.0
 */
import { type DateTime, type Duration, Effect, Schema } from "effect"
import { SecureRandom } from "effect/crypto"
import { Absurd } from "./Absurd.ts"
import * as Driver from "./Driver.ts"
import { type DriverError, InvalidInput, type InvalidState, NotFound } from "./Errors.ts"
import { Tag, WorkflowName, WorkflowRunId, WorkflowVersion } from "./Identifiers.ts"
import * as Input from "./Input.ts"
import * as Stored from "./Stored.ts"

/**
 * What a workflow run may be created with, beside name and version.
 *
 * @since 0.1.0
 * @category models
 */
export interface CreateOptions {
  /** Whatever the workflow began with; null by default. */
  readonly inputs?: Schema.Json | undefined
  /** The id, of at most 256 bytes; a fresh UUIDv7 by default. */
  readonly runId?: string | undefined
  /** Who or what created it, of at most 256 bytes. */
  readonly createdBy?: string | undefined
  /** At most 64, of at most 256 bytes each. A repeated one counts once. */
  readonly tags?: Iterable<string> | undefined
  /** Whatever identifies the definition of the workflow, of at most 256 bytes. */
  readonly hash?: string | undefined
}

/**
 * Creates a workflow run, as `pending`, and returns its id.
 *
 * `InvalidInput` unless the name is like `order_fulfilment` (lower-case letters, digits and single underscores, a letter
 * first) and the version like `1.0.0-rc_1` (letters, digits, `.`, `-` and single underscores). With a `runId` it may be
 * repeated: a run of that id with the same name, version and inputs is taken as this one, any other is `InvalidState`.
 *
 * @since 0.1.0
 * @category workflow runs
 */
export const createWorkflowRun = Effect.fn("Absurd.createWorkflowRun")(function*(
  name: string,
  version: string,
  options: CreateOptions = {}
): Effect.fn.Return<WorkflowRunId, InvalidInput | InvalidState | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const { createdBy, hash } = options
  const run: Driver.NewWorkflowRun = {
    id: yield* checkId(options.runId ?? SecureRandom.uuidV7Unsafe()),
    name: yield* checkName(name),
    version: yield* checkVersion(version),
    inputs: yield* Stored.normalize("inputs", options.inputs ?? null),
    createdBy: createdBy === undefined ? null : yield* checkCreator(createdBy),
    hash: hash === undefined ? null : yield* checkHash(hash),
    tags: yield* checkTags([...new Set(options.tags ?? [])])
  }
  yield* driver.createWorkflowRun(run)
  return run.id
})

/**
 * What may change with the status of a workflow run. What is left out stays as it is.
 *
 * @since 0.1.0
 * @category models
 */
export interface UpdateOptions {
  readonly result?: Schema.Json | undefined
  readonly error?: Schema.Json | undefined
  /** By default the present of the store when the status first becomes `running`. */
  readonly startedAt?: DateTime.DateTime | undefined
  /** By default the present of the store when the run ends. `InvalidInput` with a status that is no end. */
  readonly completedAt?: DateTime.DateTime | undefined
  /** How many tasks the run has, from 0 to 2,147,483,647. */
  readonly taskCount?: number | undefined
}

/**
 * Gives a workflow run a status. A run that failed may go on again; one that is completed or cancelled keeps its status,
 * so that any other is `InvalidState`. `NotFound` when there is no such run.
 *
 * @since 0.1.0
 * @category workflow runs
 */
export const updateWorkflowRunStatus = Effect.fn("Absurd.updateWorkflowRunStatus")(function*(
  runId: string,
  status: Driver.WorkflowRunStatus,
  options: UpdateOptions = {}
): Effect.fn.Return<void, InvalidInput | InvalidState | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const { completedAt, error, result, startedAt, taskCount } = options
  const next = yield* checkStatus(status)
  if (completedAt !== undefined && !Driver.hasEnded(next)) {
    return yield* new InvalidInput({ field: "completedAt", problem: `cannot be given with the status ${next}` })
  }
  yield* driver.updateWorkflowRun({
    id: yield* checkId(runId),
    status: next,
    result: result === undefined ? undefined : yield* Stored.normalize("result", result),
    error: error === undefined ? undefined : yield* Stored.normalize("error", error),
    taskCount: taskCount === undefined
      ? undefined
      : yield* Input.integer("taskCount", taskCount, { minimum: 0, maximum: 2_147_483_647 }),
    startedAt: startedAt === undefined ? undefined : yield* Input.instant("startedAt", startedAt),
    completedAt: completedAt === undefined ? undefined : yield* Input.instant("completedAt", completedAt)
  })
})

/**
 * Everything that is stored of a workflow run. `NotFound` when there is no such run.
 *
 * @since 0.1.0
 * @category workflow runs
 */
export const getWorkflowRun = Effect.fn("Absurd.getWorkflowRun")(function*(
  runId: string
): Effect.fn.Return<Driver.WorkflowRun, InvalidInput | NotFound | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const id = yield* checkId(runId)
  return (yield* driver.getWorkflowRun(id)) ?? (yield* new NotFound({ kind: "workflow run", id }))
})

/**
 * Which workflow runs to list: those that fit all that is given.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  readonly name?: string | undefined
  readonly version?: string | undefined
  readonly status?: Driver.WorkflowRunStatus | undefined
  /** One of their tags. */
  readonly tag?: string | undefined
  /** Created then or later. */
  readonly createdFrom?: DateTime.DateTime | undefined
  /** Created earlier. */
  readonly createdBefore?: DateTime.DateTime | undefined
  /** The last run of the page before: the list goes on after it, even when it is no longer there. */
  readonly after?: Pick<Driver.WorkflowRun, "createdAt" | "id"> | undefined
  /** From 1 to 1,000; 100 by default. */
  readonly limit?: number | undefined
}

/**
 * Lists workflow runs, the newest first.
 *
 * @since 0.1.0
 * @category workflow runs
 */
export const listWorkflowRuns = Effect.fn("Absurd.listWorkflowRuns")(function*(
  options: ListOptions = {}
): Effect.fn.Return<ReadonlyArray<Driver.WorkflowRun>, InvalidInput | DriverError, Absurd> {
  const { driver } = yield* Absurd
  const { after, createdBefore, createdFrom, name, status, tag, version } = options
  return yield* driver.listWorkflowRuns({
    name: name === undefined ? null : yield* checkName(name),
    version: version === undefined ? null : yield* checkVersion(version),
    status: status === undefined ? null : yield* checkStatus(status),
    tag: tag === undefined ? null : yield* checkTag(tag),
    createdFrom: createdFrom === undefined ? null : yield* Input.instant("createdFrom", createdFrom),
    createdBefore: createdBefore === undefined ? null : yield* Input.instant("createdBefore", createdBefore),
    after: after === undefined
      ? null
      : {
        createdAt: yield* Input.instant("after.createdAt", after.createdAt),
        id: yield* checkAfter(after.id)
      },
    limit: yield* Input.integer("limit", options.limit ?? 100, { minimum: 1, maximum: 1000 })
  })
})

/**
 * Deletes workflow runs that ended more than `ttl` ago, the oldest ends first; returns how many. Runs that have not ended
 * are kept, however old they are. Tasks are not touched: `cleanupTasks` deletes those.
 *
 * @since 0.1.0
 * @category workflow runs
 */
export const cleanupWorkflowRuns = Effect.fn("Absurd.cleanupWorkflowRuns")(function*(options: {
  readonly ttl: Duration.Input
  /** How many at most; 1000 by default. */
  readonly limit?: number | undefined
}): Effect.fn.Return<number, InvalidInput | DriverError, Absurd> {
  const { driver } = yield* Absurd
  return yield* driver.cleanupWorkflowRuns({
    ttl: yield* Input.duration("ttl", options.ttl),
    limit: yield* Input.integer("limit", options.limit ?? 1000, { minimum: 1, maximum: 1_000_000 })
  })
})

// --- internal

const checkId = Input.check("runId", WorkflowRunId)
const checkAfter = Input.check("after.id", WorkflowRunId)
const checkName = Input.check("name", WorkflowName)
const checkVersion = Input.check("version", WorkflowVersion)
const checkStatus = Input.check("status", Driver.WorkflowRunStatus)
const checkTag = Input.check("tag", Tag)
const checkTags = Input.check("tags", Schema.Array(Tag).check(Schema.isMaxLength(64)))
// Texts of the same form as ids.
const checkCreator = Input.check("createdBy", WorkflowRunId)
const checkHash = Input.check("hash", WorkflowRunId)
