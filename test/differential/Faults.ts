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
    find: "const until = fixed(call, run, deadlineOf(wait.step), () => Instants.after(now, timeout))",
    put: `fixed(call, run, deadlineOf(wait.step), () => Instants.after(now, timeout))
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
