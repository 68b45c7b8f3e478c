/** graphile-worker, plain and with its local queue. It deletes jobs that have succeeded; it has no results and no steps. */
import { Logger, makeWorkerUtils, run, type WorkerUtils } from "graphile-worker"
import { Pool } from "pg"
import { type Contestant, parts, type WorkerOptions } from "../Contestant.ts"

const logger = new Logger(() => () => {})

const make = (mode: string, about: string, batching: GraphileConfig.WorkerOptions): Contestant => ({
  name: `graphile-worker (${mode})`,
  package: "graphile-worker",
  about,
  open: async ({ url }) => {
    const utils: WorkerUtils = await makeWorkerUtils({ connectionString: url, logger })
    await utils.migrate()
    const pool = new Pool({ connectionString: url, max: 1 })
    return {
      hasSteps: false,
      spawn: () => utils.addJob("noop", {}),
      bulkSpawn: async (count) => {
        for (const size of parts(count, 10_000)) {
          await utils.addJobs(Array.from({ length: size }, () => ({ identifier: "noop", payload: {} })))
        }
      },
      startWorker: async ({ concurrency, onTask }: WorkerOptions) => {
        const runner = await run({
          noHandleSignals: true,
          taskList: { noop: async () => onTask() },
          preset: { worker: { connectionString: url, concurrentJobs: concurrency, ...batching } },
          logger
        })
        return () => runner.stop()
      },
      unfinished: async () => {
        const { rows } = await pool.query<{ count: number }>(
          "select count(*)::int as count from graphile_worker._private_jobs"
        )
        return rows[0]!.count
      },
      close: async () => {
        await utils.release()
        await pool.end()
      }
    }
  }
})

export const graphilePlain = make("plain", "concurrency 50, other settings by default (it listens)", {})

export const graphileLocalQueue = make(
  "local queue",
  "concurrency 50, a local queue of 500 jobs, completion batched without delay",
  { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
)
