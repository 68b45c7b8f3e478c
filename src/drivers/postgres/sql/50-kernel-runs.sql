-- Ending runs, or putting them down. All take an array of items, each with `run` and `token`, and answer by `ord`, the
-- item's place counted from 1. An item for a run that an earlier item of the same call has dealt with finds its lease lost.

-- What becomes of an operation on a run that it cannot be applied to.
create or replace function absurd_effect.refusal(p_run_state text, p_task_state text) returns text
language sql immutable
as $$
  select case
    when p_run_state is null then 'notFound'
    when p_run_state = 'cancelled' or p_task_state = 'cancelled' then 'cancelled'
    else 'leaseLost'
  end
$$;

-- Completes runs and their tasks with `result`. Returns only the items that it did not apply to. The claim stays in the
-- completed run, to be read.
create or replace function absurd_effect.complete(p_queue text, p_items jsonb) returns table (ord bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
set plan_cache_mode = force_generic_plan
set datestyle = 'ISO'
as $$
declare
  v_now constant timestamptz := absurd.current_time();
  -- Only the runs are held: whoever changes a task that has an unfinished run has that run locked. Who waits for tasks holds
  -- them, so they are updated in the order of their runs, as all lock them. A join by any() can only look up what it names, in
  -- that order. Of two items for one run the first one that applies is it.
  v_sql constant text := $q$
    with item as materialized (
      select (i.e ->> 'run')::uuid as run_id, i.ord, i.e ->> 'token' as token, i.e -> 'result' as result
      from jsonb_array_elements($1) with ordinality i (e, ord)
      order by 1, 2
    ),
    run as (
      update absurd.%2$I r
      set state = 'completed', completed_at = $2, result = item.result
      from item
      where r.run_id = any (array[item.run_id]) and r.state = 'running'
        and (item.token is null or r.claimed_by = item.token)
      returning item.ord, r.run_id, r.task_id, r.result
    ),
    task as (
      update absurd.%1$I t
      set state = 'completed', completed_payload = run.result, last_attempt_run = run.run_id
      from (select run.* from run order by run_id) run
      where t.task_id = any (array[run.task_id])
    )
    select array_agg(ord), array_agg(run_id), array_agg(task_id) from run
  $q$;
  v_ords bigint[];
  v_runs uuid[];
  v_tasks uuid[];
  v_awaited boolean;
begin
  if absurd_effect.worth_preparing(p_queue, p_items) then
    execute 'execute ' || absurd_effect.prepared(p_queue, '(jsonb, timestamptz)', v_sql) || format('(%L, %L)', p_items, v_now)
      into v_ords, v_runs, v_tasks;
  else
    execute absurd_effect.bind(p_queue, v_sql) into v_ords, v_runs, v_tasks using p_items, v_now;
  end if;
  if v_runs is not null then
    perform absurd_effect.leave_limits(p_queue, v_now, v_runs);
    -- A statement of its own, to see who has waited for the tasks until they were locked.
    execute 'execute ' || absurd_effect.prepared(p_queue, '(uuid[], text[])', $q$
      with gone as (
        delete from absurd.%5$I where run_id = any ($1)
      )
      select exists (select from absurd.%5$I where event_name = any ($2))
    $q$) || format('(%L, %L)', v_runs, absurd_effect.waits_for(v_tasks)) into v_awaited;
    if v_awaited then
      perform absurd_effect.wake_awaiting(p_queue, v_tasks);
    end if;
    perform absurd_effect.hint_end(p_queue, v_tasks, false);
  end if;
  if cardinality(v_ords) = jsonb_array_length(p_items) then
    return;
  end if;
  -- Hardly ever. The runs are as they were, but for those that an earlier item has completed.
  return query execute absurd_effect.bind(p_queue, $q$
    select i.ord, absurd_effect.refusal(r.state, t.state)
    from jsonb_array_elements($1) with ordinality i (e, ord)
    left join absurd.%2$I r on r.run_id = (i.e ->> 'run')::uuid
    left join absurd.%1$I t on t.task_id = r.task_id
    where i.ord <> all ($2)
  $q$) using p_items, coalesce(v_ords, '{}');
end;
$$;

-- Fails runs with `reason` and starts the next attempt as `retry` says: `stored` (by the task's strategy), `after`
-- (`delay` seconds), `at` (`at`, seconds since 1970, or `instant`, any timestamp) or `never`. Returns every item, with
-- the task's state afterwards when it applied. Items without a token apply to sleeping runs too.
create or replace function absurd_effect.fail_at(p_queue text, p_items jsonb, p_now timestamptz)
returns table (ord bigint, outcome text, state text)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_task uuid;
  v_run uuid;
  v_runs uuid[] := '{}';
  v_ended uuid[] := '{}';
  v_due boolean := false;
begin
  for ord, outcome, state, v_task, v_run in execute absurd_effect.bind(p_queue, $q$
    with item as materialized (
      select i.ord, (i.e ->> 'run')::uuid as run_id, i.e ->> 'token' as token, i.e -> 'reason' as reason,
        i.e ->> 'retry' as retry, i.e as options
      from jsonb_array_elements($1) with ordinality i (e, ord)
    ),
    held as materialized (
      select item.*, r.task_id, r.attempt, r.state, t.state as task_state, t.retry_strategy, t.max_attempts,
        t.cancellation, t.enqueue_at, t.first_started_at,
        case when item.token is null then r.state in ('running', 'sleeping')
          else r.state = 'running' and r.claimed_by = item.token end as applies
      from item
      join absurd.%2$I r on r.run_id = item.run_id
      join absurd.%1$I t on t.task_id = r.task_id
      order by greatest(r.run_id, r.run_id), item.ord
      for update of r, t
    ),
    chosen as materialized (
      select distinct on (held.run_id) held.*,
        case
          when held.retry = 'never' or held.attempt >= held.max_attempts then null
          when held.retry = 'stored'
            then $2 + make_interval(secs => absurd_effect.retry_delay(held.retry_strategy, held.attempt))
          when held.options ->> 'instant' is not null then (held.options ->> 'instant')::timestamptz
          else absurd_effect.instant(
            $2, (held.options ->> 'delay')::double precision, (held.options ->> 'at')::double precision
          )
        end as wanted_at
      from held
      where held.applies
      order by held.run_id, held.ord
    ),
    next as materialized (
      select chosen.*, case
        when wanted_at is null then 'failed'
        when first_started_at is not null
          and absurd_effect.cancel_deadline(cancellation, enqueue_at, first_started_at) <= greatest(wanted_at, $2)
          then 'cancelled'
        when wanted_at > $2 then 'sleeping'
        else 'pending'
      end as new_state
      from chosen
    ),
    fresh as materialized (
      select next.*, absurd.portable_uuidv7() as new_run_id from next where new_state in ('pending', 'sleeping')
    ),
    run as (
      update absurd.%2$I r
      set state = 'failed', failed_at = $2, failure_reason = next.reason, wake_event = null
      from next
      where r.run_id = next.run_id
    ),
    attempt as (
      insert into absurd.%2$I (run_id, task_id, attempt, state, available_at, created_at)
      select new_run_id, task_id, attempt + 1, new_state, greatest(wanted_at, $2), $2 from fresh
    ),
    task as (
      update absurd.%1$I t
      set state = next.new_state,
        attempts = greatest(t.attempts, next.attempt + case when fresh.run_id is null then 0 else 1 end),
        last_attempt_run = coalesce(fresh.new_run_id, next.run_id),
        cancelled_at = case when next.new_state = 'cancelled' then $2 end
      from next
      left join fresh on fresh.run_id = next.run_id
      where t.task_id = next.task_id
    ),
    gone as (
      delete from absurd.%5$I w where w.run_id = any (array(select next.run_id from next))
    )
    select item.ord,
      case when next.ord is null then absurd_effect.refusal(held.state, held.task_state) else 'applied' end,
      next.new_state, next.task_id, next.run_id
    from item
    left join held on held.ord = item.ord
    left join next on next.ord = item.ord
  $q$) using p_items, p_now loop
    if v_run is not null then
      v_runs := v_runs || v_run;
    end if;
    if state in ('failed', 'cancelled') then
      v_ended := v_ended || v_task;
    end if;
    v_due := v_due or coalesce(state = 'pending', false);
    return next;
  end loop;
  perform absurd_effect.leave_limits(p_queue, p_now, v_runs);
  perform absurd_effect.hint_ended(p_queue, v_ended);
  if v_due then
    perform absurd_effect.hint_work(p_queue);
  end if;
end;
$$;

-- fail_at() now.
create or replace function absurd_effect.fail(p_queue text, p_items jsonb)
returns table (ord bigint, outcome text, state text)
language sql
as $$
  select * from absurd_effect.fail_at(p_queue, p_items, absurd.current_time())
$$;

-- Makes leases end `lease` seconds from now, or when they ended before if that is later; a lease without end stays so.
-- Returns only the items that it did not apply to.
--
-- With `p_wait` false it leaves runs alone that another transaction has locked, and answers `busy` for them: one of them must
-- not hold up the leases of all others.
create or replace function absurd_effect.extend(
  p_queue text,
  p_items jsonb,
  p_wait boolean default true
) returns table (ord bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
begin
  return query execute absurd_effect.bind(p_queue, $q$
    with item as materialized (
      select i.ord, (i.e ->> 'run')::uuid as run_id, i.e ->> 'token' as token,
        $2 + make_interval(secs => (i.e ->> 'lease')::double precision) as until
      from jsonb_array_elements($1) with ordinality i (e, ord)
    ),
    held as materialized (
      select item.*, r.state, t.state as task_state,
        r.state = 'running' and (item.token is null or r.claimed_by = item.token) as applies
      from item
      join absurd.%2$I r on r.run_id = item.run_id
      left join absurd.%1$I t on t.task_id = r.task_id
      order by greatest(r.run_id, r.run_id), item.ord
      for update of r $q$ || case when p_wait then '' else 'skip locked' end || $q$
    ),
    run as (
      update absurd.%2$I r
      set claim_expires_at = longest.until
      from (select held.run_id, max(held.until) as until from held where held.applies group by held.run_id) longest
      where r.run_id = longest.run_id and r.claim_expires_at < longest.until
    )
    select item.ord, case
      when held.ord is null and exists (select from absurd.%2$I r where r.run_id = item.run_id) then 'busy'
      else absurd_effect.refusal(held.state, held.task_state)
    end
    from item
    left join held on held.ord = item.ord
    where held.applies is not true
  $q$) using p_items, absurd.current_time();
end;
$$;

-- Puts runs to sleep until `delay` seconds from now, or until `at` (seconds since 1970) or `instant` (any timestamp), and
-- gives up the claim. Costs no attempt. Returns only the items that it did not apply to.
create or replace function absurd_effect.release(p_queue text, p_items jsonb) returns table (ord bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_now constant timestamptz := absurd.current_time();
  v_runs uuid[];
  v_ords bigint[];
  v_outcomes text[];
begin
  execute absurd_effect.bind(p_queue, $q$
    with item as materialized (
      select i.ord, (i.e ->> 'run')::uuid as run_id, i.e ->> 'token' as token,
        case
          when i.e ? 'instant' then (i.e ->> 'instant')::timestamptz
          else absurd_effect.instant($2, (i.e ->> 'delay')::double precision, (i.e ->> 'at')::double precision)
        end as until
      from jsonb_array_elements($1) with ordinality i (e, ord)
    ),
    held as materialized (
      select item.*, r.task_id, r.state, t.state as task_state,
        r.state = 'running' and (item.token is null or r.claimed_by = item.token) as applies
      from item
      join absurd.%2$I r on r.run_id = item.run_id
      join absurd.%1$I t on t.task_id = r.task_id
      order by greatest(r.run_id, r.run_id), item.ord
      for update of r, t
    ),
    chosen as materialized (
      select distinct on (held.run_id) held.* from held where held.applies order by held.run_id, held.ord
    ),
    run as (
      update absurd.%2$I r
      set state = 'sleeping', claimed_by = null, claim_expires_at = null, available_at = chosen.until, wake_event = null,
        event_payload = null
      from chosen
      where r.run_id = chosen.run_id
      returning chosen.ord, chosen.run_id, chosen.task_id
    ),
    task as (
      update absurd.%1$I t set state = 'sleeping' from run where t.task_id = run.task_id
    )
    select array_agg(run.run_id) filter (where run.ord is not null),
      array_agg(item.ord) filter (where run.ord is null),
      array_agg(absurd_effect.refusal(held.state, held.task_state)) filter (where run.ord is null)
    from item
    left join held on held.ord = item.ord
    left join run on run.ord = item.ord
  $q$) into v_runs, v_ords, v_outcomes using p_items, v_now;
  perform absurd_effect.leave_limits(p_queue, v_now, v_runs);
  if jsonb_path_exists(p_items, '$[*] ? (@.delay <= 0 || exists (@.at))') then
    perform absurd_effect.hint_work(p_queue);
  end if;
  if v_ords is not null then
    return query select * from unnest(v_ords, v_outcomes);
  end if;
end;
$$;
