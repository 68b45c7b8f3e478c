-- Claiming in spite of dead entries.
--
-- While any session holds an old snapshot, no vacuum removes the entries that earlier claims have left at the front of the
-- index of due runs, nor those of leases that are over from the index of leases. Every claim would pass all of them. So a
-- session that finds a claim slow remembers up to where it has looked, the floor, and looks from there on.
--
-- Things still appear below a floor: by transactions that commit late, by a claim that is rolled back, by whoever gives a run
-- back as of an earlier instant. So what is below is looked through as well, in slices of a few milliseconds with long pauses
-- in between, downwards, because what commits late is near the floor. When it takes no time any more to look through
-- everything, the floor is forgotten.
--
-- A floor is a setting of the session. As such it belongs to one database, also behind a pooler, and is rolled back with the
-- claim that set it. It is an object:
--  * What is due before `at`, or at `at` with a smaller id than `run`, is below. Leases have no `run`. Until it is known up
--    to where it has been looked, `at` is -infinity.
--  * The next slice ends at `to` and is `width` seconds wide; `least` is the narrowest of this round.
--  * This round has taken `round` seconds so far. The last look took `spent` seconds and ended at `looked`.
-- The setting absurd_effect.floors tells that there are some, or were.

-- How long a claim of nothing may take before it is asked why. It passes what is dead two or three times, so a round that takes
-- a third of that is of no use.
create or replace function absurd_effect.floor_patience() returns interval
language sql immutable
as $$
  select interval '3 milliseconds'
$$;

-- From how many bytes on the entries of an index may be the reason. A process may also have waited for its processor.
create or replace function absurd_effect.floor_bytes() returns bigint
language sql immutable
as $$
  select 131072::bigint
$$;

-- How long a slice is to take.
create or replace function absurd_effect.floor_slice() returns interval
language sql immutable
as $$
  select interval '5 milliseconds'
$$;

-- How many times as long as the last look a pause is. Every session looks by itself, so several find what is below sooner.
create or replace function absurd_effect.floor_pause() returns double precision
language sql immutable
as $$
  select 50::double precision
$$;

-- How old what is below a floor is at least: so long a transaction may take without being late.
create or replace function absurd_effect.floor_age() returns interval
language sql immutable
as $$
  select interval '250 milliseconds'
$$;

-- The smallest id.
create or replace function absurd_effect.no_run() returns uuid
language sql immutable
as $$
  select '00000000-0000-0000-0000-000000000000'::uuid
$$;

-- The setting of the floor of leases of a queue.
create or replace function absurd_effect.lease_floor(p_queue text) returns text
language sql immutable
as $$
  select 'absurd_effect.leases_' || pg_catalog.md5(p_queue)
$$;

-- The setting of the floor of due runs of a queue, for claims that leave the same tasks alone.
create or replace function absurd_effect.due_floor(p_queue text, p_except text[]) returns text
language sql stable
as $$
  select 'absurd_effect.dues_' || pg_catalog.md5(pg_catalog.concat(p_queue, p_except::text))
$$;

-- The floor in a setting; null when there is none, or when it is not to be used because the clock is another one.
create or replace function absurd_effect.floor_of(p_setting text, p_now timestamptz) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_floor constant jsonb := nullif(current_setting(p_setting, true), '');
begin
  if (v_floor ->> 'at')::timestamptz <= p_now and coalesce(current_setting('absurd.fake_now', true), '') = '' then
    return v_floor;
  end if;
  return null;
end;
$$;

-- Remembers that everything up to an instant, or up to a run of that instant, has been looked through. Where there is no floor
-- yet, only when the indexes with the column are large, which other installations may have named and made otherwise.
create or replace function absurd_effect.raise_floor(
  p_queue text,
  p_setting text,
  p_column name,
  p_floor jsonb,
  p_now timestamptz,
  p_at timestamptz,
  p_run uuid default null
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set datestyle = 'ISO'
as $$
declare
  v_young constant boolean := p_at > p_now - absurd_effect.floor_age();
  v_at constant timestamptz := case when v_young then p_now - absurd_effect.floor_age() else p_at end;
  v_floor jsonb := p_floor;
begin
  if coalesce(current_setting('absurd.fake_now', true), '') <> '' then
    return;
  end if;
  if v_floor is null then
    if absurd_effect.floor_bytes() > (
      select coalesce(sum(pg_relation_size(i.indexrelid)), 0)
      from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) and a.attname = p_column
      where i.indrelid = any (array(
        select to_regclass(absurd_effect.bind(p_queue, 'absurd.%2$I'))::oid
        union all
        select inhrelid from pg_inherits where inhparent = to_regclass(absurd_effect.bind(p_queue, 'absurd.%2$I'))
      ))
    ) then
      return;
    end if;
    perform set_config('absurd_effect.floors', 'on', false);
    v_floor := jsonb_build_object(
      'at', '-infinity', 'width', 1, 'round', 0, 'spent', 0, 'looked', clock_timestamp()
    );
  end if;
  if (v_floor ->> 'at')::timestamptz <= v_at then
    if v_floor ->> 'at' = '-infinity' then
      v_floor := v_floor || jsonb_build_object('to', v_at);
    end if;
    v_floor := v_floor || jsonb_build_object(
      'at', v_at, 'run', coalesce(case when not v_young then p_run end, absurd_effect.no_run())
    );
  end if;
  perform set_config(p_setting, v_floor::text, false);
