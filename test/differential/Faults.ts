/** Copies of the store in memory, each with one mistake in it. */
import * as Fs from "node:fs"
import { fileURLToPath, pathToFileURL } from "node:url"
import type * as MemoryDriver from "../../src/drivers/memory/MemoryDriver.ts"

export interface Fault {
  readonly file: string
  /** What occurs exactly once in the file, and what is there instead. */
  readonly find: string
  readonly put: string
}

export const faults: { readonly [name: string]: Fault } = {
  "attempts are counted in twos": {
    file: "Tables.ts",
    find: "attempt: (previous?.attempt ?? 0) + 1,",
    put: "attempt: (previous?.attempt ?? -1) + 2,"
  },
  "an event is overwritten": {
    file: "Emitting.ts",
    find: "if (tables.events.has(event)) return { emitted: false, woken: 0 }",
    put: `if (tables.events.has(event)) {
      tables.events.set(event, { name: event, payload: Json.normalize(payload), emittedAt: now })
      return { emitted: false, woken: 0 }
    }`
  },
  "a timeout is not stored": {
    file: "Suspending.ts",
    find: "tables.writeCheckpoint(run, timeoutOf(wait.step), true, now)",
    put: ""
  },
  "a lease is shortened": {
    file: "Claiming.ts",
    find: "run.claimExpiresAt < claimExpiresAt",
    put: "run.claimExpiresAt !== claimExpiresAt"
  },
  "a wake-up is lost": { file: "Emitting.ts", find: "woken.add(wait.runId)", put: "" },
  "a checkpoint is overwritten": {
    file: "Tables.ts",
    find: "if (existing !== undefined) return existing.state\n    this.",
    put: "this."
  },
  "idempotency is ignored": {
    file: "Spawning.ts",
    find: "item.idempotencyKey === null ? undefined : ownerOf(call, item.idempotencyKey)",
    put: "item.idempotencyKey === \"none\" ? ownerOf(call, item.idempotencyKey) : undefined"
  },
  "a claim is not fenced": {
    file: "Tables.ts",
    find: "run.state === \"running\" && run.claimedBy === held.token",
    put: "run.state === \"running\" && held.token !== run.taskId"
  },
  "there is one attempt too many": {
    file: "Finishing.ts",
    find: "run.attempt >= task.maxAttempts",
    put: "run.attempt > task.maxAttempts"
  },
  "waits stay when their run goes on": { file: "Claiming.ts", find: "tables.deleteWaits(task.taskId)", put: "" },
  "an expired lease is left alone": {
    file: "Claiming.ts",
    find: "  failExpired(call, request.limit)\n",
    put: "  if (request.limit < 0) failExpired(call, request.limit)\n"
  },
  "a deadline starts anew": {
    file: "Suspending.ts",
    find: "const until = fixed(call, run, deadlineOf(wait.step), () => isTold ? now : Instants.after(now, timeout))",
    put: `fixed(call, run, deadlineOf(wait.step), () => isTold ? now : Instants.after(now, timeout))
  const until: number | undefined = Instants.after(now, timeout)`
  },
  "a rollback undoes nothing": {
    file: "Transactions.ts",
    find: "if (Exit.isFailure(exit)) undo(level.position, level.messages)",
    put: ""
  },
  "work starts before it is due": {
    file: "Claiming.ts",
    find: "failExpired(call, request.limit)\n",
    put: "failExpired(call, request.limit)\n  call = Object.assign(Object.create(call), { now: call.now + 1 })\n"
  },
  "an ended task leaves its checkpoints": {
    file: "Cleaning.ts",
    find: "for (const key of tables.checkpointsByTask.get(taskId)) tables.checkpoints.delete(key)",
    put: ""
  },
  "a cancelled task waits on": {
    file: "Cancelling.ts",
    find: "  tables.deleteWaits(task.taskId)\n",
    put: ""
  },
  "the end of a task wakes nobody": { file: "Awaiting.ts", find: "woken.add(wait.runId)", put: "void 0" },
  "the first failure is not enough": { file: "Awaiting.ts", find: "(failFast && failed) || ", put: "" },
  "what is not to be claimed is claimed": {
    file: "Claiming.ts",
    find: "except.includes(name)",
    put: "false"
  },
  "a paused queue is claimed from": { file: "Claiming.ts", find: "  if (paused) return []\n", put: "" },
  "a lease is a millisecond short": {
    file: "Claiming.ts",
    find: "run.claimExpiresAt < claimExpiresAt",
    put: "run.claimExpiresAt < claimExpiresAt - 1"
  },
  "a revised task becomes due anew": {
    file: "Spawning.ts",
    find: "keepDue ? Limits.dueOf(call, run) ?? task.enqueueAt :",
    put: ""
  },
  "a schedule moves on although it was changed": {
    file: "Schedules.ts",
    find: "found?.revision !== revision",
    put: "found === undefined || revision < -1000"
  },
  "the load is counted wrongly": { file: "Reading.ts", find: "due: due.length,", put: "due: tables.due.size," },
  "checkpoints come in reverse order": {
    file: "Tables.ts",
    find: "a.updatedAt - b.updatedAt || a.ordinal - b.ordinal",
    put: "b.updatedAt - a.updatedAt || b.ordinal - a.ordinal"
  },
  "more tasks are deleted than asked": {
    file: "Cleaning.ts",
    find: "while (count < limit) {\n    const task",
    put: "while (limit > 0) {\n    const task"
  },
  "more events are deleted than asked": {
    file: "Cleaning.ts",
    find: "while (count < limit) {\n    const event",
    put: "while (limit > 0) {\n    const event"
  },
  "a run that is given back is still woken": {
    file: "Claiming.ts",
    find: "      availableAt,\n      wakeEvent: null,",
    put: "      availableAt,"
  },
  "only the first overdue task is cancelled": {
    file: "Claiming.ts",
    find: "...deadlines.select(call.now, Infinity, () => true)",
    put: "...deadlines.select(call.now, 1, () => true)"
  },
  "an event is emitted in every queue": {
    file: "MemoryDriver.ts",
    find: "      emit: answering(Emitting.emit),",
    put: `      emit: answering((call: Call, request: Parameters<typeof Emitting.emit>[1]) => {
          const prototype: object = Object.getPrototypeOf(call)
          for (const { name, tables } of queues.values()) {
            const other = Object.assign(Object.create(prototype), call, { queue: name, tables })
            if (name !== call.queue) Emitting.emit(other, request)
          }
          return Emitting.emit(call, request)
        }),`
  },
  "an ended workflow run goes on": {
    file: "WorkflowRuns.ts",
    find: "(found.status === \"completed\" || found.status === \"cancelled\")",
    put: "found.status === \"completed\""
  },
  "a policy is forgotten": {
    file: "Queues.ts",
    find: "cleanupLimit: update.cleanupLimit ?? policy.cleanupLimit,",
    put: "cleanupLimit: policy.cleanupLimit,"
  },
  "a place is never given back": {
    file: "Limits.ts",
    find: "  for (const { runId } of gone) limited.delete(runId)\n",
    put: ""
  },
  "nobody goes when a place is free": {
    file: "Limits.ts",
    find: "if (row.state !== \"waiting\" && figures !== undefined) admit(call, lineOf(row), figures)",
    put: ""
  },
  "a limit counts one too many": {
    file: "Limits.ts",
    find: "(concurrency === null || limits.held.count(line) < concurrency)",
    put: "(concurrency === null || limits.held.count(line) <= concurrency)"
  },
  "starts of a rate are not counted": {
    file: "Limits.ts",
    find: "if (figures.rate !== null) count(call, row, figures.rate)",
    put: ""
  },
  "a rate allows one more at once": {
    file: "Limits.ts",
    find: "Math.min((burst - 1) * spacing, longest)",
    put: "Math.min(burst * spacing, longest)"
  },
  "an override lets nobody go": {
    file: "Limits.ts",
    find: "apply(call, name)\n  return Result.succeed(true)",
    put: "return Result.succeed(true)"
  },
  "an override lasts until the next spawn": {
    file: "Limits.ts",
    find: "override: found?.override ?? null",
    put: "override: null"
  },
  "the figures of new tasks hold only for themselves": {
    file: "Claiming.ts",
    find: "  Limits.refresh(call)\n",
    put: ""
  },
  "keys of a limit are counted together": {
    file: "LimitTables.ts",
    find: "`${name}\\u0000${key}`",
    put: "key === \"none\" ? key : name"
  },
  "a dropped queue keeps its tasks": {
    file: "MemoryDriver.ts",
    find: "Result.succeed(queues.delete(queue))",
    put: "Result.succeed(undefined)"
  }
}

const source = new URL("../../src/drivers/memory/", import.meta.url)

/** Loads a copy of the store with a fault, out of a folder that `use` has to remove. */
export const load = async (folder: string, { file, find, put }: Fault): Promise<typeof MemoryDriver> => {
  Fs.mkdirSync(folder, { recursive: true })
  for (const name of Fs.readdirSync(source)) {
    let text = Fs.readFileSync(new URL(name, source), "utf8")
    if (name === file) {
      if (text.split(find).length !== 2) throw new Error(`${file} does not contain this exactly once: ${find}`)
      text = text.replace(find, () => put)
    }
    Fs.writeFileSync(
      `${folder}/${name}`,
      text.replaceAll("\"../../core/", `"${fileURLToPath(new URL("../../src/core/", import.meta.url))}`)
    )
  }
  return import(/* @vite-ignore */ pathToFileURL(`${folder}/MemoryDriver.ts`).href)
}
