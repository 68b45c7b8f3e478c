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

-- Fails runs whose lease has ended in a while that is over, at most `p_limit`, the oldest lease first. A run that cannot be
-- failed, whatever is the matter with its rows, is left as it is and stops no other. Returns how many there were.
create or replace function absurd_effect.fail_expired(
  p_queue text,
  p_now timestamptz,
  p_limit integer,
  p_from timestamptz,
  p_to timestamptz
) returns integer
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
      where r.state = 'running' and r.claim_expires_at is not null and r.claim_expires_at >= $3 and r.claim_expires_at <= $1
      order by r.claim_expires_at
      limit $2
      for update of r, t skip locked
    ) expired
  $q$) into v_items using p_to, p_limit, p_from;
  if v_items is null then
    return 0;
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
  return jsonb_array_length(v_items);
end;
$$;

-- What there is to do for a claim at $1 in the queue $2; with floors: of leases that ended from $3 on, and of runs that are due from
-- the instant $4 and the run $5 on.
create or replace function absurd_effect.look_statement(p_floored boolean) returns text
language sql immutable
as $$
  select $q$
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
          $q$ || case when p_floored then 'and r.claim_expires_at >= $3' else '' end || $q$
      ),
      exists (
        select from absurd.%2$I r
        where r.state in ('pending', 'sleeping') and r.available_at <= $1
          $q$ || case when p_floored then 'and (r.available_at, r.run_id) >= ($4, $5)' else '' end || $q$
      ),
      exists (
        select from absurd_effect.paused_queues p join absurd.queues q using (queue_name)
        where q.queue_name = $2 and p.queue_created_at = q.created_at
      ),
      exists (select from absurd_effect.limits l where l.queue_name = $2)
  $q$
$$;

