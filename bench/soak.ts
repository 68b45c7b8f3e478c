/**
 * A load for a long time: `npm run soak`, with `-- --help` for what can be chosen.
 *
 * One throw-away PostgreSQL with its durable defaults and autovacuum; one process with a client and a worker. Prints how long
 * claims take and how large the tables and their indexes are, minute by minute.
 */
import { Cause, Effect, Exit, Fiber } from "effect"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { Client } from "pg"
import * as Server from "../test/support/Server.ts"
import { sleep } from "./Measure.ts"
import * as Load from "./soak/Load.ts"
import * as Tables from "./soak/Tables.ts"
import { durable, surroundings } from "./Surroundings.ts"

const help = `npm run soak -- [options]

  --minutes <count>    how long, 30 by default
  --rate <count>       tasks spawned a second, 300; a third each does nothing, has three steps, sleeps for 5 seconds
  --keep <seconds>     how long ended tasks are kept, 60
  --old-snapshot       another session holds a snapshot from the first minute on, so that no vacuum can remove what died later
  --out <file>         where the figures go, bench/results/soak.json, or soak-old-snapshot.json
`

interface Minute extends Load.Happened {
  readonly minute: number
  readonly unfinished: number
  readonly tables: Readonly<Record<string, Tables.Table>>
}

const main = async () => {
  const options = parse()
  const server = await Server.start(durable)
  const url = Server.url(server.location, "postgres")
  const client = new Client({ connectionString: url })
  try {
    await client.connect()
    const minutes = await soak(url, client, options)
    const { rows } = await client.query<{ version: string }>("select current_setting('server_version') as version")
    const results = { ...await surroundings(rows[0]!.version, []), options, minutes }
    await Fs.mkdir(Path.dirname(options.out), { recursive: true })
    await Fs.writeFile(options.out, `${JSON.stringify(results, null, 2)}\n`)
    console.log(`\nThe figures are in ${options.out}.`)
  } finally {
    await client.end()
    await server.stop()
  }
}

// --- internal

type Options = ReturnType<typeof parse>

const parse = () => {
  const text = { type: "string" } as const
  const flag = { type: "boolean" } as const
  const { values } = parseArgs({
    options: { help: flag, minutes: text, rate: text, keep: text, "old-snapshot": flag, out: text }
  })
  if (values.help === true) {
    console.log(help)
    process.exit(0)
  }
  const whole = (name: "minutes" | "rate" | "keep", normal: number) => {
    const number = Number(values[name] ?? normal)
    if (!Number.isSafeInteger(number) || number < 1) throw new Error(`--${name} must be a whole number from 1`)
    return number
  }
  const oldSnapshot = values["old-snapshot"] === true
  return {
    minutes: whole("minutes", 30),
    rate: whole("rate", 300),
    keep: whole("keep", 60),
    oldSnapshot,
    out: values.out ?? `bench/results/soak${oldSnapshot ? "-old-snapshot" : ""}.json`
  }
}

const soak = async (url: string, client: Client, options: Options): Promise<ReadonlyArray<Minute>> => {
  const samples = new Load.Samples()
  const load = Effect.runFork(Load.run(url, options, samples))
  const failed = new Promise<never>((_, reject) => {
    load.addObserver((exit) => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) reject(Cause.squash(exit.cause))
    })
  })
  const holder = new Client({ connectionString: url })
  await holder.connect()
  try {
    const minutes: Array<Minute> = []
    for (let minute = 1; minute <= options.minutes; minute++) {
      await Promise.race([sleep(60_000), failed])
      const happened = samples.take()
      minutes.push({
        minute,
        ...happened,
        unfinished: await Tables.unfinished(client),
        tables: await Tables.look(client)
      })
      if (minute === 1) {
        console.log(`Of each table: its size without indexes + that of its indexes, dead rows\n\n${head(minutes[0]!)}`)
      }
      console.log(line(minutes.at(-1)!))
      if (minute === 1 && options.oldSnapshot) await hold(holder)
    }
    return minutes
  } finally {
    await Effect.runPromise(Fiber.interrupt(load))
    await holder.end()
  }
}

/** The snapshot of a transaction that nobody ends, as a forgotten session or a long report holds it. */
const hold = async (holder: Client) => {
  await holder.query("begin isolation level repeatable read")
  await holder.query("select count(*) from pg_class")
  console.log("from here on another session holds its snapshot")
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1)
const millis = (value: number | undefined) => value === undefined ? "-" : value.toFixed(1)

const columns = (cells: ReadonlyArray<string>) => cells.map((cell) => cell.padStart(18)).join("")

const head = ({ tables }: Minute) =>
  columns([
    "minute",
    "started",
    "unfinished",
    "claim p50/p99 ms",
    "start p50/p99 ms",
    ...Object.keys(tables).map((name) => `${name} MB`)
  ])

const line = ({ claim, minute, start, started, tables, unfinished }: Minute) =>
  columns([
    String(minute),
    String(started),
    String(unfinished),
    `${millis(claim["p50"])}/${millis(claim["p99"])}`,
    `${millis(start["p50"])}/${millis(start["p99"])}`,
    ...Object.values(tables).map(({ dead, indexes, table }) => `${megabytes(table)}+${megabytes(indexes)} ${dead}`)
  ])

await main()
