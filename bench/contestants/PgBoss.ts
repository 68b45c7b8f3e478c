/** pg-boss, a job at a time and in batches. It stores what a job returns; it has no steps. */
import { Pool } from "pg"
import { PgBoss, type WorkOptions } from "pg-boss"
import { type Contestant, parts, type WorkerOptions } from "../Contestant.ts"

const queue = "bench"

const make = (
  mode: string,
  about: string,
  work: (concurrency: number) => WorkOptions
): Contestant => ({
  name: `pg-boss (${mode})`,
  package: "pg-boss",
  about,
  open: async ({ url }) => {
    const boss = new PgBoss({ connectionString: url, useListenNotify: true })
    boss.on("error", (error) => {
      throw error
    })
    await boss.start()
    await boss.createQueue(queue, { notify: true })
    const pool = new Pool({ connectionString: url, max: 1 })
    return {
      hasSteps: false,
      spawn: () => boss.send(queue, {}),
      bulkSpawn: async (count) => {
        for (const size of parts(count, 10_000)) {
          await boss.insert(queue, Array.from({ length: size }, () => ({ data: {} })))
        }
      },
      startWorker: async ({ concurrency, onTask }: WorkerOptions) => {
        await boss.work(queue, work(concurrency), async (jobs: ReadonlyArray<unknown>) => jobs.forEach(onTask))
        return () => boss.offWork(queue)
      },
      unfinished: async () => {
        const { rows } = await pool.query<{ count: number }>(
          "select count(*)::int as count from pgboss.job where name = $1 and state < 'completed'",
          [queue]
        )
        return rows[0]!.count
      },
      claimAndComplete: async () => {
        const [job] = await boss.fetch(queue)
        if (job === undefined) throw new Error("Nothing was due")
        await boss.complete(queue, job.id, {})
      },
      close: async () => {
        await boss.stop({ graceful: false })
        await pool.end()
      }
    }
  }
})

/** A job per fetch: fifty workers that each wait for the poll after every job. */
export const pgBossSingle = make(
  "single",
  "50 workers in the process, a job per fetch, LISTEN on, polling every 0.5 s",
  (localConcurrency) => ({
    localConcurrency,
    batchSize: 1,
    pollingIntervalSeconds: 0.5,
    notifyPollingIntervalSeconds: 0.5
  })
)

export const pgBossBatch = make(
  "batch",
  "a worker with batches of 1,000 that fetches on at once while they are full, LISTEN on, polling every 0.5 s",
  () => ({ batchSize: 1000, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 })
)
