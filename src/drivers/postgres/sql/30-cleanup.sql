-- Deleting what is no longer needed: ended tasks and emitted events. The planner is kept to the indexes, so that the cost
-- is that of what is deleted, however large the queue is and even when it was never analysed.

-- A limit as LIMIT takes it: null for none, and nothing below 0.
create or replace function absurd.limit_of(p_limit integer)
returns integer
language sql
immutable
as $fn$
  select case when p_limit < 0 then 0 else p_limit end
$fn$;

-- Deletes at most `p_limit` tasks that ended before `p_before`, the oldest ends first, with all that belongs to them;
-- no limit when it is null. Returns how many. Tasks and runs that somebody has locked are left for another time.
create or replace function absurd.cleanup_tasks_before(p_queue_name text, p_before timestamptz, p_limit integer)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $fn$
declare
  v_t constant text := format('absurd.%I', 't_' || p_queue_name);
  v_r constant text := format('absurd.%I', 'r_' || p_queue_name);
  v_tasks uuid[];
  v_last uuid[];
  v_runs uuid[];
  v_keys text[];
begin
  -- The oldest ends, out of the two indexes that have them in order. Most ended runs are the last ones of their tasks. The
  -- planner would think that hardly any is, for it counts the two equalities as independent, and would then rather read
  -- everything than go by that order; what is inside coalesce() it does not estimate.
  execute format(
    $q$
      with ended as (
        (
          select t.task_id, t.last_attempt_run, coalesce(r.completed_at, r.failed_at) as ended_at
          from %2$s as r
            join %1$s as t on t.task_id = r.task_id
          where r.state in ('completed', 'failed')
            and coalesce(r.completed_at, r.failed_at) < $1
            and coalesce(t.last_attempt_run = r.run_id and t.state in ('completed', 'failed'), false)
          order by coalesce(r.completed_at, r.failed_at)
          limit $2
        )
        union all
        (
          select t.task_id, t.last_attempt_run, t.cancelled_at
          from %1$s as t
          where t.state = 'cancelled'
            and t.cancelled_at < $1
          order by t.cancelled_at
          limit $2
        )
      )
      select array_agg(task_id), array_agg(last_attempt_run)
      from (select * from ended order by ended_at, task_id limit $2) as oldest
    $q$,
    v_t, v_r
  ) into v_tasks, v_last using p_before, absurd.limit_of(p_limit);
  if v_tasks is null then
    return 0;
  end if;

  -- Runs before tasks, as everybody locks them.
  execute format(
    $q$
      select coalesce(array_agg(run_id), '{}')
      from (
        select run_id from %s where task_id = any ($1) order by greatest(run_id, run_id) for update skip locked
      ) as locked
    $q$,
    v_r
  ) into v_runs using v_tasks;
  -- With its task locked as well, and no run but the locked ones, nobody can revive a task any more. One that has been
  -- revived meanwhile is no longer in the state in which it was found.
  execute format(
    $q$
      select array_agg(task_id), array_agg(idempotency_key) filter (where idempotency_key is not null)
      from (
        select t.task_id, t.idempotency_key
        from unnest($1, $2) as found (task_id, last_attempt_run)
          join %s as t using (task_id)
        where t.state in ('completed', 'failed', 'cancelled')
          and t.last_attempt_run is not distinct from found.last_attempt_run
        for update of t skip locked
      ) as locked
    $q$,
    v_t
  ) into v_tasks, v_keys using v_tasks, v_last;
  execute format(
    $q$
      select array_agg(found.task_id)
      from unnest($1) as found (task_id)
      where not exists (select from %s as r where r.task_id = found.task_id and r.run_id <> all ($2))
    $q$,
    v_r
  ) into v_tasks using v_tasks, v_runs;
  return absurd.delete_tasks(p_queue_name, v_tasks, v_keys);
end
$fn$;

-- Deletes tasks that the caller has locked, and all that belongs to them.
create or replace function absurd.delete_tasks(p_queue_name text, p_tasks uuid[], p_keys text[])
returns integer
language plpgsql
as $fn$
declare
  v_letter text;
begin
  if p_tasks is null then
    return 0;
  end if;
  foreach v_letter in array array['w', 'c', 'r', 't'] loop
    execute format('delete from absurd.%I where task_id = any ($1)', v_letter || '_' || p_queue_name) using p_tasks;
  end loop;
  if p_keys is not null and to_regclass(format('absurd.%I', 'i_' || p_queue_name)) is not null then
    execute format(
      'delete from absurd.%I where idempotency_key = any ($1) and task_id = any ($2)', 'i_' || p_queue_name
    ) using p_keys, p_tasks;
  end if;
  return cardinality(p_tasks);
end
$fn$;

-- Deletes at most `p_limit` events that were emitted before `p_before`, the oldest first; no limit when it is null.
-- Returns how many. Events that somebody has locked are left for another time.
create or replace function absurd.cleanup_events_before(p_queue_name text, p_before timestamptz, p_limit integer)
returns integer
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set max_parallel_workers_per_gather = 0
set jit = off
as $fn$
declare
  v_deleted integer;
