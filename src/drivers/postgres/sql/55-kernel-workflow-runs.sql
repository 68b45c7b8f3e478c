-- Workflow runs: a record of what belongs together, beside the queues.

create table if not exists absurd_effect.workflow_runs (
  id text collate "C" not null primary key,
  name text collate "C" not null,
  version text collate "C" not null,
  status text collate "C" not null check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
  inputs jsonb not null,
  result jsonb,
  error jsonb,
  created_by text,
  hash text,
  tags text[] not null,
  task_count integer check (task_count >= 0),
  -- in whole milliseconds, like everything that programs see, so that a list can be continued after one of them
  created_at timestamptz not null,
  updated_at timestamptz not null,
  started_at timestamptz,
  completed_at timestamptz
);

create index if not exists workflow_runs_created on absurd_effect.workflow_runs (created_at, id);
create index if not exists workflow_runs_name on absurd_effect.workflow_runs (name, created_at, id);
create index if not exists workflow_runs_status on absurd_effect.workflow_runs (status, created_at, id);
create index if not exists workflow_runs_tags on absurd_effect.workflow_runs using gin (tags);
create index if not exists workflow_runs_completed on absurd_effect.workflow_runs (completed_at)
where completed_at is not null;

-- Stores a new workflow run as pending. Returns null, or the name and version of the run that has the id when that one
-- differs in name, version or inputs.
create or replace function absurd_effect.create_workflow_run(p_run jsonb) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := date_trunc('milliseconds', absurd.current_time());
  v_found record;
begin
  -- Once more when the run that has the id was deleted in between.
  loop
    insert into absurd_effect.workflow_runs
      (id, name, version, status, inputs, created_by, hash, tags, created_at, updated_at)
    values (
      p_run ->> 'id', p_run ->> 'name', p_run ->> 'version', 'pending', p_run -> 'inputs', p_run ->> 'createdBy',
      p_run ->> 'hash', array(select jsonb_array_elements_text(p_run -> 'tags')), v_now, v_now
    )
    on conflict (id) do nothing;
    if found then
      return null;
    end if;
    select w.name, w.version, w.inputs into v_found
    from absurd_effect.workflow_runs as w
    where w.id = p_run ->> 'id';
    if found then
      return case
        when v_found.name <> p_run ->> 'name' or v_found.version <> p_run ->> 'version'
          or v_found.inputs <> p_run -> 'inputs'
        then v_found.name || ' ' || v_found.version
      end;
    end if;
  end loop;
end;
$$;

-- Gives a workflow run a status, and whatever else `p_change` has. Returns `applied`, null for an unknown run, or the
-- final status that the run keeps.
create or replace function absurd_effect.update_workflow_run(p_id text, p_change jsonb) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := date_trunc('milliseconds', absurd.current_time());
  v_next constant text := p_change ->> 'status';
  v_status text;
begin
  select w.status into v_status from absurd_effect.workflow_runs as w where w.id = p_id for update;
  if not found then
    return null;
  elsif v_status in ('completed', 'cancelled') and v_status <> v_next then
    return v_status;
  end if;
  update absurd_effect.workflow_runs as w
  set status = v_next,
    result = case when p_change ? 'result' then p_change -> 'result' else w.result end,
    error = case when p_change ? 'error' then p_change -> 'error' else w.error end,
    task_count = coalesce((p_change ->> 'taskCount')::integer, w.task_count),
    updated_at = v_now,
    started_at = coalesce(
      absurd_effect.from_millis((p_change ->> 'startedAt')::double precision), w.started_at,
      case when v_next = 'running' then v_now end
    ),
    completed_at = case
      when v_next in ('completed', 'failed', 'cancelled') then coalesce(
        absurd_effect.from_millis((p_change ->> 'completedAt')::double precision), w.completed_at, v_now
      )
    end
  where w.id = p_id;
  return 'applied';
end;
$$;

-- The instant so many milliseconds after 1970.
create or replace function absurd_effect.from_millis(p_millis double precision) returns timestamptz
language sql immutable strict
as $$
  select pg_catalog.to_timestamp(p_millis / 1000)
$$;

-- A workflow run as the driver reads it.
create or replace function absurd_effect.workflow_run_json(p_run absurd_effect.workflow_runs) returns jsonb
language sql stable
as $$
  select pg_catalog.jsonb_build_object(
    'id', p_run.id, 'name', p_run.name, 'version', p_run.version, 'status', p_run.status, 'inputs', p_run.inputs,
    'result', p_run.result, 'error', p_run.error, 'createdBy', p_run.created_by, 'hash', p_run.hash,
    'tags', p_run.tags, 'taskCount', p_run.task_count, 'createdAt', absurd_effect.millis(p_run.created_at),
    'updatedAt', absurd_effect.millis(p_run.updated_at), 'startedAt', absurd_effect.millis(p_run.started_at),
    'completedAt', absurd_effect.millis(p_run.completed_at)
  )
$$;

create or replace function absurd_effect.read_workflow_run(p_id text) returns setof jsonb
language sql stable
as $$
  select absurd_effect.workflow_run_json(w) from absurd_effect.workflow_runs as w where w.id = p_id
$$;

-- The workflow runs that `p_filter` asks for, the newest first, at most `p_limit`. Only the conditions that are asked for
-- are in the statement, so that each has its index.
create or replace function absurd_effect.list_workflow_runs(p_filter jsonb, p_limit integer) returns setof jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_conditions text;
begin
  select coalesce(string_agg(' and ' || c.condition, ''), '') into v_conditions
  from (
    values
      ('name', $q$w.name = $1 ->> 'name'$q$),
      ('version', $q$w.version = $1 ->> 'version'$q$),
      ('status', $q$w.status = $1 ->> 'status'$q$),
      ('tag', $q$w.tags @> array[$1 ->> 'tag']$q$),
      ('from', $q$w.created_at >= absurd_effect.from_millis(($1 ->> 'from')::double precision)$q$),
      ('before', $q$w.created_at < absurd_effect.from_millis(($1 ->> 'before')::double precision)$q$),
      (
        'afterId',
        $q$(w.created_at, w.id) <
          (absurd_effect.from_millis(($1 ->> 'afterAt')::double precision), $1 ->> 'afterId')$q$
      )
  ) as c (key, condition)
  where p_filter ->> c.key is not null;
  return query execute 'select absurd_effect.workflow_run_json(w) from absurd_effect.workflow_runs as w where true'
    || v_conditions || ' order by w.created_at desc, w.id desc limit $2'
  using p_filter, p_limit;
end;
$$;

-- Deletes at most `p_limit` workflow runs that ended more than `p_ttl` seconds ago, the oldest ends first. Returns how many.
create or replace function absurd_effect.cleanup_workflow_runs(p_ttl double precision, p_limit integer) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before constant timestamptz := absurd.current_time() - make_interval(secs => p_ttl);
  v_deleted integer;
begin
  with deleted as (
    delete from absurd_effect.workflow_runs
    where id = any (array(
      select w.id
      from absurd_effect.workflow_runs as w
      where w.completed_at < v_before
      order by w.completed_at
      limit p_limit
      for update skip locked
    ))
    returning 1
  )
  select count(*) into v_deleted from deleted;
  return v_deleted;
end;
$$;
