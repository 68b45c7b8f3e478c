/**
 * Where the time of a task goes: `npm run profile`, with `-- --help` for what can be chosen.
 *
 * A worker of this library drains a queue on a throw-away PostgreSQL, in this process. What is told is CPU time, which depends
 * less on what else the machine does than the time of the clock: of this process by the code that spends it, and of the
 * server by its statements.
 */
import * as Fs from "node:fs/promises"
import { type Profiler, Session as Inspector } from "node:inspector/promises"
import { parseArgs } from "node:util"
import { Client } from "pg"
import * as Server from "../test/support/Server.ts"
import type { Job, Session } from "./Contestant.ts"
import { effectAbsurd } from "./contestants/EffectAbsurd.ts"
import { concurrency } from "./Scenarios.ts"

const help = `npm run profile -- [options]

  --job <name>    noop (by default) or steps
  --n <count>     tasks of each drain, 20000
  --runs <count>  drains, 3; each has a fresh database
  --top <count>   functions and statements to list, 15
  --cpu <file>    where the CPU profile of the last drain goes, for the tools of a browser
`

const main = async () => {
  const { values } = parseArgs({
    options: {
      help: { type: "boolean" },
      job: { type: "string", default: "noop" },
      n: { type: "string", default: "20000" },
      runs: { type: "string", default: "3" },
      top: { type: "string", default: "15" },
      cpu: { type: "string" }
    }
  })
  if (values.help === true) return console.log(help)
  const job: Job = values.job === "steps" ? "steps" : "noop"
  const [count, runs, top] = [Number(values.n), Number(values.runs), Number(values.top)]
  const server = await Server.start({
    fsync: "on",
    full_page_writes: "on",
    synchronous_commit: "on",
    shared_buffers: "128MB",
    shared_preload_libraries: "pg_stat_statements",
    "pg_stat_statements.track": "all",
    "pg_stat_statements.track_planning": "on"
  })
  try {
    for (let run = 0; run < runs; run++) {
      console.log(summary(await measure(server.location, `profile_${run}`, job, count, false), count))
    }
    // Being watched costs time itself.
    const watched = await measure(server.location, "profile_watched", job, count, true)
    console.log(`Watched: ${summary(watched, count)}\n${details(watched, count, top)}`)
    if (values.cpu !== undefined) await Fs.writeFile(values.cpu, JSON.stringify(watched.profile))
  } finally {
    await server.stop()
  }
}

// --- internal

interface Statement {
  readonly query: string
  readonly calls: number
  readonly exec: number
  readonly plan: number
}

interface Measured {
  readonly millis: number
  /** CPU time, in microseconds. */
  readonly node: number
  readonly postgres: number
  /** Undefined when nobody watched. */
  readonly profile: Profiler.Profile | undefined
  readonly statements: ReadonlyArray<Statement>
}

const measure = async (
  location: Server.Location,
  database: string,
  job: Job,
  count: number,
  watched: boolean
): Promise<Measured> => {
  const admin = new Client({ connectionString: Server.url(location, "postgres") })
  await admin.connect()
  await admin.query(`create database ${database}`)
  const url = Server.url(location, database)
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query("create extension pg_stat_statements")
  const session = await effectAbsurd.open({ url })
  // The code is compiled before it is measured.
  await session.bulkSpawn!(Math.ceil(count / 4), job)
  await drain(session, Math.ceil(count / 4))
  await session.bulkSpawn!(count, job)
  await client.query("vacuum (analyze)")
  await client.query("checkpoint")
  await client.query("select pg_stat_statements_reset()")
  const inspector = new Inspector()
  inspector.connect()
  if (watched) {
    await inspector.post("Profiler.enable")
    await inspector.post("Profiler.setSamplingInterval", { interval: 500 })
    await inspector.post("Profiler.start")
  }
  const before = { node: process.cpuUsage(), postgres: await cpuOf(client), at: performance.now() }
  await drain(session, count)
  const { system, user } = process.cpuUsage(before.node)
  const millis = performance.now() - before.at
  const postgres = await cpuOf(client) - before.postgres
  const profile = watched ? (await inspector.post("Profiler.stop")).profile : undefined
  inspector.disconnect()
  const { rows: statements } = await client.query<Statement>(`
    select query, calls::int, total_exec_time as exec, total_plan_time as plan
    from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database())
    order by total_exec_time + total_plan_time desc`)
  await session.close()
  await client.end()
  // Connections that are closed take a moment to end, which the end of the server must not meet.
  const open = "select count(*)::int as count from pg_stat_activity where datname = $1"
  while ((await admin.query<{ count: number }>(open, [database])).rows[0]!.count > 0) await pause()
  await admin.end()
  return { millis, node: user + system, postgres, profile, statements }
}

