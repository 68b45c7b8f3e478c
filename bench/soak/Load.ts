/** A load that goes on at the same pace: tasks of three kinds, a worker for them, and the deleting of those that ended. */
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Layer, Logger, Redacted, Schedule, Schema, type Scope } from "effect"
import { Absurd, Driver, Installation, PostgresDriver, Step, Task, Worker } from "effect-absurd"
import { queue } from "../contestants/AbsurdTables.ts"
import { quantile } from "../Measure.ts"
import type { Figures } from "../Scenarios.ts"

export interface Options {
  /** Tasks spawned a second. */
  readonly rate: number
  /** How many seconds a task that has ended is kept. */
  readonly keep: number
}

/** What happened since it was asked the last time. */
export interface Happened {
  readonly started: number
  /** Calls of the store that claim, in milliseconds. */
  readonly claim: Figures
  /** From the call of spawn to the first line of the handler, in milliseconds. */
  readonly start: Figures
}

/** Collects samples until they are asked for. */
export class Samples {
  private claims: Array<number> = []
  private starts: Array<number> = []

  claimed(millis: number): void {
    this.claims.push(millis)
  }

  started(sentAt: number): void {
    this.starts.push(performance.now() - sentAt)
  }

  take(): Happened {
    const { claims, starts } = this
    this.claims = []
    this.starts = []
    return { started: starts.length, claim: quantiles(claims), start: quantiles(starts) }
  }
}

/** Runs until it is interrupted. */
export const run = (url: string, options: Options, samples: Samples): Effect.Effect<never, unknown> =>
  Effect.scoped(load(options, samples)).pipe(Effect.provide(client(url, samples)))

// --- internal

const quantiles = (samples: ReadonlyArray<number>): Figures =>
  samples.length === 0 ? {} : { p50: quantile(samples, 0.5), p99: quantile(samples, 0.99), max: quantile(samples, 1) }

const params = { sentAt: Schema.Number }
const Noop = Task.make("noop", { params, queue })
const Steps = Task.make("steps", { params, queue })
const Sleeper = Task.make("sleeper", { params, queue })
const kinds = [Noop, Steps, Sleeper]

const handlers = (samples: Samples) => {
  const started = (sentAt: number) => Effect.sync(() => samples.started(sentAt))
  return Layer.mergeAll(
    Noop.toLayer(({ sentAt }) => started(sentAt)),
    Steps.toLayer(({ sentAt }) =>
      Effect.andThen(started(sentAt), Effect.forEach(["a", "b", "c"], (name) => Step.run(name, Effect.succeed(1))))
        .pipe(Effect.asVoid)
    ),
    // Its second execution is no start.
    Sleeper.toLayer(({ sentAt }) =>
      Effect.andThen(Step.run("start", started(sentAt)), Step.sleep("a while", "5 seconds"))
    )
  )
}

const client = (url: string, samples: Samples) => {
  const timed = Layer.effect(
    Driver.Driver,
    Effect.map(PostgresDriver.make(), (driver) =>
      Driver.Driver.of({
        ...driver,
        claim: (request) =>
          Effect.suspend(() => {
            const sentAt = performance.now()
            return Effect.tap(
              driver.claim(request),
              () => Effect.sync(() => samples.claimed(performance.now() - sentAt))
            )
          })
      }))
  )
  return Absurd.layerDriver({ queue }).pipe(
    Layer.provide(timed),
    Layer.provide(Installation.layer),
    Layer.provide(PgClient.layer({ url: Redacted.make(url) })),
    Layer.provide(Logger.layer([]))
  )
}

const load = ({ keep, rate }: Options, samples: Samples): Effect.Effect<never, unknown, Absurd.Absurd | Scope.Scope> =>
  Effect.gen(function*() {
    yield* Absurd.createQueue(queue)
    yield* Layer.build(Worker.layer({ concurrency: 50 }).pipe(Layer.provide(handlers(samples))))
    const clean = Absurd.cleanupTasks({ queue, ttl: Duration.seconds(keep), limit: 10_000 })
    yield* Effect.forkScoped(Effect.repeat(clean, Schedule.spaced("2 seconds")))
    const startedAt = performance.now()
    let spawned = 0
    // As many as should have been by now: a spawn that takes long makes up for it later.
    const spawnDue = Effect.suspend(() => {
      const due = Math.floor((performance.now() - startedAt) / 1000 * rate) - spawned
      const places = Array.from({ length: due }, () => spawned++)
      return Effect.forEach(
        places,
        (place) => kinds[place % kinds.length]!.spawn({ sentAt: performance.now() }),
        { concurrency: "unbounded", discard: true }
      )
    })
    return yield* Effect.forever(Effect.andThen(spawnDue, Effect.sleep("20 millis")))
  })
