/** A worker process of absurd-sdk for the same task as in worker.ts. Its argument is the URL of the database. */
import { Absurd } from "absurd-sdk"

const url = process.argv[2]
if (url === undefined) throw new Error("The URL of the database is missing")

const sdk = new Absurd({ db: url, queueName: "load" })
sdk.registerTask<{ readonly n: number }>({ name: "three-steps" }, async ({ n }, context) => {
  const first = await context.step("first", async () => n + 1)
  const second = await context.step("second", async () => first + 1)
  return await context.step("third", async () => second + 1)
})
await sdk.startWorker({ concurrency: 20, pollInterval: 0.05, workerId: `absurd-sdk-${process.pid}` })