begin
  perform absurd.cleanup_event_markers(p_queue_name, p_before, p_limit);
  execute format(
    $q$
      with deleted as (
        delete from absurd.%1$I
        where event_name = any (array(
          select e.event_name
          from absurd.%1$I as e
          where e.emitted_at < $1
            and e.payload is not null
          order by e.emitted_at
          limit $2
          for update skip locked
        ))
        returning 1
      )
      select count(*) from deleted
    $q$,
    'e_' || p_queue_name
  ) into v_deleted using p_before, absurd.limit_of(p_limit);
  return v_deleted;
end
$fn$;

-- Looks at the markers among the oldest `p_limit` rows: rows of events that have not been emitted, which say that somebody
-- waits. A marker nobody waits for is deleted. The others get the present as their time, so that each is looked at once per
-- TTL and does not stand before the others for ever. Whoever registers a wait holds a lock on its marker, and is therefore
-- skipped.
create or replace function absurd.cleanup_event_markers(p_queue_name text, p_before timestamptz, p_limit integer)
returns void
language plpgsql
as $fn$
declare
  v_now constant timestamptz := absurd.current_time();
  v_markers text[];
begin
  execute format(
    $q$
      select array_agg(event_name)
      from (
        select e.event_name
        from (
          select o.event_name, o.payload is null as is_marker
          from absurd.%1$I as o
          where o.emitted_at < $1
          order by o.emitted_at
          limit $2
        ) as oldest
          join absurd.%1$I as e on e.event_name = oldest.event_name
        where oldest.is_marker
          and e.payload is null
          and e.emitted_at < $1
        for update of e skip locked
      ) as locked
    $q$,
    'e_' || p_queue_name
  ) into v_markers using least(p_before, v_now), absurd.limit_of(p_limit);
  if v_markers is null then
    return;
  end if;
  -- A statement of its own sees the waits that were committed until the markers were locked.
  execute format(
    $q$
      delete from absurd.%1$I as e
      where e.event_name = any ($1)
        and not exists (select from absurd.%2$I as w where w.event_name = e.event_name)
    $q$,
    'e_' || p_queue_name, 'w_' || p_queue_name
  ) using v_markers;
  execute format('update absurd.%I set emitted_at = $2 where event_name = any ($1)', 'e_' || p_queue_name)
  using v_markers, v_now;
end
$fn$;

-- The instant `p_seconds` ago, however many they are.
create or replace function absurd.seconds_ago(p_seconds numeric)
returns timestamptz
language plpgsql
as $fn$
declare
  v_now constant timestamptz := absurd.current_time();
begin
  if p_seconds >= extract(epoch from v_now - timestamptz '2000-01-01 00:00:00+00 BC') then
    return '-infinity';
  end if;
  return v_now - make_interval(secs => p_seconds::double precision);
end
$fn$;

create or replace function absurd.validate_ttl(p_ttl_seconds integer)
returns integer
language plpgsql
as $fn$
begin
  if p_ttl_seconds is null or p_ttl_seconds < 0 then
    raise exception 'TTL must be a non-negative number of seconds';
  end if;
  return p_ttl_seconds;
end
$fn$;

-- Deletes tasks that ended more than `p_ttl_seconds` ago, the oldest ends first, and returns how many.
create or replace function absurd.cleanup_tasks(p_queue_name text, p_ttl_seconds integer, p_limit integer default 1000)
returns integer
language plpgsql
as $fn$
begin
  return absurd.cleanup_tasks_before(
    p_queue_name, absurd.seconds_ago(absurd.validate_ttl(p_ttl_seconds)), p_limit
  );
end
$fn$;

-- Deletes events that were emitted more than `p_ttl_seconds` ago, the oldest first, and returns how many.
create or replace function absurd.cleanup_events(p_queue_name text, p_ttl_seconds integer, p_limit integer default 1000)
returns integer
language plpgsql
as $fn$
begin
  return absurd.cleanup_events_before(
    p_queue_name, absurd.seconds_ago(absurd.validate_ttl(p_ttl_seconds)), p_limit
  );
end
$fn$;

-- One batch of cleaning for one queue, or for each, as its policy says. Among all, a queue that fails is reported as a
-- warning and keeps no other from being cleaned.
create or replace function absurd.cleanup_all_queues(p_queue_name text default null)
returns table (queue_name text, tasks_deleted integer, events_deleted integer)
language plpgsql
as $fn$
declare
  v_queue absurd.queues;
  v_before timestamptz;
begin
  if p_queue_name is not null and not exists (select from absurd.queues as q where q.queue_name = p_queue_name) then
    raise exception 'Queue "%" does not exist', p_queue_name;
  end if;
  for v_queue in
    select q.*
    from absurd.queues as q
    where p_queue_name is null or q.queue_name = p_queue_name
    order by q.queue_name collate "C"
  loop
    queue_name := v_queue.queue_name;
    tasks_deleted := 0;
    events_deleted := 0;
    v_before := absurd.seconds_ago(floor(extract(epoch from v_queue.cleanup_ttl)));
    begin
      tasks_deleted := absurd.cleanup_tasks_before(v_queue.queue_name, v_before, v_queue.cleanup_limit);
      events_deleted := absurd.cleanup_events_before(v_queue.queue_name, v_before, v_queue.cleanup_limit);
    exception when others then
      if p_queue_name is not null then
        raise;
      end if;
      raise warning 'Queue "%" could not be cleaned: %', v_queue.queue_name, sqlerrm;
      tasks_deleted := 0;
      events_deleted := 0;
    end;
    return next;
  end loop;
end
$fn$;
