-- Schedules: named rows that become due. Which instants a schedule names, the caller computes.

create sequence if not exists absurd_effect.schedule_revisions;

create table if not exists absurd_effect.schedules (
  name text collate "C" not null primary key,
  definition jsonb not null,
  -- the definition that a program declared last, for `definition` may have been changed since
  declared jsonb not null,
  paused boolean not null default false,
  -- everything up to this instant has been dealt with
  after timestamptz not null,
  -- when it is due; null when that has to be computed from `after`
  next timestamptz,
  last_task uuid,
  -- another one after every change
  revision bigint not null
);

-- Stores a definition. A schedule that is new, or that had another definition, begins now. When `p_declared`, nothing
-- happens while the last declaration was the same; otherwise a schedule that does not exist is not made. Returns whether it
-- exists afterwards.
create or replace function absurd_effect.put_schedule(p_name text, p_definition jsonb, p_declared boolean) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := date_trunc('milliseconds', absurd.current_time());
begin
  if p_declared then
    insert into absurd_effect.schedules (name, definition, declared, after, revision)
    values (p_name, p_definition, p_definition, v_now, nextval('absurd_effect.schedule_revisions'))
    on conflict (name) do nothing;
  end if;
  update absurd_effect.schedules
  set definition = p_definition,
    declared = case when p_declared then p_definition else declared end,
    after = case when definition = p_definition then after else v_now end,
    next = case when definition = p_definition then next end,
    revision = nextval('absurd_effect.schedule_revisions')
  where name = p_name
    and case when p_declared then declared <> p_definition else definition <> p_definition end;
  return found or exists (select from absurd_effect.schedules where name = p_name);
end;
$$;

-- Pauses a schedule, or resumes it: then it begins now. Returns whether it exists.
create or replace function absurd_effect.pause_schedule(p_name text, p_paused boolean) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update absurd_effect.schedules
  set paused = p_paused,
    after = case when p_paused then after else date_trunc('milliseconds', absurd.current_time()) end,
    next = case when p_paused then next end,
    revision = nextval('absurd_effect.schedule_revisions')
  where name = p_name and paused <> p_paused;
  return found or exists (select from absurd_effect.schedules where name = p_name);
end;
$$;

create or replace function absurd_effect.delete_schedule(p_name text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from absurd_effect.schedules where name = p_name;
  return found;
end;
$$;

create or replace function absurd_effect.schedule_json(p_row absurd_effect.schedules) returns jsonb
language sql stable
as $$
  select pg_catalog.jsonb_build_object(
    'name', p_row.name, 'definition', p_row.definition, 'paused', p_row.paused,
    'after', absurd_effect.millis(p_row.after), 'next', absurd_effect.millis(p_row.next),
    'lastTask', p_row.last_task, 'revision', p_row.revision
  )
$$;

-- All schedules, by name.
create or replace function absurd_effect.list_schedules() returns setof jsonb
language sql stable
as $$
  select absurd_effect.schedule_json(s) from absurd_effect.schedules s order by s.name
$$;

-- {"now", "due", "later"}: the present, the schedules that are not paused and due or to be computed, at most 100, by name,
-- and when the next of the others is due.
create or replace function absurd_effect.due_schedules() returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := absurd.current_time();
begin
  return (
    select jsonb_build_object(
      'now', absurd_effect.millis(v_now),
      'due', coalesce((
        select jsonb_agg(absurd_effect.schedule_json(d) order by d.name)
        from (
          select s.* from absurd_effect.schedules s
          where not s.paused and (s.next is null or s.next <= v_now)
          order by s.name
          limit 100
        ) d
      ), '[]'),
      'later', (select absurd_effect.millis(min(s.next)) from absurd_effect.schedules s where not s.paused and s.next > v_now)
    )
  );
end;
$$;

-- Moves a schedule on, unless it has changed since `p_revision`. Returns whether it did.
create or replace function absurd_effect.advance_schedule(
  p_name text,
  p_revision bigint,
  p_after double precision,
  p_next double precision,
  p_last_task uuid
) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update absurd_effect.schedules
  set after = to_timestamp(p_after / 1000),
    next = to_timestamp(p_next / 1000),
    last_task = p_last_task,
    revision = nextval('absurd_effect.schedule_revisions')
  where name = p_name and revision = p_revision;
  return found;
end;
$$;
