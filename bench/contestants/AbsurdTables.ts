/** Fills and counts the tables of a queue by SQL, for the contestants that work on the schema of Absurd. */
import type { Pool } from "pg"
import type { Fill } from "../Contestant.ts"

export const queue = "bench"

export const unfinished = async (pool: Pool): Promise<number> => {
  const { rows } = await pool.query<{ count: number }>(
    `select count(*)::int as count from absurd.r_${queue} where state in ('pending', 'running', 'sleeping')`
  )
  return rows[0]!.count
}

/** Adds tasks as spawning, running and completing them would have left them, at instants a microsecond apart. */
export const add = (pool: Pool, kind: Fill, count: number) => pool.query(statements[kind], [count])

// --- internal

/** `run` and `task` are what the rows of an ended task have more than the others. */
const statement = (state: string, due: string, run: Columns = {}, task: Columns = {}) => `
  with item as materialized (
    select uuidv7() as task_id, uuidv7() as run_id, ${due} + make_interval(secs => i * 1e-6) as due_at
    from generate_series(1, $1::int) i
  ), run as (
    insert into absurd.r_${queue} (run_id, task_id, attempt, state, available_at${names(run)})
    select run_id, task_id, 1, '${state}', due_at${values(run)} from item
  )
  insert into absurd.t_${queue} (task_id, task_name, params, max_attempts, enqueue_at, state, attempts,
    last_attempt_run${names(task)})
  select task_id, 'noop', '{}', 5, due_at, '${state}', 1, run_id${values(task)} from item`

type Columns = Readonly<Record<string, string>>

const names = (columns: Columns) => Object.keys(columns).map((name) => `, ${name}`).join("")
const values = (columns: Columns) => Object.values(columns).map((value) => `, ${value}`).join("")

const statements: Readonly<Record<Fill, string>> = {
  pending: statement("pending", "now() - interval '1 hour'"),
  sleeping: statement("sleeping", "now() + interval '1 day'"),
  finished: statement(
    "completed",
    "now() - interval '1 hour'",
    {
      claimed_by: "'filled'",
      claim_expires_at: "due_at",
      started_at: "due_at",
      completed_at: "due_at",
      result: "jsonb 'null'"
    },
    { first_started_at: "due_at", completed_payload: "jsonb 'null'" }
  )
}
