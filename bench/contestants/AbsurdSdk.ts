/**
 * The SDK of Absurd for TypeScript, on the schema that this library installs. The SQL of Absurd itself is not on npm, and
 * is not measured.
 */
import { Absurd, type TaskContext } from "absurd-sdk"
import { ManagedRuntime } from "effect"
import { Pool } from "pg"
import { concurrently, type Contestant, type Session, type WorkerOptions } from "../Contestant.ts"
import * as AbsurdTables from "./AbsurdTables.ts"
import { installed } from "./EffectAbsurd.ts"

export const absurdSdk: Contestant = {
  name: "absurd-sdk (on this schema)",
  package: "absurd-sdk",
  about: "startWorker with concurrency 50, other settings by default (it polls every 250 ms)",
  open: async ({ url }) => {
    const runtime = ManagedRuntime.make(installed(url))
    await runtime.context()
    await runtime.dispose()
    const pool = new Pool({ connectionString: url })
    const absurd = new Absurd({ db: pool, queueName: AbsurdTables.queue })
    await absurd.createQueue()
    let onTask = () => {}
    let onEnd = () => {}
    absurd.registerTask({ name: "noop" }, async () => onTask())
    absurd.registerTask({ name: "steps" }, async (_: object, context: TaskContext) => {
      onTask()
      for (const name of ["a", "b", "c"]) await context.step(name, async () => 1)
    })
    absurd.registerTask({ name: "resume" }, async ({ count }: { readonly count: number }, context: TaskContext) => {
      for (let index = 0; index < count; index++) await context.step(`step ${index}`, async () => index)
      await context.awaitEvent("go")
      onEnd()
    })
    const startWorker = async (options: WorkerOptions) => {
      onTask = options.onTask
      const worker = await absurd.startWorker({ concurrency: options.concurrency })
      return () => worker.close()
    }
    const session: Session = {
      hasSteps: true,
      spawn: (job) => absurd.spawn(job, {}),
      startWorker,
      unfinished: () => AbsurdTables.unfinished(pool),
      fanOut: async (count, concurrency) => {
        const stop = await startWorker({ concurrency, onTask })
        const ids: Array<string> = []
        await concurrently(count, 50, async () => ids.push((await absurd.spawn("noop", {})).taskID))
        await Promise.all(ids.map((id) => absurd.awaitTaskResult(id)))
        await stop()
      },
      fill: (kind, count) => AbsurdTables.add(pool, kind, count),
      claimAndComplete: () => absurd.workBatch("bench", 60, 1),
      resume: async (count) => {
        await absurd.spawn("resume", { count })
        await absurd.workBatch("bench", 60, 1)
        await absurd.emitEvent("go")
        const startedAt = performance.now()
        const ended = new Promise<number>((resolve) => {
          onEnd = () => resolve(performance.now() - startedAt)
        })
        await absurd.workBatch("bench", 60, 1)
        return await ended
      },
      close: () => pool.end()
    }
    return session
  }
}
