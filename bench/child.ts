/** One contestant in one scenario, in a process of its own: takes a job from its parent, and answers with the figures. */
import { Client } from "pg"
import type { Database } from "./Contestant.ts"
import { contestants } from "./contestants/All.ts"
import { variants } from "./contestants/Variants.ts"
import { type Figures, scenarios, type Settings } from "./Scenarios.ts"

export interface Job {
  readonly contestant: string
  readonly scenario: string
  readonly database: Database
  readonly settings: Settings
}

/** Null when the contestant does not take part in the scenario. */
export interface Answer {
  readonly figures: Figures | null
}

/** Does now what autovacuum and the checkpointer would do at some time in the middle of it. */
const settle = async (database: Database) => {
  const client = new Client({ connectionString: database.url })
  await client.connect()
  const { rows } = await client.query<{ name: string }>(
    "select format('%I.%I', schemaname, relname) as name from pg_stat_user_tables"
  )
  if (rows.length > 0) await client.query(`vacuum (analyze) ${rows.map(({ name }) => name).join(", ")}`)
  await client.query("checkpoint")
  await client.end()
}

const work = async ({ contestant, database, scenario, settings }: Job): Promise<Answer> => {
  const subject = [...contestants, ...variants].find(({ name }) => name === contestant)
  const measure = scenarios().find(({ name }) => name === scenario)
  if (subject === undefined || measure === undefined) throw new Error(`There is no ${contestant} or no ${scenario}`)
  const session = await subject.open(database)
  await settle(database)
  const figures = await measure.run(session, settings, () => settle(database))
  await session.close()
  return { figures: figures ?? null }
}

// Nobody is left who could take the answer.
process.once("disconnect", () => process.exit(1))
process.once("message", (job: Job) => {
  work(job).then(
    (answer) => process.send!(answer, () => process.exit(0)),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    }
  )
})
