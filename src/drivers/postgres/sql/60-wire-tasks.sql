-- The wire door to tasks: names, columns, SQLSTATEs and messages that programs in other languages rely on.

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
  v_max_attempts integer := (p_options ->> 'max_attempts')::integer;
begin
  if p_task_name is null or btrim(p_task_name) = '' then
    raise exception 'task_name must be provided';
  end if;
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
  v_max_attempts integer := (p_options ->> 'max_attempts')::integer;
  v_retry record;
begin
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
