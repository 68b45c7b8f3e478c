/** What a command asks of a store. */
import { DateTime, Duration, Effect, type Schema } from "effect"
import type { Claimed, Driver, Held, Retry, SpawnItem, Wait } from "../../src/core/Driver.ts"
import { ClaimToken, type QueueName, QueueName as QueueNames, RunId, TaskId } from "../../src/core/Identifiers.ts"
import * as RetryStrategy from "../../src/core/RetryStrategy.ts"
import * as Fixture from "../conformance/Fixture.ts"
import type { Command, Simple } from "./Command.ts"
import { essence, type Known, type Names } from "./Names.ts"

export interface Place {
  readonly driver: Driver["Service"]
  readonly queue: QueueName
  readonly names: Names
  readonly known: Known
  /** When the sequence began. */
  readonly start: DateTime.Utc
  /** A number of this command, the same for all stores. */
  readonly number: number
}

export const perform = (place: Place, command: Command): Effect.Effect<unknown, unknown> => {
  if (command._tag !== "together") return simple(place, command, 0)
  const { driver } = place
  const answers: Array<unknown> = []
  const all = Effect.forEach(command.commands, (inner, index) => {
    const run = simple(place, inner, index + 1)
    const last = index === command.commands.length - 1
    const done = command.nested && last
      ? Effect.map(Effect.exit(driver.withTransaction(Effect.andThen(run, Effect.fail({ _tag: "Undone" })))), essence)
      : run
    return Effect.tap(done, (answer) => Effect.sync(() => answers.push(answer)))
  }, { discard: true })
  return driver.withTransaction(command.commit ? all : Effect.andThen(all, Effect.fail({ _tag: "Undone" }))).pipe(
    Effect.as(answers)
  )
}

// --- internal

type Of<Tag extends Simple["_tag"]> = Extract<Simple, { readonly _tag: Tag }>
type RunRef = Of<"extend">["run"]
type TaskRef = Of<"cancelTask">["task"]
type UntilRef = Of<"release">["until"]

const json = (text: string): Schema.Json => JSON.parse(text) as Schema.Json

const pickOf = <A>(all: ReadonlyArray<A>, n: number): A | undefined => all[n % Math.max(1, all.length)]

const heldBy = ({ known, names }: Place, ref: RunRef): Held => {
  const found = ref.pick === "unknown"
    ? undefined
    : pickOf(ref.pick === "held" ? known.runs.filter((run) => run.state === "running") : known.runs, ref.n)
  const runId = found === undefined ? Fixture.unknownRun : RunId.make(names.idOf(found.name) ?? Fixture.unknownRun)
  const token = ref.token === "right" ? found?.token : undefined
  return { runId, token: ClaimToken.make(token ?? "nobody's") }
}

const taskOf = ({ known, names }: Place, ref: TaskRef): TaskId => {
  const found = ref.pick === "unknown"
    ? undefined
    : pickOf(ref.pick === "failed" ? known.tasks.filter((task) => task.state === "failed") : known.tasks, ref.n)
  return found === undefined ? Fixture.unknownTask : TaskId.make(names.idOf(found.name) ?? Fixture.unknownTask)
}

const untilOf = ({ start }: Place, { at, millis }: UntilRef) =>
  at ? DateTime.addDuration(start, Duration.millis(millis)) : Duration.millis(millis)

const strategies = {
  none: RetryStrategy.none,
  fixed: RetryStrategy.fixed("1500 millis"),
  exponential: RetryStrategy.exponential({ base: "1 second", factor: 3 }),
  capped: RetryStrategy.exponential({ base: "100 millis", factor: 10, max: "2 seconds" })
}
const cancellations = {
  delay: { max_delay: 5 },
  duration: { max_duration: 5 },
  both: { max_delay: 60, max_duration: 3600 }
}

const itemOf = (place: Place, task: Of<"spawn">["tasks"][number]): SpawnItem =>
  Fixture.item({
    name: Fixture.task(task.name),
    params: json(task.params),
    headers: task.headers ? { trace: "t", n: [1] } : null,
    retryStrategy: task.retry === null ? null : strategies[task.retry],
    maxAttempts: task.maxAttempts,
    cancellation: task.cancellation === null ? null : cancellations[task.cancellation],
    idempotencyKey: task.key === null ? null : Fixture.key(task.key),
    delay: task.delay === null ? null : untilOf(place, task.delay)
  })

const retryOf = (place: Place, command: Of<"fail">): Retry => {
  switch (command.retry) {
    case "After":
      return { _tag: "After", delay: Duration.millis(command.millis) }
    case "At":
      return { _tag: "At", instant: DateTime.addDuration(place.start, Duration.millis(command.millis)) }
    default:
      return { _tag: command.retry }
  }
}

const waitsOf = (place: Place, { waits }: Of<"suspend">): ReadonlyArray<Wait> => {
  const event = (step: string, wait: typeof waits.first): ReadonlyArray<Wait> =>
    wait === null
      ? []
      : [Fixture.Waits.event(step, wait.event, wait.timeout === null ? null : Duration.millis(wait.timeout))]
  return [
    ...(waits.timer === null ? [] : [Fixture.Waits.timer("timer", untilOf(place, waits.timer))]),
    ...event("wait1", waits.first),
    ...event("wait2", waits.second)
  ]
}

