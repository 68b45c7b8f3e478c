/**
 * What PostgreSQL can do: set-based SQL by hand over tables of Absurd's shape (a task row and a run row, results kept),
 * without any of the machinery around it. No schemas, no fibers, no leases renewed, no cancellation.
 *
 * Each connection runs one statement after another. A statement completes a batch and claims the next one; spawns that
 * arrive while all are in flight go together in the next. Two connections for work, four for spawns and batches of 500 were
 * the best of those tried.
 *
 * Once there is a worker, spawns notify it: of two connections without work one looks for it.
 */
import { Client, Pool } from "pg"
import { type Contestant, type Database, type Fill, type Job, parts, type WorkerOptions } from "../Contestant.ts"

const [workers, spawners, batchSize] = [2, 4, 500]

export const limit: Contestant = {
  name: "limit",
  package: "pg",
  about: `set-based SQL by hand; ${workers} connections work in batches of ${batchSize}, ${spawners} spawn`,
  open: async ({ url }: Database) => {
    const pool = new Pool({ connectionString: url, max: spawners })
    await pool.query(schema)
    const spawner = coalesce(pool)
    return {
      hasSteps: true,
      spawn: spawner.spawn,
      bulkSpawn: async (count, job) => {
        const batches = parts(count, 1000)[Symbol.iterator]()
        const caller = async () => {
          for (const size of batches) await pool.query({ ...spawn, values: [Array(size).fill(job)] })
        }
        await Promise.all(Array.from({ length: spawners }, caller))
      },
      startWorker: async (options) => {
        const stopped = new AbortController()
        const clients = await Promise.all(Array.from({ length: workers }, () => connect(url)))
        const listener = await connect(url)
        const idle = waitingRoom()
        listener.on("notification", idle.wake)
        await listener.query("listen bench")
        spawner.notify()
        const loops = clients.map((client, index) => work(client, `worker ${index}`, options, idle, stopped.signal))
        return async () => {
          stopped.abort()
          await Promise.all(loops)
          await Promise.all([listener, ...clients].map((client) => client.end()))
        }
      },
      unfinished: async () => {
        const { rows } = await pool.query<{ count: number }>(
          "select count(*)::int as count from bench.run where state in ('pending', 'running', 'sleeping')"
        )
        return rows[0]!.count
      },
      fill: (kind, count) => pool.query(fill(kind), [count]),
      claimAndComplete: async () => {
        const { rows } = await pool.query<Claimed>({ ...next, values: [[], "bench", 1] })
        if (rows.length === 0) throw new Error("Nothing was due")
        await pool.query({ ...next, values: [rows.map((run) => run.run_id), "bench", 0] })
      },
      close: () => pool.end()
    }
  }
}

// --- internal

interface Claimed {
  readonly run_id: string
  readonly task_id: string
  readonly task_name: Job
}

const connect = async (url: string) => {
  const client = new Client({ connectionString: url })
  await client.connect()
  return client
}

/** For connections without work: the one that has waited longest goes first. */
const waitingRoom = () => {
  const waiting = new Set<() => void>()
  return {
    wait: () =>
      new Promise<void>((resolve) => {
        const go = () => {
          clearTimeout(timer)
          waiting.delete(go)
          resolve()
        }
        const timer = setTimeout(go, 250)
        waiting.add(go)
      }),
    wake: () => {
      for (const go of waiting) return go()
    }
  }
}

const work = async (
  client: Client,
  token: string,
  { onTask }: WorkerOptions,
  idle: ReturnType<typeof waitingRoom>,
  stopped: AbortSignal
) => {
  let done: ReadonlyArray<Claimed> = []
  while (!stopped.aborted) {
    const values = [done.map((run) => run.run_id), token, batchSize]
    const { rows } = await client.query<Claimed>({ ...next, values })
    rows.forEach(onTask)
    const runs = rows.filter((run) => run.task_name === "steps").map((run) => run.run_id)
    for (const name of runs.length === 0 ? [] : ["a", "b", "c"]) {
      await client.query({ ...checkpoint, values: [runs, name, token] })
    }
    done = rows
    if (rows.length === 0) await idle.wait()
  }
}

const coalesce = (pool: Pool) => {
  let waiting: Array<{ readonly job: Job; readonly settle: PromiseWithResolvers<void> }> = []
  let free = spawners
  let statement: { readonly name: string; readonly text: string } = spawn
  const send = async () => {
    free--
    while (waiting.length > 0) {
      const batch = waiting
      waiting = []
      await pool.query({ ...statement, values: [batch.map(({ job }) => job)] }).then(
        () => batch.forEach(({ settle }) => settle.resolve()),
        (error: unknown) => batch.forEach(({ settle }) => settle.reject(error))
      )
    }
    free++
  }
  return {
    spawn: (job: Job) => {
      const settle = Promise.withResolvers<void>()
      waiting.push({ job, settle })
      // The callers of the same turn go together.
      if (free > 0 && waiting.length === 1) setImmediate(() => void send())
      return settle.promise
    },
    notify: () => {
      statement = spawnAndNotify
    }
  }
}

