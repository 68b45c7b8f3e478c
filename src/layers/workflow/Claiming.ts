/** A loop that claims from one queue as long as there is room, and goes on by itself after outages. */
import { Duration, Effect, type Latch, type Scope } from "effect"
import type { Absurd } from "../../core/Absurd.ts"
import * as Claimer from "../../core/Claimer.ts"
import type * as Heartbeat from "../../core/Heartbeat.ts"
import type { QueueName } from "../../core/Identifiers.ts"
import * as Outage from "../../core/Outage.ts"

export interface Options {
  readonly absurd: Absurd["Service"]
  readonly claimer: Claimer.Claimer
  readonly queue: QueueName
  readonly pollInterval: Duration.Duration
  /** How many runs to claim now. */
  readonly wanted: () => number
  /** Names of tasks that are left to others. */
  readonly except: () => ReadonlyArray<string>
  /** Opened when something may have become due. A hint: the loop polls as well. */
  readonly wake: Latch.Latch
  /** Opened when there may be room again. */
  readonly changed: Latch.Latch
}

export const poll = (options: Options): Effect.Effect<never> =>
  Effect.gen(function*() {
    const { absurd, changed, claimer, pollInterval, queue, wake } = options
    let failures = 0
    let told = false
    while (true) {
      // What ends or begins in the same turn makes one claim.
      yield* Effect.yieldNow
      changed.closeUnsafe()
      const wanted = options.wanted()
      if (wanted <= 0) {
        yield* changed.await
        continue
      }
      yield* absurd.outage.up
      // Closed before the claim, so that a hint during the claim is not lost.
      wake.closeUnsafe()
      const claimed = yield* Effect.result(claimer.claim(queue, wanted, options.except()))
      if (claimed._tag === "Failure") {
        if (!told && !Outage.isPassing(claimed.failure)) {
          yield* Effect.logError("Claiming failed; trying on", claimed.failure)
          told = true
        }
        const pause = yield* Claimer.pauseAfter(absurd, claimed.failure, failures++)
        if (pause > 0) yield* Effect.sleep(Duration.millis(pause))
        continue
      }
      if (told) yield* Effect.logInfo("Claiming works again")
      told = false
      failures = 0
      if (claimed.success < wanted) yield* Effect.timeoutOption(wake.await, pollInterval)
    }
  }).pipe(Effect.annotateLogs({ queue: options.queue, worker: options.absurd.workerId }))

/** Passes the store's hints about the queue on: to the loop, to the heart, and to those who wait for the end of a task. */
export const heed = (
  { absurd, queue, wake }: Pick<Options, "absurd" | "queue" | "wake">,
  heartbeat: Heartbeat.Heartbeat,
  onEnd: (taskId: string) => void
): Effect.Effect<void, never, Scope.Scope> =>
  absurd.signals.subscribe((hint) => {
    if (hint._tag === "Gap") return void wake.openUnsafe()
    if (hint.queue !== queue) return
    if (hint._tag === "Work") return void wake.openUnsafe()
    heartbeat.askAbout(hint.queue, hint.taskId)
    onEnd(hint.taskId)
  })

/** Nobody has so many names of tasks; but whoever fills a queue with ever new ones shall not fill every claim. */
const most = 500

export const remember = (names: Set<string>, name: string): void => {
  names.add(name)
  if (names.size <= most) return
  for (const oldest of names) return void names.delete(oldest)
}
