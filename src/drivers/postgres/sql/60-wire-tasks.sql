-- The wire door to tasks: names, columns, SQLSTATEs and messages that programs in other languages rely on.

-- Refuses options that are no object. Null, in SQL or JSON, stands for none; unknown keys are ignored.
create or replace function absurd.validate_options(p_options jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(p_options) not in ('object', 'null') then
    raise exception 'options must be a JSON object';
  end if;
end;
$$;

-- Refuses the options of a spawn when they hold what the task could not honour: it would be ignored in silence, or be met
-- by a worker long after whoever made the mistake has gone on.
create or replace function absurd.validate_spawn_options(p_options jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text;
  v_value jsonb;
begin
  perform absurd.validate_options(p_options);
  foreach v_key in array array['headers', 'retry_strategy', 'cancellation'] loop
    if jsonb_typeof(p_options -> v_key) not in ('object', 'null') then
      raise exception '% must be a JSON object', v_key;
    end if;
  end loop;
  if jsonb_typeof(p_options -> 'idempotency_key') not in ('string', 'null') or p_options ->> 'idempotency_key' = '' then
    raise exception 'idempotency_key must be a text that is not empty';
  end if;
  foreach v_key in array array['base_seconds', 'factor', 'max_seconds'] loop
    v_value := p_options -> 'retry_strategy' -> v_key;
    if jsonb_typeof(v_value) <> 'null'
      and (absurd_effect.number_of(v_value, null, 1) is null or btrim(v_value #>> '{}') like '-%')
    then
      raise exception 'retry_strategy.% must be a number that is not negative', v_key;
    end if;
  end loop;
  foreach v_key in array array['max_delay', 'max_duration'] loop
    v_value := p_options -> 'cancellation' -> v_key;
    if jsonb_typeof(v_value) <> 'null' and v_value #>> '{}' !~ '^[0-9]{1,9}$' then
      raise exception 'cancellation.% must be a whole number of seconds from 0 to 999999999', v_key;
    end if;
  end loop;
end;
$$;

-- Spawns a task, or finds the one that has the idempotency key (`created` is then false and the run its newest).
create or replace function absurd.spawn_task(
  p_queue_name text,
  p_task_name text,
  p_params jsonb,
  p_options jsonb default '{}'::jsonb
) returns table (task_id uuid, run_id uuid, attempt integer, created boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_max_attempts integer;
begin
  if p_task_name is null or btrim(p_task_name) = '' then
    raise exception 'task_name must be provided';
  end if;
  perform absurd.validate_spawn_options(p_options);
  v_max_attempts := (p_options ->> 'max_attempts')::integer;
  if v_max_attempts < 1 then
    raise exception 'max_attempts must be >= 1';
  end if;
  return query
    select s.task_id, s.run_id, s.attempt, s.created
    from absurd_effect.spawn(
      p_queue_name,
      jsonb_build_array(jsonb_build_object(
        'name', p_task_name,
        'params', coalesce(p_params, 'null'),
        'headers', p_options -> 'headers',
        'retry_strategy', p_options -> 'retry_strategy',
        'max_attempts', v_max_attempts,
        'cancellation', p_options -> 'cancellation',
        'idempotency_key', p_options ->> 'idempotency_key'
      )),
      false
    ) s;
end;
$$;

-- Leases up to `p_qty` due runs for `p_claim_timeout` seconds (0: without end), after cancelling overdue tasks and failing
-- runs whose lease has ended.
create or replace function absurd.claim_task(
  p_queue_name text,
  p_worker_id text,
  p_claim_timeout integer default 30,
  p_qty integer default 1
) returns table (
  run_id uuid,
  task_id uuid,
  attempt integer,
  task_name text,
  params jsonb,
  retry_strategy jsonb,
  max_attempts integer,
  headers jsonb,
  wake_event text,
  event_payload jsonb
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select c.run_id, c.task_id, c.attempt, c.task_name, c.params, c.retry_strategy, c.max_attempts, c.headers,
      c.wake_event, c.event_payload
    from absurd_effect.claim(
      p_queue_name,
      coalesce(nullif(p_worker_id, ''), 'worker'),
      nullif(greatest(coalesce(p_claim_timeout, 30), 0), 0),
      greatest(coalesce(p_qty, 1), 1)
    ) c;
end;
$$;

-- Cancels a task and its unfinished runs; one that has ended stays as it is.
create or replace function absurd.cancel_task(p_queue_name text, p_task_id uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if absurd_effect.cancel(p_queue_name, p_task_id) is null then
    raise exception 'Task "%" not found in queue "%"', p_task_id, p_queue_name;
  end if;
end;
$$;

-- Revives a failed task, in place (checkpoints kept, `created` false) or with the option `spawn_new` as a new one.
create or replace function absurd.retry_task(p_queue_name text, p_task_id uuid, p_options jsonb default '{}'::jsonb)
returns table (task_id uuid, run_id uuid, attempt integer, created boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_max_attempts integer;
  v_retry record;
begin
  perform absurd.validate_options(p_options);
  v_max_attempts := (p_options ->> 'max_attempts')::integer;
  if v_max_attempts < 1 then
    raise exception 'max_attempts must be >= 1';
  end if;
  select * into v_retry from absurd_effect.retry(
    p_queue_name, p_task_id, v_max_attempts, coalesce((p_options ->> 'spawn_new')::boolean, false)
  );
  case v_retry.outcome
    when 'applied' then
      return query select v_retry.task_id, v_retry.run_id, v_retry.attempt, v_retry.created;
    when 'notFound' then
      raise exception 'Task "%" not found in queue "%"', p_task_id, p_queue_name;
    when 'notFailed' then
      raise exception 'Task "%" is not currently failed in queue "%"', p_task_id, p_queue_name;
    else
      raise exception 'max_attempts (%) must be greater than current attempts (%)', v_retry.allowed, v_retry.attempts;
  end case;
end;
$$;

-- The state of a task, with its result when completed and the reason of its last failure when failed. No row when unknown.
create or replace function absurd.get_task_result(p_queue_name text, p_task_id uuid)
returns table (task_id uuid, state text, result jsonb, failure_reason jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select * from absurd_effect.results(p_queue_name, array[p_task_id]);
end;
$$;
