/**
 * Whether a schema `absurd` that we did not install has what our kernel and driver need.
 *
 * @internal
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

/** Why a schema cannot be used, and what to do about it. */
export interface Refusal {
  readonly problem: string
  readonly remedy: string
}

/** The newest version that this library is tested with. */
export const newest = "0.4.0"

/**
 * What is missing or of a version that is not known, in words; undefined when the schema can be used. Besides the versions
 * that this library is tested with, it takes those in `accepted`. Reads only.
 */
export const refusal = (
  accepted: ReadonlyArray<string>
): Effect.Effect<Refusal | undefined, SqlError.SqlError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const missing = yield* sql.unsafe<{ readonly problem: string }>(missingParts)
    if (missing.length > 0) return { problem: missing.map((row) => row.problem).join("; "), remedy: update }
    const [found] = yield* sql<{ readonly version: string | null }>`select absurd.get_schema_version() as version`
    const version = found?.version ?? null
    if (version !== null && [...known, ...accepted].includes(version)) return undefined
    return {
      problem: version === null
        ? "it does not say its version"
        : `its version is ${version === "" ? "empty" : version}`,
      remedy: version !== null && isOlder(version) ? update : `${acceptable}, name it in Installation.AcceptedVersions`
    }
  })

/**
 * The same as statements of PL/pgSQL that raise, for {@link declarations}. A version is accepted when the session's setting
 * `absurd_effect.accepted_version` names it.
 */
export const guard = (): string => `
  select string_agg(m.problem, '; ') into v_problem from (${missingParts}) as m;
  if v_problem is not null then
    raise exception 'effect-absurd: the schema absurd is not ours and cannot be used: %', v_problem
      using hint = '${update}.';
  end if;
  execute 'select absurd.get_schema_version()' into v_version;
  if (v_version = any (array[${known.map((version) => `'${version}'`).join(", ")}])
    or v_version = nullif(current_setting('absurd_effect.accepted_version', true), '')) is not true
  then
    raise exception 'effect-absurd: the schema absurd is not ours and its version, %, is not known',
      coalesce('"' || v_version || '"', 'null')
      using hint = '${acceptable.replaceAll("'", "''")}, name it before: SET absurd_effect.accepted_version = ''...''.';
  end if;
`

/** What {@link guard} declares. */
export const declarations = "  v_problem text;\n  v_version text;\n"

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

// What the tests install, under either spelling, and what a development state calls itself. Our own is there when only
// the schema absurd_effect was removed.
const known = ["main", newest, `v${newest}`, "effect-absurd 1"]

const isOlder = (version: string): boolean => {
  const numbers = /^v?([0-9]+)\.([0-9]+)/.exec(version)
  return numbers !== null && Number(numbers[1]) === 0 && Number(numbers[2]) < 4
}

const update = `Bring it up to Absurd ${newest} first, or use another database`

const acceptable = `This library is tested with main and ${newest}. Use a version of it that knows yours; ` +
  "or, when you have tried that they work together"