-- Claims, at $1 under the token $2 until $3, at most $4 runs, none of the tasks $5, and of the runs $6 if there are any; with a
-- floor: those that are due until $7, from the instant $8 and the run $9 on.
create or replace function absurd_effect.claim_statement(p_floored boolean) returns text
language sql immutable
as $$
  select $q$
    with due as materialized (
      select r.run_id, t.task_id, r.available_at, t.first_started_at
      from absurd.%2$I r
      join absurd.%1$I t on t.task_id = r.task_id
      where r.state in ('pending', 'sleeping')
        and r.available_at <= $1
        $q$ || case
          when p_floored then 'and r.available_at <= $7 and (r.available_at, r.run_id) >= ($8, $9)' else ''
        end || $q$
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
  $q$
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
--
-- It looks above floors where there are some: see there. A queue that has limits has a floor of leases only.
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
  v_began constant timestamptz := clock_timestamp();
  v_now constant timestamptz := absurd.current_time();
  v_floored boolean;
  v_lease_floor jsonb;
  v_due_floor jsonb;
  v_overdue boolean;
  v_expired boolean;
  v_due boolean;
  v_paused boolean;
  v_limited boolean;
  v_slow boolean;
  v_picked uuid[];
  v_statement text;
  v_count integer;
  v_left integer;
  v_below_from timestamptz;
  v_below_to timestamptz;
begin
  if current_setting('absurd_effect.floors', true) <> '' then
    v_lease_floor := absurd_effect.floor_of(absurd_effect.lease_floor(p_queue), v_now);
    v_due_floor := absurd_effect.floor_of(absurd_effect.due_floor(p_queue, p_except), v_now);
    v_floored := v_lease_floor is not null or v_due_floor is not null;
  end if;
  -- Most polls of an idle queue find nothing, and this is all that they cost.
  execute 'execute ' || absurd_effect.prepared(p_queue, case
    when v_floored then '(timestamptz, text, timestamptz, timestamptz, uuid)' else '(timestamptz, text)'
  end, absurd_effect.look_statement(v_floored)) || case
    when v_floored then format(
      '(%L, %L, %L, %L, %L)', v_now, p_queue, coalesce(v_lease_floor ->> 'at', '-infinity'),
      coalesce(v_due_floor ->> 'at', '-infinity'), coalesce(v_due_floor ->> 'run', absurd_effect.no_run()::text)
    )
    else format('(%L, %L)', v_now, p_queue)
  end into v_overdue, v_expired, v_due, v_paused, v_limited;
  v_slow := clock_timestamp() - v_began > absurd_effect.floor_patience();
  if v_overdue then
    perform absurd_effect.cancel_overdue(p_queue, v_now, greatest(p_limit, 100));
  end if;
  if v_lease_floor is not null then
    v_expired := absurd_effect.fail_above(
      p_queue, absurd_effect.lease_floor(p_queue), v_lease_floor, v_now, p_limit, v_expired, not v_due
    );
  elsif v_expired then
    perform absurd_effect.fail_expired(p_queue, v_now, p_limit, '-infinity', v_now);
  elsif v_slow then
    perform absurd_effect.raise_floor(
      p_queue, absurd_effect.lease_floor(p_queue), 'claim_expires_at', null, v_now, v_now
    );
  end if;
  if v_due_floor is not null then
    if v_limited then
      perform set_config(absurd_effect.due_floor(p_queue, p_except), '', false);
      v_due_floor := null;
      v_due := true;
    else
      select p_floor, found_from, found_to into v_due_floor, v_below_from, v_below_to
      from absurd_effect.look_below(p_queue, absurd_effect.due_floor(p_queue, p_except), $q$
        select true from absurd.%2$I r
        where r.state in ('pending', 'sleeping') and r.available_at >= $1 and r.available_at <= $2
        order by r.available_at, r.run_id
        limit 1
      $q$, not v_due and not v_expired, absurd_effect.floor_pause(), v_due_floor);
      v_due := v_due or v_below_to is not null;
    end if;
  end if;
  if not v_due and not v_expired and not v_limited then
    if v_slow or v_due_floor is not null then
      perform absurd_effect.raise_floor(
        p_queue, absurd_effect.due_floor(p_queue, p_except), 'available_at', v_due_floor, v_now, v_now
      );
    end if;
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
  v_statement := absurd_effect.claim_statement(v_due_floor is not null);
  if v_due_floor is null then
    return query execute 'execute ' || absurd_effect.prepared(
      p_queue, '(timestamptz, text, timestamptz, integer, text[], uuid[])', v_statement
    ) || format(
      '(%L, %L, %L, %L, %L, %L)', v_now, p_token, v_now + make_interval(secs => p_lease), p_limit, p_except, v_picked
    );
    get diagnostics v_count = row_count;
    if not v_limited and clock_timestamp() - v_began > absurd_effect.floor_patience() * (1 + v_count / 25.0) then
      -- Up to where it has looked is not known when it has found enough. The next claim will find out.
      perform absurd_effect.raise_floor(
        p_queue, absurd_effect.due_floor(p_queue, p_except), 'available_at', null, v_now,
        case when v_count < p_limit then v_now else '-infinity' end
      );
    end if;
    return;
  end if;
  v_left := p_limit;
  -- Below is older than above.
  loop
    for run_id, task_id, attempt, task_name, params, headers, retry_strategy, max_attempts, wake_event, event_payload,
      claimed_at, first_started_at, due_at, resumed
    in execute 'execute ' || absurd_effect.prepared(
      p_queue, '(timestamptz, text, timestamptz, integer, text[], uuid[], timestamptz, timestamptz, uuid)', v_statement
    ) || format(
      '(%L, %L, %L, %L, %L, null, %L, %L, %L)', v_now, p_token, v_now + make_interval(secs => p_lease), v_left, p_except,
      coalesce(v_below_to, v_now), coalesce(v_below_from, (v_due_floor ->> 'at')::timestamptz),
      case when v_below_to is null then v_due_floor ->> 'run' else absurd_effect.no_run()::text end
    ) loop
      return next;
      v_left := v_left - 1;
    end loop;
    exit when v_below_to is null;
    if v_left <= 0 then
      perform absurd_effect.look_again(absurd_effect.due_floor(p_queue, p_except), v_due_floor, v_below_to);
      return;
    end if;
    v_below_to := null;
    v_below_from := null;
  end loop;
  perform absurd_effect.raise_floor(
    p_queue, absurd_effect.due_floor(p_queue, p_except), 'available_at', v_due_floor, v_now,
    case when v_left > 0 then v_now else due_at end, case when v_left <= 0 then run_id end
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
