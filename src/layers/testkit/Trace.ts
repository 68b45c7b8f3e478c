/**
 * What a task has left behind in a store, in terms that are the same in every life of the task: ids are left out.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import type { Absurd } from "../../core/Absurd.ts"
import type { DriverError, InvalidInput, NotFound } from "../../core/Errors.ts"
import { isTerminal, type TaskId } from "../../core/Identifiers.ts"
import type { Dump } from "../../core/Invariants.ts"
import { queues, TestStore } from "./TestStore.ts"

/**
 * What two lives are compared by; all of it by default. See `CrashOptions`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Filter {
  readonly steps?: ((name: string) => boolean) | undefined
  readonly tasks?: ((name: string) => boolean) | undefined
  readonly events?: ((name: string) => boolean) | undefined
}

/**
 * How often there is what: in words, so that a difference can be told.
 *
 * @since 0.1.0
 * @category models
 */
export type Trace = ReadonlyMap<string, number>

/**
 * The trace of a task, of the other tasks of its store, and of the events.
 *
 * @since 0.1.0
 * @category combinators
 */
export const read = Effect.fnUntraced(function*(
  taskId: TaskId,
  filter: Filter
): Effect.fn.Return<Trace, InvalidInput | NotFound | DriverError, Absurd | TestStore> {
  const { dump } = yield* TestStore
  const dumps = yield* Effect.forEach(yield* queues(undefined), dump)
  const trace = new Map<string, number>()
  const add = (what: string) => trace.set(what, (trace.get(what) ?? 0) + 1)
  const nameless = withoutIds(dumps)
  for (const { checkpoints, events, tasks } of dumps) {
    const steps = Map.groupBy(checkpoints, (checkpoint) => checkpoint.taskId)
    const stepsOf = (id: TaskId) =>
      (steps.get(id) ?? []).map(({ name }) => nameless(name)).filter(isStep).filter(filter.steps ?? everything)
        .toSorted()
    for (const task of tasks) {
      if (task.taskId === taskId) {
        for (const step of stepsOf(taskId)) add(`the step "${step}"`)
      } else if ((filter.tasks ?? everything)(task.name)) {
        const state = isTerminal(task.state) ? task.state : "not ended"
        const params = nameless(JSON.stringify(task.params))
        add(
          `a task "${task.name}", ${state}, with the params ${params} and the steps ${
            JSON.stringify(stepsOf(task.taskId))
          }`
        )
      }
    }
    for (const { name } of events) {
      if ((filter.events ?? everything)(name)) add(`the event "${nameless(name)}"`)
    }
  }
  return trace
})

/**
 * What one trace has more of than the other, in words; undefined when they are the same.
 *
 * @since 0.1.0
 * @category combinators
 */
export const difference = (trace: Trace, expected: Trace): string | undefined => {
  for (const [what, count] of trace) {
    const wanted = expected.get(what) ?? 0
    if (count > wanted) return `there is ${what} ${times(count, wanted)}`
  }
  for (const [what, wanted] of expected) {
    const count = trace.get(what) ?? 0
    if (count < wanted) return `there is ${what} ${times(count, wanted)}`
  }
  return undefined
}

// --- internal

const everything = () => true

// Whether a wait has a deadline depends on whether its event is there when the task comes to it.
const isStep = (name: string) => !name.startsWith("$deadline:")

const times = (count: number, wanted: number): string => `${count} times instead of ${wanted}`

/** Texts without the ids of this store, which no other life of the task has. */
const withoutIds = (dumps: ReadonlyArray<Dump>): (text: string) => string => {
  const names = new Map<string, string>()
  for (const { runs, tasks } of dumps) {
    for (const { name, taskId } of tasks) names.set(taskId, `<${name}>`)
    for (const { runId } of runs) names.set(runId, "<run>")
  }
  return (text) => text.replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, (id) => names.get(id) ?? id)
}
