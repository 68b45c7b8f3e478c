/**
 * The benchmarks: `npm run bench`, with `-- --help` for what can be chosen.
 *
 * One throw-away PostgreSQL with its durable defaults; per measurement a fresh database and a fresh process; the
 * contestants take turns, so that a machine that changes its pace changes it for everybody.
 */
import { fork } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { Client } from "pg"
import * as Server from "../test/support/Server.ts"
import type { Answer, Job } from "./child.ts"
import { contestants } from "./contestants/All.ts"
import { variants } from "./contestants/Variants.ts"
import { evaluate, goalTable } from "./Goals.ts"
import { type Options, parse } from "./Options.ts"
import { type Measured, medians, type Results, tables } from "./Report.ts"
import { type Figures, scenarios } from "./Scenarios.ts"
import { durable, surroundings } from "./Surroundings.ts"

const main = async () => {
  const options = parse()
  const server = await Server.start(durable)
  try {
    const results = await measure(server.location, options)
    await Fs.mkdir(Path.dirname(options.out), { recursive: true })
    await Fs.writeFile(options.out, `${JSON.stringify(results, null, 2)}\n`)
    console.log(`\n${tables(results)}\n\n${goalTable(evaluate(results))}\n\nThe figures are in ${options.out}.`)
  } finally {
    await server.stop()
  }
}

// --- internal

const measure = async (location: Server.Location, options: Options): Promise<Results> => {
  const admin = new Client({ connectionString: Server.url(location, "postgres") })
  await admin.connect()
  const runs = new Map<string, Array<Figures>>()
  const asked = scenarios().filter(({ name }) => options.scenarios.includes(name))
  const key = (scenario: string, contestant: string) => `${scenario}/${contestant}`
  for (let run = 1; run <= options.runs; run++) {
    for (const { alone, name: scenario, once } of asked) {
      if (run > 1 && once === "everybody") continue
      const isForOne = alone === true || run > 1 && once === "others"
      for (const contestant of isForOne ? options.contestants.slice(0, 1) : options.contestants) {
        if (run > 1 && !runs.has(key(scenario, contestant))) continue
        process.stderr.write(`run ${run} of ${options.runs}: ${scenario}, ${contestant}: `)
        const figures = await inDatabase(
          admin,
          location,
          (url) => inProcess({ contestant, scenario, database: { url }, settings: options.settings })
        ).catch(report)
        process.stderr.write(`${figures === null ? "does not take part" : JSON.stringify(figures)}\n`)
        if (figures === null) continue
        const earlier = runs.get(key(scenario, contestant)) ?? []
        runs.set(key(scenario, contestant), [...earlier, figures])
      }
    }
  }
  const { rows } = await admin.query<{ version: string }>("select current_setting('server_version') as version")
  await admin.end()
  return {
    ...await surroundings(rows[0]!.version, contestants.flatMap((contestant) => contestant.package ?? [])),
    runs: options.runs,
    settings: options.settings,
    contestants: [...contestants, ...variants].filter(({ name }) => options.contestants.includes(name)).map((
      { about, name }
    ) => ({
      name,
      about
    })),
    scenarios: asked.map((scenario): Measured => ({
      name: scenario.name,
      title: scenario.title,
      unit: scenario.unit,
      better: scenario.better,
      figures: Object.fromEntries(options.contestants.flatMap((contestant) => {
        const figures = runs.get(key(scenario.name, contestant))
        return figures === undefined ? [] : [[contestant, medians(figures)]]
      }))
    }))
  }
}

/** A contestant that fails is left out, and the others go on. */
const report = (error: unknown): null => {
  console.error(error)
  process.exitCode = 1
  return null
}

const inDatabase = async <A>(
  admin: Client,
  location: Server.Location,
  use: (url: string) => Promise<A>
): Promise<A> => {
  const name = `bench_${process.hrtime.bigint()}`
  await admin.query(`create database ${name}`)
  try {
    return await use(Server.url(location, name))
  } finally {
    await admin.query(`drop database ${name} with (force)`)
  }
}

const inProcess = (job: Job): Promise<Figures | null> =>
  new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL("child.ts", import.meta.url)), {
      execArgv: ["--conditions=source", "--no-deprecation"],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      // What hangs is left out, and the others go on.
      timeout: 10 * 60_000
    })
    let answer: Answer | undefined
    child.once("message", (message: Answer) => {
      answer = message
    })
    child.once("error", reject)
    child.once("exit", (code) => {
      if (answer !== undefined) resolve(answer.figures)
      else reject(new Error(`${job.contestant} failed in ${job.scenario} with code ${code}`))
    })
    child.send(job)
  })

await main()
