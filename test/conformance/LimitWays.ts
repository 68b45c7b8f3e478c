/** How runs stop running, and a day in the life of a queue whose tasks have a limit. */
import { assert } from "@effect/vitest"
import { Duration, Effect } from "effect"
import type { Claimed, LimitFigures, SpawnItem } from "../../src/core/Driver.ts"
import * as Fixture from "./Fixture.ts"

type Act = (q: Fixture.Fixture, run: Claimed) => Effect.Effect<unknown, unknown>

const { minutes, seconds } = Duration

/** Every way in which a run with a lease of 30 seconds and a policy of 300 seconds stops running. */
export const all: { readonly [way: string]: Act } = {
  "completing": (q, run) => q.complete(run),
  "failing for good": (q, run) => q.fail(run, Fixture.Retries.never),
  "failing with another attempt later": (q, run) => q.fail(run, Fixture.Retries.after(minutes(1))),
  "handing back": (q, run) => q.release(run, minutes(1)),
  "sleeping": (q, run) => q.suspend(run, [Fixture.Waits.timer("nap", minutes(1))]),
  "waiting for an event": (q, run) => q.suspend(run, [Fixture.Waits.event("w", "never")]),
  "being cancelled": (q, { taskId }) => q.driver.cancelTask({ queue: q.queue, taskId }),
  "losing the lease": (q) => q.time.advance(seconds(30)),
  "being cancelled by a policy": (q, run) => Effect.andThen(q.extend(run, minutes(60)), q.time.advance(seconds(300)))
}

interface Options {
  readonly figures: LimitFigures
  readonly seed: number
  readonly headers: (key: string) => NonNullable<SpawnItem["headers"]>
}

/** Spawns, claims and ends runs at random, and looks after every claim whether the limit was kept. */
export const live = Effect.fnUntraced(function*(q: Fixture.Fixture, options: Options) {
  const { figures } = options
  const next = random(options.seed)
  const held = new Map<string, { readonly run: Claimed; readonly key: string | undefined }>()
  const starts = new Map<string, Array<number>>()
  const tasks = new Map<string, string | undefined>()
  let now = 0

  const spawn = Effect.gen(function*() {
    const key = [undefined, "a", "b"][next(3)]
    const { taskId } = yield* q.spawn({
      headers: key === undefined ? null : options.headers(key),
      delay: next(4) === 0 ? seconds(next(90)) : null
    })
    tasks.set(taskId, key)
  })

  const claim = Effect.gen(function*() {
    for (const run of yield* q.claim({ limit: 1 + next(4), lease: minutes(60) })) {
      const key = tasks.get(run.taskId)
      held.set(run.runId, { run, key })
      if (key === undefined) continue
      const begun = starts.get(key) ?? []
      begun.push(now)
      starts.set(key, begun)
      check(key, begun)
    }
  })

  const check = (key: string, begun: ReadonlyArray<number>) => {
    const running = [...held.values()].filter((other) => other.key === key).length
    assert.isAtMost(running, figures.concurrency ?? Infinity)
    const window = figures.rate === null ? 0 : figures.rate.seconds * 1000
    assert.isAtMost(begun.filter((at) => at > now - window).length, figures.rate?.limit ?? Infinity)
  }

  const end = Effect.gen(function*() {
    const found = [...held.values()][next(Math.max(1, held.size))]
    if (found === undefined) return
    const { run } = found
    held.delete(run.runId)
    const ends: ReadonlyArray<Act> = [
      (q, run) => q.complete(run),
      (q, run) => q.complete(run),
      (q, run) => q.release(run, seconds(next(20))),
      (q, run) => q.fail(run, Fixture.Retries.after(seconds(next(20)))),
      (q, run) => q.suspend(run, [Fixture.Waits.timer(`nap ${next(1_000)}`, seconds(1 + next(20)))]),
      (q, { taskId }) => q.driver.cancelTask({ queue: q.queue, taskId })
    ]
    yield* ends[next(ends.length)]!(q, run)
  })

  const advance = Effect.suspend(() => {
    const millis = next(3) === 0 ? 1 + next(40_000) : 1 + next(2_000)
    now += millis
    return q.time.advance(Duration.millis(millis))
  })

  for (let count = 0; count < 60; count++) yield* [spawn, claim, claim, end, advance][next(5)]!
  // What has no limit never waits for what has.
  const { taskId: free } = yield* q.spawn()
  tasks.set(free, undefined)
  const claimed = yield* q.claim({ limit: 100, lease: minutes(60) })
  assert.isTrue(claimed.some((run) => run.taskId === free))
  for (const run of claimed) {
    const key = tasks.get(run.taskId)
    held.set(run.runId, { run, key })
    if (key !== undefined) starts.set(key, [...(starts.get(key) ?? []), now])
  }
  for (const [key, begun] of starts) check(key, begun)

  for (let count = 0; count < 200; count++) {
    for (const { run } of held.values()) yield* q.complete(run)
    held.clear()
    now += 61_000
    yield* q.time.advance(seconds(61))
    yield* claim
    if (held.size === 0 && (yield* q.driver.queueLoad(q.queue)).later === 0) break
  }
  const ends = yield* Effect.forEach(tasks.keys(), (id) => q.getTask(id as Claimed["taskId"]))
  assert.deepStrictEqual(ends.filter(({ state }) => state !== "completed" && state !== "cancelled"), [])
})

/** Whole numbers below a bound, the same ones for one seed. */
const random = (seed: number) => {
  let state = (seed + 1) % 2_147_483_647
  return (bound: number): number => {
    state = (state * 48_271) % 2_147_483_647
    return state % bound
  }
}
