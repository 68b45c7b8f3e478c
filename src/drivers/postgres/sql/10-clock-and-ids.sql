-- The clock, the ids and the version.

create schema if not exists absurd;

-- The only clock of this schema: every instant that is stored, and every comparison with one, uses it. It moves within a
-- transaction. The setting absurd.fake_now, if it is more than blanks, stands in for it.
create or replace function absurd.current_time()
returns timestamptz
language sql
volatile
as $fn$
  select coalesce(
    nullif(btrim(current_setting('absurd.fake_now', true), E' \t\r\n\f\v'), '')::timestamptz,
    clock_timestamp()
  )
$fn$;

-- Milliseconds since 1970 of an instant, rounded down; refuses what a version 7 id cannot hold.
create or replace function absurd.uuidv7_milliseconds(p_ts timestamptz)
returns bigint
language plpgsql
immutable
strict
as $fn$
declare
  v_milliseconds numeric;
begin
  if isfinite(p_ts) then
    v_milliseconds := floor(extract(epoch from p_ts) * 1000);
    if v_milliseconds >= 0 and v_milliseconds < 281474976710656 then
      return v_milliseconds::bigint;
    end if;
  end if;
  raise exception 'Timestamp % is outside UUIDv7 supported range', p_ts;
end
$fn$;

-- A fresh version 7 id of absurd.current_time(), made without the server's help. Ids are ordered within their millisecond
-- too: by the microseconds of the real clock, or, under absurd.fake_now, where time may stand still, by its last 40 bits,
-- which are twelve days. What is left is random, and enough for clocks that move once in a millisecond.
create or replace function absurd.make_uuidv7()
returns uuid
language plpgsql
volatile
as $fn$
declare
  v_micros constant bigint := extract(epoch from clock_timestamp()) * 1000000;
begin
  if coalesce(btrim(current_setting('absurd.fake_now', true), E' \t\r\n\f\v'), '') = '' then
    return (
      lpad(to_hex(v_micros / 1000), 12, '0')
      || '7' || lpad(to_hex((v_micros % 1000) * 4096 / 1000), 3, '0')
      || substr(gen_random_uuid()::text, 20)
    )::uuid;
  end if;
  return (
    lpad(to_hex(absurd.uuidv7_milliseconds(absurd.current_time())), 12, '0')
    || '7' || lpad(to_hex(v_micros >> 28 & 4095), 3, '0')
    || '8' || lpad(to_hex(v_micros & 268435455), 7, '0')
    || substr(gen_random_uuid()::text, 29)
  )::uuid;
end
$fn$;

-- A fresh version 7 id of absurd.current_time(). The server's own uuidv7() makes it where there is one, except under
-- absurd.fake_now, which that function does not know. Which it is, is decided here: then the function is one expression,
-- which the planner puts in the place of its calls. After an upgrade of the server the slower form goes on working.
do $choice$
begin
  execute format(
    'create or replace function absurd.portable_uuidv7() returns uuid language sql volatile as %L',
    case
      when to_regprocedure('pg_catalog.uuidv7()') is null then 'select absurd.make_uuidv7()'
      else $fn$
  select case
    when coalesce(btrim(current_setting('absurd.fake_now', true), E' \t\r\n\f\v'), '') = '' then pg_catalog.uuidv7()
    else absurd.make_uuidv7()
  end
$fn$
    end
  );
end
$choice$;

-- The instant within a version 7 id, to the millisecond; null for any other id.
create or replace function absurd.uuidv7_timestamp(p_id uuid)
returns timestamptz
language sql
immutable
strict
as $fn$
  select case
    when substr(p_id::text, 15, 1) = '7' and substr(p_id::text, 20, 1) in ('8', '9', 'a', 'b') then (
      -- whole seconds and the rest apart: one product would lose milliseconds of far dates to floating point
      select (
        timestamp '1970-01-01 00:00:00'
        + interval '1 second' * (m.milliseconds / 1000)
        + interval '1 millisecond' * (m.milliseconds % 1000)
      ) at time zone 'UTC'
      from (
        select ('x0000' || substr(p_id::text, 1, 8) || substr(p_id::text, 10, 4))::bit(64)::bigint as milliseconds
      ) as m
    )
  end
$fn$;

-- The smallest version 7 id of the millisecond of an instant.
create or replace function absurd.uuidv7_floor(p_ts timestamptz)
returns uuid
language sql
immutable
strict
as $fn$
  select (lpad(to_hex(absurd.uuidv7_milliseconds(p_ts)), 12, '0') || '70008000000000000000')::uuid
$fn$;

-- Monday 00:00 UTC of the week of an instant, in whatever time zone the session is.
create or replace function absurd.week_bucket_utc(p_ts timestamptz)
returns timestamptz
language sql
immutable
strict
as $fn$
  select date_trunc('week', p_ts at time zone 'UTC') at time zone 'UTC'
$fn$;

-- The last digit of the ISO year and the two digits of the ISO week of an instant, in UTC.
create or replace function absurd.partition_week_tag(p_ts timestamptz)
returns text
language sql
immutable
strict
as $fn$
  select right(to_char(p_ts at time zone 'UTC', 'IYYY'), 1) || to_char(p_ts at time zone 'UTC', 'IW')
$fn$;

-- The version of the interface in the schema absurd.
create or replace function absurd.get_schema_version()
returns text
language sql
as $fn$
  select 'effect-absurd 1'::text
$fn$;
