-- Keeping to limits when runs are claimed.

-- Looks after what was left to claims: figures that have changed, keys that somebody else had, and now and then runs that other
-- software has ended. Returns whether there was anything.
create or replace function absurd_effect.settle_limits(p_queue text, p_now timestamptz) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_name text;
  v_names text[];
  v_keys text[];
  v_refresh boolean;
  v_any boolean := false;
begin
  for v_name in
    select l.name from absurd_effect.limits l
    where l.queue_name = p_queue and l.swept_at <= p_now - interval '1 minute'
    for update skip locked
  loop
    v_any := true;
    update absurd_effect.limits l set swept_at = p_now where l.queue_name = p_queue and l.name = v_name;
    perform absurd_effect.sweep_limit(p_queue, p_now, v_name);
  end loop;
  for v_name in
    select l.name from absurd_effect.limits l where l.queue_name = p_queue and l.stale for update skip locked
  loop
    v_any := true;
    update absurd_effect.limits l set stale = false where l.queue_name = p_queue and l.name = v_name;
    perform absurd_effect.refresh_limit(p_queue, p_now, v_name);
  end loop;
  if not exists (select from absurd_effect.limit_marks m where m.queue_name = p_queue) then
    return v_any;
  end if;
  for v_refresh, v_names, v_keys in
    with gone as (
      delete from absurd_effect.limit_marks m
      where m.queue_name = p_queue and m.ctid = any (array(
        select o.ctid from absurd_effect.limit_marks o where o.queue_name = p_queue limit 1000 for update skip locked
      ))
      returning m.name, m.key, m.refresh
    )
    select refresh, array_agg(name), array_agg(key)
    from (select name, key, bool_or(refresh) as refresh from gone group by name, key) marked
    group by refresh
  loop
    v_any := true;
    perform absurd_effect.admit_limited(p_queue, p_now, v_names, v_keys, v_refresh);
  end loop;
  return v_any;
end;
$$;