// The columns are those of Absurd, the indexes only those without which nothing works.
const schema = `
  create schema bench;
  create table bench.task (
    task_id uuid primary key, task_name text not null, params jsonb not null, headers jsonb, retry_strategy jsonb,
    max_attempts int, cancellation jsonb, enqueue_at timestamptz not null, first_started_at timestamptz,
    state text not null, attempts int not null, last_attempt_run uuid, completed_payload jsonb,
    cancelled_at timestamptz, idempotency_key text unique
  ) with (fillfactor = 70);
  create table bench.run (
    run_id uuid primary key, task_id uuid not null, attempt int not null, state text not null, claimed_by text,
    claim_expires_at timestamptz, available_at timestamptz not null, wake_event text, event_payload jsonb,
    started_at timestamptz, completed_at timestamptz, failed_at timestamptz, result jsonb, failure_reason jsonb,
    created_at timestamptz not null
  ) with (fillfactor = 70);
  create table bench.checkpoint (
    task_id uuid, name text, state jsonb, status text not null, owner_run_id uuid, updated_at timestamptz not null,
    primary key (task_id, name)
  );
  create index on bench.run (available_at, run_id) where state in ('pending', 'sleeping');
  create index on bench.run (claim_expires_at) where state = 'running';
`

const spawn = {
  name: "spawn",
  text: `
    with item as materialized (
      select uuidv7() as task_id, uuidv7() as run_id, job from unnest($1::text[]) job
    ), task as (
      insert into bench.task (task_id, task_name, params, max_attempts, enqueue_at, state, attempts, last_attempt_run)
      select task_id, job, '{}', 5, now(), 'pending', 1, run_id from item
    )
    insert into bench.run (run_id, task_id, attempt, state, available_at, created_at)
    select run_id, task_id, 1, 'pending', now(), now() from item
    returning run_id, task_id`
}

const spawnAndNotify = { name: "spawn and notify", text: `${spawn.text}, pg_notify('bench', '')` }

const next = {
  name: "next",
  text: `
    with done as (
      update bench.run set state = 'completed', completed_at = now(), result = 'null'
      where run_id = any ($1::uuid[]) and state = 'running' and claimed_by = $2
      returning task_id
    ), ended as (
      update bench.task set state = 'completed', completed_payload = 'null'
      where task_id = any (array(select task_id from done))
    ), due as materialized (
      select run_id from bench.run
      where state in ('pending', 'sleeping') and available_at <= now()
      order by available_at, run_id limit $3
      for update skip locked
    ), claimed as (
      update bench.run set state = 'running', claimed_by = $2, claim_expires_at = now() + interval '1 minute',
        started_at = now()
      where run_id = any (array(select run_id from due))
      returning run_id, task_id, attempt
    )
    update bench.task set state = 'running', attempts = claimed.attempt, last_attempt_run = claimed.run_id,
      first_started_at = coalesce(first_started_at, now())
    from claimed
    where task.task_id = any (array(select task_id from claimed)) and task.task_id = claimed.task_id
    returning claimed.run_id, task.task_id, task.task_name, task.params`
}

const checkpoint = {
  name: "checkpoint",
  text: `
    insert into bench.checkpoint (task_id, name, state, status, owner_run_id, updated_at)
    select task_id, $2, '1', 'committed', run_id, now()
    from bench.run
    where run_id = any ($1::uuid[]) and state = 'running' and claimed_by = $3`
}

const fill = (kind: Fill) => {
  const state = kind === "finished" ? "completed" : kind
  const due = kind === "sleeping" ? "now() + interval '1 day'" : "now() - interval '1 hour'"
  return `
    with item as materialized (
      select uuidv7() as task_id, uuidv7() as run_id, ${due} + make_interval(secs => i * 1e-6) as due_at
      from generate_series(1, $1::int) i
    ), task as (
      insert into bench.task (task_id, task_name, params, max_attempts, enqueue_at, state, attempts, last_attempt_run)
      select task_id, 'noop', '{}', 5, due_at, '${state}', 1, run_id from item
    )
    insert into bench.run (run_id, task_id, attempt, state, available_at, created_at)
    select run_id, task_id, 1, '${state}', due_at, now() from item`
}
