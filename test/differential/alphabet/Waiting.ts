/** Suspending runs, and the events that wake them. */
import { Duration, Schema } from "effect"
import type { Wait } from "../../../src/core/Driver.ts"
import * as Fixture from "../../conformance/Fixture.ts"
import * as Drawn from "../Drawn.ts"
import type { Known } from "../Known.ts"
import { type Chance, operation, type Place } from "../Operation.ts"

// Most of them so long that something else happens before.
const Timeout = Drawn.oneOf([null, null, null, 0, 250, 5000, 60_000, 60_000, 3_600_000])
const EventWait = Schema.Struct({ event: Drawn.Event, timeout: Timeout })
// Names of waits are unique in a run.
const Waits = Schema.Struct({
  timer: Drawn.mostly(Drawn.Until),
  first: Drawn.mostly(EventWait),
  second: Drawn.mostly(EventWait),
  tasks: Drawn.mostly(Schema.Struct({
    elsewhere: Drawn.oneOf([null, null, null, null, "a", "b", "c"]),
    tasks: Schema.Array(Drawn.Task).check(Schema.isMinLength(2), Schema.isMaxLength(4)),
    failFast: Schema.Literals([true, true, false])
  }))
})
type Waits = typeof Waits.Type

const waitsOf = (place: Place, waits: Waits): ReadonlyArray<Wait> => {
  const event = (step: string, wait: Waits["first"]): ReadonlyArray<Wait> =>
    wait === null
      ? []
      : [Fixture.Waits.event(step, wait.event, wait.timeout === null ? null : Duration.millis(wait.timeout))]
  const tasks = (wait: NonNullable<Waits["tasks"]>): Wait => {
    const { elsewhere, failFast } = wait
    const known = elsewhere === null ? place.known : place.known.at(elsewhere)
    const taskIds = [...new Set(wait.tasks.map((ref) => Drawn.task({ ...place, known }, ref)))]
    const queue = elsewhere === null ? place.queue : place.queueOf(elsewhere)
    return { _tag: "Tasks", step: Fixture.step("tasks"), queue, taskIds, failFast }
  }
  return [
    ...(waits.timer === null ? [] : [Fixture.Waits.timer("timer", Drawn.until(place, waits.timer))]),
    ...event("wait1", waits.first),
    ...event("wait2", waits.second),
    ...(waits.tasks === null ? [] : [tasks(waits.tasks)])
  ]
}

/** What nobody has emitted, so that the run has something to wait for. */
const silent = (wait: Waits["first"], { awaited, dump }: Known, chance: Chance): Waits["first"] => {
  const unknown = Drawn.eventNames.filter((name) => !dump.events.some((event) => event.name === name))
  const shared = unknown.filter((name) => awaited.includes(name))
  const event = chance.pick(chance.happens(0.5) && shared.length > 0 ? shared : unknown)
  return wait === null || event === undefined || chance.happens(0.2) ? wait : { ...wait, event }
}

export const operations = {
  suspend: operation({
    fields: { run: Drawn.Run, waits: Waits },
    weight: ({ held }) => held.length > 0 ? 20 : 0.3,
    aim: ({ run, waits }, known, chance) => {
      const first = silent(waits.first, known, chance)
      const second = silent(waits.second, known, chance)
      // One kind alone as often as several together.
      const kind = chance.pick(["all", "all", "event", "event", "event", "tasks", "tasks", "timer"] as const)
      const none = { timer: null, first: null, second: null, tasks: null }
      // What is over at once keeps the others from being waited for.
      const { happens: over } = chance
      const chosen = {
        all: { timer: over(0.7) ? null : waits.timer, first, second, tasks: over(0.7) ? null : waits.tasks },
        event: { ...none, first: first ?? second },
        tasks: { ...none, tasks: waits.tasks },
        timer: { ...none, timer: waits.timer }
      }[kind ?? "all"]
      return { run, waits: chosen }
    },
    perform: (place, { run, waits }) => {
      const all = waitsOf(place, waits)
      // Of two mistakes, no waits and no queue, either may be told.
      const some = all.length > 0 || place.known.exists ? all : [Fixture.Waits.timer("timer", Duration.seconds(1))]
      return place.driver.suspend({ queue: place.queue, ...Drawn.held(place, run), waits: some })
    }
  }),
  emit: operation({
    fields: { event: Drawn.Event, payload: Drawn.Json },
    weight: ({ awaited }) => awaited.length > 0 ? 6 : 0.5,
    // An event of one queue must change nothing in another.
    touches: "every queue",
    aim: (_, known, chance) => {
      // Now and then what somebody waits for in another queue.
      const { awaited } = chance.happens(0.25) ? known.at(chance.pick(["a", "b"]) ?? "a") : known
      const event = chance.pick(Drawn.eventNames.filter((name) => awaited.includes(name)))
      return event === undefined || chance.happens(0.35) ? {} : { event }
    },
    perform: ({ driver, queue }, { event, payload }) =>
      driver.emit({ queue, event: Fixture.event(event), payload: Drawn.json(payload) })
  }),
  readEvent: operation({
    fields: { event: Drawn.Event },
    weight: () => 0.7,
    touches: "nothing",
    perform: ({ driver, queue }, { event }) => driver.readEvent({ queue, event: Fixture.event(event) })
  })
}
