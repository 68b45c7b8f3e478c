-- The wire door to runs. It knows no claim tokens: whoever names a running run may end it.

-- Raises what the wire says about an operation on a run that cannot be carried out: AB001 when cancelled, AB002 when this
-- run has failed, else `p_message`, where %1$s is the run and %2$s the queue.
create or replace function absurd_effect.refuse(p_queue text, p_run uuid, p_state text, p_message text) returns void
language plpgsql
as $$
begin
  if p_state = 'cancelled' then
    raise exception 'Task has been cancelled' using errcode = 'AB001';
  elsif p_state = 'failed' then
    raise exception 'Run "%" has already failed in queue "%"', p_run, p_queue using errcode = 'AB002';
  end if;
  raise exception '%', pg_catalog.format(p_message, p_run, p_queue);
end;
$$;

-- Completes a running run and its task.
create or replace function absurd.complete_run(p_queue_name text, p_run_id uuid, p_state jsonb default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item jsonb := jsonb_build_object('run', p_run_id);
  v_state text;
begin
  if p_state is not null then
    v_item := v_item || jsonb_build_object('result', p_state);
  end if;
  if exists (select from absurd_effect.complete(p_queue_name, jsonb_build_array(v_item))) then
    select run_state into v_state from absurd_effect.states(p_queue_name, p_run_id);
    perform absurd_effect.refuse(p_queue_name, p_run_id, v_state, case
      when v_state is null then 'Run "%1$s" not found in queue "%2$s"'
      else 'Run "%1$s" is not currently running in queue "%2$s"'
    end);
  end if;
end;
$$;

-- Refuses an instant that never comes, or that is no instant. Whoever slept until then would sleep for ever, with no wait
-- that says for what.
create or replace function absurd.validate_instant(p_name text, p_at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not isfinite(p_at) then
    raise exception '% must be finite', p_name;
  end if;
end;
$$;

-- Fails a running or sleeping run. The next attempt, if there is one, starts at `p_retry_at` or as the task's strategy says.
create or replace function absurd.fail_run(
  p_queue_name text,
  p_run_id uuid,
  p_reason jsonb,
  p_retry_at timestamptz default null
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item jsonb := jsonb_build_object(
    'run', p_run_id, 'retry', case when p_retry_at is null then 'stored' else 'at' end, 'instant', p_retry_at
  );
begin
  perform absurd.validate_instant('retry_at', p_retry_at);
  if p_reason is not null then
    v_item := v_item || jsonb_build_object('reason', p_reason);
  end if;
  if (select outcome from absurd_effect.fail(p_queue_name, jsonb_build_array(v_item))) <> 'applied' then
    perform absurd_effect.refuse(
      p_queue_name, p_run_id, (select run_state from absurd_effect.states(p_queue_name, p_run_id)),
      'Run "%1$s" cannot be failed in queue "%2$s"'
    );
  end if;
end;
$$;

-- Puts a running run to sleep until `p_wake_at` and gives up its claim. Costs no attempt.
create or replace function absurd.schedule_run(p_queue_name text, p_run_id uuid, p_wake_at timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform absurd.validate_instant('wake_at', p_wake_at);
  if exists (
    select from absurd_effect.release(
      p_queue_name, jsonb_build_array(jsonb_build_object('run', p_run_id, 'instant', p_wake_at))
    )
  ) then
    raise exception 'Run "%" is not currently running in queue "%"', p_run_id, p_queue_name;
  end if;
end;
$$;

-- Makes the lease of a running run end `p_extend_by` seconds from now, which may be earlier than before.
create or replace function absurd.extend_claim(p_queue_name text, p_run_id uuid, p_extend_by integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run record;
begin
  if p_extend_by is null or p_extend_by <= 0 then
    raise exception 'extend_by must be > 0';
  end if;
  execute absurd_effect.bind(p_queue_name, 'select from absurd.%2$I where run_id = $1 for update') using p_run_id;
  select * into v_run from absurd_effect.states(p_queue_name, p_run_id);
  if v_run.run_state is null then
    raise exception 'Run "%" not found in queue "%"', p_run_id, p_queue_name;
  elsif v_run.task_state = 'cancelled' or v_run.run_state <> 'running' then
    perform absurd_effect.refuse(
      p_queue_name, p_run_id, case when v_run.task_state = 'cancelled' then 'cancelled' else v_run.run_state end,
      'Run "%1$s" is not currently running in queue "%2$s"'
    );
  elsif v_run.claim_expires_at is null then
    raise exception 'Run "%" does not have an active claim in queue "%"', p_run_id, p_queue_name;
  end if;
  execute absurd_effect.bind(p_queue_name, 'update absurd.%2$I set claim_expires_at = $2 where run_id = $1')
    using p_run_id, absurd.current_time() + make_interval(secs => p_extend_by);
end;
$$;