const drain = async (session: Session, count: number) => {
  let started = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = await session.startWorker!({
    concurrency,
    onTask: () => {
      if (++started === count) resolve()
    }
  })
  await promise
  while (await session.unfinished!() > 0) await pause()
  await stop()
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 5))

/** Of all processes of the server, in microseconds; where there is no `/proc`, nothing is known. */
const cpuOf = async (client: Client): Promise<number> => {
  const { rows } = await client.query<{ pid: number }>("select pid from pg_stat_activity where pid is not null")
  const times = rows.map(async ({ pid }) => {
    const stat = await Fs.readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")
    // After the name in parentheses, from the third field on; a tick is a hundredth of a second.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return stat === "" ? 0 : (Number(fields[11]) + Number(fields[12])) * 10_000
  })
  return (await Promise.all(times)).reduce((sum, time) => sum + time, 0)
}

const perTask = (micros: number, count: number) => `${(micros / count).toFixed(1)} µs`

const summary = ({ millis, node, postgres }: Measured, count: number) =>
  `${Math.round(count * 1000 / millis)} tasks/s by the clock; CPU time of a task: Node ${perTask(node, count)}, ` +
  `PostgreSQL ${perTask(postgres, count)}`

/** Whose code it is. */
const areas: ReadonlyArray<readonly [string, RegExp]> = [
  ["engine (src/core)", /\/src\/core\//],
  ["driver (src/drivers)", /\/src\/drivers\//],
  [
    "wire (@effect/sql-pg, effect/sql, sockets)",
    /@effect\/sql-pg|effect\/(src|dist)\/sql\/|node:net|node:stream|stream_base|node:internal\/streams|node:buffer/
  ],
  [
    "codec (effect Schema)",
    /effect\/(src|dist)\/(Schema|SchemaAST|SchemaParser|internal\/schema|JsonPatch|Getter|Transformation)/
  ],
  ["telemetry (effect Metric, Tracer)", /effect\/(src|dist)\/(Metric|Tracer|internal\/metric)/],
  ["fibers (effect)", /\/effect\//]
]

const details = ({ profile, statements }: Measured, count: number, top: number): string => {
  const byArea = new Map<string, number>()
  const byFunction = new Map<string, number>()
  const nodes = new Map(profile?.nodes.map((node) => [node.id, node]))
  profile?.samples?.forEach((id, index) => {
    const { callFrame } = nodes.get(id)!
    const { columnNumber, functionName, lineNumber, url } = callFrame
    // Starting the profiler counts as work of the inspector.
    if (functionName === "(idle)" || url === "node:inspector") return
    const micros = Math.max(0, profile?.timeDeltas?.[index] ?? 0)
    const area = functionName === "(garbage collector)"
      ? "garbage collection"
      : functionName === "(program)"
      ? "native code (sockets, compilation)"
      : areas.find(([, pattern]) => pattern.test(url))?.[0] ?? "Node and others"
    byArea.set(area, (byArea.get(area) ?? 0) + micros)
    const where = `${functionName || "(anonymous)"} ${url.split("/").slice(-2).join("/")}:${lineNumber + 1}:${
      columnNumber + 1
    }`
    byFunction.set(where, (byFunction.get(where) ?? 0) + micros)
  })
  const table = (rows: Iterable<readonly [string, number]>, most: number) =>
    [...rows].sort(([, a], [, b]) => b - a).slice(0, most)
      .map(([name, micros]) => `${perTask(micros, count).padStart(10)}  ${name}`).join("\n")
  const ofServer = statements.slice(0, top).map(({ calls, exec, plan, query }) =>
    `${perTask(exec * 1000, count).padStart(10)}  planning ${perTask(plan * 1000, count)}, ${calls} calls: ` +
    query.replaceAll(/\s+/g, " ").slice(0, 110)
  )
  return `\nNode, by whose code it is:\n${table(byArea, 20)}\n\nNode, by function:\n${table(byFunction, top)}\n\n` +
    `PostgreSQL, time by the clock within statements (those of functions count twice):\n${ofServer.join("\n")}`
}

await main()
