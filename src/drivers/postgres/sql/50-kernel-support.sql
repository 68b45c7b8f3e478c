-- The kernel: every state transition once, for both doors.
--
-- Rules that hold in all of it:
--  * The clock is read once per call, and only through absurd.current_time().
--  * Locks are taken in this order: events by name, runs by run_id, each run's task, then checkpoints and waits. Whoever
--    needs a run and its task has the run first.
--  * Where a statement locks several runs, their order is written greatest(run_id, run_id): no index has that order, so the
--    few that were found are sorted. By run_id alone, a planner may rather read whole partitions that come sorted.
--  * A token fences: an item applies only while its run is running under that token. A null token does not fence; only
--    the wire door passes one.
--  * Of `absurd` it uses current_time(), portable_uuidv7() and the tables, in the columns that the wire contract names.

-- `p_sql` with the tables of a queue in it: %1$I tasks, %2$I runs, %3$I checkpoints, %4$I events, %5$I waits and
-- %6$I idempotency keys, all of schema absurd.
create or replace function absurd_effect.bind(p_queue text, p_sql text) returns text
language sql stable
as $$
  select pg_catalog.format(
    p_sql, 't_' || p_queue, 'r_' || p_queue, 'c_' || p_queue, 'e_' || p_queue, 'w_' || p_queue, 'i_' || p_queue
  )
$$;

-- The number that `p_value` holds, as a number or as text, cut to 0 ... `p_max`; otherwise `p_default`. Never raises.
create or replace function absurd_effect.number_of(p_value jsonb, p_default double precision, p_max double precision)
returns double precision
language plpgsql immutable
as $$
declare
  v_text text := btrim(p_value #>> '{}');
begin
  if v_text ~ '^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$' and length(v_text) <= 1000 then
    return least(greatest(v_text::numeric, 0), p_max::numeric)::double precision;
  end if;
  return p_default;
end;
$$;

-- Seconds between a failed attempt and the next one, from 0 to ten years, whatever the strategy looks like.
create or replace function absurd_effect.retry_delay(p_strategy jsonb, p_attempt integer) returns double precision
language plpgsql immutable
as $$
declare
  c_max constant double precision := 315360000;
  v_base double precision;
  v_factor double precision;
  v_cap double precision;
  v_log double precision;
begin
  case p_strategy ->> 'kind'
    when 'fixed' then
      return absurd_effect.number_of(p_strategy -> 'base_seconds', 60, c_max);
    when 'exponential' then
      v_base := absurd_effect.number_of(p_strategy -> 'base_seconds', 30, c_max);
      v_factor := absurd_effect.number_of(p_strategy -> 'factor', 2, 1e6);
      v_cap := absurd_effect.number_of(p_strategy -> 'max_seconds', c_max, c_max);
      if p_attempt <= 1 then
        return least(v_base, v_cap);
      end if;
      if v_base < 1e-6 or v_factor < 1e-6 then
        return 0;
      end if;
      -- Looked at as logarithms first, because power() raises when it leaves the range of doubles.
      v_log := ln(v_base) + (p_attempt - 1) * ln(v_factor);
      if v_log > 20 then
        return v_cap;
      elsif v_log < -20 then
        return 0;
      end if;
      return least(v_base * power(v_factor, p_attempt - 1), v_cap);
    else
      return 0;
  end case;
end;
$$;

-- Whole milliseconds since 1970, or null for null and for infinity.
create or replace function absurd_effect.millis(p_at timestamptz) returns double precision
language sql immutable
as $$
  select case when pg_catalog.isfinite(p_at) then pg_catalog.floor(pg_catalog.date_part('epoch', p_at) * 1000) end
$$;

-- The text in which instants are stored in checkpoints: ISO 8601, in UTC, to the microsecond.
create or replace function absurd_effect.iso(p_at timestamptz) returns jsonb
language sql stable
as $$
  select pg_catalog.to_jsonb(pg_catalog.to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
$$;

-- An instant `p_seconds` after `p_now`, or the one at `p_epoch` seconds since 1970 when that is given.
create or replace function absurd_effect.instant(
  p_now timestamptz,
  p_seconds double precision,
  p_epoch double precision
) returns timestamptz
language sql stable
as $$
  select case
    when p_epoch is not null then pg_catalog.to_timestamp(p_epoch)
    else p_now + pg_catalog.make_interval(secs => p_seconds)
  end
$$;

-- Raises AE002 unless the transaction is READ COMMITTED, where alone an emit and a wait cannot miss each other.
create or replace function absurd_effect.require_read_committed() returns void
language plpgsql
as $$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception '%', current_setting('transaction_isolation')
      using errcode = 'AE002', hint = 'Use READ COMMITTED.';
  end if;
end;
$$;
