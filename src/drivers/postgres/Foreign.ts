/**
 * Whether a schema `absurd` that we did not install has what our kernel and driver need.
 *
 * @internal
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

/** What is missing or too old, in words; nothing when the schema can be used. Reads only. */
export const problems: Effect.Effect<ReadonlyArray<string>, SqlError.SqlError, SqlClient.SqlClient> = Effect.gen(
  function*() {
    const sql = yield* SqlClient.SqlClient
    const missing = yield* sql.unsafe<{ readonly problem: string }>(missingParts)
    if (missing.length > 0) return missing.map((row) => row.problem)
    const versions = yield* sql<{ readonly version: string }>`select absurd.get_schema_version() as version`
    return versions.flatMap(({ version }) => isOlder(version) ? [`its version is ${version}`] : [])
  }
)

// --- internal

const functions = [
  "current_time()",
  "portable_uuidv7()",
  "get_schema_version()",
  "create_queue(text,text)",
  "drop_queue(text)",
  "list_queues()",
  "get_queue_policy(text)",
  "set_queue_policy(text,jsonb)",
  "ensure_partitions(text)",
  "cleanup_tasks(text,integer,integer)",
  "cleanup_events(text,integer,integer)",
  "cleanup_all_queues(text)",
  "list_detach_candidates(text)",
  "emit_event(text,text,jsonb)",
  "await_event(text,uuid,uuid,text,text,integer)"
]

const words = (text: string): ReadonlyArray<string> => text.trim().split(/\s+/)

const columns: Readonly<Record<string, ReadonlyArray<string>>> = {
  t: words(`
    task_id task_name params headers retry_strategy max_attempts cancellation enqueue_at first_started_at state attempts
    last_attempt_run completed_payload cancelled_at idempotency_key
  `),
  r: words(`
    run_id task_id attempt state claimed_by claim_expires_at available_at wake_event event_payload started_at
    completed_at failed_at result failure_reason created_at
  `),
  c: words("task_id checkpoint_name state status owner_run_id updated_at"),
  e: words("event_name payload emitted_at"),
  w: words("task_id run_id step_name event_name timeout_at created_at")
}

const columnRows = Object.entries(columns).flatMap(([letter, names]) => names.map((name) => `('${letter}', '${name}')`))

const missingParts = `
  select 'the function absurd.' || signature || ' is missing' as problem
  from unnest(array[${functions.map((signature) => `'${signature}'`).join(", ")}]) as signature
  where to_regprocedure('absurd.' || signature) is null
  union all
  select format('the column %I of absurd.%I is missing', c.name, c.letter || '_' || q.queue_name)
  from absurd.queues as q
    cross join (values ${columnRows.join(", ")}) as c (letter, name)
  where not exists (
    select
    from pg_catalog.pg_attribute as a
    where a.attrelid = to_regclass(format('absurd.%I', c.letter || '_' || q.queue_name))
      and a.attname = c.name
      and not a.attisdropped
  )
  order by problem
  limit 10`

// Versions that are no numbers are those of a development state, which is newer.
const isOlder = (version: string): boolean => {
  const numbers = /^v?([0-9]+)\.([0-9]+)/.exec(version)
  return numbers !== null && Number(numbers[1]) === 0 && Number(numbers[2]) < 4
}
