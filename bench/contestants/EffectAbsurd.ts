/** This library, as its users have it: typed tasks, a worker layer, a pool of ten connections. */
import { PgClient } from "@effect/sql-pg"
import { Deferred, Duration, Effect, Exit, Layer, Logger, ManagedRuntime, Redacted, Schema, Scope } from "effect"
import { Absurd, Event, Identifiers, Installation, Step, Task, Worker } from "effect-absurd"
import * as AbsurdWorkflowEngine from "effect-absurd/AbsurdWorkflowEngine"
import { Pool } from "pg"
import { type ClientPool, type Contestant, parts, type Session, type WorkerOptions } from "../Contestant.ts"
import * as AbsurdTables from "./AbsurdTables.ts"
import { makeOwn } from "./own/Own.ts"
import * as Workflow from "./Workflow.ts"

/** The schema in the database at `url`. */
export const installed = (url: string, options: ClientPool = {}) =>
  Installation.layer.pipe(Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), ...options })))

const { queue } = AbsurdTables

const Noop = Task.make("noop", { params: {}, queue })
const Steps = Task.make("steps", { params: {}, queue })
const Resume = Task.make("resume", { params: { count: Schema.Int }, queue })
const Hold = Task.make("hold", { params: {}, queue })
const Go = Event.make("go", { queue })
const spawnOne = { noop: Noop.spawn, steps: Steps.spawn }
const spawnMany = { noop: Noop.spawnMany, steps: Steps.spawnMany }

const threeSteps = Effect.gen(function*() {
  yield* Step.run("a", Effect.succeed(1))
  yield* Step.run("b", Effect.succeed(1))
  yield* Step.run("c", Effect.succeed(1))
})

const jobs = ({ onTask }: Pick<WorkerOptions, "onTask">) => {
  const started = Effect.sync(onTask)
  return Layer.mergeAll(Noop.toLayer(() => started), Steps.toLayer(() => Effect.andThen(started, threeSteps)))
}

export const effectAbsurd: Contestant = {
  name: "effect-absurd",
  about: "a worker with concurrency 50, or a workflow engine with 200, other settings by default",
  open: async ({ clientPool, url }) => {
    const runtime = ManagedRuntime.make(
      Absurd.layerWith({ queue }).pipe(Layer.provideMerge(installed(url, clientPool)), Layer.provide(Logger.layer([])))
    )
    await runtime.runPromise(Absurd.createQueue(queue))
    const pool = new Pool({ connectionString: url, max: 1 })

    const startLayer = <E>(layer: Layer.Layer<never, E, Absurd.Absurd>) =>
      runtime.runPromise(Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(layer, scope)
        return () => runtime.runPromise(Scope.close(scope, Exit.void))
      }))
    const startWorker = ({ concurrency, onTask }: WorkerOptions) =>
      startLayer(Worker.layer({ concurrency }).pipe(Layer.provide(jobs({ onTask }))))

    const claimAndComplete = Effect.gen(function*() {
      const { coalesced, driver } = yield* Absurd.Absurd
      const token = Identifiers.ClaimToken.make("bench")
      const name = Identifiers.QueueName.make(queue)
      const [run] = yield* driver.claim({ queue: name, token, lease: Duration.minutes(1), limit: 1 })
      if (run === undefined) return yield* Effect.die(new Error("Nothing was due"))
      yield* coalesced.complete(name, { runId: run.runId, token, result: null })
    })

    // Built when it is asked for: an engine polls.
    const workflows = ManagedRuntime.make(
      Workflow.layer.pipe(
        Layer.provideMerge(AbsurdWorkflowEngine.layer({ concurrency: 200 })),
        Layer.provide(Layer.effectContext(runtime.contextEffect))
      )
    )
    const execute = Workflow.makeExecute()

    const session: Session = {
      hasSteps: true,
      spawn: (job) => runtime.runPromise(spawnOne[job]({})),
      bulkSpawn: async (count, job) => {
        for (const size of parts(count, 10_000)) {
          await runtime.runPromise(spawnMany[job](Array.from({ length: size }, () => ({}))))
        }
      },
      executeWorkflow: () => workflows.runPromise(execute),
      startWorker,
      unfinished: () => AbsurdTables.unfinished(pool),
      fanOut: async (count, concurrency) => {
        const stop = await startWorker({ concurrency, onTask: () => {} })
        await runtime.runPromise(Effect.gen(function*() {
          const children = yield* Noop.spawnMany(Array.from({ length: count }, () => ({})))
          yield* Effect.forEach(children, (child) => child.await, { concurrency: "unbounded", discard: true })
        }))
        await stop()
      },
      fill: (kind, count) => AbsurdTables.add(pool, kind, count),
      claimAndComplete: () => runtime.runPromise(claimAndComplete),
      resume: (count) =>
        runtime.runPromise(Effect.gen(function*() {
          const ended = yield* Deferred.make<number>()
          let startedAt = 0
          const handler = Resume.toLayer(Effect.fnUntraced(function*(params) {
            for (let index = 0; index < params.count; index++) {
              yield* Step.run(`step ${index}`, Effect.succeed(index))
            }
            yield* Go.wait("")
            yield* Deferred.succeed(ended, performance.now() - startedAt)
          }))
          yield* Resume.spawn({ count })
          yield* Effect.provide(Worker.runOnce(), handler)
          yield* Go.emit("", undefined)
          startedAt = performance.now()
          yield* Effect.provide(Worker.runOnce(), handler)
          return yield* Deferred.await(ended)
        })),
      hold: async (count) => {
        const { promise, resolve } = Promise.withResolvers<void>()
        const release = Deferred.makeUnsafe<void>()
        let running = 0
        const handler = Hold.toLayer(() =>
          Effect.suspend(() => {
            if (++running === count) resolve()
            return Deferred.await(release)
          })
        )
        const stop = await startLayer(Worker.layer({ concurrency: count }).pipe(Layer.provide(handler)))
        // What one large spawn leaves behind in this process is not what is measured.
        for (const size of parts(count, 1000)) {
          await runtime.runPromise(Hold.spawnMany(Array.from({ length: size }, () => ({}))))
        }
        await promise
        return async () => {
          Deferred.doneUnsafe(release, Exit.void)
          await stop()
        }
      },
      own: makeOwn(runtime, pool, url),
      close: async () => {
        await workflows.dispose()
        await pool.end()
        await runtime.dispose()
      }
    }
    return session
  }
}