const nowhere = QueueNames.make("no_such_queue")

const simple = (place: Place, command: Simple, part: number): Effect.Effect<unknown, unknown> => {
  const { driver, queue } = place
  const held = (ref: RunRef) => heldBy(place, ref)
  switch (command._tag) {
    case "advance":
      return Effect.void
    case "spawn":
      return driver.spawn({ queue, tasks: command.tasks.map((task) => itemOf(place, task)) })
    case "claim":
      return driver.claim({
        queue,
        token: ClaimToken.make(`token${place.number}.${part}`),
        lease: Duration.millis(command.lease),
        limit: command.limit
      }).pipe(Effect.map(oldestFirst))
    case "claimedWith":
      return driver.claimedWith({ queue, token: held(command.run).token }).pipe(
        Effect.map(oldestFirst)
      )
    case "complete":
      return driver.complete({
        queue,
        runs: command.runs.map((run) => ({ ...held(run), result: json(command.result) }))
      })
    case "fail":
      return driver.fail({
        queue,
        runs: command.runs.map((run) => ({
          ...held(run),
          reason: json(command.reason),
          retry: retryOf(place, command)
        }))
      })
    case "checkpoint":
      return driver.setCheckpoints({
        queue,
        checkpoints: command.items.map((item) => ({
          ...held(item.run),
          name: Fixture.step(item.step),
          state: json(item.state),
          extendBy: command.extendBy === null ? null : Duration.millis(command.extendBy)
        }))
      })
    case "extend":
      return driver.extend({ queue, runs: [{ ...held(command.run), lease: Duration.millis(command.lease) }] })
    case "release":
      return driver.release({ queue, runs: [{ ...held(command.run), until: untilOf(place, command.until) }] })
    case "suspend":
      return driver.suspend({ queue, ...held(command.run), waits: waitsOf(place, command) })
    case "emit":
      return driver.emit({ queue, event: Fixture.event(command.event), payload: json(command.payload) })
    case "readEvent":
      return driver.readEvent({ queue, event: Fixture.event(command.event) })
    case "cancelTask":
      return driver.cancelTask({ queue, taskId: taskOf(place, command.task) })
    case "cancelRun":
      return driver.cancelRun({ queue, runId: held(command.run).runId })
    case "retryTask":
      return driver.retryTask({
        queue,
        taskId: taskOf(place, command.task),
        maxAttempts: command.maxAttempts,
        spawnNew: command.spawnNew
      })
    case "read":
      return readAll(place, command)
    case "cleanup": {
      const request = { queue, ttl: Duration.millis(command.millis), limit: command.one ? 1 : 50 }
      return command.what === "tasks" ? driver.cleanupTasks(request) : driver.cleanupEvents(request)
    }
    case "elsewhere":
      return elsewhere(place, command)
  }
}

const readAll = (place: Place, command: Of<"read">): Effect.Effect<unknown, unknown> => {
  const { driver, queue } = place
  const taskId = taskOf(place, command.task)
  const { runId } = heldBy(place, command.run)
  const name = command.step === null ? null : Fixture.step(command.step)
  return Effect.all({
    results: driver.results({ queue, taskIds: [taskId, Fixture.unknownTask, taskId] }),
    task: driver.getTask({ queue, taskId }),
    run: driver.getRun({ queue, runId }),
    found: driver.findTask({ queue, idempotencyKey: Fixture.key(command.key) }),
    runs: driver.listRuns({ queue, taskId }),
    waits: driver.listWaits({ queue, taskId }),
    checkpoints: Effect.map(
      driver.getCheckpoints({ queue, taskId, name, includePending: true }),
      (all) => all.toSorted((a, b) => (a.name < b.name ? -1 : 1))
    )
  })
}

const elsewhere = ({ driver }: Place, { what }: Of<"elsewhere">): Effect.Effect<unknown, unknown> => {
  const queue = nowhere
  switch (what) {
    case "claim":
      return driver.claim({ queue, token: ClaimToken.make("t"), lease: Duration.seconds(1), limit: 1 })
    case "spawn":
      return driver.spawn({ queue, tasks: [Fixture.item()] })
    case "emit":
      return driver.emit({ queue, event: Fixture.event("e"), payload: null })
    case "cancel":
      return driver.cancelTask({ queue, taskId: Fixture.unknownTask })
    case "results":
      return driver.results({ queue, taskIds: [Fixture.unknownTask] })
  }
}

/** Claimed runs, and whether those that were due longer come first. `Names` puts equals in an order. */
const oldestFirst = (runs: ReadonlyArray<Claimed>) => {
  const waited = runs.map((run) => Duration.toMillis(run.waited))
  const inOrder = waited.every((millis, place) => place === 0 || millis <= waited[place - 1]!)
  const named = runs.map((run) => ({
    ...run,
    checkpoints: run.checkpoints.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }))
  return { inOrder, runs: named }
}
