/** Workflow runs, which are in no queue. */
import { Duration, Effect, Schema } from "effect"
import { hasEnded, NewWorkflowRun, WorkflowRunStatus } from "../../../src/core/Driver.ts"
import { Tag, WorkflowName, WorkflowRunId, WorkflowVersion } from "../../../src/core/Identifiers.ts"
import * as Drawn from "../Drawn.ts"
import { operation, type Place } from "../Operation.ts"

const Id = Schema.Literals(["w1", "w2", "w3", "w4"])
const Name = Schema.Literals(["flow", "flow", "stream"])
const Version = Schema.Literals(["1", "1", "2"])
const Optional = Schema.NullOr(Drawn.Json)
const Moment = Drawn.oneOf([null, null, null, 0, 1000, 60_000, 3_600_000])

const New = NewWorkflowRun.mapFields((fields) => ({
  ...fields,
  id: Id,
  name: Name,
  version: Version,
  inputs: Schema.Literals(["1", "1", "{\"b\":1,\"a\":[null,-0.5]}"]),
  createdBy: Drawn.oneOf([null, "me"]),
  hash: Drawn.oneOf([null, "abc"]),
  tags: Schema.Array(Schema.Literals(["x", "y"])).check(Schema.isMaxLength(2))
}))

const touches = "workflowRuns"
const optional = (text: string | null) => text === null ? undefined : Drawn.json(text)
const moment = (place: Place, millis: number | null) => millis === null ? null : Drawn.instant(place, millis)

export const operations = {
  createWorkflowRun: operation({
    fields: New.fields,
    weight: ({ world }) => world.workflowRuns.length < 3 ? 1.5 : 0.6,
    touches,
    // The same request again is no conflict.
    aim: ({ id }, { world }, chance) => {
      const found = world.workflowRuns.find((run) => run.id === id)
      return found === undefined || chance.happens(0.5) ? {} : {
        name: found.name === "stream" ? "stream" as const : "flow" as const,
        version: found.version === "2" ? "2" as const : "1" as const,
        inputs: found.inputs === 1 ? "1" as const : "{\"b\":1,\"a\":[null,-0.5]}" as const
      }
    },
    perform: ({ driver }, { id, inputs, name, tags, version, ...fields }) =>
      driver.createWorkflowRun({
        ...fields,
        id: WorkflowRunId.make(id),
        name: WorkflowName.make(name),
        version: WorkflowVersion.make(version),
        inputs: Drawn.json(inputs),
        tags: tags.map((tag) => Tag.make(tag))
      })
  }),
  updateWorkflowRun: operation({
    fields: {
      id: Id,
      status: WorkflowRunStatus,
      result: Optional,
      error: Optional,
      taskCount: Drawn.oneOf([null, 0, 3]),
      startedAt: Moment,
      completedAt: Moment
    },
    weight: ({ world }) => world.workflowRuns.length > 0 ? 2 : 0.3,
    touches,
    aim: (_, { world }, chance) => {
      const ended = world.workflowRuns.filter(({ status }) => hasEnded(status))
      const found = chance.pick(chance.happens(0.5) && ended.length > 0 ? ended : world.workflowRuns)
      const id = Id.literals.find((literal) => literal === found?.id)
      return id === undefined || chance.happens(0.2) ? {} : { id }
    },
    perform: (place, { completedAt, error, id, result, startedAt, status, taskCount }) =>
      place.driver.updateWorkflowRun({
        id: WorkflowRunId.make(id),
        status,
        result: optional(result),
        error: optional(error),
        taskCount: taskCount ?? undefined,
        startedAt: moment(place, startedAt) ?? undefined,
        completedAt: hasEnded(status) ? moment(place, completedAt) ?? undefined : undefined
      })
  }),
  readWorkflowRuns: operation({
    fields: {
      id: Id,
      name: Schema.NullOr(Name),
      version: Schema.NullOr(Version),
      status: Schema.NullOr(WorkflowRunStatus),
      tag: Drawn.oneOf([null, "x", "y"]),
      createdFrom: Moment,
      createdBefore: Moment,
      after: Schema.NullOr(Id),
      limit: Schema.Literals([1, 2, 50])
    },
    weight: () => 0.8,
    perform: (place, { after, createdBefore, createdFrom, id, limit, name, status, tag, version }) =>
      Effect.all([
        place.driver.getWorkflowRun(WorkflowRunId.make(id)),
        place.driver.listWorkflowRuns({
          name: name === null ? null : WorkflowName.make(name),
          version: version === null ? null : WorkflowVersion.make(version),
          status,
          tag: tag === null ? null : Tag.make(tag),
          createdFrom: moment(place, createdFrom),
          createdBefore: moment(place, createdBefore),
          after: place.known.world.workflowRuns.find((run) => run.id === after) ?? null,
          limit
        })
      ]),
    touches
  }),
  cleanupWorkflowRuns: operation({
    fields: { millis: Schema.Literals([0, 0, 1000, 60_000]), limit: Schema.Literals([0, 1, 1, 50]) },
    weight: ({ world }) => world.workflowRuns.some(({ status }) => hasEnded(status)) ? 1 : 0.2,
    touches,
    perform: ({ driver }, { limit, millis }) => driver.cleanupWorkflowRuns({ ttl: Duration.millis(millis), limit })
  })
}
