/** DBOS, with workflows started directly and from a queue. */
import { DBOS, DBOSClient } from "@dbos-inc/dbos-sdk"
import { Pool } from "pg"
import { concurrently, type Contestant, type Job, type Session, type WorkerOptions } from "../Contestant.ts"

const queue = "bench"

const make = (mode: "direct" | "queue", about: string): Contestant => ({
  name: `DBOS (${mode})`,
  package: "@dbos-inc/dbos-sdk",
  about,
  open: async ({ url }) => {
    let onTask = () => {}
    const workflows = {
      noop: DBOS.registerWorkflow(async () => onTask(), { name: "noop" }),
      steps: DBOS.registerWorkflow(async () => {
        onTask()
        for (const name of ["a", "b", "c"]) await DBOS.runStep(async () => 1, { name })
      }, { name: "steps" })
    }
    DBOS.setConfig({ name: "bench", systemDatabaseUrl: url, logLevel: "error" })
    await DBOS.migrate(url)
    const client = await DBOSClient.create({ systemDatabaseUrl: url })
    const pool = new Pool({ connectionString: url, max: 1 })
    const enqueue = (job: Job) => client.enqueue<() => Promise<void>>({ queueName: queue, workflowName: job })

    let launched: Promise<void> | undefined
    const launch = () => launched ??= DBOS.launch()
    const startWorker = async (options: WorkerOptions) => {
      onTask = options.onTask
      await launch()
      await DBOS.registerQueue(queue, { workerConcurrency: options.concurrency, minPollingIntervalMs: 10 })
      return async () => {}
    }
    const queued: Partial<Session> = {
      startWorker,
      fanOut: async (count, concurrency) => {
        const stop = await startWorker({ concurrency, onTask })
        const children: Array<{ getResult(): Promise<unknown> }> = []
        await concurrently(count, 50, async () => children.push(await enqueue("noop")))
        await Promise.all(children.map((child) => child.getResult()))
        await stop()
      }
    }
    const direct: Partial<Session> = {
      execute: async (job) => {
        await launch()
        const handle = await DBOS.startWorkflow(workflows[job])()
        await handle.getResult()
      }
    }
    return {
      hasSteps: true,
      spawn: enqueue,
      ...(mode === "queue" ? queued : direct),
      unfinished: async () => {
        const { rows } = await pool.query<{ count: number }>(
          "select count(*)::int as count from dbos.workflow_status where status in ('ENQUEUED', 'PENDING', 'DELAYED')"
        )
        return rows[0]!.count
      },
      close: async () => {
        if (launched !== undefined) await DBOS.shutdown()
        await client.destroy()
        await pool.end()
      }
    }
  }
})

export const dbosDirect = make("direct", "50 workflows in flight, started and awaited in the process")

export const dbosQueue = make("queue", "a queue with worker concurrency 50 that is polled every 10 ms")
