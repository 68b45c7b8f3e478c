-- Claiming. A claim never waits: whatever another transaction has locked is left for a later call.

-- Cancels tasks whose policy is due, at most `p_limit`, the most overdue first.
create or replace function absurd_effect.cancel_overdue(p_queue text, p_now timestamptz, p_limit integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_tasks uuid[];
begin
  execute absurd_effect.bind(p_queue, $q$
    select array_agg(task_id) from (
      select t.task_id
      from absurd.%1$I t
      join absurd.%2$I r on r.task_id = t.task_id
      where t.cancellation is not null
        and t.state in ('pending', 'running', 'sleeping')
        and absurd_effect.cancel_deadline(t.cancellation, t.enqueue_at, t.first_started_at) <= $1
        and r.state in ('pending', 'running', 'sleeping')
      order by absurd_effect.cancel_deadline(t.cancellation, t.enqueue_at, t.first_started_at)
      limit $2
      for update of r, t skip locked
    ) overdue
  $q$) into v_tasks using p_now, p_limit;
  if v_tasks is not null then
    perform absurd_effect.cancel_held(p_queue, p_now, v_tasks);
  end if;
end;
$$;

-- Fails runs whose lease has ended, at most `p_limit`, the oldest lease first. A run that cannot be failed, whatever is
-- the matter with its rows, is left as it is and stops no other.
create or replace function absurd_effect.fail_expired(p_queue text, p_now timestamptz, p_limit integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_items jsonb;
  v_item jsonb;
begin
  execute absurd_effect.bind(p_queue, $q$
    select jsonb_agg(jsonb_build_object(
      'run', run_id,
      'retry', 'stored',
      'reason', jsonb_strip_nulls(jsonb_build_object(
        'name', '$ClaimTimeout',
        'message', 'worker did not finish task within claim interval',
        'workerId', claimed_by,
        'claimExpiredAt', claim_expires_at,
        'attempt', attempt
      ))
    )) from (
      select r.run_id, r.claimed_by, r.claim_expires_at, r.attempt
      from absurd.%2$I r
      join absurd.%1$I t on t.task_id = r.task_id
      where r.state = 'running' and r.claim_expires_at is not null and r.claim_expires_at <= $1
      order by r.claim_expires_at
      limit $2
      for update of r, t skip locked
    ) expired
  $q$) into v_items using p_now, p_limit;
  if v_items is null then
    return;
  end if;
  begin
    perform absurd_effect.fail_at(p_queue, v_items, p_now);
  exception when others then
    for v_item in select * from jsonb_array_elements(v_items) loop
      begin
        perform absurd_effect.fail_at(p_queue, jsonb_build_array(v_item), p_now);
      exception when others then
        raise warning 'run % could not be failed although its lease has ended: %', v_item ->> 'run', sqlerrm;
      end;
    end loop;
  end;
end;
$$;

-- Applies due cancellation policies, fails runs whose lease has ended, then leases up to `p_limit` due runs, oldest
-- first, in that order. `p_lease` is in seconds, null for a lease without end. Runs of the tasks named in `p_except` are left
-- alone, and nothing is leased from a queue that is paused. Runs that may not start by their limits are parked: see limits.
--
-- `resumed` says that the task had been started before, so that there may be checkpoints; `due_at` is since when the run
-- was due. Read the checkpoints by checkpoints_of() after this, for the claim's own snapshot may be older than its locks.
--
-- Its statements are prepared, because to plan them takes as long as to execute them for a few runs. A planner that does not
-- know the limit would rather sort all that is due than read the index in order, so it may not sort.
create or replace function absurd_effect.claim(
  p_queue text,
  p_token text,
  p_lease double precision,
  p_limit integer,
  p_except text[] default null
) returns table (
  run_id uuid,
  task_id uuid,
  attempt integer,
  task_name text,
  params jsonb,
  headers jsonb,
  retry_strategy jsonb,
  max_attempts integer,
  wake_event text,
  event_payload jsonb,
  claimed_at timestamptz,
  first_started_at timestamptz,
  due_at timestamptz,
  resumed boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
set enable_sort = off
set enable_incremental_sort = off
set plan_cache_mode = force_generic_plan
set datestyle = 'ISO'
as $$
declare
  v_now timestamptz := absurd.current_time();
  v_overdue boolean;
  v_expired boolean;
  v_due boolean;
  v_paused boolean;
  v_limited boolean;
  v_picked uuid[];
begin
  -- Most polls of an idle queue find nothing, and this is all that they cost.
  execute 'execute ' || absurd_effect.prepared(p_queue, '(timestamptz, text)', $q$
    select
      exists (
        select from absurd.%1$I t
        where t.cancellation is not null
          and t.state in ('pending', 'running', 'sleeping')
          and absurd_effect.cancel_deadline(t.cancellation, t.enqueue_at, t.first_started_at) <= $1
      ),
      exists (
        select from absurd.%2$I r
        where r.state = 'running' and r.claim_expires_at is not null and r.claim_expires_at <= $1
      ),
      exists (select from absurd.%2$I r where r.state in ('pending', 'sleeping') and r.available_at <= $1),
      exists (
        select from absurd_effect.paused_queues p join absurd.queues q using (queue_name)
        where q.queue_name = $2 and p.queue_created_at = q.created_at
      ),
      exists (select from absurd_effect.limits l where l.queue_name = $2)
  $q$) || format('(%L, %L)', v_now, p_queue) into v_overdue, v_expired, v_due, v_paused, v_limited;
  if v_overdue then
    perform absurd_effect.cancel_overdue(p_queue, v_now, greatest(p_limit, 100));
  end if;
  if v_expired then
    perform absurd_effect.fail_expired(p_queue, v_now, p_limit);
  elsif not v_due and not v_limited then
    return;
  end if;
  if v_paused then
    return;
  end if;
  if v_limited then
    if not absurd_effect.settle_limits(p_queue, v_now) and not v_due and not v_expired and not v_overdue then
      return;
    end if;
    v_picked := absurd_effect.pick_limited(p_queue, v_now, p_limit, p_except);
    if cardinality(v_picked) = 0 then
      return;
    end if;
  end if;
  return query execute 'execute ' || absurd_effect.prepared(
    p_queue, '(timestamptz, text, timestamptz, integer, text[], uuid[])', $q$
    with due as materialized (
      select r.run_id, t.task_id, r.available_at, t.first_started_at
      from absurd.%2$I r
      join absurd.%1$I t on t.task_id = r.task_id
      where r.state in ('pending', 'sleeping')
        and r.available_at <= $1
        and t.state in ('pending', 'sleeping', 'running')
        and ($5 is null or t.task_name <> all ($5))
        and ($6 is null or r.run_id = any ($6))
        -- cancel_overdue() may have left some for another time; those must not be started either.
        and (
          t.cancellation is null
          or (absurd_effect.cancel_deadline(t.cancellation, t.enqueue_at, t.first_started_at) <= $1) is not true
        )
      order by r.available_at, r.run_id
      limit $4
      for update of r, t skip locked
    ),
    run as (
      update absurd.%2$I r
      set state = 'running', claimed_by = $2, claim_expires_at = $3, started_at = $1, available_at = $1
      from due
      where r.run_id = due.run_id
      returning r.run_id, due.task_id, r.attempt, r.wake_event, r.event_payload, due.available_at, due.first_started_at
    ),
    task as (
      update absurd.%1$I t
      set state = 'running',
        attempts = greatest(t.attempts, run.attempt),
        first_started_at = coalesce(t.first_started_at, $1),
        last_attempt_run = run.run_id
      from run
      where t.task_id = run.task_id
      returning run.run_id, t.task_id, run.attempt, t.task_name, t.params, t.headers, t.retry_strategy, t.max_attempts,
        run.wake_event, run.event_payload, $1, t.first_started_at, run.available_at, run.first_started_at is not null
    ),
    gone as (
      delete from absurd.%5$I w using due where w.run_id = due.run_id
    )
    select * from task order by available_at, run_id
  $q$) || format(
    '(%L, %L, %L, %L, %L, %L)', v_now, p_token, v_now + make_interval(secs => p_lease), p_limit, p_except, v_picked
  );
end;
$$;

-- The runs that are running under a token, as claim() returned them. They count as resumed, and as due for no time.
create or replace function absurd_effect.claimed_with(p_queue text, p_token text) returns table (
  run_id uuid,
  task_id uuid,
  attempt integer,
  task_name text,
  params jsonb,
  headers jsonb,
  retry_strategy jsonb,
  max_attempts integer,
  wake_event text,
  event_payload jsonb,
  claimed_at timestamptz,
  first_started_at timestamptz,
  due_at timestamptz,
  resumed boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    select r.run_id, t.task_id, r.attempt, t.task_name, t.params, t.headers, t.retry_strategy, t.max_attempts,
      r.wake_event, r.event_payload, r.started_at, t.first_started_at, r.started_at, true
    from absurd.%2$I r
    join absurd.%1$I t on t.task_id = r.task_id
    where r.state = 'running' and r.claim_expires_at is not null and r.claimed_by = $1
    order by r.run_id
  $q$) using p_token;
end;
$$;

-- The committed checkpoints of each of the tasks that has any, as an array of [name, state] in the order of writing.
create or replace function absurd_effect.checkpoints_of(p_queue text, p_tasks uuid[])
returns table (task_id uuid, checkpoints jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
begin
  if p_tasks is null then
    return;
  end if;
  return query execute absurd_effect.bind(p_queue, $q$
    select c.task_id, jsonb_agg(jsonb_build_array(c.checkpoint_name, c.state) order by c.updated_at, c.ctid)
    from absurd.%3$I c
    where c.task_id = any ($1) and c.status = 'committed'
    group by c.task_id
  $q$) using p_tasks;
end;
$$;
