-- Limits: how many runs of a key run at a time, and how many start in a while.
--
-- A task tells its limit in the header `$limit`, {"name", "key", "concurrency", "rate"}. Of a run that goes by one there is a row
-- here: `waiting` while it is parked (sleeping, available at parked_until()), `admitted` when it may be claimed as soon as it is
-- due, and `running`. A run that has not been looked at by a claim yet has none.
--
-- Nobody waits for a key. Runs are admitted, and starts of a rate are counted, by whoever holds the row of the key; who does not
-- get it leaves a mark, and the next claim does what was to be done. Ends that waited for each other's keys could stop each other
-- for good, and a transaction of a program that ended a run would stop everybody else's.
--
-- A row of a run is written by whoever holds the run. Rows of keys are locked after runs and tasks, and before parked runs are.

create table if not exists absurd_effect.limits (
  queue_name text collate "C" not null,
  name text collate "C" not null,
  figures jsonb not null,
  override jsonb,
  in_force jsonb not null generated always as (coalesce(override, figures)) stored,
  -- whether the figures have changed since runs were last let go by them
  stale boolean not null default false,
  -- when it was last looked for runs that other software has ended
  swept_at timestamptz not null default '-infinity',
  primary key (queue_name, name)
);

create table if not exists absurd_effect.limit_keys (
  queue_name text collate "C" not null,
  name text collate "C" not null,
  key text collate "C" not null,
  -- the theoretical time of the next start, where there is a rate
  arrival timestamptz,
  primary key (queue_name, name, key)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

create table if not exists absurd_effect.limited_runs (
  queue_name text collate "C" not null,
  run_id uuid not null,
  name text collate "C" not null,
  key text collate "C" not null,
  state text not null check (state in ('waiting', 'admitted', 'running')),
  due timestamptz not null,
  primary key (queue_name, run_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

create index if not exists limited_runs_waiting
  on absurd_effect.limited_runs (queue_name, name, key, due, run_id) where state = 'waiting';
create index if not exists limited_runs_held
  on absurd_effect.limited_runs (queue_name, name, key, state) where state <> 'waiting';

create table if not exists absurd_effect.limit_marks (
  queue_name text collate "C" not null,
  name text collate "C" not null,
  key text collate "C" not null,
  -- whether the figures have changed as well
  refresh boolean not null
);

create index if not exists limit_marks_queue on absurd_effect.limit_marks (queue_name);

-- When a parked run is available: far away, but an instant that every program can read.
create or replace function absurd_effect.parked_until() returns timestamptz
language sql immutable
as $$
  select timestamptz '9999-12-30 00:00:00+00'
$$;

-- Whether a JSON value is a number from `p_min` to `p_max`, and whole when `p_whole`.
create or replace function absurd_effect.is_number(p_value jsonb, p_min numeric, p_max numeric, p_whole boolean)
returns boolean
language sql immutable
as $$
  select case when pg_catalog.jsonb_typeof(p_value) = 'number'
    then p_value::numeric between p_min and p_max and (not p_whole or p_value::numeric % 1 = 0)
    else false
  end
$$;

-- The limit that headers tell, null when they tell none. Other programs may have stored anything.
create or replace function absurd_effect.limit_of(p_headers jsonb) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_limit constant jsonb := case when jsonb_typeof(p_headers) = 'object' then p_headers -> '$limit' end;
  v_rate constant jsonb := v_limit -> 'rate';
begin
  if v_limit is null or jsonb_typeof(v_limit) <> 'object' then
    return null;
  end if;
  if (jsonb_typeof(v_limit -> 'name') = 'string' and btrim(v_limit ->> 'name') <> ''
      and octet_length(v_limit ->> 'name') <= 128
      and jsonb_typeof(v_limit -> 'key') = 'string' and octet_length(v_limit ->> 'key') <= 256
      and (v_limit -> 'concurrency' = 'null'
        or absurd_effect.is_number(v_limit -> 'concurrency', 1, 1000000, true))
      and (v_rate = 'null' or (
        jsonb_typeof(v_rate) = 'object'
        and absurd_effect.is_number(v_rate -> 'limit', 1, 1000000, true)
        and absurd_effect.is_number(v_rate -> 'seconds', 0.001, 315360000, false)
        and absurd_effect.is_number(v_rate -> 'burst', 1, (v_rate -> 'limit')::numeric, true)
      ))) is true
  then
    return v_limit;
  end if;
  return null;
end;
$$;

-- How far apart the starts of a rate are, null without one: whole microseconds, at most ten years.
create or replace function absurd_effect.limit_spacing(p_figures jsonb) returns interval
language sql immutable
as $$
  select case when pg_catalog.jsonb_typeof(p_figures -> 'rate') = 'object' then least(
    pg_catalog.ceil(
      pg_catalog.round((p_figures -> 'rate' -> 'seconds')::numeric * 1000000)
        / ((p_figures -> 'rate' -> 'limit')::numeric - (p_figures -> 'rate' -> 'burst')::numeric + 1)
    ),
    315360000000000
  )::double precision * interval '1 microsecond' end
$$;

-- How far ahead of its time a start of a rate may be.
create or replace function absurd_effect.limit_tolerance(p_figures jsonb) returns interval
language sql immutable
as $$
  select least(
    ((p_figures -> 'rate' -> 'burst')::numeric - 1) * extract(epoch from absurd_effect.limit_spacing(p_figures)),
    315360000
  )::double precision * interval '1 second'
$$;

-- Stores the figures of the limits of the tasks at these places of an array that were spawned.
create or replace function absurd_effect.declare_limits(p_queue text, p_tasks jsonb, p_places bigint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_name text;
  v_figures jsonb;
begin
  for v_name, v_figures in
    select distinct on (l.value ->> 'name') l.value ->> 'name',
      jsonb_build_object('concurrency', l.value -> 'concurrency', 'rate', l.value -> 'rate')
    from jsonb_array_elements(p_tasks) with ordinality i (e, ord)
      cross join lateral (select absurd_effect.limit_of(i.e -> 'headers')) l (value)
    where i.ord = any (p_places) and l.value is not null
    order by l.value ->> 'name', i.ord desc
  loop
    if not exists (select from absurd_effect.limits l where l.queue_name = p_queue and l.name = v_name) then
      insert into absurd_effect.limits (queue_name, name, figures) values (p_queue, v_name, v_figures)
      on conflict do nothing;
    end if;
    -- Who changes them at this moment is as new as this.
    perform from absurd_effect.limits l
    where l.queue_name = p_queue and l.name = v_name and l.figures <> v_figures
    for update skip locked;
    if found then
      update absurd_effect.limits l
      set figures = v_figures, stale = l.stale or l.override is null
      where l.queue_name = p_queue and l.name = v_name;
    end if;
  end loop;
end;
$$;

-- Locks the rows of keys, makes those that are missing, and returns those that it got without waiting. What is to be seen of a key
-- that somebody else had is seen by statements that begin afterwards, and only in READ COMMITTED.
create or replace function absurd_effect.hold_limit_keys(p_queue text, p_names text[], p_keys text[])
returns table (name text, key text)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
#variable_conflict use_column
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    return;
  end if;
  -- The advisory lock keeps those from waiting who would make the same row.
  with wanted as materialized (
    select distinct w.name, w.key from unnest(p_names, p_keys) w (name, key)
  ),
  missing as materialized (
    select w.name, w.key from wanted w
    where not exists (
      select from absurd_effect.limit_keys k where k.queue_name = p_queue and k.name = w.name and k.key = w.key
    )
    order by w.name, w.key
  )
  insert into absurd_effect.limit_keys (queue_name, name, key)
  select p_queue, m.name, m.key from missing m
  where pg_try_advisory_xact_lock(hashtextextended(format('absurd_effect limit %s %s %s', p_queue, m.name, m.key), 0))
  on conflict do nothing;
  return query
    select held.name, held.key
    from (select distinct u.name, u.key from unnest(p_names, p_keys) u (name, key)) w
      cross join lateral (
        select k.name, k.key
        from absurd_effect.limit_keys k
        where k.queue_name = p_queue and k.name = w.name and k.key = w.key
        for update skip locked
      ) held;
end;
$$;

-- Lets waiting runs of these keys go, for as long as there is room, in the order in which they became due. Those of a rate become
-- available when they may start. With `p_refresh`, figures have changed: then other times hold for those that were admitted.
-- Returns whether everything could be done; a key that somebody else has is marked.
create or replace function absurd_effect.admit_limited(
  p_queue text,
  p_now timestamptz,
  p_names text[],
  p_keys text[],
  p_refresh boolean default false
) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_material = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_names text[];
  v_keys text[];
  v_waiting_names text[];
  v_waiting_keys text[];
  v_missed boolean;
begin
  select coalesce(array_agg(h.name), '{}'), coalesce(array_agg(h.key), '{}') into v_names, v_keys
  from absurd_effect.hold_limit_keys(p_queue, p_names, p_keys) h;
  if p_refresh then
    perform absurd_effect.refresh_limit_keys(p_queue, p_now, v_names, v_keys);
  end if;
  insert into absurd_effect.limit_marks (queue_name, name, key, refresh)
  select distinct p_queue, w.name, w.key, p_refresh
  from unnest(p_names, p_keys) w (name, key)
  where not exists (select from unnest(v_names, v_keys) h (name, key) where h.name = w.name and h.key = w.key);
  v_missed := found;
  -- To know that nobody waits costs a fraction of planning the statement below.
  select array_agg(h.name), array_agg(h.key) into v_waiting_names, v_waiting_keys
  from unnest(v_names, v_keys) h (name, key)
  where exists (
    select from absurd_effect.limited_runs x
    where x.queue_name = p_queue and x.name = h.name and x.key = h.key and x.state = 'waiting'
  );
  if v_waiting_names is not null then
    v_missed := not absurd_effect.admit_held(p_queue, p_now, v_waiting_names, v_waiting_keys) or v_missed;
  end if;
  delete from absurd_effect.limit_keys k
  using unnest(v_names, v_keys) h (name, key)
  where k.queue_name = p_queue and k.name = h.name and k.key = h.key and (k.arrival is null or k.arrival <= p_now)
    and not exists (
      select from absurd_effect.limited_runs x
      where x.queue_name = p_queue and x.name = k.name and x.key = k.key and x.state = 'waiting'
    )
    and not exists (
      select from absurd_effect.limited_runs x
      where x.queue_name = p_queue and x.name = k.name and x.key = k.key and x.state <> 'waiting'
    );
  return not v_missed;
end;
$$;

-- admit_limited() of keys that the caller has.
create or replace function absurd_effect.admit_held(p_queue text, p_now timestamptz, p_names text[], p_keys text[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
declare
  v_missed boolean;
  v_due boolean;
begin
  execute absurd_effect.bind(p_queue, $q$
    with room as materialized (
      select key.*,
        least(
          key.concurrency - key.held,
          case when key.spacing is not null then greatest(1, key.startable) - key.ahead end,
          1000000000
        ) as free
      from (
        select k.name, k.key, f.spacing, f.tolerance, f.concurrency,
          greatest(k.arrival, $2) - f.tolerance as start_at,
          greatest(0, floor(
            extract(epoch from f.tolerance - (greatest(k.arrival, $2) - $2)) / extract(epoch from f.spacing)
          ) + 1) as startable,
          case when f.concurrency is not null then (
            select count(*) from absurd_effect.limited_runs x
            where x.queue_name = $1 and x.name = k.name and x.key = k.key and x.state <> 'waiting'
          ) end as held,
          case when f.spacing is not null then (
            select count(*) from absurd_effect.limited_runs x
            where x.queue_name = $1 and x.name = k.name and x.key = k.key and x.state = 'admitted' and x.state <> 'waiting'
          ) end as ahead
        from unnest($3, $4) w (name, key)
          join absurd_effect.limit_keys k on k.queue_name = $1 and k.name = w.name and k.key = w.key
          join absurd_effect.limits l on l.queue_name = $1 and l.name = k.name
          cross join lateral (
            select absurd_effect.limit_spacing(l.in_force) as spacing,
              absurd_effect.limit_tolerance(l.in_force) as tolerance,
              (l.in_force ->> 'concurrency')::integer as concurrency
          ) f
      ) key
    ),
    next as materialized (
      select room.name, room.key, w.run_id, case
          when room.spacing is null or room.ahead + w.place <= room.startable then w.due
          else greatest(w.due, room.start_at)
        end as start_at
      from room
        cross join lateral (
          select x.run_id, x.due, row_number() over (order by x.due, x.run_id) as place
          from absurd_effect.limited_runs x
          where x.queue_name = $1 and x.name = room.name and x.key = room.key and x.state = 'waiting'
          order by x.due, x.run_id
          limit greatest(room.free, 0)::bigint
        ) w
    ),
    got as materialized (
      select r.run_id from absurd.%2$I r
      where r.run_id = any (array(select run_id from next)) and r.state in ('pending', 'sleeping')
      order by greatest(r.run_id, r.run_id)
      for update skip locked
    ),
    run as (
      update absurd.%2$I r set available_at = next.start_at
      from got join next using (run_id)
      where r.run_id = got.run_id
    ),
    admitted as (
      update absurd_effect.limited_runs x set state = 'admitted'
      from got
      where x.queue_name = $1 and x.run_id = got.run_id
    ),
    -- Other software has ended these runs.
    gone as (
      delete from absurd_effect.limited_runs x
      using next
      where x.queue_name = $1 and x.run_id = next.run_id
        and not exists (
          select from absurd.%2$I r where r.run_id = next.run_id and r.state in ('pending', 'sleeping')
        )
    ),
    mark as (
      insert into absurd_effect.limit_marks (queue_name, name, key, refresh)
      select distinct $1, next.name, next.key, false from next
      where not exists (select from got where got.run_id = next.run_id)
      returning 1
    )
    select exists (select from mark), exists (select from got join next using (run_id) where next.start_at <= $2)
  $q$) into v_missed, v_due using p_queue, p_now, p_names, p_keys;
  if v_due then
    perform absurd_effect.hint_work(p_queue);
  end if;
  return not v_missed;
end;
$$;

-- Makes other figures hold for keys that the caller has: they must not expect the next start later than they would have done after
-- one at present, and runs that were admitted for a later time become available by then.
create or replace function absurd_effect.refresh_limit_keys(
  p_queue text,
  p_now timestamptz,
  p_names text[],
  p_keys text[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $$
begin
  update absurd_effect.limit_keys k
  set arrival = p_now + f.tolerance + f.spacing
  from unnest(p_names, p_keys) h (name, key)
    join absurd_effect.limits l on l.queue_name = p_queue and l.name = h.name
    cross join lateral (
      select absurd_effect.limit_spacing(l.in_force) as spacing,
        absurd_effect.limit_tolerance(l.in_force) as tolerance
    ) f
  where k.queue_name = p_queue and k.name = h.name and k.key = h.key and k.arrival > p_now + f.tolerance + f.spacing;
  execute absurd_effect.bind(p_queue, $q$
    with next as materialized (
      select x.run_id, case
          when f.spacing is null then x.due
          else greatest(x.due, $2, k.arrival - f.tolerance)
        end as start_at
      from unnest($3, $4) h (name, key)
        join absurd_effect.limits l on l.queue_name = $1 and l.name = h.name
        join absurd_effect.limit_keys k on k.queue_name = $1 and k.name = h.name and k.key = h.key
        cross join lateral (
          select absurd_effect.limit_spacing(l.in_force) as spacing,
            absurd_effect.limit_tolerance(l.in_force) as tolerance
        ) f
        join absurd_effect.limited_runs x
          on x.queue_name = $1 and x.name = h.name and x.key = h.key and x.state = 'admitted' and x.state <> 'waiting'
    ),
    got as materialized (
      select r.run_id from absurd.%2$I r
      where r.run_id = any (array(select run_id from next)) and r.state in ('pending', 'sleeping') and r.available_at > $2
      order by greatest(r.run_id, r.run_id)
      for update skip locked
    )
    update absurd.%2$I r set available_at = next.start_at
    from got join next using (run_id)
    where r.run_id = got.run_id
  $q$) using p_queue, p_now, p_names, p_keys;
end;
$$;

-- Lets runs of all keys of a limit go by the figures that hold now.
create or replace function absurd_effect.refresh_limit(p_queue text, p_now timestamptz, p_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_keys text[];
begin
  select array_agg(key) into v_keys from (
    select x.key from absurd_effect.limited_runs x
    where x.queue_name = p_queue and x.name = p_name and x.state = 'waiting'
    union
    select x.key from absurd_effect.limited_runs x
    where x.queue_name = p_queue and x.name = p_name and x.state <> 'waiting' and x.state = 'admitted'
    union
    select k.key from absurd_effect.limit_keys k
    where k.queue_name = p_queue and k.name = p_name and k.arrival > p_now
  ) keys;
  if v_keys is not null then
    perform absurd_effect.admit_limited(p_queue, p_now, array_fill(p_name, array[cardinality(v_keys)]), v_keys, true);
    perform absurd_effect.hint_work(p_queue);
  end if;
end;
$$;

-- Forgets runs that no longer run or wait for their limits, whose rows the caller has locked, and lets the next ones go. Callers
-- may plan for any values; here it matters for how many.
create or replace function absurd_effect.leave_limits(p_queue text, p_now timestamptz, p_runs uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = auto
as $$
declare
  v_names text[];
  v_keys text[];
begin
  if p_runs is null or not exists (select from absurd_effect.limits l where l.queue_name = p_queue) then
    return;
  end if;
  with gone as (
    delete from absurd_effect.limited_runs x
    where x.queue_name = p_queue and x.run_id = any (p_runs)
    returning x.name, x.key, x.state
  )
  select array_agg(name), array_agg(key) into v_names, v_keys
  from (select distinct name, key from gone where state <> 'waiting') left_keys;
  if v_names is not null and not absurd_effect.admit_limited(p_queue, p_now, v_names, v_keys) then
    perform absurd_effect.hint_work(p_queue);
  end if;
end;
$$;