end;
$$;

-- Looks through slices below a floor, by `p_look`, which says whether anything is in a range of instants. Stops at a slice in
-- which something is, from `found_from` to `found_to`. `p_idle` says that there is nothing else to do.
create or replace function absurd_effect.look_below(
  p_queue text,
  p_setting text,
  p_look text,
  p_idle boolean,
  p_pause double precision,
  inout p_floor jsonb,
  out found_from timestamptz,
  out found_to timestamptz
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set plan_cache_mode = force_generic_plan
set datestyle = 'ISO'
as $$
declare
  c_slice constant double precision := extract(epoch from absurd_effect.floor_slice());
  v_began constant timestamptz := clock_timestamp();
  v_share constant double precision := extract(epoch from v_began - (p_floor ->> 'looked')::timestamptz)
    / nullif(p_pause, 0);
  v_look text;
  v_to timestamptz := p_floor ->> 'to';
  v_width double precision := p_floor ->> 'width';
  v_least double precision := p_floor ->> 'least';
  v_round double precision := p_floor ->> 'round';
  v_executed timestamptz;
  v_spent double precision;
  v_took double precision;
  v_from timestamptz;
  v_found boolean;
begin
  -- It may not be known yet up to where it has been looked.
  if v_share >= 0 and v_share < (p_floor ->> 'spent')::double precision or v_to = '-infinity' then
    return;
  end if;
  v_look := absurd_effect.prepared(p_queue, '(timestamptz, timestamptz)', p_look);
  loop
    v_from := case when v_width > 1e9 then '-infinity' else v_to - make_interval(secs => v_width) end;
    v_executed := clock_timestamp();
    execute 'execute ' || v_look || format('(%L, %L)', v_from, v_to) into v_found;
    v_took := extract(epoch from clock_timestamp() - v_executed);
    v_spent := extract(epoch from clock_timestamp() - v_began);
    v_round := v_round + v_took;
    if v_found then
      found_from := v_from;
      found_to := v_to;
    else
      v_width := greatest(0.001, v_width * case
        when v_took > 2 * c_slice then 0.5
        when v_took < c_slice / 4 then 4
        else 1
      end);
      v_least := least(v_least, v_width);
    end if;
    v_to := v_from - interval '1 microsecond';
    if v_from = '-infinity' then
      if v_found is not true and v_round < extract(epoch from absurd_effect.floor_patience()) / 3 then
        perform set_config(p_setting, '', false);
        p_floor := null;
        return;
      end if;
      v_to := p_floor ->> 'at';
      v_width := coalesce(v_least, v_width);
      v_least := null;
      v_round := 0;
    end if;
    -- An idle queue is looked through as far as the pauses since the last look allow; a busy one goes on soon.
    exit when v_found or v_from = '-infinity' or v_spent >= case when p_idle then v_share else least(v_share, 0.05) end;
  end loop;
  p_floor := p_floor || jsonb_build_object(
    'to', v_to, 'width', v_width, 'least', v_least, 'round', v_round, 'spent', v_spent, 'looked', clock_timestamp()
  );
  perform set_config(p_setting, p_floor::text, false);
end;
$$;

-- Goes on at the upper end of a slice in which more has been found than could be done.
create or replace function absurd_effect.look_again(p_setting text, p_floor jsonb, p_to timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO'
as $$
begin
  perform set_config(p_setting, (p_floor || jsonb_build_object('to', p_to, 'spent', 0))::text, false);
end;
$$;

-- Fails runs whose lease has ended, at most `p_limit`: those above the floor of leases, where `p_expired` says whether there
-- are any, and those in a slice below. There are only runs that were locked, and those of claims that took longer than their
-- lease, so there is less of a hurry. Returns whether there were any.
create or replace function absurd_effect.fail_above(
  p_queue text,
  p_setting text,
  p_floor jsonb,
  p_now timestamptz,
  p_limit integer,
  p_expired boolean,
  p_idle boolean
) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_below record;
  v_left integer := p_limit;
begin
  select * into v_below from absurd_effect.look_below(p_queue, p_setting, $q$
    select true from absurd.%2$I r
    where r.state = 'running' and r.claim_expires_at is not null and r.claim_expires_at >= $1 and r.claim_expires_at <= $2
    order by r.claim_expires_at
    limit 1
  $q$, p_idle, 4 * absurd_effect.floor_pause(), p_floor);
  if v_below.found_to is not null then
    v_left := v_left - absurd_effect.fail_expired(p_queue, p_now, v_left, v_below.found_from, v_below.found_to);
    if v_left <= 0 then
      perform absurd_effect.look_again(p_setting, v_below.p_floor, v_below.found_to);
    end if;
  end if;
  if p_expired and v_left > 0 then
    v_left := v_left - absurd_effect.fail_expired(p_queue, p_now, v_left, (p_floor ->> 'at')::timestamptz, p_now);
  end if;
  -- What is left above although it was looked at is locked, or cannot be failed.
  if v_left > 0 and v_below.p_floor is not null then
    perform absurd_effect.raise_floor(p_queue, p_setting, 'claim_expires_at', v_below.p_floor, p_now, p_now);
  end if;
  return p_expired or v_left < p_limit;
end;
$$;
