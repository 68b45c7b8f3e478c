/**
 * Putting a run to sleep until the first of its waits is over.
 *
 * @since 0.1.0
 */
import { Result, type Schema } from "effect"
import {
  deadlineOf,
  recheckAfter,
  type Suspend,
  type Suspended,
  timeoutOf,
  type Wait,
  type WaitState
} from "../../core/Driver.ts"
import { DriverError, Rejected } from "../../core/Errors.ts"
import { type CheckpointName, isTerminal } from "../../core/Identifiers.ts"
import * as Awaiting from "./Awaiting.ts"
import * as Instants from "./Instants.ts"
import * as Json from "./Json.ts"
import * as Limits from "./Limits.ts"
import { type Call, holds, partKey, refusal, type Run } from "./Tables.ts"

/** @since 0.1.0 */
export const suspend = (call: Call, request: typeof Suspend.Type): Result.Result<Suspended, DriverError> => {
  const { tables } = call
  if (request.waits.length === 0) return Result.fail(rejected("a run must wait for something"))
  const run = tables.runs.get(request.runId)
  if (run === undefined || !holds(run, request)) {
    const outcome = refusal(run, run === undefined ? undefined : tables.taskOf(run))
    return Result.succeed({ outcome, suspended: false, waits: [] })
  }
  const looks: Array<Look> = []
  for (const wait of request.waits) {
    const look = lookAt(call, run, wait)
    if (look === undefined) return Result.fail(rejected(`the checkpoint of the wait "${wait.step}" holds no instant`))
    looks.push(look)
  }
  const suspended = looks.every(({ state }) => state._tag === "Waiting")
  // The next wait for this event is another one.
  if (looks.some(({ told }) => told === true)) tables.runs.set(run.runId, { ...run, wakeEvent: null })
  if (suspended) sleep(call, run, request.waits, looks)
  return Result.succeed({ outcome: "applied", suspended, waits: looks.map(({ state }) => state) })
}

// --- internal

type Of<Tag extends Wait["_tag"]> = Extract<Wait, { readonly _tag: Tag }>

interface Look {
  readonly state: WaitState
  /** When the wait is over by itself; null for never. */
  readonly until: number | null
  /** Whether this is the timeout that woke the run. */
  readonly told?: boolean
}

const waiting: WaitState = { _tag: "Waiting" }

const over = (state: WaitState): Look => ({ state, until: null })

const rejected = (problem: string): DriverError =>
  new DriverError({ operation: "suspend", reason: new Rejected({ cause: new Error(problem) }) })

const lookAt = (call: Call, run: Run, wait: Wait): Look | undefined => {
  switch (wait._tag) {
    case "Timer":
      return lookAtTimer(call, run, wait)
    case "Event":
      return lookAtEvent(call, run, wait)
    case "Tasks":
      return lookAtTasks(call, wait)
  }
}

const lookAtTasks = (call: Call, wait: Of<"Tasks">): Look => {
  const tasks = call.tablesOf(wait.queue)?.tasks
  let since: number | undefined
  for (const taskId of wait.taskIds) {
    const task = tasks?.get(taskId)
    if (task === undefined || task.state === "completed") continue
    if (!isTerminal(task.state)) since = Math.min(task.enqueueAt, since ?? task.enqueueAt)
    else if (wait.failFast) return over({ _tag: "Ended" })
  }
  if (since === undefined) return over({ _tag: "Ended" })
  const { maximum, minimum } = wait.queue === call.queue ? recheckAfter.ownQueue : recheckAfter.otherQueue
  const delay = Math.min(Math.max((call.now - since) / 2, minimum * 1000), maximum * 1000)
  return { state: waiting, until: call.now + delay }
}

const lookAtTimer = (call: Call, run: Run, wait: Of<"Timer">): Look | undefined => {
  const until = fixed(call, run, wait.step, () => Instants.resolve(call.now, wait.until))
  return until === undefined ? undefined : { state: until <= call.now ? { _tag: "Due" } : waiting, until }
}

const lookAtEvent = (call: Call, run: Run, wait: Of<"Event">): Look | undefined => {
  const { now, tables } = call
  if (tables.checkpoint(run.taskId, timeoutOf(wait.step)) !== undefined) return over({ _tag: "TimedOut" })
  const received = tables.checkpoint(run.taskId, wait.step)
  if (received !== undefined) return over({ _tag: "Emitted", payload: Json.copy(received.state) })
  const event = tables.events.get(wait.event)
  if (event !== undefined) {
    tables.writeCheckpoint(run, wait.step, event.payload, now)
    return over({ _tag: "Emitted", payload: Json.copy(event.payload) })
  }
  const { timeout } = wait
  if (timeout === null) return { state: waiting, until: null }
  // Workers in other languages fix no deadline: of theirs, the run tells that it has passed.
  const isTold = run.wakeEvent === wait.event
  const until = fixed(call, run, deadlineOf(wait.step), () => isTold ? now : Instants.after(now, timeout))
  if (until === undefined || until > now) return until === undefined ? undefined : { state: waiting, until }
  tables.writeCheckpoint(run, timeoutOf(wait.step), true, now)
  return { ...over({ _tag: "TimedOut" }), told: isTold }
}

/** The instant that a checkpoint holds, which is written when it does not exist yet; undefined when it holds no instant. */
const fixed = (call: Call, run: Run, name: CheckpointName, make: () => number): number | undefined => {
  const stored: Schema.Json | undefined = call.tables.checkpoint(run.taskId, name)?.state
  if (stored !== undefined) return typeof stored === "string" ? Instants.parse(stored) : undefined
  const at = make()
  call.tables.writeCheckpoint(run, name, Instants.toIso(at), call.now)
  return at
}

const sleep = (call: Call, run: Run, waits: ReadonlyArray<Wait>, looks: ReadonlyArray<Look>) => {
  const { now, tables } = call
  let availableAt: number | null = null
  for (const [place, wait] of waits.entries()) {
    const until = looks[place]?.until ?? null
    if (until !== null) availableAt = Math.min(until, availableAt ?? until)
    if (wait._tag === "Event") {
      const { event, step } = wait
      tables.waits.set(partKey(run.runId, step), {
        taskId: run.taskId,
        runId: run.runId,
        step,
        event,
        timeoutAt: until,
        createdAt: now
      })
    }
    if (wait._tag === "Tasks" && wait.queue === call.queue) awaitTasks(call, run, wait)
  }
  const [first] = waits
  tables.runs.set(run.runId, {
    ...run,
    state: "sleeping",
    claimedBy: null,
    claimExpiresAt: null,
    availableAt,
    wakeEvent: waits.length === 1 && first?._tag === "Event" ? first.event : null,
    eventPayload: undefined
  })
  tables.tasks.set(run.taskId, { ...tables.taskOf(run), state: "sleeping" })
  Limits.leave(call, run.runId)
}

/** One row for each of the tasks that has not ended. */
const awaitTasks = ({ now, tables }: Call, run: Run, { failFast, step, taskIds }: Of<"Tasks">) => {
  for (const taskId of taskIds) {
    const task = tables.tasks.get(taskId)
    if (task === undefined || isTerminal(task.state)) continue
    const awaited = Awaiting.stepFor(step, taskId)
    tables.waits.set(partKey(run.runId, awaited), {
      taskId: run.taskId,
      runId: run.runId,
      step: awaited,
      event: Awaiting.eventFor(taskId, failFast),
      timeoutAt: null,
      createdAt: now
    })
  }
}
