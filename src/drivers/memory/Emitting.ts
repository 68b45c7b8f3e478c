/**
 * Emitting events, and reading them.
 *
 * @since 0.1.0
 */
import type { Emit, Emitted, StoredEvent } from "../../core/Driver.ts"
import type { EventName, RunId } from "../../core/Identifiers.ts"
import * as Json from "./Json.ts"
import * as Rows from "./Rows.ts"
import { type Call, partKey, type Wait } from "./Tables.ts"

/** @since 0.1.0 */
export const emit = (call: Call, { event, payload }: typeof Emit.Type): Emitted => {
  const { now, tables } = call
  if (tables.events.has(event)) return { emitted: false, woken: 0 }
  const stored = Json.normalize(payload)
  tables.events.set(event, { name: event, payload: stored, emittedAt: now })
  const woken = new Set<RunId>()
  for (const wait of waitsFor(call, event)) {
    const run = tables.runs.get(wait.runId)
    // A run whose wait is over is due anyway, and will find that it timed out.
    if (run === undefined || (wait.timeoutAt !== null && wait.timeoutAt <= now)) continue
    tables.writeCheckpoint(run, wait.step, stored, now)
    woken.add(wait.runId)
  }
  for (const wait of waitsFor(call, event)) tables.waits.delete(partKey(wait.runId, wait.step))
  for (const runId of woken) {
    const run = tables.runs.get(runId)
    if (run === undefined) continue
    tables.runs.set(runId, { ...run, state: "pending", availableAt: now, wakeEvent: null, eventPayload: stored })
    tables.tasks.set(run.taskId, { ...tables.taskOf(run), state: "pending" })
    tables.deleteWaits(run.taskId)
  }
  if (woken.size > 0) call.signalWork()
  return { emitted: true, woken: woken.size }
}

/** @since 0.1.0 */
export const readEvent = (call: Call, { event }: { readonly event: EventName }): StoredEvent | undefined => {
  const found = call.tables.events.get(event)
  return found === undefined ? undefined : Rows.event(found)
}

/** @since 0.1.0 */
export const readEvents = (
  call: Call,
  { events }: { readonly events: ReadonlyArray<EventName> }
): ReadonlyArray<StoredEvent> => [...new Set(events)].flatMap((event) => readEvent(call, { event }) ?? [])

// --- internal

const waitsFor = (call: Call, event: string): ReadonlyArray<Wait> =>
  [...call.tables.waitsByEvent.get(event)].flatMap((key) => call.tables.waits.get(key) ?? [])