-- Forgets runs of a limit that ended without the kernel, and keys that nothing is known of any more.
create or replace function absurd_effect.sweep_limit(p_queue text, p_now timestamptz, p_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_names text[];
  v_keys text[];
begin
  execute absurd_effect.bind(p_queue, $q$
    with lost as materialized (
      select x.run_id
      from absurd_effect.limited_runs x
        left join absurd.%2$I r on r.run_id = x.run_id
      where x.queue_name = $1 and x.name = $2 and x.state <> 'waiting'
        and case x.state
          when 'running' then r.state is distinct from 'running'
          else coalesce(r.state not in ('pending', 'sleeping', 'running'), true)
        end
      for update of x skip locked
    ),
    gone as (
      delete from absurd_effect.limited_runs x using lost
      where x.queue_name = $1 and x.run_id = lost.run_id
      returning x.name, x.key
    )
    select array_agg(name), array_agg(key) from (select distinct name, key from gone) k
  $q$) into v_names, v_keys using p_queue, p_name;
  if v_names is not null then
    perform absurd_effect.admit_limited(p_queue, p_now, v_names, v_keys);
  end if;
  delete from absurd_effect.limit_keys k
  where k.queue_name = p_queue and k.name = p_name and k.key = any (array(
    select o.key from absurd_effect.limit_keys o
    where o.queue_name = p_queue and o.name = p_name and o.arrival <= p_now
      and not exists (
        select from absurd_effect.limited_runs x
        where x.queue_name = p_queue and x.name = p_name and x.key = o.key and x.state = 'waiting'
      )
      and not exists (
        select from absurd_effect.limited_runs x
        where x.queue_name = p_queue and x.name = p_name and x.key = o.key and x.state <> 'waiting'
      )
    limit 1000
    for update skip locked
  ));
end;
$$;

-- Locks up to `p_limit` due runs that may be started, oldest first, and counts those with a limit as running; they are to be
-- started in the same transaction. Runs that are due and may not start by their limits are parked, so that they are in
-- nobody's way.
create or replace function absurd_effect.pick_limited(p_queue text, p_now timestamptz, p_limit integer, p_except text[])
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_picked uuid[] := '{}';
  v_left uuid[] := '{}';
  v_free uuid[];
  v_runs uuid[];
  v_names text[];
  v_keys text[];
  v_dues timestamptz[];
  v_verdict record;
begin
  for i in 1 .. 100 loop
    execute absurd_effect.bind(p_queue, $q$
      with due as materialized (
        select r.run_id, r.available_at, case when t.headers ? '$limit' then absurd_effect.limit_of(t.headers) end as limited
        from absurd.%2$I r
        join absurd.%1$I t on t.task_id = r.task_id
        where r.state in ('pending', 'sleeping')
          and r.available_at <= $1
          and t.state in ('pending', 'sleeping', 'running')
          and ($3 is null or t.task_name <> all ($3))
          and (
            t.cancellation is null
            or (absurd_effect.cancel_deadline(t.cancellation, t.enqueue_at, t.first_started_at) <= $1) is not true
          )
          and r.run_id <> all ($4)
        order by r.available_at, r.run_id
        limit $2
        for update of r, t skip locked
      )
      select coalesce(array_agg(run_id) filter (where limited is null), '{}'),
        array_agg(run_id) filter (where limited is not null),
        array_agg(limited ->> 'name') filter (where limited is not null),
        array_agg(limited ->> 'key') filter (where limited is not null),
        array_agg(available_at) filter (where limited is not null)
      from due
    $q$) into v_free, v_runs, v_names, v_keys, v_dues
      using p_now, p_limit - cardinality(v_picked), p_except, v_picked || v_left;
    v_picked := v_picked || v_free;
    exit when v_runs is null;
    select * into v_verdict from absurd_effect.judge_limited(p_queue, p_now, v_runs, v_names, v_keys, v_dues);
    v_picked := v_picked || v_verdict.started;
    v_left := v_left || v_verdict.passed;
    perform absurd_effect.put_off(p_queue, v_verdict.parked, array_fill(
      absurd_effect.parked_until(), array[cardinality(v_verdict.parked)]
    ));
    perform absurd_effect.put_off(p_queue, v_verdict.deferred, v_verdict.deferred_to);
    if cardinality(v_verdict.parked) > 0 then
      perform absurd_effect.park_behind(p_queue, p_now, p_except, v_verdict.full_names, v_verdict.full_keys);
    end if;
    if cardinality(v_verdict.again_names) > 0 then
      perform absurd_effect.admit_limited(p_queue, p_now, v_verdict.again_names, v_verdict.again_keys);
    end if;
    exit when cardinality(v_picked) >= p_limit;
  end loop;
  return v_picked;
end;
$$;

-- Says of due runs, which the caller has locked, whether they may start by their limits, and enters what becomes of them.
--
-- `started` count as running. `parked` wait for others of their key, which is in `full` when there was no room in it. `deferred` may
-- start at some time. `passed` stay as they are, because somebody else has their key. Of the keys in `again` waiting runs may go.
create or replace function absurd_effect.judge_limited(
  p_queue text,
  p_now timestamptz,
  p_runs uuid[],
  p_names text[],
  p_keys text[],
  p_dues timestamptz[],
  out started uuid[],
  out parked uuid[],
  out deferred uuid[],
  out deferred_to timestamptz[],
  out passed uuid[],
  out full_names text[],
  out full_keys text[],
  out again_names text[],
  out again_keys text[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_held_names text[];
  v_held_keys text[];
  v_run record;
  v_running bigint;
  v_ahead bigint;
  v_waiting boolean;
  v_arrival timestamptz;
  v_marked boolean;
  v_counted boolean;
  v_again boolean;
  v_unlimited uuid[] := '{}';
  v_admitted uuid[] := '{}';
begin
  started := '{}';
  parked := '{}';
  deferred := '{}';
  deferred_to := '{}';
  passed := '{}';
  full_names := '{}';
  full_keys := '{}';
  again_names := '{}';
  again_keys := '{}';
  -- Other software may have put them to sleep, or woken them; they must not stand in their own way.
  delete from absurd_effect.limited_runs x
  where x.queue_name = p_queue and x.run_id = any (p_runs) and x.state <> 'admitted';
  -- A run that is admitted may start without its key, unless there is a rate.
  select array_agg(w.name), array_agg(w.key) into v_held_names, v_held_keys
  from unnest(p_runs, p_names, p_keys) w (run_id, name, key)
    join absurd_effect.limits l on l.queue_name = p_queue and l.name = w.name
    left join absurd_effect.limited_runs x on x.queue_name = p_queue and x.run_id = w.run_id
  where x.state is distinct from 'admitted' or jsonb_typeof(l.in_force -> 'rate') = 'object';
  if v_held_names is not null then
    select array_agg(h.name), array_agg(h.key) into v_held_names, v_held_keys
    from absurd_effect.hold_limit_keys(p_queue, v_held_names, v_held_keys) h;
  end if;
  for v_run in
    with held as materialized (
      select k.name, k.key, greatest(k.arrival, p_now) as arrival,
        (
          select count(*) from absurd_effect.limited_runs x
          where x.queue_name = p_queue and x.name = k.name and x.key = k.key and x.state <> 'waiting'
        ) as running,
        (
          select count(*) from absurd_effect.limited_runs x
          where x.queue_name = p_queue and x.name = k.name and x.key = k.key and x.state <> 'waiting'
            and x.state = 'admitted'
        ) as ahead,
        exists (
          select from absurd_effect.limited_runs x
          where x.queue_name = p_queue and x.name = k.name and x.key = k.key and x.state = 'waiting'
        ) as waiting
      from unnest(v_held_names, v_held_keys) h (name, key)
        join absurd_effect.limit_keys k on k.queue_name = p_queue and k.name = h.name and k.key = h.key
    )
    select w.run_id, w.name, w.key, x.state is not distinct from 'admitted' as is_admitted, l.name is not null as is_limited,
      (l.in_force ->> 'concurrency')::integer as concurrency,
      absurd_effect.limit_spacing(l.in_force) as spacing, absurd_effect.limit_tolerance(l.in_force) as tolerance,
      held.name is not null as is_held, held.arrival, held.running, held.ahead, held.waiting,
      lag(w.run_id) over of_key is null as is_first, lead(w.run_id) over of_key is null as is_last
    from unnest(p_runs, p_names, p_keys, p_dues) w (run_id, name, key, due)
      left join absurd_effect.limits l on l.queue_name = p_queue and l.name = w.name
      left join absurd_effect.limited_runs x on x.queue_name = p_queue and x.run_id = w.run_id
      left join held on held.name = w.name and held.key = w.key
    window of_key as (partition by w.name, w.key order by w.due, w.run_id)
    order by w.name, w.key, w.due, w.run_id
  loop
    if v_run.is_first then
      v_running := v_run.running;
      v_ahead := v_run.ahead;
      v_waiting := v_run.waiting;
      v_arrival := v_run.arrival;
      v_marked := false;
      v_counted := false;
      v_again := false;
    end if;
    if not v_run.is_limited then
      v_unlimited := v_unlimited || v_run.run_id;
    elsif v_run.is_admitted and v_run.spacing is null then
      started := started || v_run.run_id;
    elsif not v_run.is_held then
      if v_run.is_admitted then
        passed := passed || v_run.run_id;
      else
        parked := parked || v_run.run_id;
        if not v_marked then
          v_marked := true;
          insert into absurd_effect.limit_marks (queue_name, name, key, refresh)
          values (p_queue, v_run.name, v_run.key, false);
          full_names := full_names || v_run.name;
          full_keys := full_keys || v_run.key;
        end if;
      end if;
    elsif not v_run.is_admitted and (
      v_waiting
      or coalesce(v_running >= v_run.concurrency, false)
      or v_run.spacing is not null and v_ahead > 0
    ) then
      -- Never ahead of those that have waited.
      parked := parked || v_run.run_id;
      -- While one of a rate may start next, the others go after it.
      v_again := v_again
        or (v_run.spacing is null or v_ahead <= 0) and coalesce(v_running < v_run.concurrency, true);
      if not v_marked then
        v_marked := true;
        full_names := full_names || v_run.name;
        full_keys := full_keys || v_run.key;
      end if;
      v_waiting := true;
    else
      if not v_run.is_admitted then
        v_running := v_running + 1;
        v_ahead := v_ahead + 1;
      end if;
      if v_run.spacing is null or v_arrival - v_run.tolerance <= p_now then
        started := started || v_run.run_id;
        v_ahead := v_ahead - 1;
        if v_run.spacing is not null then
          v_arrival := v_arrival + v_run.spacing;
          v_counted := true;
          v_again := v_again or v_waiting;
        end if;
      else
        deferred := deferred || v_run.run_id;
        deferred_to := deferred_to || (v_arrival - v_run.tolerance);
        v_admitted := v_admitted || v_run.run_id;
      end if;
    end if;
    if v_run.is_last and v_counted then
      update absurd_effect.limit_keys k set arrival = v_arrival
      where k.queue_name = p_queue and k.name = v_run.name and k.key = v_run.key;
    end if;
    if v_run.is_last and v_again then
      again_names := again_names || v_run.name;
      again_keys := again_keys || v_run.key;
    end if;
  end loop;
  insert into absurd_effect.limited_runs as x (queue_name, run_id, name, key, state, due)
  select p_queue, w.run_id, w.name, w.key, case
      when w.run_id = any (started) then 'running'
      when w.run_id = any (v_admitted) then 'admitted'
      else 'waiting'
    end, w.due
  from unnest(p_runs, p_names, p_keys, p_dues) w (run_id, name, key, due)
  where w.run_id = any (started || v_admitted || parked)
  on conflict (queue_name, run_id) do update
    set name = excluded.name, key = excluded.key, state = excluded.state,
      due = case when x.state = 'admitted' then x.due else excluded.due end;
  started := started || v_unlimited;
end;
$$;

-- Puts due runs, which the caller has locked with their tasks, to sleep until `p_until`. What they waited for is over.
create or replace function absurd_effect.put_off(p_queue text, p_runs uuid[], p_until timestamptz[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
begin
  if cardinality(p_runs) = 0 then
    return;
  end if;
  execute absurd_effect.bind(p_queue, $q$
    with run as (
      update absurd.%2$I r set state = 'sleeping', available_at = w.until
      from unnest($1, $2) w (run_id, until)
      where r.run_id = w.run_id
      returning r.task_id
    ),
    gone as (
      delete from absurd.%5$I w where w.run_id = any ($1)
    )
    update absurd.%1$I t set state = 'sleeping' from run where t.task_id = run.task_id
  $q$) using p_runs, p_until;
end;
$$;

-- Parks the other runs of keys without room that are among the next thousand due ones, at one go: a tenant with many of them must
-- not keep the others waiting.
create or replace function absurd_effect.park_behind(
  p_queue text,
  p_now timestamptz,
  p_except text[],
  p_names text[],
  p_keys text[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_runs uuid[];
  v_names text[];
  v_keys text[];
  v_dues timestamptz[];
begin
  execute absurd_effect.bind(p_queue, $q$
    with due as materialized (
      select r.run_id
      from absurd.%2$I r
      where r.state in ('pending', 'sleeping') and r.available_at <= $1
      order by r.available_at, r.run_id
      limit 1000
    ),
    got as materialized (
      select r.run_id, r.available_at, t.headers -> '$limit' ->> 'name' as name, t.headers -> '$limit' ->> 'key' as key
      from due
        join absurd.%2$I r on r.run_id = due.run_id
        join absurd.%1$I t on t.task_id = r.task_id
      where r.state in ('pending', 'sleeping')
        and r.available_at <= $1
        and t.state in ('pending', 'sleeping', 'running')
        and ($2 is null or t.task_name <> all ($2))
        and t.headers ? '$limit'
        and absurd_effect.limit_of(t.headers) is not null
        and (t.headers -> '$limit' ->> 'name', t.headers -> '$limit' ->> 'key') in (
          select f.name, f.key from unnest($3, $4) f (name, key)
        )
      for update of r, t skip locked
    )
    select array_agg(run_id), array_agg(name), array_agg(key), array_agg(available_at)
    from got
    where not exists (
      select from absurd_effect.limited_runs x where x.queue_name = $5 and x.run_id = got.run_id and x.state <> 'waiting'
    )
  $q$) into v_runs, v_names, v_keys, v_dues using p_now, p_except, p_names, p_keys, p_queue;
  if v_runs is null then
    return;
  end if;
  insert into absurd_effect.limited_runs as x (queue_name, run_id, name, key, state, due)
  select p_queue, w.run_id, w.name, w.key, 'waiting', w.due
  from unnest(v_runs, v_names, v_keys, v_dues) w (run_id, name, key, due)
  on conflict (queue_name, run_id) do update
    set name = excluded.name, key = excluded.key, due = excluded.due;
  perform absurd_effect.put_off(p_queue, v_runs, array_fill(absurd_effect.parked_until(), array[cardinality(v_runs)]));
end;
$$;

-- The limits of a queue, by name: {"name", "figures", "override", "admitted", "waiting"}.
create or replace function absurd_effect.list_limits(p_queue text) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  -- An unknown queue raises.
  execute absurd_effect.bind(p_queue, 'select from absurd.%2$I limit 0');
  return query
    select jsonb_build_object('name', l.name, 'figures', l.figures, 'override', l.override,
      'admitted', (
        select count(*) from absurd_effect.limited_runs x
        where x.queue_name = p_queue and x.name = l.name and x.state <> 'waiting'
      ),
      'waiting', (
        select count(*) from absurd_effect.limited_runs x
        where x.queue_name = p_queue and x.name = l.name and x.state = 'waiting'
      )
    )
    from absurd_effect.limits l
    where l.queue_name = p_queue
    order by l.name;
end;
$$;

-- The keys of a limit that have runs, at most `p_limit`, those with most waiting runs first: {"key", "admitted", "waiting"}.
create or replace function absurd_effect.list_limit_keys(p_queue text, p_name text, p_limit integer) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  execute absurd_effect.bind(p_queue, 'select from absurd.%2$I limit 0');
  return query
    select jsonb_build_object('key', c.key, 'admitted', sum(c.admitted), 'waiting', sum(c.waiting))
    from (
      select x.key, 0 as admitted, count(*) as waiting from absurd_effect.limited_runs x
      where x.queue_name = p_queue and x.name = p_name and x.state = 'waiting'
      group by x.key
      union all
      select x.key, count(*), 0 from absurd_effect.limited_runs x
      where x.queue_name = p_queue and x.name = p_name and x.state <> 'waiting'
      group by x.key
    ) c
    group by c.key
    order by sum(c.waiting) desc, c.key
    limit p_limit;
end;
$$;

-- Makes other figures hold for a limit, or with null those of its tasks again. Returns whether there is such a limit.
create or replace function absurd_effect.override_limit(p_queue text, p_name text, p_figures jsonb) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  execute absurd_effect.bind(p_queue, 'select from absurd.%2$I limit 0');
  update absurd_effect.limits l set override = p_figures, stale = false
  where l.queue_name = p_queue and l.name = p_name;
  if not found then
    return false;
  end if;
  perform absurd_effect.refresh_limit(p_queue, absurd.current_time(), p_name);
  return true;
end;
$$;
