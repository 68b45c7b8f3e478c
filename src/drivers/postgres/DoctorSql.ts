/**
 * Reading what must not be in a queue. One statement, which changes nothing.
 *
 * @since 0.1.0
 */

import type { Id } from "../../core/Invariants.ts"

interface Tables {
  /** The name of the queue, as a literal. */
  readonly queue: string
  readonly tasks: string
  readonly runs: string
  readonly checkpoints: string
  readonly events: string
  readonly waits: string
}

/** What is wrong, by the id of the invariant; each selects a subject and a problem. */
const checks: ReadonlyArray<readonly [id: Id, select: (tables: Tables) => string]> = [
  ["S1", ({ runs }) => `
    select task_id::text as subject, 'its attempts are not 1, 2, 3 ...' as problem from ${runs}
    group by task_id having min(attempt) <> 1 or max(attempt) <> count(*) or count(distinct attempt) <> count(*)`],
  ["S2", ({ runs }) => `
    select task_id::text, 'several of its runs have not ended' from ${runs}
    where state in ('pending', 'running', 'sleeping') group by task_id having count(*) > 1`],
  ["S4", ({ runs, tasks }) => `
    select t.task_id::text, format('it is %s, its last run %s', t.state, coalesce(r.state, 'does not exist'))
    from ${tasks} t left join ${runs} r on r.run_id = t.last_attempt_run
    where r.state is distinct from t.state and not (t.state = 'cancelled' and r.state is not distinct from 'failed')
    union all
    select run_id::text, format('%s, without the instant that belongs to it', state) from ${runs}
    where case state when 'pending' then available_at when 'completed' then completed_at when 'failed' then failed_at
      else 'epoch' end is null
    union all
    select t.task_id::text, 'a run was started, the task never' from ${tasks} t
    where t.first_started_at is null
      and exists (select from ${runs} r where r.task_id = t.task_id and r.started_at is not null)`],
  ["S5", ({ tasks }) => `
    select task_id::text, format('it is %s, which its time of cancellation denies', state) from ${tasks}
    where (state = 'cancelled') <> (cancelled_at is not null)`],
  ["S7", ({ runs, tasks }) => `
    select t.task_id::text, format('%s attempts of at most %s, and %s runs', t.attempts, t.max_attempts, r.n)
    from ${tasks} t join (select task_id, count(*) as n from ${runs} group by task_id) r on r.task_id = t.task_id
    where t.attempts <> r.n or (t.max_attempts is not null and t.attempts > greatest(1, t.max_attempts))`],
  ["S8", ({ runs, tasks }) => `
    select t.task_id::text, 'its last run is not the one of the last attempt'
    from ${tasks} t join ${runs} r on r.run_id = t.last_attempt_run
    where exists (select from ${runs} o where o.task_id = t.task_id and o.attempt > r.attempt)`],
  ["S10", ({ runs, tasks }) => `
    select t.task_id::text, 'its result is not that of its run'
    from ${tasks} t join ${runs} r on r.run_id = t.last_attempt_run
    where t.state = 'completed' and t.completed_payload is distinct from r.result`],
  ["S11", ({ runs }) => `
    select run_id::text, 'failed without a reason' from ${runs} where state = 'failed' and failure_reason is null`],
  ["S13", ({ runs }) => `
    select run_id::text, 'sleeps under a claim' from ${runs}
    where state = 'sleeping' and (claimed_by is not null or claim_expires_at is not null)`],
  ["S17", ({ runs }) => `
    select run_id::text, 'runs without an end of its lease' from ${runs}
    where state = 'running' and (
      claimed_by is null or started_at is null or claim_expires_at is null or not isfinite(claim_expires_at)
    )`],
  ["S26", ({ checkpoints, runs }) => `
    select format('%s/%s', c.task_id, c.checkpoint_name), 'was written by a run of another task'
    from ${checkpoints} c join ${runs} r on r.run_id = c.owner_run_id where r.task_id <> c.task_id`],
  ["S28", ({ runs, waits }) => `
    select r.run_id::text, 'sleeps for ever, and waits for nothing' from ${runs} r
    where r.state = 'sleeping' and not isfinite(r.available_at)
      and not exists (select from ${waits} w where w.run_id = r.run_id)`],
  ["S29", ({ runs, waits }) => `
    select format('%s/%s', w.run_id, w.step_name), 'belongs to no sleeping run of its task'
    from ${waits} w left join ${runs} r on r.run_id = w.run_id and r.task_id = w.task_id
    where r.state is distinct from 'sleeping'
    union all
    select format('%s/%s', w.run_id, w.step_name), format('its run waits for "%s"', r.wake_event)
    from ${waits} w join ${runs} r on r.run_id = w.run_id and r.task_id = w.task_id
    where r.state = 'sleeping' and r.wake_event <> w.event_name`],
  ["S31", ({ events, waits }) => `
    select format('%s/%s', w.run_id, w.step_name), format('waits for "%s", which has been emitted', w.event_name)
    from ${waits} w join ${events} e on e.event_name = w.event_name and e.payload is not null
    where w.timeout_at is null or w.timeout_at > e.emitted_at`],
  ["S33", ({ checkpoints }) => `
    select format('%s/%s', o.task_id, c.checkpoint_name), 'the wait both timed out and received its event'
    from ${checkpoints} o
    join ${checkpoints} c on c.task_id = o.task_id and o.checkpoint_name = '$timeout:' || c.checkpoint_name
    where o.checkpoint_name like '$timeout:%'`],
  ["S34", ({ checkpoints, runs, waits }) => `
    select r.run_id::text, 'sleeps beyond the deadline of its wait' from ${runs} r
    where r.state = 'sleeping' and r.available_at > (select min(w.timeout_at) from ${waits} w where w.run_id = r.run_id)
    union all
    select format('%s/%s', w.run_id, w.step_name), 'its deadline is not in a checkpoint'
    from ${waits} w join ${runs} r on r.run_id = w.run_id
    -- Workers in other languages wait for one event, which the run names, and fix no deadline.
    where w.timeout_at is not null and r.wake_event is null and not exists (
      select from ${checkpoints} c where c.task_id = w.task_id and c.checkpoint_name = '$deadline:' || w.step_name
    )`],
  ["S37", ({ tasks }) => `
    select min(task_id::text), format('%s tasks have the same idempotency key', count(*)) from ${tasks}
    where idempotency_key is not null group by idempotency_key having count(*) > 1`],
  ["S49", ({ events, waits }) => `
    select format('%s/%s', w.run_id, w.step_name), format('the row of the event "%s" is gone', w.event_name)
    from ${waits} w
    where w.event_name not like '$task:%' and w.event_name not like '$settled:%'
      and not exists (select from ${events} e where e.event_name = w.event_name)`],
  ["S50", ({ checkpoints, runs, tasks, waits }) => `
    select o.subject, 'belongs to a task that does not exist' from (
      select task_id, run_id::text as subject from ${runs}
      union all select task_id, format('%s/%s', task_id, checkpoint_name) from ${checkpoints}
      union all select task_id, format('%s/%s', run_id, step_name) from ${waits}
    ) o where not exists (select from ${tasks} t where t.task_id = o.task_id)`],
  ["S55", ({ queue }) => `
    select c.relname::text, format('is also a table of the queue "%s"', o.queue_name)
    from (select unnest(array['t_', 'r_', 'c_', 'e_', 'w_', 'i_']) as prefix) p
    join absurd.queues o on o.queue_name <> ${queue}
    join pg_catalog.pg_class c
      on c.relname = p.prefix || o.queue_name and c.relnamespace = 'absurd'::regnamespace
    where exists (
      select from pg_catalog.pg_inherits i join pg_catalog.pg_class m on m.oid = i.inhparent
      where i.inhrelid = c.oid and m.relname = p.prefix || ${queue}
    ) or exists (
      select from pg_catalog.pg_index x join pg_catalog.pg_class m on m.oid = x.indrelid
      where x.indexrelid = c.oid and right(m.relname, -2) = ${queue}
    )`],
  ["S58", ({ queue, runs }) => `
    select x.run_id::text, format('is %s by its limit, but %s', x.state, coalesce(r.state, 'does not exist'))
    from absurd_effect.limited_runs x left join ${runs} r on r.run_id = x.run_id
    where x.queue_name = ${queue} and case x.state
      when 'running' then r.state is distinct from 'running'
      when 'waiting' then (r.state = 'sleeping' and r.available_at = absurd_effect.parked_until()) is not true
      else (r.state in ('pending', 'sleeping')) is not true
    end
    union all
    select r.run_id::text, 'is parked, and waits for no limit' from ${runs} r
    where r.state = 'sleeping' and r.available_at = absurd_effect.parked_until() and not exists (
      select from absurd_effect.limited_runs x where x.queue_name = ${queue} and x.run_id = r.run_id
    )`]
]

/**
 * The ids of the invariants that are looked at.
 *
 * @since 0.1.0
 */
export const ids: ReadonlyArray<Id> = checks.map(([id]) => id)

/**
 * The statement for a queue, which returns at most `limit` rows of `id`, `subject` and `problem` for each invariant.
 *
 * @since 0.1.0
 */
export const statement = (queue: string, limit: number): string => {
  const table = (prefix: string) => `absurd."${prefix}_${queue.replaceAll("\"", "\"\"")}"`
  const tables: Tables = {
    queue: `'${queue.replaceAll("'", "''")}'`,
    tasks: table("t"),
    runs: table("r"),
    checkpoints: table("c"),
    events: table("e"),
    waits: table("w")
  }
  return checks
    .map(([id, select]) =>
      `(select '${id}' as id, found.* from (${select(tables)}) found(subject, problem) limit ${limit})`
    )
    .join("\nunion all\n")
}
