/** A worker process of absurd-sdk for the mixed tasks. Its argument is the URL of the database. */
import { Absurd } from "absurd-sdk"
import { Pool } from "pg"
import * as Mixed from "../interop/support/Mixed.ts"

const url = process.argv[2]
if (url === undefined) throw new Error("The URL of the database is missing")

// What fails as planned is no news.
const quiet = () => {}
const sdk = new Absurd({ db: url, queueName: "load", log: { log: quiet, info: quiet, warn: quiet, error: quiet } })
Mixed.registerTheirs(Mixed.databaseWitness(new Pool({ connectionString: url, max: 2 })), sdk)
await sdk.startWorker({ concurrency: 20, pollInterval: 0.05, workerId: `absurd-sdk-${process.pid}` })
